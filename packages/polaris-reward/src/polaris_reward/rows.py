"""Read files of JSON lines, one row at a time, and say precisely what is wrong with one."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_reward.errors import RowsFileError

RESPONSE_FIELDS = ("response", "completion", "output")
"""Names under which a row may give the response; the first that is there counts."""

REFERENCE_FIELDS = ("references", "reference", "answer", "ground_truth")
"""Names under which a row may give its accepted answer, or a list of them."""

ID_FIELDS = ("problem_id", "id")
"""Names under which a row may say what it belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One JSON object of a file."""

    where: str
    """``file:line``."""

    line: int
    """Counted from 1, blank lines included."""

    fields: dict[str, Any]
    """As they are in the file."""

    def response(self) -> str:
        """Return what the model wrote.

        Raises:
            RowsFileError: If it is missing or not a string.
        """
        name = self._name_of(RESPONSE_FIELDS)
        value = self.fields[name]
        if not isinstance(value, str):
            raise RowsFileError(f"{self.where}: field {name!r} is {_brief(value)}; expected a string")
        return value

    def references(self, *, allow_blank: bool = False) -> tuple[str, ...]:
        """Return the accepted answers; a number is taken as it is written.

        Args:
            allow_blank: Let a blank answer pass; it equals nothing.

        Raises:
            RowsFileError: If they are missing, blank, or neither strings nor numbers.
        """
        name = self._name_of(REFERENCE_FIELDS)
        value: Any = self.fields[name]
        references = [_as_text(one) for one in (value if isinstance(value, list) else [value])]
        present = tuple(one for one in references if one is not None and (one or allow_blank))
        if not present or len(present) < len(references):
            raise RowsFileError(
                f"{self.where}: field {name!r} is {_brief(value)}; expected an answer or a list of answers"
            )
        return present

    @property
    def identity(self) -> dict[str, Any]:
        """The row's own id, under its own name; empty if it has none."""
        return {name: self.fields[name] for name in ID_FIELDS if name in self.fields}

    def _name_of(self, names: Sequence[str]) -> str:
        for name in names:
            if name in self.fields:
                return name
        wanted, found = " or ".join(map(repr, names)), ", ".join(map(repr, self.fields)) or "no field"
        raise RowsFileError(f"{self.where}: needs a field {wanted}; it has {found}")


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file of JSON lines; blank lines are skipped.

    Raises:
        RowsFileError: If the file cannot be read, a line is not a JSON object, or there is no row at all.
    """
    number = num_rows = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    num_rows += 1
                    yield _to_row(line, path, number)
    except OSError as error:
        raise RowsFileError(f"{path}: cannot be read ({error.strerror}); give a file of JSON lines") from None
    if num_rows == 0:
        raise RowsFileError(f"{path}: holds no rows; give a file of JSON lines")


def _to_row(line: bytes, path: Path, number: int) -> Row:
    where = f"{path}:{number}"
    try:
        fields = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise RowsFileError(f"{where}: not UTF-8 at byte {error.start + 1}; convert the file") from None
    except (ValueError, RecursionError) as error:
        raise RowsFileError(f"{where}: not JSON ({error}); give one JSON object a line") from None
    if not isinstance(fields, dict):
        raise RowsFileError(f"{where}: {_brief(fields)} is not a JSON object; give one JSON object a line")
    return Row(where=where, line=number, fields=fields)


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else None


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
