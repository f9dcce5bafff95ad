"""Measure what adaptive profiling saves, and how often it decides otherwise than all samples would.

Run as ``python tests/bench/adaptive.py --figures ../shared/facts/figures.json`` for the simulation, with
``--tiny`` for the real engine on the embedded model.

The simulation draws true pass rates from a distribution on a fine grid whose 8-sample histogram is the published one
(deconvolved by expectation maximisation, which shares nothing with the mixture that is fitted while profiling), then
answers from the rates. The adaptive profile goes through `polaris_data.profile.schedule` and sees only the answers
that it asks for. It is compared with 8 fixed samples that begin with the same answers, and with 8 others: two fixed
profiles disagree as well. The true decision is that which most repetitions of 8 samples would take.
"""

import argparse
import json
import logging
import random
import tempfile
import time
from collections.abc import Sequence
from itertools import accumulate
from math import comb
from pathlib import Path

from polaris_data import Difficulty, Journal, histogram, read_profile
from polaris_data.profile.adaptive import Settling, profile_histogram
from polaris_data.profile.schedule import Schedule

NUM_SAMPLES = 8
GRID = 400
WANTED_SHARE = 0.65

CASES = {
    "drop 8/8": Settling(),
    "drop 8/8, 2 at a time": Settling(at_a_time=2),
    "never/sometimes/always": Settling(bounds=(0.01, 1.0)),
    "low/middle/high": Settling(bounds=(0.25, 0.75)),
}


