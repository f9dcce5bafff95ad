"""The whole job on the embedded default: profile, select, one GRPO stage, evaluation before and after."""

import logging
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from polaris_data import Journal, Problem, read_profile, select, synthetic_problems, write_problems, write_selection
from polaris_data.files import claim, write_json
from polaris_data.profile import profile
from polaris_data.selection import PUBLISHED_FOR_PROFILES, attempts_of
from polaris_eval import Estimate, correct_by_problem, evaluate, mean_at_k, paired_difference
from polaris_reward import Grader, boxed_grader
from polaris_rollout import Sampler, SamplingParams, track
from rich.console import Console
from rich.table import Table

from polaris_train.errors import TrainError
from polaris_train.recipe import Recipe, load_recipe
from polaris_train.run_folder import RunFolder, StageFolder, read_records
from polaris_train.stage import prepare_stage, run_stage

NUM_TRAINING = 192
NUM_HELD_OUT = 128
NUM_SAMPLES = 8


def run_demo(out: Path) -> None:
    """Run or continue the demo and write ``out/summary.json``.

    Args:
        out: Folder for everything that the demo writes.

    Raises:
        OtherRunError: If the folder belongs to another run.
        TrainError: If training ended with an error.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    started = time.monotonic()
    recipe, folder = load_recipe("tiny-cpu"), RunFolder(out)
    sizes = {"training_problems": NUM_TRAINING, "held_out_problems": NUM_HELD_OUT, "samples": NUM_SAMPLES}
    claim(folder.demo, {"command": "polaris demo", **sizes, "recipe": recipe.model_dump(mode="json")})
    training = synthetic_problems(NUM_TRAINING, seed=recipe.seed, split="train")
    held_out = synthetic_problems(NUM_HELD_OUT, seed=recipe.seed, split="held-out")
    write_problems(folder.problems, training)
    write_problems(folder.held_out, held_out)
    _before_training(folder, training, held_out, recipe)
    _select(folder, training)
    stage = StageFolder(prepare_stage(recipe, recipe.stages[0], out, problems=str(folder.selected)))
    _say(f"2/3  train: {recipe.stages[0].steps} GRPO steps on the problems it does not always solve")
    if code := run_stage(stage.path):
        raise TrainError(f"training ended with exit code {code}; see the lines above")
    _after_training(folder, stage, held_out, recipe)
    summary = _summarize(folder, stage, seconds=time.monotonic() - started)
    write_json(folder.summary, summary)
    _print_summary(summary, folder, stage)


def _before_training(
    folder: RunFolder, training: Sequence[Problem], held_out: Sequence[Problem], recipe: Recipe
) -> None:
    difficulties, completions = Journal(folder.profile), Journal(folder.completions("before"))
    if difficulties.finished and completions.finished:
        return
    from polaris_rollout.engines import VllmSampler

    _say(f"1/3  profile {len(training)} problems with the tiny model, evaluate it on {len(held_out)} others")
    params = _params(recipe)
    with (
        boxed_grader() as grader,
        VllmSampler(recipe.model, context=recipe.stages[0].context) as sampler,
    ):
        for _ in profile(
            training,
            sampler,
            grader.grade_many,
            params=params,
            num_samples=NUM_SAMPLES,
            journal=difficulties,
        ):
            pass
        _evaluate(held_out, sampler, grader, params, completions)


def _select(folder: RunFolder, training: Sequence[Problem]) -> None:
    profiled = read_profile(folder.profile)
    decisions = select(training, profiled)
    write_selection(folder.data, training, decisions, evidence=attempts_of(profiled), rules=PUBLISHED_FOR_PROFILES)
    dropped = sum(not decision.kept for decision in decisions)
    _say(f"     {dropped} of {len(training)} problems were always solved and are dropped")


def _after_training(folder: RunFolder, stage: StageFolder, held_out: Sequence[Problem], recipe: Recipe) -> None:
    completions = Journal(folder.completions("after"))
    if completions.finished:
        return
    from polaris_rollout.engines import VllmSampler

    _say("3/3  evaluate the trained model on the same held-out problems")
    with (
        boxed_grader() as grader,
        VllmSampler(str(stage.model), context=recipe.stages[0].context) as sampler,
    ):
        _evaluate(held_out, sampler, grader, _params(recipe), completions)


def _params(recipe: Recipe) -> SamplingParams:
    stage = recipe.stages[0]
    return SamplingParams(
        temperature=float(stage.temperature), max_tokens=stage.context - recipe.max_prompt_tokens, seed=recipe.seed
    )


def _evaluate(
    held_out: Sequence[Problem], sampler: Sampler, grader: Grader, params: SamplingParams, journal: Journal
) -> None:
    evaluate(
        "held-out",
        held_out,
        sampler,
        grader.grade_many,
        params=params,
        num_samples=NUM_SAMPLES,
        journal=journal,
        track=partial(track, total=NUM_SAMPLES * len(held_out), done=len(journal.records), label="evaluating"),
    )


def _summarize(folder: RunFolder, stage: StageFolder, *, seconds: float) -> dict[str, Any]:
    before, after = (Journal(folder.completions(when)).records for when in ("before", "after"))
    correct_before, correct_after = correct_by_problem(before), correct_by_problem(after)
    metrics = read_records(stage.metrics)
    profiled = read_profile(folder.profile)
    return {
        "before": _estimate(mean_at_k(list(correct_before.values()))),
        "after": _estimate(mean_at_k(list(correct_after.values()))),
        "difference": _estimate(paired_difference(list(correct_before.values()), list(correct_after.values()))),
        "mean_tokens": {"before": _mean_tokens(before), "after": _mean_tokens(after)},
        "seconds": round(seconds, 1),
        "sampled_tokens": _num_tokens(before)
        + _num_tokens(after)
        + sum(step["sampled_tokens"] for step in metrics)
        + round(sum((each.mean_tokens or 0) * each.num_samples for each in profiled)),
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": list(estimate.interval)}


def _num_tokens(records: Sequence[dict[str, Any]]) -> int:
    return sum(completion["num_tokens"] for record in records for completion in record["completions"])


def _mean_tokens(records: Sequence[dict[str, Any]]) -> float:
    return _num_tokens(records) / sum(len(record["completions"]) for record in records)


def _print_summary(summary: dict[str, Any], folder: RunFolder, stage: StageFolder) -> None:
    table = Table("", f"mean@{NUM_SAMPLES}", "95% interval", "tokens", title="Held-out problems", title_justify="left")
    for row in ("before", "after", "difference"):
        low, high = summary[row]["interval"]
        sign = "+" if row == "difference" else ""
        tokens = f"{summary['mean_tokens'][row]:.0f}" if row in summary["mean_tokens"] else ""
        table.add_row(
            row, f"{100 * summary[row]['value']:{sign}.1f}", f"{100 * low:{sign}.1f} to {100 * high:{sign}.1f}", tokens
        )
    console = Console()
    console.print(table)
    console.print(f"{summary['sampled_tokens']:,} tokens sampled in {summary['seconds']:.0f} s", highlight=False)
    for path, meaning in (
        (folder.summary, "these figures"),
        (folder.profile, "how often each problem was solved at the start"),
        (folder.decisions, "which problems were dropped, and why"),
        (stage.metrics, "every training step"),
        (stage.model, "the trained model, for transformers and vLLM"),
        (folder.completions("after"), "every held-out answer with its grade"),
    ):
        console.print(f"  {path}  [dim]{meaning}[/dim]", highlight=False, soft_wrap=True)


def _say(line: str) -> None:
    Console(stderr=True).print(line, style="bold", highlight=False)
