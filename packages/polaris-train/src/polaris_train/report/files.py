"""Reading what a run holds, finished or not: what is damaged is named and set aside, never guessed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

T = TypeVar("T")
R = TypeVar("R", bound="Record")

_NUM_NAMED = 3
"""Damaged lines of a file that are named; the rest are counted."""


class Record(BaseModel):
    """What a report reads of a line or a file; other fields are passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


@dataclass
class Reader:
    """Reads the files of a run and keeps a sentence for each that cannot be used."""

    root: Path
    """Folder of the run; files are named below it."""

    notes: list[str] = field(default_factory=list[str])
    """What was set aside and why."""

    def document(self, path: Path, kind: type[R]) -> R | None:
        """Return a JSON file, ``None`` where it is missing or cannot be used."""
        return self.attempt(path, lambda: kind.model_validate_json(path.read_bytes()), ValidationError)

    def attempt(self, path: Path, read: Callable[[], T], *errors: type[Exception]) -> T | None:
        """Return what a function reads of a file, ``None`` where the file is missing or one of the errors came."""
        if not path.exists():
            return None
        try:
            return read()
        except errors as error:
            self.notes.append(f"{self.name(path)} is left out: {_reason(error)}")
            return None

    def lines(self, path: Path, kind: type[R]) -> list[R]:
        """Return the lines of a file, none where it is missing; damaged ones are counted, named and set aside."""
        records: list[R] = []
        damaged: list[str] = []
        for number, line in _numbered_lines(path):
            try:
                records.append(kind.model_validate_json(line))
            except ValidationError as error:
                # Whoever writes it has not come to the end of the line.
                if line.endswith(b"\n"):
                    damaged.append(f"line {number} ({_reason(error)})")
        if damaged:
            more = f" and {len(damaged) - _NUM_NAMED:,} more" if len(damaged) > _NUM_NAMED else ""
            self.notes.append(
                f"{self.name(path)}: {len(damaged):,} damaged {'line is' if len(damaged) == 1 else 'lines are'} set "
                f"aside: {', '.join(damaged[:_NUM_NAMED])}{more}"
            )
        return records

    def count(self, path: Path) -> int | None:
        """Return the number of lines of a file, ``None`` where it is missing."""
        return sum(1 for _ in _numbered_lines(path)) if path.exists() else None

    def name(self, path: Path) -> str:
        """Return a file's path within the run."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    if path.exists():
        with path.open("rb") as file:
            yield from ((number, line) for number, line in enumerate(file, start=1) if line.strip())


def _reason(error: Exception) -> str:
    """Return what is wrong on one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())