def main() -> None:
    """Print the table of the simulation, or measure the engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, help="JSON with the published histograms")
    parser.add_argument("--seeds", type=int, default=3, help="simulations of each case")
    parser.add_argument("--iterations", type=int, default=3000, help="of the deconvolution")
    parser.add_argument("--tiny", action="store_true", help="measure the real engine on the embedded model")
    parser.add_argument("--num-problems", type=int, default=192, help="for --tiny")
    options = parser.parse_args()
    if options.figures:
        published = json.loads(options.figures.read_text())["difficulty_deepscaler40k_8rollouts_T0.6"]
        for model, counts in published.items():
            of_bins = [counts[str(k)] for k in range(NUM_SAMPLES + 1)]
            simulate(model, of_bins, num_seeds=options.seeds, num_iterations=options.iterations)
    if options.tiny:
        measure(options.num_problems)


def simulate(model: str, counts: Sequence[int], *, num_seeds: int, num_iterations: int) -> None:
    """Print, for each case, means over some simulations of the published number of problems."""
    shares = deconvolve(counts, num_iterations=num_iterations)
    worst = max(abs(each - count) for each, count in zip(expected_counts(shares, sum(counts)), counts, strict=True))
    print(f"\n{model}: {sum(counts):,} problems; the true rates give its histogram within {worst:.0f} problems a bin")
    print(f"{'':24}{'samples':>9}{'agreement with':>25}{'like the true rate':>20}{'histogram':>11}")
    print(f"{'':24}{'':>9}{'same 8':>10}{'8 others':>15}{'adaptive':>10}{'fixed':>10}{'off by':>11}")
    for name, settling in CASES.items():
        rows = [simulate_once(shares, sum(counts), settling, seed=seed) for seed in range(num_seeds)]
        share, same, others, adaptive_true, fixed_true, off, others_fixed = (
            sum(column) / num_seeds for column in zip(*rows, strict=True)
        )
        print(
            f"{name:24}{share:9.1%}{same:10.2%}{others:8.1%} ({others_fixed:.1%}){adaptive_true:8.2%}"
            f"{fixed_true:10.2%}{off:11.2%}"
        )
        if name == "drop 8/8":
            assert share <= WANTED_SHARE, f"{share:.1%} of the samples"
            assert same == 1, f"{same:.1%} agree"


def simulate_once(shares: Sequence[float], num_problems: int, settling: Settling, *, seed: int) -> tuple[float, ...]:
    """Profile a population once; what is returned is named in `simulate`."""
    chance = random.Random(seed)
    rates = [
        index / GRID for index in chance.choices(range(GRID + 1), cum_weights=list(accumulate(shares)), k=num_problems)
    ]
    same = [[chance.random() < rate for _ in range(NUM_SAMPLES)] for rate in rates]
    others = [sum(chance.random() < rate for _ in range(NUM_SAMPLES)) for rate in rates]
    adaptive = profile_adaptively(same, settling)

    def side(k: float, n: int) -> int:
        return sum(k / n >= bound for bound in settling.bounds)

    of_rate = [true_side(index / GRID, side) for index in range(GRID + 1)]
    true = [of_rate[round(rate * GRID)] for rate in rates]
    by_adaptive = [side(each.num_correct, each.num_samples) for each in adaptive]
    by_fixed = [side(sum(answers), NUM_SAMPLES) for answers in same]
    by_others = [side(k, NUM_SAMPLES) for k in others]
    fixed_profile = [difficulty(str(number), answers) for number, answers in enumerate(same)]
    ours, theirs = profile_histogram(adaptive).counts, histogram(fixed_profile).counts
    return (
        sum(each.num_samples for each in adaptive) / (NUM_SAMPLES * num_problems),
        agreement(by_adaptive, by_fixed),
        agreement(by_adaptive, by_others),
        agreement(by_adaptive, true),
        agreement(by_fixed, true),
        sum(abs(one - other) for one, other in zip(ours, theirs, strict=True)) / 2 / num_problems,
        agreement(by_fixed, by_others),
    )


def profile_adaptively(answers: Sequence[Sequence[bool]], settling: Settling) -> list[Difficulty]:
    """Run the schedule on answers that are known in advance."""
    schedule = Schedule([str(number) for number in range(len(answers))], num_samples=NUM_SAMPLES, settling=settling)
    for name in schedule.draw():
        start = schedule.tallies[name].num_samples if name in schedule.tallies else 0
        schedule.add(difficulty(name, answers[int(name)][start : start + schedule.at_a_time]))
    return [schedule.tallies[str(number)] for number in range(len(answers))]


def difficulty(name: str, answers: Sequence[bool]) -> Difficulty:
    """Return what these answers say."""
    return Difficulty(
        problem_id=name, num_samples=len(answers), num_correct=sum(answers), num_truncated=0, mean_tokens=None
    )


def agreement(one: Sequence[int], other: Sequence[int]) -> float:
    """Return the share of equal decisions."""
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def true_side(rate: float, side: object) -> int:
    """Return the decision that 8 samples take most often at this rate."""
    chances: dict[int, float] = {}
    for k in range(NUM_SAMPLES + 1):
        decision = side(k, NUM_SAMPLES)  # type: ignore[operator]
        chances[decision] = chances.get(decision, 0) + binomial(k, rate)
    return max(chances, key=chances.__getitem__)


def deconvolve(counts: Sequence[int], *, num_iterations: int) -> list[float]:
    """Return shares of rates 0, 1/GRID, ..., 1 whose histogram of 8 samples is the given one."""
    kernel = [[binomial(k, index / GRID) for index in range(GRID + 1)] for k in range(NUM_SAMPLES + 1)]
    shares = [1 / (GRID + 1)] * (GRID + 1)
    for _ in range(num_iterations):
        ratios = [
            count / sum(counts) / sum(share * chance for share, chance in zip(shares, row, strict=True))
            for count, row in zip(counts, kernel, strict=True)
        ]
        shares = [
            share * sum(ratio * row[index] for ratio, row in zip(ratios, kernel, strict=True))
            for index, share in enumerate(shares)
        ]
    return shares


def expected_counts(shares: Sequence[float], num_problems: int) -> list[float]:
    """Return the histogram of 8 samples that these rates give."""
    return [
        num_problems * sum(share * binomial(k, index / GRID) for index, share in enumerate(shares))
        for k in range(NUM_SAMPLES + 1)
    ]


def binomial(k: int, rate: float) -> float:
    """Return the probability of k right answers of 8."""
    return comb(NUM_SAMPLES, k) * rate**k * (1 - rate) ** (NUM_SAMPLES - k)


def measure(num_problems: int) -> None:
    """Profile synthetic problems with all samples and adaptively, on one engine with the same seeds."""
    from polaris_data import synthetic_problems
    from polaris_data.profile import profile
    from polaris_reward import BOXED, Grader
    from polaris_rollout import SamplingParams
    from polaris_rollout.engines import VllmSampler

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    problems = synthetic_problems(num_problems, seed=0, split="train")
    params = SamplingParams(temperature=1.0, seed=0)
    with (
        tempfile.TemporaryDirectory() as folder,
        Grader(convention=BOXED, max_failed_share=None) as grader,
        VllmSampler("tiny") as sampler,
    ):

        def run(name: str, settling: Settling | None) -> tuple[list[Difficulty], int, float]:
            journal, started = Journal(Path(folder) / name), time.monotonic()
            for _ in profile(
                problems,
                sampler,
                grader.grade_many,
                params=params,
                num_samples=NUM_SAMPLES,
                journal=journal,
                settling=settling,
            ):
                pass
            found = read_profile(journal.path)
            tokens = sum(round((each.mean_tokens or 0) * each.num_samples) for each in found)
            return found, tokens, time.monotonic() - started

        run("warm-up", Settling())
        fixed, fixed_tokens, fixed_s = run("fixed", None)
        print(f"\ntiny model, {num_problems} problems: {fixed_tokens:,} tokens of all samples in {fixed_s:.1f} s")
        for number, (name, settling) in enumerate(CASES.items()):
            found, tokens, seconds = run(str(number), settling)

            def sides(profile: Sequence[Difficulty], bounds: Sequence[float] = settling.bounds) -> list[int]:
                return [sum(each.accuracy >= bound for bound in bounds) for each in profile]

            samples = sum(each.num_samples for each in found) / NUM_SAMPLES / num_problems
            print(
                f"{name:24}{samples:7.1%} of the samples, {tokens / fixed_tokens:6.1%} of the tokens, "
                f"{agreement(sides(found), sides(fixed)):7.2%} same decision, {seconds:.1f} s"
            )


if __name__ == "__main__":
    main()
