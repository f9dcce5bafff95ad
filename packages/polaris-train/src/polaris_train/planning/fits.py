"""What fits: models, contexts and numbers of cards in one table, as docs/what-fits.md shows it."""

from collections.abc import Iterator

from polaris_train.planning.cards import GIB, Machine, find_machine
from polaris_train.planning.recipes import RecipePlan, plan_recipe
from polaris_train.planning.shapes import model_shape
from polaris_train.planning.stages import StagePlan
from polaris_train.recipe import Recipe, load_recipe

_MODELS = {
    "Qwen/Qwen3-0.6B": ("full", "lora"),
    "Qwen/Qwen3-1.7B": ("full", "lora"),
    "Qwen/Qwen3-4B": ("full", "lora"),
    "Qwen/Qwen3-8B": ("full", "lora"),
    "Qwen/Qwen3-14B": ("lora",),
}
_CONTEXTS = (8192, 16384, 40960)
_MACHINES = (("rtx-4090", 1), ("a100-40gb", 1), ("h100", 1), ("h100", 2), ("h100", 4), ("h100", 8))
_STEPS = 100


PLANNED = {
    "qwen3-0.6b": ("rtx-4090", 1),
    "qwen3-1.7b-one-gpu": ("h100", 1),
    "qwen3-4b-lora-one-gpu": ("h100", 1),
    "math-level45-lora": ("h100", 1),
    "qwen3-4b-single-node": ("h100", 8),
}
"""Packaged recipes that are made for a machine: the card and how many of them."""


def packaged_plan(name: str) -> RecipePlan:
    """Return the plan of a packaged recipe on the machine that it is made for."""
    card, number = PLANNED[name]
    return plan_recipe(load_recipe(name), find_machine(card, num_ranks=number))


def recipes_table() -> str:
    """Return a Markdown table of what packaged recipes need."""
    head = ["recipe", "machine", "GiB to train, of each", "engine's share", "answers in flight", "days", "least days"]
    lines = [head, ["---"] * len(head), *(_recipe_row(name) for name in PLANNED)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _recipe_row(name: str) -> list[str]:
    plan = packaged_plan(name)
    derived = [each.derived for each in plan.stages]
    shares = [each.engine.share for each in derived if each.engine]
    return [
        f"`{name}`",
        f"{plan.machine.num_ranks} x {plan.machine.card.name}",
        f"{max(each.memory.total for each in derived) / GIB:.0f}",
        f"{min(shares):.2f}",
        f"{min(each.in_flight for each in derived)}",
        f"{plan.hours / 24:.1f}",
        f"{sum(each.floor_hours for each in plan.stages) / 24:.1f}",
    ]


def fits_table() -> str:
    """Return a Markdown table of models, contexts and cards: whether it fits, how, and how fast it would be."""
    head = ["model", "trains", "context", *(f"{number} x {name}" for name, number in _MACHINES)]
    lines = [head, ["---"] * len(head), *_rows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows() -> Iterator[list[str]]:
    for model, ways in _MODELS.items():
        for way in ways:
            for context in _CONTEXTS:
                cells = [
                    _cell(_plan(model, way, context, find_machine(name, num_ranks=number)))
                    for name, number in _MACHINES
                ]
                yield [model.partition("/")[2], way, f"{context:,}", *cells]


def _plan(model: str, way: str, context: int, machine: Machine) -> StagePlan:
    """Return the plan of the published batch of a quarter, with as many cards to an engine as it needs."""
    values = {
        "name": "table",
        "model": model,
        "problems": "any",
        "prompts_per_step": 32,
        "stages": [{"name": "stage-1", "context": context, "temperature": 1.0, "steps": _STEPS}],
        **({"lora": {"rank": 64}} if way == "lora" else {}),
    }
    degrees = [each for each in (1, 2, 4, 8) if machine.num_ranks % each == 0 and each <= model_shape(model).key_heads]
    plans = [
        plan_recipe(Recipe.model_validate(values | {"tensor_parallel": each}), machine).stages[0] for each in degrees
    ]
    fitting = [each for each in plans if each.fits]
    return min(fitting, key=lambda each: each.hours) if fitting else plans[0]


def _cell(plan: StagePlan) -> str:
    if not plan.fits or plan.time is None:
        return "no"
    engines = plan.derived.engine
    kept = plan.derived.training.activations
    how: list[str] = [] if kept == "recompute" else [f"activations {kept}"]
    if plan.derived.training.offloads:
        how.append("offload")
    if plan.derived.training.reduces_each:
        how.append("reduce")
    if (degree := plan.derived.training.context_parallel) > 1:
        how.append(f"{degree} ranks a sequence")
    per_s = f"{plan.time.sampled_per_s / 1000:.1f}k / {plan.time.trained_per_s / 1000:.1f}k"
    assert engines is not None, "no servers here"
    memory = f"{plan.derived.memory.total / GIB:.0f} GiB"
    return ", ".join([memory, f"{plan.derived.in_flight} in flight", *how, per_s])
