"""The plan of a whole recipe, and the cheapest changes that make one fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from polaris_rollout import RolloutError

from polaris_train.errors import PlanError, RecipeError
from polaris_train.model.architecture import check_architecture
from polaris_train.planning.cards import Machine
from polaris_train.planning.shapes import ModelShape, known_models, model_shape, planned_config, shape_of
from polaris_train.planning.stages import StagePlan, plan_stage
from polaris_train.recipe import Recipe, load_recipe

NUM_FIXES = 3
"""Changes that are named, at most."""

_LORA_RANK = 64
_CONTEXT_STEP = 1024
_DEGREES = (2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipePlan:
    """What a recipe needs of a machine."""

    recipe: Recipe
    shape: ModelShape
    machine: Machine
    stages: tuple[StagePlan, ...]

    @property
    def problems(self) -> list[str]:
        """Why it does not fit, by stage."""
        return [f"{stage.stage}: {problem}" for stage in self.stages for problem in stage.derived.problems]

    @property
    def hours(self) -> float:
        """Of the stages whose steps are known."""
        return sum(stage.hours for stage in self.stages)


def plan_recipe(recipe: Recipe, machine: Machine, *, answer_tokens: int | None = None) -> RecipePlan:
    """Return what a recipe needs of a machine, whether or not it fits.

    Args:
        recipe: Its ``num_processes``, where it has one, must be the machine's cards.
        machine: Where it is to run.
        answer_tokens: Mean length of an answer.

    Raises:
        PlanError: If the model is unknown, or a number cannot be.
        ModelError: If the model cannot be trained, or its heads not be shared out.
    """
    if answer_tokens is not None and answer_tokens < 1:
        raise PlanError(f"--answer-tokens is {answer_tokens}; give 1 or more")
    degree, config = recipe.context_parallel, planned_config(recipe.model)
    check_architecture(config, model=recipe.model, context_parallel=degree)
    shape = shape_of(config, name=recipe.model)
    if degree is not None and machine.num_ranks % degree:
        raise PlanError(f"context_parallel is {degree}, which does not divide {machine.num_ranks} GPUs")
    stages = (plan_stage(recipe, stage, shape, machine, answer_tokens=answer_tokens) for stage in recipe.stages)
    return RecipePlan(recipe=recipe, shape=shape, machine=machine, stages=tuple(stages))


def refusal(plan: RecipePlan, fixes: Sequence[Sequence[str]]) -> str:
    """Return why a recipe is refused, with the changes that would make it fit."""
    machine = plan.machine
    cards = "this CPU" if machine.on_cpu else f"{machine.num_ranks} x {machine.card.name} ({machine.memory_gib:g} GiB)"
    stage = max(plan.stages, key=lambda each: (len(each.derived.problems), each.context))
    said = f"{plan.recipe.name} does not fit {cards}: in {stage.stage} {'; '.join(stage.derived.problems)}."
    if not fixes:
        return f"{said} No change of the recipe makes it fit; give more or larger cards"
    lines = "\n".join(f"  {' '.join(f'--set {each}' for each in fix)}" for fix in fixes)
    return f"{said} It fits with one of these, the cheapest first:\n{lines}"


def cheapest_fixes(
    argument: str, overrides: Sequence[str], machine: Machine, *, answer_tokens: int | None = None
) -> list[tuple[str, ...]]:
    """Return the changes of a recipe, as ``--set`` takes them, that make it fit a machine; the cheapest first.

    First come those that cost time alone, by the hours that they lead to; then what engine and optimizer approximate;
    then shorter answers, as long as they can be; then a smaller model. Two or three are put together where no single
    one is enough.

    Args:
        argument: A recipe's file or name.
        overrides: Of ``--set``.
        machine: Where it is to run.
        answer_tokens: Mean length of an answer.
    """
    recipe = load_recipe(argument, list(overrides))
    found: list[tuple[str, ...]] = []
    for number, fixes in enumerate(_tiers(recipe, machine)):
        hours = {fix: _hours(argument, (*overrides, *fix), machine, answer_tokens) for fix in fixes}
        fitting = [(taken, fix) for fix, taken in hours.items() if taken is not None]
        if number == 0:  # Of changes that alter what is learned, the one that alters least is the cheapest.
            fitting.sort(key=lambda each: each[0])
        found = _distinct([*found, *(fix for _, fix in fitting)])
        if len(found) >= NUM_FIXES:
            break
    return found[:NUM_FIXES]


def _hours(argument: str, overrides: Sequence[str], machine: Machine, answer_tokens: int | None) -> float | None:
    """Return how long a changed recipe takes; ``None`` if it is none, or does not fit."""
    try:
        plan = plan_recipe(load_recipe(argument, list(overrides)), machine, answer_tokens=answer_tokens)
    except (RecipeError, PlanError, RolloutError):
        return None
    return None if plan.problems else plan.hours


def _tiers(recipe: Recipe, machine: Machine) -> Iterator[list[tuple[str, ...]]]:
    """Yield changes to try, by what they cost."""
    time = [*_costing_time(recipe, machine)]
    close = [*_approximating(recipe)]
    lora = [] if recipe.lora else [(f"lora.rank={_LORA_RANK}", f"learning_rate={10 * recipe.learning_rate:g}")]
    shorter = [*_shorter(recipe)]
    smaller = [(f"model={name}",) for name in _smaller(recipe)]
    yield time
    yield [*close, *lora]
    yield [(*a, *b) for a, b in product(time, [*close, *lora])]
    yield shorter
    yield [(*a, *b) for a, b in product(shorter, [*time, *lora])]
    yield smaller
    yield [(*a, *b, *c) for a, b, c in product(smaller, shorter, [(), *time])]


def _costing_time(recipe: Recipe, machine: Machine) -> Iterator[tuple[str, ...]]:
    """Yield changes that alter no result but for rounding."""
    parallel = [degree for degree in _DEGREES if machine.num_ranks % degree == 0]
    offload = [("cpu_offload=true",)] if recipe.cpu_offload is False and not machine.on_cpu else []
    yield from offload
    if recipe.activations not in (None, "offload") and not machine.on_cpu:
        yield ("activations=offload",)
        yield ("activations=recompute",)
    single: list[tuple[str, ...]] = []
    if (degree := recipe.context_parallel) is not None:
        heads = model_shape(recipe.model).heads
        single += [(f"context_parallel={each}",) for each in parallel if each > degree and heads % each == 0]
    if not recipe.endpoints:
        single += [(f"tensor_parallel={degree}",) for degree in parallel if degree > recipe.tensor_parallel]
    if "gpu_memory_utilization" in recipe.engine:
        single += [(f"engine.gpu_memory_utilization={share / 100:g}",) for share in range(80, 20, -10)]
    if recipe.microbatch_tokens:
        single.append((f"microbatch_tokens={min(stage.context for stage in recipe.stages)}",))
    yield from single
    yield from ((*a, *b) for a, b in product(offload, single))
    if recipe.cpu_offload:
        yield ("cpu_offload=false",)
    if recipe.activations == "offload":
        yield ("activations=recompute",)


def _approximating(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    if not recipe.endpoints and "kv_cache_dtype" not in recipe.engine:
        yield ("engine.kv_cache_dtype=fp8",)


def _shorter(recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """Yield shorter contexts, the longest first: every longer stage is cut to them."""
    longest = max(stage.context for stage in recipe.stages)
    for parts in range(7, 0, -1):
        context = longest * parts // 8 // _CONTEXT_STEP * _CONTEXT_STEP or longest * parts // 8
        if context > recipe.max_prompt_tokens:
            yield tuple(
                f"stages.{index}.context={context}"
                for index, each in enumerate(recipe.stages)
                if each.context > context
            )


def _smaller(recipe: Recipe) -> list[str]:
    """Return known models of the recipe's family that are smaller, the largest first."""
    size, family = model_shape(recipe.model).parameters, recipe.model.partition("-")[0]
    sizes = {name: model_shape(name).parameters for name in known_models() if name.startswith(family)}
    return sorted((name for name in sizes if sizes[name] < size), key=lambda name: -sizes[name])


def _distinct(fixes: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Leave out changes that hold all of another one, and of several alike but for a number all but the first."""
    kept: list[tuple[str, ...]] = []
    for fix in fixes:
        names = [each.partition("=")[0] for each in fix]
        if any(set(each) <= set(fix) or [part.partition("=")[0] for part in each] == names for each in kept):
            continue
        kept.append(fix)
    return kept
