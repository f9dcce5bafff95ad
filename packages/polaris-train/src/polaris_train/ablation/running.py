"""Running the arms of an ablation, each an ordinary run; the same command continues whatever was killed."""

import shlex
import shutil

from polaris_data.files import claim, write_text
from rich.console import Console

from polaris_train.ablation.arms import Arm
from polaris_train.ablation.budget import spent_tokens, stage_limit
from polaris_train.ablation.report import write_ablation
from polaris_train.ablation.request import Ablation
from polaris_train.ablation.toml import to_toml
from polaris_train.controller import Request, Step, plan_steps, run_recipe, step_states
from polaris_train.controller.manifest import fingerprint, read_manifest, write_manifest
from polaris_train.recipe.sft import SftStage
from polaris_train.run_folder import RunFolder


def run_ablation(ablation: Ablation) -> int:
    """Run or continue every arm with every seed and write what came of it; return the first exit code that is not 0.

    Seeds come one after the other, so that there are whole rows to compare early; the table is written after each.

    Args:
        ablation: What to run.

    Raises:
        OtherRunError: If the folder is of another ablation.
        TrainError: As `run_recipe` does.
    """
    _claim(ablation)
    for arm in ablation.to_run:
        write_text(ablation.recipe_file(arm), to_toml(ablation.arm_recipe(arm)))
    for seed in ablation.seeds:
        for arm in ablation.to_run:
            if code := _run_arm(ablation, arm, seed):
                return code
        write_ablation(ablation)
    return 0


def _claim(ablation: Ablation) -> None:
    """Refuse the folder of another ablation; more arms and more seeds of the same are welcome."""
    ablation.out.mkdir(parents=True, exist_ok=True)
    claim(ablation.settings, ablation.recipe.model_dump(mode="json") | {"tokens": ablation.tokens})


def _run_arm(ablation: Ablation, arm: Arm, seed: int) -> int:
    limits = _Limits(ablation, arm, seed)
    recipe = ablation.arm_recipe(arm)
    overrides: list[str] = []
    request = ablation.run(arm, seed, overrides)
    for index, stage in enumerate(recipe.stages if limits.budget is not None else ()):
        if isinstance(stage, SftStage):
            continue  # It samples nothing.
        before = f"{stage.name}.train"
        if not _is_done_before(request, before):
            _take_over(request, ablation, seed)
            _say(request, "--until", before)
            if code := run_recipe(request, until=before):
                return code
        overrides.append(f"stages.{index}.max_sampled_tokens={limits.of_stage(index)}")
        request = ablation.run(arm, seed, overrides)
    _say(request)
    return run_recipe(request)


class _Limits:
    """What the stages of a run may sample; without a budget, what their own rules allow."""

    def __init__(self, ablation: Ablation, arm: Arm, seed: int) -> None:
        self._recipe = ablation.arm_recipe(arm)
        self._folder = ablation.folder(arm, seed)
        self.budget = ablation.tokens
        self._like = None
        if ablation.tokens is None and arm.name != "full":
            (full, *_) = ablation.to_run
            spent = spent_tokens(ablation.folder(full, seed), ablation.arm_recipe(full))
            self.budget, self._like = spent.total, spent.training

    def of_stage(self, index: int) -> int:
        assert self.budget is not None
        spent = spent_tokens(self._folder, self._recipe)
        return stage_limit(self.budget, spent, self._recipe, index, like=self._like)


def _is_done_before(request: Request, name: str) -> bool:
    """Whether all is done before a step; it may be under way, with a limit that the request does not have yet."""
    steps = plan_steps(request)
    (place,) = (place for place, step in enumerate(steps) if step.name == name)
    return all(each.state == "done" for each in step_states(steps[:place], request.folder))


def _take_over(request: Request, ablation: Ablation, seed: int) -> None:
    """Copy what another arm of the same seed did with the same command, inputs and versions: it would be the same."""
    others = [folder for arm in ablation.to_run if (folder := ablation.folder(arm, seed)) != request.folder]
    with request.folder.locked():
        for step in plan_steps(request):
            if step.name.endswith(".train"):
                return
            if not all(path.exists() for path in step.inputs if path.is_relative_to(request.folder.path)):
                continue
            own = fingerprint(step, request.folder)
            manifest = request.folder.manifest(step.name)
            if manifest.exists() or request.folder.begun(step.name).exists():
                continue
            for other in others:
                record = read_manifest(other.manifest(step.name))
                if record is not None and record["fingerprint"] == own:
                    _copy(step, other, request.folder)
                    write_manifest(manifest, record | {"argv": list(step.argv), "copied_from": str(other.path)})
                    break


def _copy(step: Step, other: RunFolder, own: RunFolder) -> None:
    for pattern in (*step.owns, *step.outputs):
        for path in other.path.glob(str(pattern.relative_to(own.path))):
            target = own.path / path.relative_to(other.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                shutil.copy2(path, target)


def _say(request: Request, *more: str) -> None:
    sets = (word for override in request.overrides for word in ("--set", override))
    line = shlex.join(("polaris", "run", request.argument, "--out", str(request.folder.path), *more, *sets))
    Console(stderr=True).print(f"\n$ {line}", style="bold", highlight=False, markup=False, soft_wrap=True)
