"""What the runs of an ablation gave: scores of each problem, tokens, seconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polaris_eval.scores import read_scores

from polaris_train.ablation.arms import Arm
from polaris_train.ablation.budget import Spent, spent_tokens
from polaris_train.ablation.request import Ablation
from polaris_train.controller.manifest import read_manifest
from polaris_train.recipe import Recipe
from polaris_train.run_folder import RunFolder, read_records

Shares = Mapping[str, Mapping[str, float]]
"""Share of each problem's answers that is correct, by benchmark and problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One arm with one seed."""

    arm: Arm

    seed: int

    spent: Spent

    steps: int
    """Of training, over all stages."""

    seconds: float
    """Of everything but evaluations; a step that was copied from another arm counts as if it had been done."""

    start: Shares
    """Of the first model."""

    final: Shares
    """Of the last model."""

    yarn: Shares | None
    """Of the last model read out with YaRN, where the recipe asks for it."""


def read_results(ablation: Ablation) -> dict[str, list[RunResult]]:
    """Return the finished runs of each arm by its name, for the seeds that all arms have finished."""
    runs = {
        arm.name: [
            _read(ablation, arm, seed)
            for seed in ablation.seeds
            if all(_is_finished(ablation.folder(each, seed)) for each in ablation.to_run)
        ]
        for arm in ablation.to_run
    }
    return {name: found for name, found in runs.items() if found}


def _is_finished(folder: RunFolder) -> bool:
    return folder.manifest("evaluate.final").exists()


def _read(ablation: Ablation, arm: Arm, seed: int) -> RunResult:
    folder, recipe = ablation.folder(arm, seed), ablation.arm_recipe(arm)
    yarn = folder.evaluation("yarn")
    return RunResult(
        arm=arm,
        seed=seed,
        spent=spent_tokens(folder, recipe),
        steps=sum(len(read_records(folder.stage(stage.name).metrics)) for stage in recipe.stages),
        seconds=_seconds(folder, recipe),
        start=_shares(folder.evaluation("start")),
        final=_shares(folder.evaluation("final")),
        yarn=_shares(yarn) if folder.manifest("evaluate.yarn").exists() else None,
    )


def _seconds(folder: RunFolder, recipe: Recipe) -> float:
    records = (read_manifest(path) for path in folder.manifests() if not path.name.startswith("evaluate."))
    return sum(record.get("seconds", 0.0) for record in records if record)


def _shares(path: Path) -> Shares:
    return {
        each.benchmark: {
            problem.problem_id: problem.num_correct / problem.num_samples
            for problem in each.problems
            if problem.num_correct is not None
        }
        for each in read_scores(path).evaluations
    }
