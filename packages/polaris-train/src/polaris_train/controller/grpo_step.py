"""The steps of a stage that learns from its own answers: what it trains on, how hot, and the training."""

from collections.abc import Iterator
from pathlib import Path

from polaris_train.controller.options import (
    engine_options,
    free_options,
    of_stages,
    rule_options,
    set_options,
    suffix_option,
)
from polaris_train.controller.step import Request, Step, deciding, model_input
from polaris_train.recipe import Stage
from polaris_train.recipe.tables import AUTO
from polaris_train.run_folder import StageFolder


def grpo_steps(request: Request, index: int, stage: Stage) -> Iterator[Step]:
    """Yield the steps of one stage: what it trains on, how hot, and the training."""
    recipe, folder = request.recipe, request.folder
    own, taught = folder.stage(stage.name), recipe.distillation
    problems, start = _given(request, index), recipe.model
    if index:
        start = str(folder.stage(recipe.stages[index - 1].name).model)
    earlier = _reinforced(request, index)
    if earlier and recipe.data.drop:
        yield _drop(request, own, before=earlier[-1])
    first = folder.stage(recipe.stages[earlier[0]].name) if earlier else None
    # What a first stage's diversity is, later ones restore.
    is_first = first is None and recipe.temperature.target_entropy is None
    if stage.temperature == AUTO or (is_first and any(each.temperature == AUTO for each in recipe.stages)):
        yield _temperature(request, stage, own, start, like=first)
    yield Step(
        name=f"{stage.name}.train",
        meaning=f"train {_how_long(stage)} at a context of {stage.context:,}{_on_what(stage)}",
        argv=(
            *("polaris-train", "stage", request.argument, stage.name, "--out", str(folder.path)),
            *("--problems", str(problems)),
            *(("--held-out", str(folder.held_out)) if recipe.evaluate_every else ()),
            *set_options(of_stages(request.overrides)),
        ),
        inputs=(
            problems,
            *((folder.held_out,) if recipe.evaluate_every else ()),
            *((own.temperature,) if stage.temperature == AUTO else ()),
            *(
                _evidence(request, index)
                if stage.select or stage.hint_share or _learns_from_profile(request, index)
                else ()
            ),
            *model_input(start, folder),
            *(() if taught is None or taught.is_served else model_input(taught.teacher, folder)),
        ),
        outputs=(own.model, own.outcome, own.visits),
        trains=own.path,
        owns=own.training_files,
        recipe=deciding(recipe.constants() | recipe.engine_tables()) | {"stage": stage.model_dump()},
        extending=frozenset(
            f"stage.{name}"
            for name in ("steps", "plateau_window", "first_step_truncation", "truncation_limit", "max_sampled_tokens")
        ),
        free=(request.argument, *set_options(request.overrides)),
    )


def _drop(request: Request, own: StageFolder, *, before: int) -> Step:
    recipe, problems = request.recipe, _given(request, before)
    visits = request.folder.stage(recipe.stages[before].name).visits
    return Step(
        name=f"{own.path.name}.drop",
        meaning="drop what has been mastered",
        argv=(
            *("polaris-data", "select", str(problems), "--visits", str(visits)),
            *rule_options(recipe.data.drop),
            *("--seed", str(recipe.seed), "--out", str(own.selected.parent)),
        ),
        inputs=(problems, visits),
        outputs=(own.selected,),
        owns=(own.selected.parent,),
    )


def _temperature(request: Request, stage: Stage, own: StageFolder, start: str, *, like: StageFolder | None) -> Step:
    recipe, folder, table = request.recipe, request.folder, request.recipe.temperature
    restored = like if table.target_entropy is None else None
    if table.target_entropy is not None:
        sought = ("--num-problems", str(table.num_problems), "--target-entropy", f"{table.target_entropy:g}")
        meaning = f"find where the entropy of a token is {table.target_entropy:g}"
    elif restored is not None:
        meaning, sought = "restore the diversity of stage 1", ("--like", str(restored.path))
    else:
        sought = ("--num-problems", str(table.num_problems), "--max-loss", f"{table.max_loss:g}")
        meaning = "find where controlled exploration starts"
        if stage.temperature != AUTO:
            meaning, sought = "measure how diverse it is there", (*sought, "--at", f"{stage.temperature:g}")
    return Step(
        name=f"{stage.name}.temperature",
        meaning=meaning,
        argv=(
            *("polaris-rollout", "temperature", str(folder.held_out)),
            *engine_options(recipe, start, context=stage.context),
            *(("--extend-positions",) if recipe.extend_positions else ()),
            *sought,
            *(() if table.answers is None else ("--answers", str(table.answers))),
            *suffix_option(recipe),
            *("--seed", str(recipe.seed), "--out", str(own.path)),
        ),
        inputs=(
            folder.held_out,
            *model_input(start, folder),
            *(() if restored is None else (restored.temperature,)),
        ),
        outputs=(own.temperature,),
        owns=own.temperature_files,
        # A temperature that an older version found, with YaRN in its place, is kept.
        free=(*(("--extend-positions",) if recipe.extend_positions else ()), *free_options(recipe)),
    )


def _given(request: Request, index: int) -> Path:
    """Return the problems that a stage is given."""
    stages, folder = request.recipe.stages, request.folder
    if _reinforced(request, index) and request.recipe.data.drop:
        return folder.stage(stages[index].name).selected
    return folder.selected if request.recipe.data.select else folder.training


def _evidence(request: Request, index: int) -> Iterator[Path]:
    """Yield what is known of a stage's problems before it: their profile, and what earlier stages saw."""
    if request.recipe.data.select:
        yield request.folder.profile
    for number in _reinforced(request, index):
        yield request.folder.stage(request.recipe.stages[number].name).visits


def _learns_from_profile(request: Request, index: int) -> bool:
    """Whether the consensus of a stage with CORE begins with the profile; not in one that an older version began."""
    own = request.folder.stage(request.recipe.stages[index].name)
    begun_without = own.resolved.exists() and not own.first_consensus.exists()
    return request.recipe.core is not None and not _reinforced(request, index) and not begun_without


def _reinforced(request: Request, index: int) -> list[int]:
    """Return which of the stages before one learn from their own answers."""
    return [number for number, each in enumerate(request.recipe.stages[:index]) if isinstance(each, Stage)]


def _how_long(stage: Stage) -> str:
    most = stage.max_sampled_tokens
    return f"up to {stage.steps} steps" if most is None else f"until {most:,} tokens are sampled"


def _on_what(stage: Stage) -> str:
    return f" with {', '.join(stage.select)}" if stage.select else ""
