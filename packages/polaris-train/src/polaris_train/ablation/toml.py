"""A recipe as the text of a TOML file."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from polaris_train.recipe import Recipe


def to_toml(recipe: Recipe) -> str:
    """Return a recipe as `polaris_train.recipe.load_recipe` reads it; defaults are left out."""
    return "\n".join(_table(recipe.model_dump(mode="json", exclude_defaults=True), ())).lstrip("\n") + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table: its values, then the tables in it. TOML has no null: it is the default of what may
    be null, so it is never said."""
    inner: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) or _is_tables(value):
            inner[name] = value
        elif value is not None:
            yield f"{name} = {json.dumps(value, ensure_ascii=False)}"
    for name, value in inner.items():
        below = (*path, name)
        opening, tables = ("[[{}]]", value) if isinstance(value, list) else ("[{}]", [value])
        for table in tables:
            yield ""
            yield opening.format(".".join(below))
            yield from _table(table, below)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
