"""Problem sets in and out: any source becomes a list of problems, and a list becomes a file.

A file that `write_problems` wrote is read back as it was: answers are taken as they are written. Raw sets, of which
the answers must be put into order first, go through `polaris_data.problems.importing`.
"""

import hashlib
import json
import logging
import reprlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import write_text
from polaris_data.problems.answers import Reason, is_sentence
from polaris_data.problems.columns import DEFAULT_COLUMNS, take
from polaris_data.problems.conversion import Conversion, missing_column, source_name, take_fields, to_problem
from polaris_data.problems.rows import Row, read_rows
from polaris_data.problems.synthetic import synthetic_problems
from polaris_data.records import Problem

logger = logging.getLogger(__name__)

NUM_SYNTHETIC = 500
"""Problems that the source ``synthetic`` stands for."""

_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)

_NUM_SHOWN = 3
"""Unusable rows whose places a message names, after the first."""


def read_problems(
    source: str | Path,
    *,
    limit: int | None = None,
    split: str = "train",
    revision: str | None = None,
    on_invalid: Literal["error", "skip"] = "error",
) -> list[Problem]:
    """Read a problem set.

    A row that `write_problems` wrote is taken as it is. Of any other the first column of `Columns` that has a value is
    used: what is around an answer is taken off, of a solution the answer that it states is taken, a list of answers
    becomes several references, a row without an id gets one from its content, and every column left over is kept in
    ``extra``. References that are sentences are warned about.

    Args:
        source: A file as `polaris_data.problems.rows.read_rows` takes it (JSON of any shape, CSV, parquet), a folder or
            Hub id that ``datasets`` can load (extra ``hub``); or ``synthetic`` / ``synthetic:held-out``, generated
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
    conversion = Conversion(label=source_name(source))
    places: dict[str, str] = {}
    invalid: dict[str, str] = {}
    sentences: list[str] = []
    rows = read_rows(source, split=split, revision=revision, keep_broken=on_invalid == "skip")
    for row in islice(rows, limit):
        fields = take_fields(row.columns)
        problem = Reason.UNREADABLE if row.defect else to_problem(fields, conversion)
        if isinstance(problem, Reason):
            invalid[row.place] = _refusal(row, problem)
        elif earlier := places.get(problem.problem_id):
            invalid[row.place] = f"{row.place}: the id {problem.problem_id!r} was used at {earlier}"
        else:
            places[problem.problem_id] = row.place
            if not fields.is_ours and any(map(is_sentence, problem.references)):
                sentences.append(row.place)
            yield problem
    if sentences:
        logger.warning(
            "%d of %d references are sentences rather than answers, at %s for one; `polaris-data import` sets them "
            "aside",
            len(sentences),
            len(places),
            sentences[0],
        )
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


def _synthetic(source: str, limit: int | None) -> list[Problem]:
    split = source.partition(":")[2] or "train"
    if split not in ("train", "held-out"):
        raise ProblemFileError(f"no synthetic split {split!r}; give 'synthetic' or 'synthetic:held-out'")
    return synthetic_problems(limit or NUM_SYNTHETIC, seed=0, split=split)


def _refusal(row: Row, reason: Reason) -> str:
    """Say why a row is no problem: the column is missing, or its value cannot be used."""
    if row.defect:
        return f"{row.place}: {row.defect}"
    empty = ""
    what = "question" if reason is Reason.NO_QUESTION else "reference"
    candidates = DEFAULT_COLUMNS.question if what == "question" else DEFAULT_COLUMNS.references
    if reason in (Reason.NO_QUESTION, Reason.NO_ANSWER, Reason.NOT_AN_ANSWER):
        for name in row.columns:
            is_candidate = take({name: 0}, candidates) is not None
            if is_candidate and (value := row.columns[name]) is not None:
                return f"{row.place}: {name!r} is {reprlib.repr(value)}, which is no {what}"
            if is_candidate:
                empty = name
        if missing := missing_column(row, what, DEFAULT_COLUMNS):
            return missing
        return f"{row.place}: no {what}: {empty!r} is empty"
    return f"{row.place}: {reason}"


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
