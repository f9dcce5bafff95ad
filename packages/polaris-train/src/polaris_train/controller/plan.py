"""A plan as text: the commands in their order, and where each stands."""

from collections.abc import Sequence
from pathlib import Path

from polaris_train.controller.manifest import StepState
from polaris_train.controller.step import Request
from polaris_train.recipe import load_recipe
from polaris_train.run_folder import RunFolder

_MARKS = {
    "done": "done",
    "next": "to do",
    "waiting": "to do",
    "changed": "changed",
    "extended": "to be continued",
    "behind": "out of date",
}


def request_of(recipe: str, overrides: Sequence[str], out: Path | None) -> Request:
    """Return what a command line asks for.

    Args:
        recipe: A TOML file or the name of a packaged recipe.
        overrides: Of ``--set``.
        out: Run folder; ``runs/RECIPE`` by default.

    Raises:
        RecipeError: If the recipe is wrong.
    """
    loaded = load_recipe(recipe, list(overrides))
    folder = RunFolder(out or Path("runs") / loaded.name)
    return Request(recipe=loaded, argument=recipe, overrides=tuple(overrides), folder=folder)


def describe_plan(states: Sequence[StepState]) -> str:
    """Return each step with its state, what changed, the command, and what it leaves."""
    parts: list[str] = []
    for number, each in enumerate(states, 1):
        lines = [f"[{number}/{len(states)}] {each.step.name}: {each.step.meaning}  ({_MARKS[each.state]})"]
        lines += [f"    changed: {line}" for line in each.changes]
        lines += [f"    $ {each.step.line}", f"    -> {', '.join(map(str, each.step.outputs))}"]
        parts.append("\n".join(lines))
    return "\n".join(parts)
