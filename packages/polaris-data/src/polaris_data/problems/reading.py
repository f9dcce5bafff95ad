"""Problem sets in and out: any source becomes a list of problems, and a list becomes a file."""

import hashlib
import json
import logging
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import write_text
from polaris_data.problems.answers import number_as_text
from polaris_data.problems.rows import Row, read_rows
from polaris_data.problems.synthetic import synthetic_problems
from polaris_data.records import PROMPT_SUFFIX, Problem

logger = logging.getLogger(__name__)

ID_COLUMNS = ("problem_id", "id", "unique_id", "extra_info.index")
QUESTION_COLUMNS = ("question", "problem", "prompt")
REFERENCE_COLUMNS = ("references", "answers", "answer", "final_answer", "reward_model.ground_truth")
SOURCE_COLUMNS = ("source", "data_source")

NUM_SYNTHETIC = 500
"""Problems that the source ``synthetic`` stands for."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)

_NUM_SHOWN = 3
"""Unusable rows whose places a message names, after the first."""


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


def read_problems(
    source: str | Path,
    *,
    limit: int | None = None,
    split: str = "train",
    revision: str | None = None,
    on_invalid: Literal["error", "skip"] = "error",
) -> list[Problem]:
    """Read a problem set.

    Of each row, the first column of ``ID_COLUMNS``, ``QUESTION_COLUMNS`` and ``REFERENCE_COLUMNS`` that has a
    value is used. Answers that are numbers become text (142.0 is ``"142"``), a list of answers becomes
    several references, a row without an id gets one from its content, and every column left over is kept
    in ``extra``.

    Args:
        source: A ``.jsonl``, ``.json``, ``.csv`` or ``.parquet`` file, verl's format included; a folder or Hub
            id that ``datasets`` can load (extra ``hub``); or ``synthetic`` / ``synthetic:held-out``, generated
            with seed 0.
        limit: Take the first so many rows and look at no other; ``None`` takes all, of ``synthetic``
            `NUM_SYNTHETIC`.
        split: Of a folder or Hub data set.
        revision: Commit, branch or tag of a Hub data set.
        on_invalid: What to do with a row without a usable question or reference, or with an id that was used
            before: refuse the source, or leave the row out with a warning.

    Raises:
        ProblemFileError: If the source is missing, malformed or empty, has rows that cannot be used, or the
            limit is not positive.
        MissingExtraError: If ``datasets`` is needed and not installed.
    """
    return list(iterate_problems(source, limit=limit, split=split, revision=revision, on_invalid=on_invalid))


def iterate_problems(
    source: str | Path,
    *,
    limit: int | None = None,
    split: str = "train",
    revision: str | None = None,
    on_invalid: Literal["error", "skip"] = "error",
) -> Iterator[Problem]:
    """Yield the problems of a set one at a time, for sets that need not fit into memory; see `read_problems`.

    Rows that cannot be used are told about after the last problem, all at once: with ``on_invalid="error"``, what
    was yielded before is not to be kept.
    """
    if limit is not None and limit < 1:
        raise ProblemFileError(f"limit is {limit!r}; give 1 or more")
    if str(source).partition(":")[0] == "synthetic":
        yield from _synthetic(str(source), limit)
        return
    name = source_name(source)
    places: dict[str, str] = {}
    invalid: dict[str, str] = {}
    for row in islice(read_rows(source, split=split, revision=revision), limit):
        try:
            problem = _to_problem(row, source=name)
            if problem.problem_id in places:
                earlier = places[problem.problem_id]
                raise ProblemFileError(f"{row.place}: the id {problem.problem_id!r} was used at {earlier}")
        except ProblemFileError as error:
            invalid[row.place] = str(error)
        else:
            places[problem.problem_id] = row.place
            yield problem
    _report(invalid, num_rows=len(places) + len(invalid), on_invalid=on_invalid)
    if not places:
        raise ProblemFileError(f"{source}: no problems; the source is empty")


def write_problems(path: str | Path, problems: Iterable[Problem]) -> None:
    """Write problems as JSON lines, which `read_problems` reads back as they were; the file appears whole.

    Values in ``extra`` for which JSON has no form (dates, bytes) are written as text.
    """
    write_text(Path(path), map(to_json_line, problems))


def to_json_lines(problems: Iterable[Problem]) -> str:
    """Return the text of a problem file: one JSON object a line, with the fields of `Problem`."""
    return "".join(map(to_json_line, problems))


def to_json_line(problem: Problem) -> str:
    """Return the line of one problem."""
    record = {
        "problem_id": problem.problem_id,
        "question": problem.question,
        "references": problem.references,
        "source": problem.source,
        "extra": problem.extra,
    }
    return _ENCODER.encode(record) + "\n"


def content_hash(problems: Iterable[Problem]) -> str:
    """Return a fingerprint of ids, questions and references in their order: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(repr((problem.problem_id, problem.question, problem.references)).encode())
    return digest.hexdigest()[:16]


