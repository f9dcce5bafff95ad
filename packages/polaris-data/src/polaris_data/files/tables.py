"""Tables with a line of names: values between commas, semicolons, bars or tabs, as spreadsheets write them."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from polaris_data.errors import ProblemFileError
from polaris_data.files.documents import Item
from polaris_data.files.opening import open_text, readable

_MAX_CELL_CHARS = 2**27
"""The module's own limit of 131,072 is short for a worked solution."""

_DELIMITERS = ",;\t|"
_EXCEL_LINE = re.compile(r"\"?sep=(.)\"?\s*")
"""Spreadsheets may name the delimiter in a line of its own."""


def read_table(path: Path) -> Iterator[Item]:
    """Yield the lines below the first, which names the columns; every value is text, an empty one is ``None``.

    The delimiter is the one that gives the first line the most names. A line with too few or too many values is
    broken; a quotation mark that swallows lines makes the whole file unreadable.

    Raises:
        ProblemFileError: If it is no table, or not in an encoding that is known.
    """
    csv.field_size_limit(_MAX_CELL_CHARS)
    with readable(path):
        with open_text(path, newline="") as file:
            header = file.readline()
        named = _EXCEL_LINE.fullmatch(header)
        delimiter = (
            named[1] if named else max(_DELIMITERS, key=lambda one: len(next(csv.reader([header], delimiter=one), [])))
        )
        with open_text(path, newline="") as file:
            reader = csv.reader(file, strict=True, delimiter=delimiter)
            if named:
                next(reader)
            names: list[str] | None = None
            while True:
                start = reader.line_num + 1
                try:
                    values = next(reader, None)
                except csv.Error as error:
                    if reader.line_num > start or str(error) == "unexpected end of data":
                        raise ProblemFileError(
                            f"{path}:{start}: not CSV ({error}); a quotation mark is never closed"
                        ) from error
                    yield Item(f"{path}:{start}", {}, f"not CSV ({error})")
                    continue
                if values is None:
                    return
                if names is None:
                    names = [name.strip() for name in values]
                    if twice := [name for name in names if name and names.count(name) > 1]:
                        raise ProblemFileError(f"{path}:1: two columns are called {twice[0]!r}; rename one")
                elif values:
                    place = f"{path}:{reader.line_num}"
                    columns = {name: value or None for name, value in zip(names, values, strict=False)}
                    counts = (
                        f"{len(values)} values for {len(names)} columns; quote the {_NAMES.get(delimiter, delimiter)}"
                    )
                    yield Item(place, columns, counts if len(values) != len(names) else None)


_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
