"""Problem sets in and out: any source becomes a list of problems, and a list becomes a file."""

import hashlib
import json
import logging
import math
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from polaris_data.errors import ProblemFileError
from polaris_data.journal import write_text
from polaris_data.records import Problem
from polaris_data.sources import Row, read_rows
from polaris_data.synthetic import synthetic_problems

logger = logging.getLogger(__name__)

ID_COLUMNS = ("problem_id", "id", "unique_id")
QUESTION_COLUMNS = ("question", "problem", "prompt")
REFERENCE_COLUMNS = ("references", "answers", "answer", "final_answer")

NUM_SYNTHETIC = 500
"""Problems that the source ``synthetic`` stands for."""

_NUM_SHOWN = 3
"""Unusable rows whose places a message names, after the first."""

_LARGEST_INTEGER = 1e15
"""Beyond it a float no longer stands for one integer for certain."""


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
        source: A ``.jsonl``, ``.json`` or ``.parquet`` file; a folder or Hub id that ``datasets`` can load
            (extra ``hub``); or ``synthetic`` / ``synthetic:held-out``, generated with seed 0.
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
    if limit is not None and limit < 1:
        raise ProblemFileError(f"limit is {limit!r}; give 1 or more")
    if str(source).partition(":")[0] == "synthetic":
        return _synthetic(str(source), limit)
    name = Path(source).name if Path(source).exists() else str(source)
    problems: dict[str, Problem] = {}
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
            problems[problem.problem_id] = problem
            places[problem.problem_id] = row.place
    _report(invalid, num_rows=len(problems) + len(invalid), on_invalid=on_invalid)
    if not problems:
        raise ProblemFileError(f"{source}: no problems; the source is empty")
    return list(problems.values())


def write_problems(path: str | Path, problems: Iterable[Problem]) -> None:
    """Write problems as JSON lines, which `read_problems` reads back as they were; the file appears whole.

    Values in ``extra`` for which JSON has no form (dates, bytes) are written as text.
    """
    write_text(Path(path), to_json_lines(problems))


def to_json_lines(problems: Iterable[Problem]) -> str:
    """Return the text of a problem file: one JSON object a line, with the fields of `Problem`."""
    return "".join(json.dumps(asdict(problem), ensure_ascii=False, default=str) + "\n" for problem in problems)


def content_hash(problems: Sequence[Problem]) -> str:
    """Return a fingerprint of ids, questions and references in their order: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(repr((problem.problem_id, problem.question, problem.references)).encode())
    return digest.hexdigest()[:16]


def _synthetic(source: str, limit: int | None) -> list[Problem]:
    split = source.partition(":")[2] or "train"
    if split not in ("train", "held-out"):
        raise ProblemFileError(f"no synthetic split {split!r}; give 'synthetic' or 'synthetic:held-out'")
    return synthetic_problems(limit or NUM_SYNTHETIC, seed=0, split=split)


def _to_problem(row: Row, *, source: str) -> Problem:
    """Read a row; ``source`` is what a problem without such a column says where it is from."""
    columns = dict(row.columns)
    question = _take(columns, QUESTION_COLUMNS)
    if not isinstance(question, str) or not question.strip():
        raise ProblemFileError(_refusal(row, "question", QUESTION_COLUMNS))
    references = _to_references(_take(columns, REFERENCE_COLUMNS))
    if not references:
        raise ProblemFileError(_refusal(row, "reference", REFERENCE_COLUMNS))
    problem_id = _to_text(_take(columns, ID_COLUMNS)) or _content_id(question, references)
    origin = columns.pop("source", None)
    nested = columns.pop("extra", None)  # as `write_problems` writes it
    return Problem(
        problem_id=problem_id,
        question=question,
        references=references,
        source=source if origin is None else str(origin),
        extra=columns if nested is None else {**_as_mapping(nested), **columns},
    )


def _take(columns: dict[str, Any], names: tuple[str, ...]) -> Any:
    """Remove and return the first of the columns that has a value."""
    for name in names:
        if columns.get(name) is not None:
            return columns.pop(name)
    return None


def _to_references(value: Any) -> tuple[str, ...]:
    """Return one answer or a list of them as text; nothing when any of them cannot be used."""
    answers = [_to_text(answer) for answer in (value if isinstance(value, list) else [value])]
    return tuple(answer for answer in answers if answer) if all(answers) else ()


def _to_text(value: Any) -> str | None:
    """Return text or a number as text without white space around it; ``None`` for anything else."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() and abs(value) < _LARGEST_INTEGER else repr(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"extra": value}


def _content_id(question: str, references: tuple[str, ...]) -> str:
    return f"p-{hashlib.sha256(repr((question, references)).encode()).hexdigest()[:12]}"


def _refusal(row: Row, what: str, names: tuple[str, ...]) -> str:
    """Say why a row has no question or no reference: the column is missing, or its value cannot be used."""
    found = ", ".join(repr(name) for name in row.columns)
    for name in names:
        if (value := row.columns.get(name)) is not None:
            return f"{row.place}: {name!r} is {reprlib.repr(value)}, which is no {what}"
    expected = ", ".join(repr(name) for name in names)
    return f"{row.place}: no {what}: expected a value in one of the columns {expected}; found {found}"


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
