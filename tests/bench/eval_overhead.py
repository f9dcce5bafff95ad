"""Measure what an evaluation costs beside a bare `LLM.generate` on one engine, with the embedded model.

    python tests/bench/eval_overhead.py              answers as long as the model gives: a few tokens
    python tests/bench/eval_overhead.py --long 1024  a copy of the model that does not stop, so many tokens each

The bare side is handed prepared requests and only waits for the tokens. It is measured as our sampler asks the engine
(log-probabilities, no text), without log-probabilities, and with text. Ours is `polaris_eval.running` as the command
calls it: chat template, token ids, seeds, text, grading meanwhile in worker processes, also of answers cut to
smaller budgets, a journal on disk, votes and statistics, progress, watchdog. The sides take turns on the same engine,
each round in another order, with an empty prefix cache. All must draw the same tokens. Medians are compared: of the
clock, and of this process's seconds on the processor (not its workers'), which other programs disturb less.
"""

import argparse
import cProfile
import json
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from polaris_data import Journal, Problem, synthetic_problems
from polaris_eval import summarize
from polaris_eval.running import Task, default_budgets, finish, open_decoder, sample_missing, to_prompts
from polaris_reward import BOXED, Grader
from polaris_rollout import Group, SamplingParams, completion_seed, track
from polaris_rollout.engines import VllmSampler, watch
from polaris_rollout.engines.vllm import vllm
from polaris_rollout.models import stop_token_ids
from polaris_train.embedded import tiny_model
from sampling import measured

NAME = "held-out"
TARGET = 1.05

TokenIds = dict[tuple[str, int], tuple[int, ...]]
"""By problem and sample."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one side drew, and what that took."""

    token_ids: TokenIds
    wall_s: float
    cpu_s: float


