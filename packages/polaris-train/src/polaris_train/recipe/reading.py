"""Reading a recipe from its file, with overrides, and saying what is wrong with it."""

import tomllib
from collections.abc import Collection, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from polaris_train.errors import RecipeError
from polaris_train.recipe.recipe import Recipe
from polaris_train.recipe.stages import KINDS


def packaged_recipes() -> dict[str, Path]:
    """Return the recipes that this package carries, by name."""
    folder = Path(str(files("polaris_train") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(recipe: str, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``--set`` overrides such as ``stages.0.temperature=1.2``.

    Args:
        recipe: A TOML file, or the name of a packaged recipe.
        overrides: Dotted path, ``=``, and a TOML value; text needs no quotes.

    Raises:
        RecipeError: With every mistake and its dotted path.
    """
    packaged = packaged_recipes()
    path = packaged.get(recipe, Path(recipe))
    if not path.is_file():
        raise RecipeError(f"no recipe {recipe!r}: give a TOML file or one of {sorted(packaged)}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not a TOML file: {error}") from error
    values.setdefault("name", path.stem)
    return _checked(values, overrides or (), where=str(path))


def change_recipe(recipe: Recipe, overrides: Sequence[str], *, stages: Collection[str] | None = None) -> Recipe:
    """Return a recipe with some of its stages alone, without arms, and with overrides as ``--set`` takes them.

    Args:
        recipe: Stays as it is.
        overrides: As of `load_recipe`.
        stages: Names of those that stay; ``None``: all.

    Raises:
        RecipeError: As `load_recipe` does.
    """
    values = recipe.model_dump(mode="json", exclude={"arms"}, exclude_defaults=True, exclude_none=True)
    values["stages"] = [each for each in values["stages"] if stages is None or each["name"] in stages]
    return _checked(values, overrides, where=recipe.name)


def _checked(values: dict[str, Any], overrides: Sequence[str], *, where: str) -> Recipe:
    for override in overrides:
        _apply(values, override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{where}: " + "; ".join(_explain(each) for each in error.errors())) from error


_TABLES = ("data", "temperature", "evaluation", "lora", "engine", "core", "distillation")
"""What a file may leave out and an override still set a part of."""


def _apply(values: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"--set {override!r}: write it as dotted.path=value")
    *parents, last = path.split(".")
    target: Any = values
    try:
        for key in parents:
            if target is values and key in _TABLES:
                target.setdefault(key, {})
            target = target[_place(target, key)]
        target[_place(target, last)] = _toml_value(text)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise RecipeError(f"--set {override!r}: the recipe has no {path!r}") from error


def _place(target: Any, key: str) -> int | str:
    """Return where a part of an override's path is: in a list by its number or, of a stage, by its name."""
    if not isinstance(target, list):
        return key
    named = [index for index, each in enumerate(target) if isinstance(each, dict) and each.get("name") == key]
    return named[0] if named else int(key)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


_WHOLE_DISTRIBUTION = (
    "; training samples from the whole distribution, because the loss needs the probability that each token was drawn "
    "with; it is an option of evaluation"
)
_HINTS: dict[str, str] = {"top_p": _WHOLE_DISTRIBUTION, "top_k": _WHOLE_DISTRIBUTION, "min_p": _WHOLE_DISTRIBUTION}
"""What to say about keys that people bring from elsewhere."""


def _explain(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"] if part not in KINDS)
    if error["type"] == "extra_forbidden":
        return f"{path}: unknown key{_HINTS.get(str(error['loc'][-1]), '')}"
    if error["type"] == "missing":
        return f"{path}: missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    return f"{path}: {error['msg']}, got {error['input']!r}"
