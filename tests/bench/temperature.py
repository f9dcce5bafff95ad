"""Does the temperature search find what it claims, on published curves with known answers?

``python tests/bench/temperature.py [target|zones|budget ...] [--trials N] [--first-seed N]`` needs
../shared/facts/figures.json beside the repository. Every trial has its own problems and its own noise. Answers are
right with a probability that differs between problems and falls, for all of them together, along a digitised accuracy
curve; each has a diversity that scatters around a digitised diversity curve. The search sees these answers only, as it
would see a model's.

What differs between problems is either centred, so that the curve is the mean over these very problems (a target that
an earlier stage left for each of them), or not (a target that holds for all problems of the kind); then fresh problems
may be there or not. Answers are cut short independently, or on the problems that are solved least; a cut answer is
wrong.
"""

import argparse
import functools
import json
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from polaris_rollout.errors import SettingError
from polaris_rollout.temperature.budget import Probe, ProbeRun
from polaris_rollout.temperature.diversity import Interval
from polaris_rollout.temperature.doubts import doubts
from polaris_rollout.temperature.search import (
    TARGET_ANSWERS,
    ZONES_ANSWERS,
    Choice,
    find_diversity,
    find_exploration_start,
)
from polaris_rollout.temperature.zones import COLLAPSE_LOSS
from scipy.optimize import brentq
from scipy.special import expit

FIGURES = Path(__file__).resolve().parents[3] / "shared" / "facts" / "figures.json"

NUM_PROBLEMS = 30
BATCH = 4
LOWEST, HIGHEST = 0.6, 2.0
MAX_LOSS = 0.02
FACTORS = (4, 16)
"""Larger budgets, in published grids, to see what a border within 0.05 needs."""

ABILITY_SPREAD = 3.0
"""Standard deviation of the problems' log odds: most are nearly always or nearly never solved, as with AIME."""

OFFSETS = 0.10
"""Standard deviation of the problems' diversity about the curve."""

CUT_SHARE = 0.95
"""Share of the answers that are cut short on each of the hardest problems, where these alone are."""

TARGETS = (("Qwen3-4B", 0.63), ("R1-7B 400", 0.59), ("R1-7B 800", 0.59))


@dataclass(frozen=True)
class World:
    """How a trial's answers behave."""

    centred: bool = True
    """Whether the curve is the mean over the trial's very problems."""

    noise: float = 0.10
    """Standard deviation of one answer's diversity about its problem's."""

    truncated: float = 0.0
    """Share of the answers that are cut short."""

    on_hard: bool = False
    """Whether these are answers to the hardest problems, or to any."""

    pool: int = 0
    """Fresh problems beside those asked at every temperature."""

    base: int = NUM_PROBLEMS
    """Problems asked at every temperature."""


@dataclass(frozen=True)
class Curve:
    """A published model: accuracy and diversity over temperature, straight between the digitised points."""

    name: str
    accuracy: tuple[Sequence[float], Sequence[float]]
    diversity: tuple[Sequence[float], Sequence[float]]

    def accuracy_at(self, temperature: float) -> float:
        return _interpolate(temperature, *self.accuracy)

    def diversity_at(self, temperature: float) -> float:
        return _interpolate(temperature, *self.diversity)

    def border(self, loss: float) -> float:
        """Return where the curve has lost a share of its level, the mean of the points within 3% of the best."""
        temperatures, accuracies = map(np.array, self.accuracy)
        robust = (accuracies >= 0.97 * accuracies.max()) & (temperatures >= LOWEST)
        level = accuracies[robust].mean() / 100
        fine = np.arange(temperatures[accuracies.argmax()], HIGHEST, 1e-4)
        lost = np.array([self.accuracy_at(each) for each in fine]) < (1 - loss) * level
        return float(fine[lost.argmax()])

    def temperature_of(self, diversity: float) -> float:
        fine = np.arange(LOWEST, HIGHEST, 1e-4)
        return float(fine[np.argmax([self.diversity_at(each) >= diversity for each in fine])])


