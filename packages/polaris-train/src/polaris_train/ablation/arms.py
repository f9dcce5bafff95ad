"""The arms of an ablation: plain GRPO, and one more part of the recipe in each arm after it.

The last two are parts of their own: each is plain GRPO and one thing more, which the arms before the full recipe are
without.

An arm is a recipe. Nothing in it is an algorithm of its own: each part is taken away by values that a person could
write. What is never taken away: groups without signal are left out and the others re-weighted, since no value of a
recipe says otherwise; the checkpoint of a stage is chosen on held-out problems; dedup and decontamination.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from polaris_train.errors import RecipeError
from polaris_train.recipe import Recipe, Stage
from polaris_train.recipe_sft import SftStage

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

    core: bool = False
    """Whether wrong answers are rewarded for their intermediate results."""

    taught: bool = False
    """Whether there is a teacher."""


_NONE = {"calibrated": False, "heated": False, "dropping": False, "rescue": False, "staged": False}

ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(
            name="plain",
            label="plain GRPO",
            meaning="all problems, temperature 1, one stage at the first stage's context",
            before=None,
            **_NONE,
        ),
        Arm(
            name="data",
            label="+ calibrated data",
            meaning="profiled, and the recipe's selection",
            before="plain",
            **_NONE | {"calibrated": True},
        ),
        Arm(
            name="temperature",
            label="+ temperature",
            meaning="the recipe's temperatures, in as many stages, all at the first one's context",
            before="data",
            **_NONE | {"calibrated": True, "heated": True},
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
            core=True,
            taught=True,
        ),
        Arm(
            name="single",
            label="one stage at full length",
            meaning="the full recipe in one stage at the last one's context, hence without dropping",
            before="full",
            dropping=False,
            core=True,
            taught=True,
        ),
        Arm(
            name="core",
            label="plain GRPO + CORE",
            meaning="plain GRPO, and wrong answers are rewarded for their intermediate results",
            before="plain",
            **_NONE | {"core": True},
        ),
        Arm(
            name="distillation",
            label="on-policy distillation",
            meaning="as plain GRPO, and the recipe's teacher judges every token",
            before="plain",
            **_NONE | {"taught": True},
        ),
    )
}
"""In the order of the table."""


def arm_recipe(recipe: Recipe, arm: Arm, *, limited: bool = True) -> Recipe:
    """Return the recipe of an arm.

    All arms are measured at the context of the full recipe, whatever they were trained at; where that is beyond the
    positions of a model (only with ``extend_positions``), it is read out with YaRN.

    Args:
        recipe: The full recipe.
        arm: Which of its parts are in.
        limited: Stages end with their tokens and by no other rule; the numbers of tokens are given when it runs.
    """
    stages = _stages(recipe, arm)
    if limited:
        stages = [
            stage.model_copy(update={"steps": ENDLESS, "plateau_window": None, "truncation_limit": None})
            for stage in stages
        ]
    data = {} if arm.calibrated else {"select": ()}
    data |= {} if arm.dropping and len(stages) > 1 else {"drop": ()}
    context = recipe.evaluation.context or recipe.stages[-1].context
    changed = recipe.model_copy(
        update={
            "name": arm.name,
            "stages": tuple(stages),
            "data": recipe.data.model_copy(update=data),
            "evaluation": recipe.evaluation.model_copy(update={"context": context}),
            **({} if arm.rescue else {"rescue_max_age": 0}),
            **({} if arm.core else {"core": None}),
            **({} if arm.taught else {"distillation": None}),
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
    if unknown := [name for name in names or () if name not in ARMS]:
        raise RecipeError(f"no arm {unknown[0]!r}; the arms are {', '.join(ARMS)}")
    chosen: list[Arm] = []
    for arm in ARMS.values():
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
    found = ((arm, _same(recipe, arm)) for arm in ARMS.values())
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
    if arm.name == "full":
        return None
    own = arm_recipe(recipe, arm)
    before = list(ARMS)[: list(ARMS).index(arm.name)]
    for name in dict.fromkeys([*before, "full"]):
        if arm_recipe(recipe, ARMS[name]).model_copy(update={"name": arm.name}) == own:
            return name
    return None


def _why(arm: Arm, same: str) -> str:
    if same == "full" and arm.name != "single":
        return "the recipe has no more parts than that"
    return {
        "data": "the recipe has no data.select",
        "temperature": f"the recipe has one stage at temperature {PLAIN_TEMPERATURE:g}",
        "dropping": "the recipe has no data.drop, or one stage",
        "rescue": "the recipe does not rescue (rescue_max_age = 0)",
        "single": "the recipe has one stage",
        "core": "the recipe has no [core]",
        "distillation": "the recipe has no [distillation]",
    }[arm.name]
