"""Files of rows: read one at a time, and say precisely what is wrong with one.

JSON lines, or an array of JSON objects, which is read whole; either may be compressed by gzip.
"""

import gzip
import json
import logging
import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from polaris_reward.errors import RowsFileError, brief
from polaris_reward.finding.prefilled import prefilled_think
from polaris_reward.finding.references import to_references
from polaris_reward.messages import response_text, thoughts_apart

logger = logging.getLogger(__name__)

BATCH, BATCH_BYTES = 256, 2**24
"""Most rows, and bytes of them, handled together; memory stays constant however long the file is."""

RESPONSE_FIELDS = ("response", "completion", "output", "messages")
"""Names under which a row may give the response; the first that is there counts."""

REFERENCE_FIELDS = ("references", "reference", "answer", "ground_truth", "reward_model.ground_truth")
"""Names under which a row may give its accepted answer, or a list of them; a dot leads into a nested object."""

ID_FIELDS = ("problem_id", "id")
"""Names under which a row may say what it belongs to."""

WANTED = "JSON lines or an array of JSON objects"

BOM = b"\xef\xbb\xbf"

STANDARD_INPUT = Path("-")
"""Stands for what is piped into the command."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One JSON object of a file."""

    where: str
    """``file:line``, or the number of the item of an array."""

    line: int
    """Counted from 1, blank lines included; or the number of the item."""

    num_bytes: int
    """Of the line, or as many of the array's as its items have on average."""

    fields: dict[str, Any]
    """As they are in the file."""

    def response(self, *, prefilled: str = "") -> str:
        """Return what the model wrote, after the opening think tag that its prompt ended with.

        Args:
            prefilled: That tag, where the row does not tell: by a field ``prefilled``, or a prompt that ends with one.

        Raises:
            RowsFileError: If it is missing, or neither a string nor messages.
        """
        name, value = self._first_of(RESPONSE_FIELDS)
        text = response_text(value)
        if text is None:
            raise RowsFileError(
                f"{self.where}: field {name!r} is {brief(value)}; expected a string or a list of messages"
            )
        if thoughts_apart(self.fields) or thoughts_apart(value):
            return text
        prompts = [each for name, each in self.fields.items() if name not in RESPONSE_FIELDS]
        return (str(self.fields.get("prefilled") or "") or prefilled_think(prompts) or prefilled) + text

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

    def item(self, *, prefilled: str = "") -> tuple[str, tuple[str, ...]]:
        """Return the response and its references, none of them blank; see `response`.

        Raises:
            RowsFileError: As `response` and `references`.
        """
        return self.response(prefilled=prefilled), self.references(allow_blank=False)

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
    """A file that is read row by row.

    Args:
        path: Of JSON lines or a JSON array, maybe compressed by gzip; ``-`` is standard input.
        strict: Stop at the first row that cannot be read; else it is left out.
        on_left_out: Told what is wrong with each row that is left out; a warning is logged if not given.
        on_read: Told how many bytes each row has.

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
        for where, number, num_bytes, content in _contents(self.path):
            self._on_read(num_bytes)
            try:
                fields = _parse(where, content) if isinstance(content, bytes) else content
                row = _to_row(where, number, num_bytes, fields)
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


def _contents(path: Path) -> Iterator[tuple[str, int, int, object]]:
    """Yield where each row stands, its number, its size, and its line as bytes or its value."""
    name = "standard input" if path == STANDARD_INPUT else str(path)
    with _opened(path, name) as file:
        lines = ((number, line) for number, line in enumerate(file, start=1) if line.strip())
        first = list(islice(lines, 1))
        if first and first[0][1].removeprefix(BOM).lstrip().startswith(b"["):
            first += lines
            whole = b"".join(line for _, line in first)
            if (items := _array(whole)) is not None:
                first = []
                size = len(whole) // max(len(items), 1)
                yield from ((f"{name}, item {n}", n, size, item) for n, item in enumerate(items, start=1))
                if items:
                    return
        if not first:
            raise RowsFileError(f"{name}: holds no rows; give {WANTED}")
        yield from ((f"{name}:{number}", number, len(line), line) for number, line in chain(first, lines))


@contextmanager
def _opened(path: Path, name: str) -> Generator[IO[bytes]]:
    """Open a file or standard input, and uncompress it if its first bytes are those of gzip."""
    try:
        source = sys.stdin.buffer if path == STANDARD_INPUT else path.open("rb")
        with cast(BufferedReader, source) as file:
            is_compressed = file.peek(2).startswith(b"\x1f\x8b")
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_compressed else file
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RowsFileError(f"{name}: cannot be read ({reason}); give {WANTED}") from None


def _array(content: bytes) -> list[object] | None:
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    return cast(list[object], values) if isinstance(values, list) else None


def _parse(where: str, line: bytes) -> object:
    try:
        # A byte order mark, which some editors write, is not a part of the text.
        return json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise RowsFileError(f"{where}: not UTF-8 at byte {error.start + 1}; convert the file") from None
    except (ValueError, RecursionError) as error:
        raise RowsFileError(f"{where}: not JSON ({error}); give one JSON object a line") from None


def _to_row(where: str, number: int, num_bytes: int, fields: object) -> Row:
    if not isinstance(fields, dict):
        raise RowsFileError(f"{where}: {brief(fields)} is not a JSON object; give one JSON object a line")
    return Row(where=where, line=number, num_bytes=num_bytes, fields=cast(dict[str, Any], fields))
