"""Files of JSON lines: read one row at a time, say precisely what is wrong with one, write results whole."""

import json
import math
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from polaris_reward.errors import RowsFileError

BATCH, BATCH_BYTES = 256, 2**24
"""Most rows, and bytes of them, handled together; memory stays constant however long the file is."""

RESPONSE_FIELDS = ("response", "completion", "output")
"""Names under which a row may give the response; the first that is there counts."""

REFERENCE_FIELDS = ("references", "reference", "answer", "ground_truth", "reward_model.ground_truth")
"""Names under which a row may give its accepted answer, or a list of them; a dot leads into a nested object."""

ID_FIELDS = ("problem_id", "id")
"""Names under which a row may say what it belongs to."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a file, as it is."""

    where: str
    """``file:line``."""

    number: int
    """Counted from 1, blank lines included."""

    content: bytes

    def row(self) -> "Row":
        """Read the line as a JSON object.

        Raises:
            RowsFileError: If it is not one.
        """
        try:
            # A byte order mark, which some editors write, is not a part of the text.
            fields = json.loads(self.content.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise RowsFileError(f"{self.where}: not UTF-8 at byte {error.start + 1}; convert the file") from None
        except (ValueError, RecursionError) as error:
            raise RowsFileError(f"{self.where}: not JSON ({error}); give one JSON object a line") from None
        if not isinstance(fields, dict):
            raise RowsFileError(f"{self.where}: {_brief(fields)} is not a JSON object; give one JSON object a line")
        return Row(where=self.where, line=self.number, num_bytes=len(self.content), fields=cast(dict[str, Any], fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One JSON object of a file."""

    where: str
    """``file:line``."""

    line: int
    """Counted from 1, blank lines included."""

    num_bytes: int
    """Of the line."""

    fields: dict[str, Any]
    """As they are in the file."""

    def response(self) -> str:
        """Return what the model wrote.

        Raises:
            RowsFileError: If it is missing or not a string.
        """
        name, value = self._first_of(RESPONSE_FIELDS)
        if not isinstance(value, str):
            raise RowsFileError(f"{self.where}: field {name!r} is {_brief(value)}; expected a string")
        return value

    def references(self, *, allow_blank: bool = True) -> tuple[str, ...]:
        """Return the accepted answers.

        Args:
            allow_blank: Let a blank answer pass; it equals nothing.

        Raises:
            RowsFileError: If they are missing, or neither strings nor numbers.
        """
        name, value = self._first_of(REFERENCE_FIELDS)
        references = to_references(value)
        if not references or not (allow_blank or all(references)):
            raise RowsFileError(
                f"{self.where}: field {name!r} is {_brief(value)}; expected an answer or a list of answers"
            )
        return references

    def item(self) -> tuple[str, tuple[str, ...]]:
        """Return the response and its references, none of them blank.

        Raises:
            RowsFileError: As `response` and `references`.
        """
        return self.response(), self.references(allow_blank=False)

    @property
    def identity(self) -> dict[str, Any]:
        """The row's own id, under its own name; empty if it has none."""
        return {name: self.fields[name] for name in ID_FIELDS if name in self.fields}

    def _first_of(self, names: Sequence[str]) -> tuple[str, Any]:
        for name in names:
            parent, _, child = name.rpartition(".")
            fields = self.fields.get(parent) if parent else self.fields
            if isinstance(fields, dict) and child in fields:
                return name, cast(dict[str, Any], fields)[child]
        wanted, found = " or ".join(map(repr, names)), ", ".join(map(repr, self.fields)) or "no field"
        raise RowsFileError(f"{self.where}: needs a field {wanted}; it has {found}")


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the lines of a file that are not blank.

    Raises:
        RowsFileError: If the file cannot be read, or has nothing but blank lines.
    """
    is_empty = True
    try:
        with path.open("rb") as file:
            for number, content in enumerate(file, start=1):
                if content.strip():
                    is_empty = False
                    yield Line(where=f"{path}:{number}", number=number, content=content)
    except OSError as error:
        raise RowsFileError(f"{path}: cannot be read ({error.strerror}); give a file of JSON lines") from None
    if is_empty:
        raise RowsFileError(f"{path}: holds no rows; give a file of JSON lines")


def in_batches(rows: Iterable[tuple[Row, T]]) -> Iterator[list[tuple[Row, T]]]:
    """Yield rows, and what was read from each, up to `BATCH` or `BATCH_BYTES` at a time."""
    batch: list[tuple[Row, T]] = []
    num_bytes = 0
    for row, needed in rows:
        batch.append((row, needed))
        num_bytes += row.num_bytes
        if len(batch) == BATCH or num_bytes >= BATCH_BYTES:
            yield batch
            batch, num_bytes = [], 0
    if batch:
        yield batch


@contextmanager
def result_file(out: Path | None) -> Generator[TextIO]:
    """Open standard output, or a temporary file that takes its name once everything has been written.

    Raises:
        RowsFileError: If it cannot be written.
    """
    if out is None:
        yield sys.stdout
        return
    # A folder, or a device, which a file would replace.
    if out.exists() and not out.is_file():
        raise RowsFileError(f"{out}: is not a file; give --out the name of a file")
    temporary = out.with_name(f"{out.name}.tmp")
    try:
        file = temporary.open("w", encoding="utf-8")
    except OSError as error:
        raise RowsFileError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    try:
        with file:
            yield file
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def to_references(value: object) -> tuple[str, ...] | None:
    """Return accepted answers as strings; a number is one answer, and a blank string stays in its place.

    Args:
        value: A string, a number, or a list of them.

    Returns:
        The answers, or ``None`` if the value is anything else; an empty list gives none.
    """
    values = cast(Sequence[object], value) if isinstance(value, list | tuple) else (value,)
    texts = [_as_text(one) for one in values]
    return None if None in texts else tuple(text for text in texts if text is not None)


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Files of numbers often hold integers as `7.0`, and large or small ones as `1e+20`.
    return f"{Decimal(str(value)):f}".removesuffix(".0")


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
