"""Rules of selection from lines and files, and back."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from polaris_data.errors import SettingError
from polaris_data.selection.keeping import Keep, table_of_line
from polaris_data.selection.rules import Accuracy, Rule, require


def to_data(rule: Rule) -> dict[str, Any]:
    """Return a rule as a table that `parse_rule` reads back."""
    values = {name: value for name, value in asdict(rule).items() if value is not None}
    if isinstance(rule, Accuracy) and rule.by != "certainty":
        del values["certainty"]
    return {"rule": rule.name, **values}


def parse_rule(data: str | Mapping[str, Any]) -> Rule:
    """Read a rule from a table (``{"rule": "accuracy", "above": 0.9}``) or a line (``accuracy above=0.9 by=latest``).

    ``keep level=Level 3,Level 4`` and ``accuracy between 0.1 0.8`` are lines of their own form.

    Raises:
        SettingError: If there is no such rule, or a setting of it is missing, unknown or out of range.
    """
    if isinstance(data, str) and (table := table_of_line(data)):
        data = table
    if isinstance(data, str):
        name, *settings = data.split() or [""]
        data = {"rule": name} | {key: _number(value) for key, _, value in (each.partition("=") for each in settings)}
    known = {rule.name: rule for rule in get_args(Rule)}
    values = {key: value for key, value in data.items() if key != "rule"}
    if (name := data.get("rule")) not in known:
        raise SettingError(f"no rule {name!r}; give one of {', '.join(known)}")
    try:
        if name == Keep.name:
            return Keep.read(values)
        _check_settings(known[name], values)
        return known[name](**values)
    except SettingError as error:
        raise SettingError(f"rule {name!r}: {error}") from None


def choose_rules(lines: Sequence[str], path: Path | None) -> tuple[Rule, ...]:
    """Return the rules of some lines, as `parse_rule` reads them, or of a file, as `read_rules` does.

    Raises:
        SettingError: If both are given, or a rule cannot be read.
    """
    if lines and path is not None:
        raise SettingError("give --rule or --rules, not both")
    return tuple(map(parse_rule, lines)) if path is None else read_rules(path)


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Read the tables ``[[rules]]`` of a TOML file, or the list ``rules`` of a JSON file (``decisions.json`` is one).

    Raises:
        SettingError: If the file is missing or malformed, or holds no rule.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data: Any = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError) as error:
        raise SettingError(f"cannot read the rules {str(path)!r}: {error}; give a TOML or JSON file") from None
    tables: Any = data.get("rules") if isinstance(data, dict) else None
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables) or not tables:
        raise SettingError(f"{path}: no rules; write a table [[rules]] for each, such as rule = 'drop'")
    return tuple(parse_rule(table) for table in tables)


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _check_settings(rule: type[Rule], values: Mapping[str, Any]) -> None:
    expected = {field.name: field for field in fields(rule)}
    names = ", ".join(map(repr, expected))
    for name, value in values.items():
        if name not in expected:
            raise SettingError(f"unknown setting {name!r}; expected {names}")
        kind: Any = expected[name].type
        if get_origin(kind) is Literal:
            require(value in get_args(kind), name, value, f"one of {', '.join(get_args(kind))}")
        elif kind is str:
            require(isinstance(value, str), name, value, "text")
        else:
            whole = kind is not float
            require(type(value) is int or (type(value) is float and not whole), name, value, "a number")
    for name, field in expected.items():
        if field.default is MISSING and name not in values:
            raise SettingError(f"no {name!r}; expected {names}")
