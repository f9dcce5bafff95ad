"""The arms of an ablation: plain GRPO, and one more part of the recipe in each arm after it.

A recipe may declare other arms (``[[arms]]``): some of its stages, and values that differ.

An arm is a recipe. Nothing in it is an algorithm of its own: each part is taken away by values that a person could
write. What is never taken away: groups without signal are left out and the others re-weighted, since no value of a
recipe says otherwise; the checkpoint of a stage is chosen on held-out problems; dedup and decontamination.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polaris_train.errors import RecipeError
from polaris_train.recipe import Recipe, Stage, change_recipe
from polaris_train.recipe.sft import SftStage
from polaris_train.recipe.tables import ArmTable

PLAIN_TEMPERATURE = 1.0
"""Of arms without calibration: the distribution that the model has."""

ENDLESS = 1_000_000
"""Steps of stages that end with their tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One row of the table."""

    name: str
    """Names its folder."""

    label: str
    """In the table."""

    meaning: str
    """For a person who wants to know what is in it."""

    before: str | None
    """The arm that it is compared with, besides plain GRPO."""

    calibrated: bool = True
    """Whether problems are profiled and selected."""

    heated: bool = True
    """Whether temperatures are the recipe's, in as many stages."""

    dropping: bool = True
    """Whether mastered problems are dropped between stages."""

    rescue: bool = True
    """Whether groups that all failed are rescued."""

    staged: bool = True
    """Whether contexts are the recipe's."""

    declared: ArmTable | None = None
    """What the recipe itself says of it, in place of the five above."""


def _only(*parts: str) -> dict[str, Any]:
    """Return which parts of the recipe an arm has: these."""
    return {part: part in parts for part in ("calibrated", "heated", "dropping", "rescue", "staged")}


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(
            name="plain",
            label="plain GRPO",
            meaning="all problems, temperature 1, one stage at the first stage's context",
            before=None,
            **_only(),
        ),
        Arm(
            name="data",
            label="+ calibrated data",
            meaning="profiled, and the recipe's selection",
            before="plain",
            **_only("calibrated"),
        ),
        Arm(
            name="temperature",
            label="+ temperature",
            meaning="the recipe's temperatures, in as many stages, all at the first one's context",
            before="data",
            **_only("calibrated", "heated"),
        ),
        Arm(
            name="dropping",
            label="+ dynamic dropping",
            meaning="what a stage mastered is dropped before the next",
            before="temperature",
            rescue=False,
            staged=False,
        ),
        Arm(
            name="rescue",
            label="+ rescue",
            meaning="groups that all failed get an earlier answer (re-weighting is in every arm)",
            before="dropping",
            staged=False,
        ),
        Arm(
            name="full",
            label="+ staged context = full recipe",
            meaning="the recipe as it is",
            before="rescue",
        ),
        Arm(
            name="single",
            label="one stage at full length",
            meaning="the full recipe in one stage at the last one's context, hence without dropping",
            before="full",
            dropping=False,
        ),
    )
}
"""In the order of the table, where the recipe declares none."""

BASELINE = Arm(name="baseline", label="first model", meaning="not trained", before=None)
"""A row of every table, and no run: each run evaluates the model that it starts from."""


def arms_of(recipe: Recipe) -> dict[str, Arm]:
    """Return the arms of a recipe by name, in the order of the table: those that it declares and itself, or `ARMS`."""
    if not recipe.arms:
        return ARMS
    declared = [
        Arm(
            name=each.name,
            label=each.label or each.name,
            meaning=f"stages {', '.join(each.stages or [stage.name for stage in recipe.stages])}"
            + (f"; {', '.join(each.set)}" if each.set else ""),
            before=each.before,
            declared=each,
        )
        for each in recipe.arms
    ]
    full = Arm(name="full", label="full recipe", meaning="the recipe as it is", before=None)
    return {arm.name: arm for arm in (*declared, full)}


