"""Rows and completions that cannot be graded: counted by their reason, and written where they can be looked at."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polaris_data.files.journal import write_text
from polaris_data.problems.columns import find
from polaris_data.problems.rows import Row

_REASONS = {"error": "error", "defect": "cannot be read"}
"""Why a completion has no text, by what it has instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A row, or a completion of one, that is not graded."""

    place: str
    """Where it stands: ``dump.jsonl:17``, or ``dump.jsonl:17, completion 2``."""

    reason: str
    """Why, in the same words wherever it is the same."""

    detail: str
    """What exactly is wrong there."""

    problem: str | None
    """The id or question that the row has."""

    row: Any
    """As it stands there."""


def put_aside(row: Row, reason: str, detail: str, *, place: str | None = None) -> SetAside:
    """Set a row aside, or what stands at a ``place`` in it."""
    number, question = find(row.columns, "problem_id", "id", "custom_id"), find(row.columns, "question", "problem")
    problem = number if number is not None else question
    return SetAside(
        place=place or row.place,
        reason=reason,
        detail=detail,
        problem=None if problem is None else str(problem),
        row=row.columns,
    )


def put_unreadable_aside(row: Row, detail: str) -> SetAside:
    """Set a row aside that is not as it should be."""
    return put_aside(row, "cannot be read", detail)


def put_textless_aside(row: Row, completion: Mapping[str, Any], *, place: str) -> SetAside:
    """Set a completion aside that has no text, for what it has instead."""
    kind = next((key for key in _REASONS if completion.get(key)), None)
    reason, detail = (_REASONS[kind], completion[kind]) if kind else ("no response", "the response is null")
    return put_aside(row, reason, detail, place=place)


def reasons_of(aside: Sequence[SetAside]) -> str:
    """Return how often there is which reason: ``2 error, 1 no response``."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(each.reason for each in aside).most_common())


def write_set_aside(path: Path, aside: Sequence[SetAside]) -> None:
    """Write one JSON line each."""
    write_text(path, (json.dumps(asdict(each), ensure_ascii=False, default=str) + "\n" for each in aside))