def content_id(question: str, references: tuple[str, ...]) -> str:
    """Return an id that is the same wherever the same question stands with the same references."""
    return f"p-{hashlib.sha256(repr((question, references)).encode()).hexdigest()[:16]}"


def source_name(source: str | Path) -> str:
    """Return what a problem without a source of its own says where it is from: a file's name, or the data set."""
    return Path(source).name if Path(source).exists() else str(source)


def take_fields(columns: Mapping[str, Any], names: Columns = DEFAULT_COLUMNS) -> Fields:
    """Take a row apart into the values of a problem's fields, and every column left over."""
    columns = _from_export(columns)
    values = [_take(columns, group) for group in (names.problem_id, names.question, names.references, names.source)]
    nested = columns.pop("extra", None)  # as `write_problems` writes it
    return Fields(*values, extra=columns if nested is None else {**_as_mapping(nested), **columns})


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


def missing_column(row: Row, what: Literal["question", "reference"], names: tuple[str, ...]) -> str | None:
    """Say that a row has none of the columns that may hold a field, and which it has; ``None`` if it has one."""
    if any(name in row.columns or name.partition(".")[0] in row.columns for name in names):
        return None
    expected = ", ".join(repr(name) for name in names)
    found = ", ".join(repr(name) for name in row.columns)
    return f"{row.place}: no {what}: expected a value in one of the columns {expected}; found {found}"


def _synthetic(source: str, limit: int | None) -> list[Problem]:
    split = source.partition(":")[2] or "train"
    if split not in ("train", "held-out"):
        raise ProblemFileError(f"no synthetic split {split!r}; give 'synthetic' or 'synthetic:held-out'")
    return synthetic_problems(limit or NUM_SYNTHETIC, seed=0, split=split)


def _to_problem(row: Row, *, source: str) -> Problem:
    """Read a row; ``source`` is what a problem without such a column says where it is from."""
    fields = take_fields(row.columns)
    question = to_question(fields.question)
    if question is None:
        raise ProblemFileError(_refusal(row, "question", QUESTION_COLUMNS))
    references = _to_references(fields.references)
    if not references:
        raise ProblemFileError(_refusal(row, "reference", REFERENCE_COLUMNS))
    return Problem(
        problem_id=to_text(fields.problem_id) or content_id(question, references),
        question=question,
        references=references,
        source=source if fields.source is None else str(fields.source),
        extra=fields.extra,
    )


def _from_export(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns; of one that our export wrote for verl, those that the problem had before."""
    info = columns.get("extra_info")
    if isinstance(info, dict) and "problem_id" in info and "references" in info:
        return {name: info[name] for name in ("problem_id", "question", "references", "source", "extra")}
    return dict(columns)


def _take(columns: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Remove and return the first of the columns that has a value."""
    for name in names:
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


def _to_references(value: Any) -> tuple[str, ...]:
    """Return one answer or a list of them as text; nothing when any of them cannot be used."""
    answers = [to_text(answer) for answer in (value if isinstance(value, list) else [value])]
    return tuple(answer for answer in answers if answer) if all(answers) else ()


def _as_mapping(value: Any) -> dict[str, Any]:
    """Return ``extra`` as a mapping: it is one, or the JSON text of one, as parquet files have it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {"extra": value}
    return value if isinstance(value, dict) else {"extra": value}


def _refusal(row: Row, what: Literal["question", "reference"], names: tuple[str, ...]) -> str:
    """Say why a row has no question or no reference: the column is missing, or its value cannot be used."""
    for name in names:
        if (value := _take(dict(row.columns), (name,))) is not None:
            return f"{row.place}: {name!r} is {reprlib.repr(value)}, which is no {what}"
    return missing_column(row, what, names) or f"{row.place}: no {what}: {_named(row, names)} is empty"


def _named(row: Row, names: tuple[str, ...]) -> str:
    return next(repr(name) for name in names if name in row.columns or name.partition(".")[0] in row.columns)


def _report(invalid: dict[str, str], *, num_rows: int, on_invalid: Literal["error", "skip"]) -> None:
    """Warn about rows that cannot be used, or refuse them: the first in full, the next by their places."""
    if not invalid:
        return
    first, *others = invalid
    summary = f"{len(invalid)} of {num_rows} rows cannot be used: {invalid[first]}"
    if others:
        more = f" and {len(others) - _NUM_SHOWN} more" if len(others) > _NUM_SHOWN else ""
        summary += f"; also {', '.join(others[:_NUM_SHOWN])}{more}"
    if len(invalid) == num_rows:
        raise ProblemFileError(summary)
    if on_invalid == "error":
        raise ProblemFileError(f"{summary}; correct them or set them aside with --skip-invalid")
    logger.warning("set aside: %s", summary)
