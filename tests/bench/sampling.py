"""Measure what our driver costs: sampling, storing and showing groups beside a bare `LLM.generate` on one engine.

Run as ``python tests/bench/sampling.py``. The bare side is handed prepared requests and only waits for the tokens. It
is measured as our driver asks the engine (no text) and as vLLM does by itself (text, log-probabilities as objects).
Ours starts from the problems: chat template, token ids, seeds, text, store, progress, watchdog. The sides take turns
on the same engine, each round in another order, and the prefix cache is emptied before each. All of them must draw
the same tokens. Medians are compared: of the clock, and of the processor's time, which other programs disturb less.
"""

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from polaris_data import synthetic_problems, to_prompt
from polaris_rollout import Prompt, SamplingParams, completion_seed, resolve_model, track
from polaris_rollout.engines import VllmSampler, watch
from polaris_rollout.engines.vllm import vllm
from polaris_rollout.models import stop_token_ids
from polaris_rollout.store import read_store
from polaris_rollout.store.folder import RolloutStore
from polaris_rollout.store.resume import sample_missing

NUM_SAMPLES = 8
NUM_WARM_UP = 100
PARAMS = SamplingParams(temperature=1.0, seed=1)
TARGET = 1.05

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one side drew, and what that took."""

    token_ids: dict[tuple[str, int], tuple[int, ...]]
    wall_s: float
    cpu_s: float


Side = Callable[[Sequence[Prompt]], Run]


def main() -> None:
    """Measure all sides and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--seconds", type=float, default=25.0, help="of sampling in each run, about")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each side")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    with VllmSampler(options.model) as sampler:
        sides = sides_of(sampler, options.model)
        prompts = enough_prompts(sampler, sides, options.seconds)
        report(measure(sampler, sides, prompts, num_rounds=options.rounds))


def sides_of(sampler: VllmSampler, model: str) -> dict[str, Side]:
    """Return what is compared."""
    stop = stop_token_ids(resolve_model(model))
    return {
        "bare": lambda prompts: run_bare(sampler, prompts, stop, text=False),
        "ours": lambda prompts: run_ours(sampler, prompts),
        "bare, with text": lambda prompts: run_bare(sampler, prompts, stop, text=True),
    }


def measure(
    sampler: VllmSampler, sides: dict[str, Side], prompts: Sequence[Prompt], *, num_rounds: int
) -> dict[str, list[Run]]:
    """Let the sides take turns on an engine."""
    runs: dict[str, list[Run]] = {name: [] for name in sides}
    for number in range(num_rounds):
        order = list(sides)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            sampler._llm.reset_prefix_cache()
            runs[name].append(sides[name](prompts))
    return runs


def run_bare(sampler: VllmSampler, prompts: Sequence[Prompt], stop: list[int], *, text: bool) -> Run:
    """Give prepared requests to `LLM.generate`; preparing them is not measured."""
    encoded = {prompt.problem_id: list(sampler.encode(prompt.text)) for prompt in prompts}
    keys = [(problem_id, sample) for problem_id in encoded for sample in range(NUM_SAMPLES)]
    requests = [{"prompt_token_ids": encoded[problem_id]} for problem_id, _ in keys]
    params = [
        vllm.SamplingParams(
            temperature=PARAMS.temperature,
            max_tokens=sampler.context - len(encoded[problem_id]),
            seed=completion_seed(PARAMS.seed, problem_id, sample),
            stop_token_ids=stop,
            logprobs=0,
            flat_logprobs=not text,
            detokenize=text,
        )
        for problem_id, sample in keys
    ]
    outputs, wall_s, cpu_s = measured(lambda: sampler._llm.generate(requests, params, use_tqdm=False))
    token_ids = {key: tuple(output.outputs[0].token_ids) for key, output in zip(keys, outputs, strict=True)}
    return Run(token_ids=token_ids, wall_s=wall_s, cpu_s=cpu_s)


def run_ours(sampler: VllmSampler, prompts: Sequence[Prompt]) -> Run:
    """Do all that ``polaris-rollout sample`` does once its engine runs; what it drew is read from its store."""

    def sample(folder: Path) -> None:
        with RolloutStore(folder, {}) as store, watch(sampler):
            groups = sample_missing(store, prompts, sampler, PARAMS, num_samples=NUM_SAMPLES)
            for _ in track(groups, total=len(prompts), engine=sampler):
                pass

    with tempfile.TemporaryDirectory() as name:
        _, wall_s, cpu_s = measured(lambda: sample(Path(name)))
        token_ids = {
            (group.problem_id, sample): completion.token_ids
            for group in read_store(Path(name))
            for sample, completion in enumerate(group.completions)
        }
    return Run(token_ids=token_ids, wall_s=wall_s, cpu_s=cpu_s)


def measured(work: Callable[[], Result]) -> tuple[Result, float, float]:
    """Return what a piece of work returns, its seconds by the clock, and those of the processor, all threads."""
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall_s, time.process_time() - cpu_s


def enough_prompts(sampler: VllmSampler, sides: dict[str, Side], seconds: float) -> list[Prompt]:
    """Warm every side up, and return as many prompts as the engine is busy with for so many seconds."""
    few = to_prompts(NUM_WARM_UP)
    for side in sides.values():
        side(few)
    sampler._llm.reset_prefix_cache()
    run = sides["bare"](few)
    # A machine that others use as well makes the clock run on; on one's own, several threads add up.
    return to_prompts(round(NUM_WARM_UP * seconds / min(run.wall_s, run.cpu_s)))


def to_prompts(number: int) -> list[Prompt]:
    """Return synthetic problems as prompts."""
    problems = synthetic_problems(number, seed=5, split="held-out")
    return [Prompt(problem_id=problem.problem_id, text=to_prompt(problem)) for problem in problems]


def report(runs: dict[str, list[Run]]) -> None:
    """Print seconds and ratios, after making sure that all sides drew the same."""
    drawn = runs["bare"][0].token_ids
    assert all(run.token_ids == drawn for side in runs.values() for run in side), "the sides drew other tokens"
    num_tokens = sum(map(len, drawn.values()))
    print(f"{len(drawn)} completions, {num_tokens} tokens, the same from all sides; {os.getloadavg()[0]:.1f} load")
    print("side               clock s (all runs)               tokens/s  processor s")
    wall = {name: statistics.median(run.wall_s for run in side) for name, side in runs.items()}
    cpu = {name: statistics.median(run.cpu_s for run in side) for name, side in runs.items()}
    for name, side in runs.items():
        seconds = ", ".join(f"{run.wall_s:.2f}" for run in side)
        print(f"{name:16} {wall[name]:7.2f} ({seconds:22}) {num_tokens / wall[name]:9.0f} {cpu[name]:12.2f}")
    for name in ("bare", "bare, with text"):
        print(
            f"ours / {name}: {wall['ours'] / wall[name]:.3f} by the clock, {cpu['ours'] / cpu[name]:.3f} by processor"
        )
    verdict = "within" if wall["ours"] / wall["bare"] <= TARGET else "NOT WITHIN"
    print(f"{verdict} the target of {TARGET}")


if __name__ == "__main__":
    main()