def arm_recipe(recipe: Recipe, arm: Arm, *, limited: bool = True) -> Recipe:
    """Return the recipe of an arm.

    All arms are measured at the context of the full recipe, whatever they were trained at; where that is beyond the
    positions of a model (only with ``extend_positions``), it is read out with YaRN.

    Args:
        recipe: The full recipe.
        arm: Which of its parts are in.
        limited: Stages end with their tokens and by no other rule; the numbers of tokens are given when it runs.
    """
    context = recipe.evaluation.context or recipe.stages[-1].context
    if arm.declared is not None:
        recipe = change_recipe(recipe, arm.declared.set, stages=arm.declared.stages)
    stages = recipe.stages if arm.declared else _stages(recipe, arm)
    if limited:
        endless = {"steps": ENDLESS, "plateau_window": None, "truncation_limit": None}
        stages = [stage if isinstance(stage, SftStage) else stage.model_copy(update=endless) for stage in stages]
    data = {} if arm.calibrated else {"select": ()}
    data |= {} if arm.dropping and len(stages) > 1 else {"drop": ()}
    changed = recipe.model_copy(
        update={
            "name": arm.name,
            "stages": tuple(stages),
            "data": recipe.data.model_copy(update=data),
            "evaluation": recipe.evaluation.model_copy(update={"context": context}),
            "arms": (),
            **({} if arm.rescue else {"rescue_max_age": 0}),
        }
    )
    return Recipe.model_validate(changed.model_dump())


def chosen_arms(recipe: Recipe, names: Sequence[str] | None) -> tuple[Arm, ...]:
    """Return the arms of these names in the order of the table; by default all that differ from one before.

    Raises:
        RecipeError: If there is no such arm, the recipe lacks the part that one is about, or nothing is evaluated.
    """
    if not recipe.evaluation.benchmarks:
        raise RecipeError("the recipe evaluates on nothing: give evaluation.benchmarks")
    arms = arms_of(recipe)
    if unknown := [name for name in names or () if name not in arms]:
        raise RecipeError(f"no arm {unknown[0]!r}; the arms are {', '.join(arms)}")
    chosen: list[Arm] = []
    for arm in arms.values():
        same = _same(recipe, arm)
        if names is None and same is None:
            chosen.append(arm)
        elif names is not None and arm.name in names:
            if same is not None:
                raise RecipeError(f"the arm {arm.name!r} would be {same!r} again: {_why(arm, same)}; leave it out")
            chosen.append(arm)
    return tuple(chosen)


def same_arms(recipe: Recipe) -> dict[str, str]:
    """Return the arms that the recipe has no part for, with why."""
    found = ((arm, _same(recipe, arm)) for arm in arms_of(recipe).values())
    return {arm.name: _why(arm, same) for arm, same in found if same is not None}


def _stages(recipe: Recipe, arm: Arm) -> Sequence[Stage | SftStage]:
    """Return the stages of an arm; what is learned from traces stays as it is."""
    learned = [stage for stage in recipe.stages if isinstance(stage, SftStage)]
    stages = [stage for stage in recipe.stages if isinstance(stage, Stage)]
    first, last = stages[0], stages[-1]
    if arm.name == "single":
        return [*learned, first.model_copy(update={"context": last.context})]
    if not arm.heated:
        return [*learned, first.model_copy(update={"temperature": PLAIN_TEMPERATURE})]
    if not arm.staged:
        return [*learned, *(stage.model_copy(update={"context": first.context}) for stage in stages)]
    return recipe.stages


def _same(recipe: Recipe, arm: Arm) -> str | None:
    """Return an arm with the same recipe: one before it, or the full recipe, which is none but itself."""
    if arm.name == "full" and recipe.arms:
        same = [each.name for each in arms_of(recipe).values() if each.declared and _is_whole(each.declared)]
        return same[0] if same else None
    if arm.name == "full" or arm.declared:
        return None
    own = arm_recipe(recipe, arm)
    before = list(ARMS)[: list(ARMS).index(arm.name)]
    for name in dict.fromkeys([*before, "full"]):
        if arm_recipe(recipe, ARMS[name]).model_copy(update={"name": arm.name}) == own:
            return name
    return None


def _is_whole(arm: ArmTable) -> bool:
    return arm.stages is None and not arm.set


def _why(arm: Arm, same: str) -> str:
    if arm.name == "full":
        return f"the arm {same!r} is the recipe as it is"
    if same == "full" and arm.name != "single":
        return "the recipe has no more parts than that"
    return {
        "data": "the recipe has no data.select",
        "temperature": f"the recipe has one stage at temperature {PLAIN_TEMPERATURE:g}",
        "dropping": "the recipe has no data.drop, or one stage",
        "rescue": "the recipe does not rescue (rescue_max_age = 0)",
        "single": "the recipe has one stage",
    }[arm.name]
