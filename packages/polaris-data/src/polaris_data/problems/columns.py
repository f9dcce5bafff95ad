"""Which column of a row holds which field of a problem, under the names that data sets use."""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from polaris_data.errors import SettingError

ID_COLUMNS = ("problem_id", "id", "unique_id", "extra_info.index")
QUESTION_COLUMNS = (
    *("question", "problem", "prompt", "instruction", "query"),
    *("problem_statement", "problem_text", "question_text", "responses_create_params.input", "input"),
)
REFERENCE_COLUMNS = (
    *("references", "answers", "answer", "final_answer", "reward_model.ground_truth", "verification_info.ground_truth"),
    *("ground_truth", "expected_answer", "gold_answer", "reference_answer", "correct_answer", "short_answer"),
    *("gt_answer", "verification_info", "extra_info.answer", "gts", "gt", "gold", "reference", "answer_key"),
)
SOLUTION_COLUMNS = ("solution", "solutions", "reference_solution", "output", "response", "completion")
LABEL_COLUMNS = ("target", "label")
"""Hold the answer where nothing else does; beside a solution they may be anything."""
SOURCE_COLUMNS = ("source", "data_source")

_STARTS_LIKE_DATA = re.compile(r"\s*(?:\{\s*['\"]|\[\s*\{\s*['\"]|\[\s*['\"])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where the fields of a problem stand: of several columns the first with a value.

    Names are compared without case and punctuation (``Final Answer`` is ``final_answer``); a dot leads into a nested
    column, which may be the text of a JSON object.
    """

    problem_id: tuple[str, ...] = ID_COLUMNS
    """Without any, the id is made from the content."""

    question: tuple[str, ...] = QUESTION_COLUMNS
    """Text, or the messages of a chat."""

    references: tuple[str, ...] = REFERENCE_COLUMNS
    """An answer, or a list of accepted ones."""

    solutions: tuple[str, ...] = SOLUTION_COLUMNS
    """A worked solution that states its answer, for rows without a column for the answer."""

    source: tuple[str, ...] = SOURCE_COLUMNS
    """Without any, the source is the file or data set."""


DEFAULT_COLUMNS = Columns()


def take(columns: dict[str, Any], candidates: tuple[str, ...]) -> Any:
    """Remove and return the first of the candidate columns that has a value."""
    for column, inside in _places(tuple(columns), candidates):
        value = columns[column]
        if not inside:
            if value is not None:
                return columns.pop(column)
        elif isinstance(nested := structured(value), dict):
            nested = dict(cast("dict[str, Any]", nested))
            if (value := take(nested, (inside,))) is not None:
                columns[column] = nested
                return value
    return None


def find(columns: Mapping[str, Any], *candidates: str) -> Any:
    """Return the first of the candidate columns that has a value, and leave it where it is."""
    for column, inside in _places(tuple(columns), candidates):
        value = columns[column]
        if inside:
            nested = structured(value)
            value = find(cast("dict[str, Any]", nested), inside) if isinstance(nested, dict) else None
        if value is not None:
            return value
    return None


def parse_where(text: str) -> tuple[str, list[str]]:
    """Read ``COLUMN=VALUE,VALUE``: a column, and the values that are wanted in it.

    Raises:
        SettingError: If it is written otherwise.
    """
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise SettingError(f"--where is {text!r}; write it as COLUMN=VALUE,VALUE")
    return name, values.split(",")


def has_any(columns: Mapping[str, Any], candidates: tuple[str, ...]) -> bool:
    """Return whether there is a column of one of these names, with a value or without."""
    for column, inside in _places(tuple(columns), candidates):
        if not inside or has_any(_as_object(columns[column]), (inside,)):
            return True
    return False


@lru_cache(maxsize=4096)
def bare_name(name: str) -> str:
    """Return a name of a column without case and punctuation."""
    return re.sub(r"[\W_]", "", name.casefold())


def structured(value: Any) -> Any:
    """Return the list or object that a text is written as, in JSON or as Python prints it; else the value."""
    if not isinstance(value, str) or not _STARTS_LIKE_DATA.match(value):
        return value
    try:
        found = json.loads(value)
    except RecursionError:
        return value
    except ValueError:
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return value
    return found if isinstance(found, list | dict) else value


def _as_object(value: Any) -> dict[str, Any]:
    nested = structured(value)
    return cast("dict[str, Any]", nested) if isinstance(nested, dict) else {}


@lru_cache(maxsize=4096)
def _places(names: tuple[str, ...], candidates: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return where the candidates may stand in rows of these columns: the column, and the name inside it or nothing."""
    by_bare_name = {bare_name(name): name for name in reversed(names)}
    places: list[tuple[str, str]] = []
    for candidate in candidates:
        parent, _, child = candidate.partition(".")
        for name, inside in ((candidate, ""), (parent, child)):
            column = name if name in names else by_bare_name.get(bare_name(name))
            if column is not None and (inside or name == candidate):
                places.append((column, inside))
                break
    return tuple(places)