def _interpolate(temperature: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Interpolate in percent, going on beyond the last point with the last slope."""
    if temperature > xs[-1]:
        slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
        return min(max(ys[-1] + slope * (temperature - xs[-1]), 0.0), 99.5) / 100
    return float(np.interp(temperature, xs, ys)) / 100


class Model:
    """Answers of a published model to problems of its own, as the search sees them."""

    def __init__(self, curve: Curve, world: World, seed: int) -> None:
        self._curve, self._world = curve, world
        self._generator = np.random.default_rng(seed)
        size = world.base + world.pool
        self._ability = ABILITY_SPREAD * self._generator.standard_normal(size)
        offsets = OFFSETS * self._generator.standard_normal(size)
        self._offsets = offsets - offsets.mean() if world.centred else offsets
        if world.on_hard:
            hardest = self._ability.argsort().argsort() < round(world.truncated / CUT_SHARE * size)
            self._cut = np.where(hardest, CUT_SHARE, 0.0)
        else:
            self._cut = np.full(size, world.truncated)
        self._answers: dict[tuple[float, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def measure(self, temperature: float, num_samples: int, asked: Sequence[int]) -> Probe:
        correct, diversity, cut = (
            np.array(each) for each in zip(*(self._drawn(temperature, num_samples, i) for i in asked), strict=True)
        )
        return Probe(
            temperature=temperature,
            num_samples=num_samples,
            accuracy=correct.mean(axis=1),
            diversity=diversity.mean(axis=1),
            truncated=cut.mean(axis=1),
            tokens=np.ones(len(asked)),
        )

    def _drawn(self, temperature: float, num_samples: int, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return whether each answer to a problem is right, its diversity, and whether it is cut short."""
        drawn = self._answers.get((temperature, index), (np.empty(0),) * 3)
        more = num_samples - len(drawn[0])
        if more > 0:
            cut = self._generator.random(more) < self._cut[index]
            rate = expit(_shift(self._curve.name, temperature) + self._ability[index])
            right = (self._generator.random(more) < rate) & ~cut
            mean = self._curve.diversity_at(temperature) + self._offsets[index]
            diversity = mean + self._world.noise * self._generator.standard_normal(more)
            drawn = tuple(np.append(old, new) for old, new in zip(drawn, (right, diversity, cut), strict=True))
            self._answers[temperature, index] = drawn
        return tuple(each[:num_samples] for each in drawn)


@functools.cache
def _shift(name: str, temperature: float) -> float:
    """Return the shift of all log odds with which problems of this kind are solved as often as the curve says."""
    wanted = min(max(curves()[name].accuracy_at(temperature), 1e-4), 1 - 1e-4)
    ability = ABILITY_SPREAD * np.linspace(-5, 5, 401)
    weights = np.exp(-0.5 * np.linspace(-5, 5, 401) ** 2)
    weights /= weights.sum()
    return brentq(lambda shift: weights @ expit(shift + ability) - wanted, -60, 60)


@functools.cache
def curves() -> dict[str, Curve]:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    zones, shift = figures["zones_qwen3_4b_aime24_mean32"], figures["r1_7b_zone_shift(eye)"]
    diversity = figures["diversity_vs_temperature_distinct4_x100"]
    qwen = Curve("Qwen3-4B", (zones["T"], zones["acc"]), (diversity["T"], diversity["Qwen3-4B"]))
    r1 = [
        Curve(f"R1-7B {steps}", (shift["T"], shift["acc"][steps]), (shift["T"], shift["diversity"][steps]))
        for steps in ("before", "400", "800")
    ]
    return {curve.name: curve for curve in (qwen, *r1)}


@dataclass(frozen=True)
class Trial:
    """What one search found; ``choice`` is ``None`` where it refused."""

    choice: Choice | None
    num_answers: int
    num_warnings: int
    refusal: str = ""


def search(curve: Curve, world: World, target: float | None, seed: int, factor: int = 1) -> Trial:
    """Search once, for a target or else for where exploration starts, with ``factor`` times the published answers."""
    answers = ZONES_ANSWERS if target is None else TARGET_ANSWERS
    run = ProbeRun(
        Model(curve, world, seed).measure,
        num_problems=world.base,
        num_fresh=world.pool,
        batch=factor * BATCH,
        max_answers=factor * answers * NUM_PROBLEMS // world.base,
        bounds=(LOWEST, HIGHEST),
    )
    try:
        if target is None:
            choice = find_exploration_start(run, max_loss=MAX_LOSS, seed=seed)
        else:
            choice = find_diversity(run, target, max_loss=MAX_LOSS, seed=seed)
    except SettingError as error:
        return Trial(None, run.num_answers * world.base, 0, str(error))
    said = doubts(run, choice, target=target, max_loss=MAX_LOSS)
    return Trial(choice, run.num_answers * world.base, len(said))


def target_worlds() -> Iterator[World]:
    """Yield what a search for a target is tried in: offsets, noise, truncation."""
    cuts = [(0.0, False), *product((0.15, 0.25, 0.5), (False, True))]
    half = NUM_PROBLEMS // 2
    for (centred, pool, base), noise in product(((True, 0, 30), (False, 0, 30), (False, 7 * half, half)), (0.1, 0.2)):
        for truncated, on_hard in cuts:
            yield World(centred, noise, truncated, on_hard, pool, base)


def report_targets(pool: ProcessPoolExecutor, seeds: range, models: Sequence[str]) -> None:
    print("by target diversity: of the trials, the share within 0.03 of the true temperature and within 0.02 of the")
    print("diversity, below collapse, refused; covered by the 95% intervals of temperature and diversity; warnings")
    print(
        "offsets          noise cut        model      target answers |  0.03  0.02 below refused| cov T cov D | warned"
    )
    for (name, target), world in product(TARGETS, target_worlds()):
        if name in models:
            report_target(pool, seeds, world, name, target)


def report_target(pool: ProcessPoolExecutor, seeds: range, world: World, name: str, target: float) -> list[Trial]:
    curve = curves()[name]
    trials = list(pool.map(partial(search, curve, world, target), seeds, chunksize=10))
    found = [each.choice for each in trials if each.choice]
    truth = curve.temperature_of(target)
    temperatures = np.array([choice.temperature for choice in found])
    restored = np.array([curve.diversity_at(temperature) for temperature in temperatures])
    # A refusal hits nothing: shares are of all trials.
    shares = (
        np.sum(np.abs(temperatures - truth) <= 0.03 + 1e-9) / len(trials),
        np.sum(np.abs(restored - target) <= 0.02 + 1e-9) / len(trials),
        np.sum(temperatures < curve.border(COLLAPSE_LOSS)) / len(trials),
        1 - len(found) / len(trials),
    )
    covered = (
        np.mean([choice.interval is not None and _holds(choice.interval, truth) for choice in found]),
        np.mean([_holds(choice.diversity, curve.diversity_at(choice.temperature)) for choice in found]),
    )
    cut = f"{world.truncated:.0%} {'on hard' if world.on_hard else ''}"
    offsets = "centred" if world.centred else f"not, {world.base + world.pool} there"
    print(
        f"{offsets:16} {world.noise:5.1f} {cut:10} {name:10} {target:6.2f} {max(t.num_answers for t in trials):7d} | "
        + "  ".join(f"{share:4.2f}" for share in shares)
        + "    | "
        + "  ".join(f"{share:4.2f}" for share in covered)
        + f"  | {np.mean([t.num_warnings for t in trials]):.2f}",
        flush=True,
    )
    return trials


def report_zones(pool: ProcessPoolExecutor, seeds: range, name: str, world: World, factor: int = 1) -> None:
    curve = curves()[name]
    trials = list(pool.map(partial(search, curve, world, None, factor=factor), seeds, chunksize=5))
    found = [each.choice for each in trials if each.choice]
    temperatures = np.array([choice.temperature for choice in found])
    truth, collapse = curve.border(MAX_LOSS), curve.border(COLLAPSE_LOSS)
    first = [choice.exploration for choice in found]
    second = [choice.collapse for choice in found if choice.collapse]
    cut = f"{world.truncated:.0%}{' on hard' if world.on_hard else ''}"
    print(
        f"{name:13} {cut:11} {max(t.num_answers for t in trials):6d}  {len(trials) - len(found):3d}  "
        f"{np.quantile(temperatures, 0.5):.2f} ({temperatures.min():.2f}-{temperatures.max():.2f})  "
        f"{np.mean((temperatures >= 1.3 - 1e-9) & (temperatures <= 1.5 + 1e-9)):.2f}  "
        f"{np.mean(temperatures < collapse):.2f} | {truth:.3f} {_describe(first, truth)} | "
        f"{collapse:.3f} {_describe(second, collapse)} | {np.mean([t.num_warnings for t in trials]):.2f}",
        flush=True,
    )


def _describe(estimates: Sequence[Interval], truth: float) -> str:
    values = np.array([each.value for each in estimates])
    covered = [_holds(each, truth) for each in estimates]
    widths = [(each.high - each.low) / 2 for each in estimates]
    error = math.sqrt(np.mean((values - truth) ** 2))
    return (
        f"{error:.3f}  {np.mean(np.abs(values - truth) <= 0.05):.2f}  {np.mean(covered):.2f}  {np.median(widths):.3f}"
    )


def _holds(estimate: Interval, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["target", "zones", "budget"])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--models", nargs="*", default=[name for name, _ in TARGETS], help="of the targets")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.trials)
    with ProcessPoolExecutor(arguments.processes) as pool:
        print(f"{len(seeds)} trials each; the published grid takes {5 * NUM_PROBLEMS * 16} answers\n")
        if "target" in arguments.parts:
            report_targets(pool, seeds, arguments.models)
        if "zones" in arguments.parts or "budget" in arguments.parts:
            print(f"by zones, loss {MAX_LOSS:.0%}")
            print("of each border: truth, RMS error, share within 0.05, share covered at 95%, half-width of intervals")
            print(
                "model cut answers refused chosen (range) in 1.30-1.50 below collapse | exploration | collapse | warned"
            )
        if "zones" in arguments.parts:
            for name in curves():
                report_zones(pool, seeds, name, World())
            for truncated, on_hard in product((0.15, 0.25, 0.5), (False, True)):
                report_zones(pool, seeds, "Qwen3-4B", World(truncated=truncated, on_hard=on_hard))
        if "budget" in arguments.parts:
            for factor in FACTORS:
                report_zones(pool, seeds, "Qwen3-4B", World(), factor)


if __name__ == "__main__":
    main()
