"""Files of JSON lines: read one row at a time, and say precisely what is wrong with one."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from polaris_reward.errors import RowsFileError, brief
from polaris_reward.finding.references import to_references

logger = logging.getLogger(__name__)

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
            raise RowsFileError(f"{self.where}: field {name!r} is {brief(value)}; expected a string")
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
                f"{self.where}: field {name!r} is {brief(value)}; expected an answer or a list of answers"
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

    @property
    def name(self) -> object:
        """The row's own id, or nothing."""
        return next(iter(self.identity.values()), "")

    def _first_of(self, names: Sequence[str]) -> tuple[str, Any]:
        for name in names:
            parent, _, child = name.rpartition(".")
            fields = self.fields.get(parent) if parent else self.fields
            if isinstance(fields, dict) and child in fields:
                return name, cast(dict[str, Any], fields)[child]
        wanted, found = " or ".join(map(repr, names)), ", ".join(map(repr, self.fields)) or "no field"
        raise RowsFileError(f"{self.where}: needs a field {wanted}; it has {found}")


class RowsFile:
    """A file of JSON lines that is read row by row.

    Args:
        path: Of the file.
        strict: Stop at the first row that cannot be read; else it is left out.
        on_left_out: Told what is wrong with each row that is left out; a warning is logged if not given.
        on_read: Told how many bytes each line has.

    Attributes:
        num_left_out: Rows left out so far.
    """

    def __init__(
        self,
        path: Path,
        *,
        strict: bool = False,
        on_left_out: Callable[[RowsFileError], object] = logger.warning,
        on_read: Callable[[int], object] = lambda _: None,
    ) -> None:
        self.path = path
        self.num_left_out = 0
        self._strict = strict
        self._on_left_out = on_left_out
        self._on_read = on_read

    def batches(self, parse: Callable[[Row], T]) -> Iterator[list[tuple[Row, T]]]:
        """Yield the rows with what was read from each, some at a time.

        Args:
            parse: Reads from a row what is needed of it.

        Raises:
            RowsFileError: If the file cannot be read or has no rows, or a row cannot be read and the file is strict.
        """
        return in_batches(self._rows(parse))

    def _rows(self, parse: Callable[[Row], T]) -> Iterator[tuple[Row, T]]:
        for number, content in _lines(self.path):
            self._on_read(len(content))
            try:
                row = _to_row(f"{self.path}:{number}", number, content)
                needed = parse(row)
            except RowsFileError as error:
                if self._strict:
                    raise
                self.num_left_out += 1
                self._on_left_out(error)
            else:
                yield row, needed


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


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that are not blank, with their numbers."""
    is_empty = True
    try:
        with path.open("rb") as file:
            for number, content in enumerate(file, start=1):
                if content.strip():
                    is_empty = False
                    yield number, content
    except OSError as error:
        raise RowsFileError(f"{path}: cannot be read ({error.strerror}); give a file of JSON lines") from None
    if is_empty:
        raise RowsFileError(f"{path}: holds no rows; give a file of JSON lines")


def _to_row(where: str, number: int, content: bytes) -> Row:
    try:
        # A byte order mark, which some editors write, is not a part of the text.
        fields = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowsFileError(f"{where}: not UTF-8 at byte {error.start + 1}; convert the file") from None
    except (ValueError, RecursionError) as error:
        raise RowsFileError(f"{where}: not JSON ({error}); give one JSON object a line") from None
    if not isinstance(fields, dict):
        raise RowsFileError(f"{where}: {brief(fields)} is not a JSON object; give one JSON object a line")
    return Row(where=where, line=number, num_bytes=len(content), fields=cast(dict[str, Any], fields))