def main() -> None:
    """Measure all sides and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=64)
    parser.add_argument("--samples", type=int, default=32, help="of each problem")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each side")
    parser.add_argument("--long", type=int, metavar="TOKENS", help="length of every answer")
    parser.add_argument("--profile", type=Path, help="write a profile of one more run of ours, for pstats, and end")
    options = parser.parse_args()
    params = SamplingParams(temperature=1.0, max_tokens=options.long, seed=1)
    problems = synthetic_problems(options.problems, seed=7, split="held-out")
    with tempfile.TemporaryDirectory() as name:
        model = write_endless_model(Path(name)) if options.long else str(tiny_model())
        with VllmSampler(model) as sampler:
            ours = partial(run_ours, sampler, problems, params, options.samples, model)
            ours()  # To warm up.
            if options.profile:
                sampler._llm.reset_prefix_cache()
                profile = cProfile.Profile()
                profile.runcall(ours)
                profile.dump_stats(options.profile)
                return
            ask = partial(run_bare, sampler, problems, params, options.samples, stop_token_ids(model))
            report(measure(sampler, ours, ask, num_rounds=options.rounds))


def measure(
    sampler: VllmSampler, ours: Callable[[], Run], ask: Callable[..., Run], *, num_rounds: int
) -> dict[str, list[Run]]:
    """Let the sides take turns on an engine."""
    sides: dict[str, Callable[[], Run]] = {
        "bare": partial(ask, logprobs=0, text=False),
        "ours": ours,
        "bare, no logprobs": partial(ask, logprobs=None, text=False),
        "bare, no logprobs, text": partial(ask, logprobs=None, text=True),
    }
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for number in range(num_rounds):
        order = list(sides)
        for side in order[number % len(order) :] + order[: number % len(order)]:
            sampler._llm.reset_prefix_cache()
            runs[side].append(sides[side]())
    return runs


def write_endless_model(folder: Path) -> str:
    """Copy the embedded model, with a token for its end that it was never taught to write."""
    shutil.copytree(tiny_model(), folder, dirs_exist_ok=True)
    changes = {
        "config.json": {"eos_token_id": 0},
        "generation_config.json": {"eos_token_id": [0]},
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
    }
    for name, change in changes.items():
        (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | change))
    return str(folder)


def run_bare(
    sampler: VllmSampler,
    problems: Sequence[Problem],
    params: SamplingParams,
    num_samples: int,
    stop: list[int],
    *,
    logprobs: int | None,
    text: bool,
) -> Run:
    """Give prepared requests to `LLM.generate`; preparing them is not measured."""
    encoded = {prompt.problem_id: list(sampler.encode(prompt.text)) for prompt in to_prompts(problems)}
    keys = [(problem_id, sample) for problem_id in encoded for sample in range(num_samples)]
    requests = [{"prompt_token_ids": encoded[problem_id]} for problem_id, _ in keys]
    asked = [
        vllm.SamplingParams(
            temperature=params.temperature,
            max_tokens=params.max_tokens or sampler.context - len(encoded[problem_id]),
            seed=completion_seed(params.seed, f"{NAME}/{problem_id}/{sample}", 0),
            stop_token_ids=stop,
            logprobs=logprobs,
            flat_logprobs=logprobs is not None,
            detokenize=text,
        )
        for problem_id, sample in keys
    ]
    outputs, wall_s, cpu_s = measured(lambda: sampler._llm.generate(requests, asked, use_tqdm=False))
    token_ids = {key: tuple(output.outputs[0].token_ids) for key, output in zip(keys, outputs, strict=True)}
    return Run(token_ids=token_ids, wall_s=wall_s, cpu_s=cpu_s)


def run_ours(
    sampler: VllmSampler, problems: Sequence[Problem], params: SamplingParams, num_samples: int, model: str
) -> Run:
    """Evaluate as ``polaris-eval run`` does once its engine runs; what was drawn is noted as it passes by."""
    token_ids: TokenIds = {}

    def noted(groups: Iterable[Group]) -> Iterator[Group]:
        for group in track(groups, total=len(problems) * num_samples, label="evaluating", engine=sampler):
            _, problem_id, sample = group.problem_id.split("/")
            token_ids[problem_id, int(sample)] = group.completions[0].token_ids
            yield group

    def work(folder: Path) -> None:
        with Grader(convention=BOXED, max_failed_share=None) as grader, watch(sampler):
            journal = Journal(folder / "completions.jsonl")
            task = Task(name=NAME, problems=problems, num_samples=num_samples, journal=journal)
            sample_missing(
                [task],
                sampler,
                grader.grade_many,
                params=params,
                budgets=default_budgets(params.max_tokens or sampler.context),
                decode=open_decoder(model),
                track=noted,
            )
            finish(task, grader.grade_many)
            summarize(NAME, journal.records)

    with tempfile.TemporaryDirectory() as name:
        _, wall_s, cpu_s = measured(lambda: work(Path(name)))
    return Run(token_ids=token_ids, wall_s=wall_s, cpu_s=cpu_s)


def report(runs: dict[str, list[Run]]) -> None:
    """Print seconds and ratios, after making sure that all sides drew the same."""
    drawn = runs["bare"][0].token_ids
    assert all(run.token_ids == drawn for side in runs.values() for run in side), "the sides drew other tokens"
    num_tokens = sum(map(len, drawn.values()))
    print(f"{len(drawn)} completions, {num_tokens} tokens, the same from all sides; load {os.getloadavg()[0]:.1f}")
    wall = {name: statistics.median(run.wall_s for run in side) for name, side in runs.items()}
    cpu = {name: statistics.median(run.cpu_s for run in side) for name, side in runs.items()}
    for name, side in runs.items():
        seconds = ", ".join(f"{run.wall_s:.2f}" for run in side)
        print(
            f"{name:24} {wall[name]:7.2f} s by the clock ({seconds}), {num_tokens / wall[name]:6.0f} tokens/s, "
            f"{cpu[name]:7.2f} s by the processor"
        )
    for name in (name for name in runs if name != "ours"):
        ratios = f"{wall['ours'] / wall[name]:.3f} by the clock, {cpu['ours'] / cpu[name]:.3f} by the processor"
        print(f"ours / {name}: {ratios}")
    verdict = "within" if wall["ours"] / wall["bare"] <= TARGET else "NOT WITHIN"
    print(f"{verdict} the target of {TARGET}")


if __name__ == "__main__":
    main()
