"""Options that the commands of several steps have in common."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from polaris_data import PROMPT_SUFFIX

from polaris_train.recipe import Recipe


def set_options(overrides: Iterable[str]) -> Iterator[str]:
    """Yield the words that set values of a recipe."""
    for override in overrides:
        yield from ("--set", override)


def of_stages(overrides: Sequence[str]) -> list[str]:
    """Leave out what is set in tables that no stage reads; other stages stay, for a recipe is checked as a whole."""
    return [
        each for each in overrides if each.partition("=")[0].split(".")[0] not in ("data", "temperature", "evaluation")
    ]


def suffix_option(recipe: Recipe) -> tuple[str, ...]:
    """Return what says how a question goes on, where the recipe says it."""
    return () if recipe.prompt_suffix == PROMPT_SUFFIX else ("--suffix", recipe.prompt_suffix)


def engine_options(recipe: Recipe, model: str, *, context: int | None) -> Iterator[str]:
    """Yield what a command opens its engine with."""
    yield from ("--model", model)
    if context is not None:
        yield from ("--context", str(context))
    if recipe.tensor_parallel > 1:
        yield from ("--tensor-parallel", str(recipe.tensor_parallel))
    for option in _engine_options(recipe.engine):
        yield from ("--engine-option", option)


def free_options(recipe: Recipe) -> tuple[str, ...]:
    """Return the words of a command that say how much room an engine has."""
    room = _engine_options(recipe.engine_tables()["engine_room"])
    return tuple(word for option in room for word in ("--engine-option", option))


def rule_options(lines: Iterable[str]) -> Iterator[str]:
    """Yield the words of rules of selection."""
    for line in lines:
        yield from ("--rule", line)


def _engine_options(options: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]
