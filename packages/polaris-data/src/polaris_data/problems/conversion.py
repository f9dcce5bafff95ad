"""From a row to a problem: which column is which field, and what its value means.

Reading and importing convert rows in the same way but for the answer. `as_written` takes it as it stands, so that a
file of problems is read back as it was, ``$5$`` and ``5`` alike; `polaris_data.problems.answers.to_references`, for raw
sets, takes off what is around an answer and merges equal ones. A row that was refused is for the caller to speak about.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from polaris_data.problems.answers import Reason, number_as_text
from polaris_data.problems.rows import Row
from polaris_data.records import PROMPT_SUFFIX, Problem

ID_COLUMNS = ("problem_id", "id", "unique_id", "extra_info.index")
QUESTION_COLUMNS = ("question", "problem", "prompt")
REFERENCE_COLUMNS = ("references", "answers", "answer", "final_answer", "reward_model.ground_truth")
SOURCE_COLUMNS = ("source", "data_source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Where the fields of a problem stand; of several columns the first with a value, a dot leads into a nested one."""

    problem_id: tuple[str, ...] = ID_COLUMNS
    """Without any, the id is made from the content."""

    question: tuple[str, ...] = QUESTION_COLUMNS
    """Text, or the messages of a chat."""

    references: tuple[str, ...] = REFERENCE_COLUMNS
    """An answer, or a list of accepted ones."""

    source: tuple[str, ...] = SOURCE_COLUMNS
    """Without any, the source is the file or data set."""


DEFAULT_COLUMNS = Columns()
"""The names that data sets use, those of verl among them."""


class Fields(NamedTuple):
    """A row taken apart, its values as they were."""

    problem_id: Any
    question: Any
    references: Any
    source: Any
    extra: dict[str, Any]


def as_written(value: Any) -> tuple[str, ...] | Reason:
    """Return one answer or a list of them as text; a reason when any of them cannot be used."""
    answers = [to_text(answer) for answer in (value if isinstance(value, list) else [value])]
    return tuple(answer for answer in answers if answer) if all(answers) and answers else Reason.NO_ANSWER


def accept_any(question: str, references: tuple[str, ...]) -> Reason | None:
    """Refuse no problem that has a question and an answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How the rows of one source become problems."""

    label: str
    """What problems without a source of their own say where they are from."""

    columns: Columns = DEFAULT_COLUMNS
    """Where the fields stand."""

    clean: Callable[[str], str] = str
    """Takes a question out of its prompt template."""

    references: Callable[[Any], tuple[str, ...] | Reason] = as_written
    """Reads the answers."""

    refusal: Callable[[str, tuple[str, ...]], Reason | None] = accept_any
    """Says why a question with its answers is no problem."""

    own_ids: bool = True
    """Whether the ids of the source count, where it has any; else they are made from the content."""

    prefix: str = ""
    """Goes before an id of the source."""


def to_problem(fields: Fields, conversion: Conversion) -> Problem | Reason:
    """Return the problem that a row is, or why it is none."""
    question = to_question(fields.question)
    question = question and to_question(conversion.clean(question))
    if question is None:
        return Reason.NO_QUESTION
    references = conversion.references(fields.references)
    if isinstance(references, Reason):
        return references
    if (reason := conversion.refusal(question, references)) is not None:
        return reason
    own_id = to_text(fields.problem_id) if conversion.own_ids else None
    return Problem(
        problem_id=f"{conversion.prefix}{own_id}" if own_id else content_id(question, references),
        question=question,
        references=references,
        source=conversion.label if fields.source is None else str(fields.source),
        extra=fields.extra,
    )


def content_id(question: str, references: tuple[str, ...]) -> str:
    """Return an id that is the same wherever the same question stands with the same references."""
    return f"p-{hashlib.sha256(repr((question, references)).encode()).hexdigest()[:16]}"


def source_name(source: str | Path) -> str:
    """Return what a problem without a source of its own says where it is from: a file's name, or the data set."""
    return Path(source).name if Path(source).exists() else str(source)


def take_fields(columns: Mapping[str, Any], where: Columns = DEFAULT_COLUMNS) -> Fields:
    """Take a row apart into the values of a problem's fields, and every column left over."""
    columns = _from_export(columns)
    values = [take(columns, group) for group in (where.problem_id, where.question, where.references, where.source)]
    nested = columns.pop("extra", None)  # as `write_problems` writes it
    return Fields(*values, extra=columns if nested is None else {**_as_mapping(nested), **columns})


def take(columns: dict[str, Any], candidates: tuple[str, ...]) -> Any:
    """Remove and return the first of the candidate columns that has a value."""
    for name in candidates:
        if columns.get(name) is not None:
            return columns.pop(name)
        if "." not in name:
            continue
        parent, _, child = name.rpartition(".")
        nested = columns.get(parent)
        if isinstance(nested, dict) and nested.get(child) is not None:
            columns[parent] = {key: value for key, value in nested.items() if key != child}
            return nested[child]
    return None


def to_question(value: Any) -> str | None:
    """Return the question: text, or the last user turn of a chat without our prompt suffix; else ``None``."""
    if isinstance(value, list):
        turns = [turn for turn in cast("list[Any]", value) if isinstance(turn, dict)]
        asked = [turn.get("content") for turn in cast("list[dict[str, Any]]", turns) if turn.get("role") == "user"]
        value = asked[-1].removesuffix(PROMPT_SUFFIX) if asked and isinstance(asked[-1], str) else None
    return value if isinstance(value, str) and value.strip() else None


def to_text(value: Any) -> str | None:
    """Return text or a number as text without white space around it; ``None`` for anything else."""
    if isinstance(value, str):
        return value.strip() or None
    return number_as_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def missing_column(row: Row, what: Literal["question", "reference"], candidates: tuple[str, ...]) -> str | None:
    """Say that a row has none of the columns that may hold a field, and which it has; ``None`` if it has one."""
    if any(name in row.columns or name.partition(".")[0] in row.columns for name in candidates):
        return None
    expected = ", ".join(repr(name) for name in candidates)
    found = ", ".join(repr(name) for name in row.columns)
    return f"{row.place}: no {what}: expected a value in one of the columns {expected}; found {found}"


def _from_export(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns; of one that our export wrote for verl, those that the problem had before."""
    info = columns.get("extra_info")
    if isinstance(info, dict) and "problem_id" in info and "references" in info:
        return {name: info[name] for name in ("problem_id", "question", "references", "source", "extra")}
    return dict(columns)


def _as_mapping(value: Any) -> dict[str, Any]:
    """Return ``extra`` as a mapping: it is one, or the JSON text of one, as parquet files have it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {"extra": value}
    return value if isinstance(value, dict) else {"extra": value}
