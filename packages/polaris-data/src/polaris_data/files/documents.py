"""JSON as people have it: objects one a line, a list, a list inside an object, columns, or a table of pandas.

What a file is, its content decides: ``data.json`` may hold JSON lines and ``data.jsonl`` one list. JSON lines stream
through; everything else is read whole.
"""

import json
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from polaris_data.errors import ProblemFileError
from polaris_data.files.opening import encoding_of, open_bytes, read_lines, readable

LINES = (".jsonl", ".ndjson", ".jsonlines", ".jl")
"""Endings that promise one object a line."""


_MAIN_TABLES = ("rows", "samples")
"""Of several lists of rows in one object the one that counts: the viewer of the Hub and logs of inspect have others."""

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"\s*")


class Item(NamedTuple):
    """One row of a file, or what stands where one should be."""

    place: str
    """``problems.jsonl:17``"""

    value: Any
    """The row, or the text that is none."""

    defect: str | None = None
    """Why it is none."""


def read_json(path: Path, *, split: str) -> Iterator[Item]:
    """Yield the rows of a JSON file of any shape.

    Args:
        path: Of the file.
        split: Which list is read where an object holds several.

    Raises:
        ProblemFileError: If it is damaged, or no shape that is known.
    """
    yield from read_json_lines(path) if _holds_lines(path) else _read_document(path, split)


def read_json_lines(path: Path) -> Iterator[Item]:
    """Yield the objects of a file of JSON lines, broken lines among them; empty lines are passed over."""
    for number, line in read_lines(path):
        place = f"{path}:{number}"
        try:
            yield to_item(place, _parse(line))
        except ValueError as error:
            yield Item(place, line.decode(errors="replace"), f"not JSON ({_one_line(error)})")


def to_item(place: str, value: Any) -> Item:
    """Return a row: an object, or the turns of one conversation as ``{"messages": [...]}``."""
    if are_turns(value):
        value = {"messages": value}
    if not isinstance(value, dict):
        return Item(place, value, f"expected an object, found {value!r:.60}")
    return Item(place, value["row"] if {"row", "row_idx"} <= value.keys() else value)  # as the viewer of the Hub has it


def are_turns(value: Any) -> bool:
    """Return whether a value is a list of the turns of a conversation, each with its role."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in cast("list[Any]", value))
    )


def _holds_lines(path: Path) -> bool:
    head = [line for _, line in islice(read_lines(path), 2)]
    if not head:
        return True
    is_named = any(suffix in LINES for suffix in path.suffixes[-2:])
    start = head[0].strip()
    try:
        first = _parse(start)
    except ValueError:  # the beginning of a document of several lines, or a line that is broken
        opens = start in (b"{", b"[") or start.startswith(b"[{")
        if (opens and (len(head) > 1 or not is_named)) or not (is_named or start.startswith(b"{")):
            return False
        return is_named or _is_object(head[-1])
    if isinstance(first, dict):
        return is_named or len(head) > 1
    return are_turns(first) or (is_named and (len(head) > 1 or not isinstance(first, list)))


def _read_document(path: Path, split: str) -> Iterator[Item]:
    with readable(path), open_bytes(path) as file:
        content = file.read()
    try:
        values = list(_values_in(content.decode(encoding_of(path))))
    except ValueError as error:
        raise ProblemFileError(
            f"{path}: not JSON ({_one_line(error)}); give one list of objects, or one object a line"
        ) from error
    rows = _rows_of(values[0], path, split) if len(values) == 1 else values
    for number, row in enumerate(rows, start=1):
        yield to_item(f"{path}: item {number}", row)


def _values_in(text: str) -> Iterator[Any]:
    """Yield what a text holds: one document as a rule, or objects one behind the other."""
    at = len(text) - len(text.lstrip())
    while at < len(text):
        with _bounded():
            value, end = _DECODER.raw_decode(text, at)
        yield _whole(value, has_escapes="\\ud" in text[at:end].lower())
        blank = _BLANK.match(text, end)
        at = blank.end() if blank else end


def _rows_of(value: Any, path: Path, split: str) -> Iterator[Any]:
    if isinstance(value, list):
        yield from [value] if are_turns(value) else cast("list[Any]", value)
        return
    if not isinstance(value, dict):
        raise ProblemFileError(f"{path}: expected rows, found {value!r:.60}; give a list of objects, or one a line")
    document = cast("dict[str, Any]", value)
    if _is_row(document):
        yield document
        return
    if (rows := _from_columns(document)) is not None:
        yield from rows
        return
    tables = {name: rows for name, rows in document.items() if _is_table(rows)}
    chosen = next((name for name in (split, *_MAIN_TABLES) if name in tables), next(iter(tables), None))
    if chosen is None:
        empty = [rows for rows in document.values() if rows == []]
        yield from [] if empty and len(document) == 1 else [document]
        return
    if len(tables) > 1 and chosen not in (split, *_MAIN_TABLES):
        names = ", ".join(map(repr, tables))
        raise ProblemFileError(f"{path}: holds several lists of rows, {names}; choose one with --split")
    yield from tables[chosen]


def _is_row(document: Mapping[str, Any]) -> bool:
    """Return whether an object is one row, whatever lists it holds: a question with its answers, or one response."""
    asked = [document.get(name) for name in ("problem", "question", "prompt")]
    has_question = any(isinstance(value, str) or are_turns(value) for value in asked)
    lists = ("messages", "completions", "responses", "outputs", "generations", "samples")
    if has_question and any(isinstance(document.get(name), list) for name in lists):
        return True
    choices = document.get("choices")
    return _is_table(choices) and all({"message", "text"} & choice.keys() for choice in cast("list[Any]", choices))


def _is_table(value: Any) -> bool:
    """Return whether a value is a list of rows, and not the turns of a conversation."""
    if not isinstance(value, list) or not value or are_turns(value):
        return False
    return all(isinstance(row, dict) or are_turns(row) for row in cast("list[Any]", value))


def _from_columns(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rows of an object of columns, as pandas and datasets write it; ``None`` if it is something else."""
    names, data = document.get("columns"), document.get("data")
    if isinstance(names, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, names), row, strict=False)) for row in data]
    if isinstance(details := document.get("details"), dict):  # OpenCompass's results
        return _from_columns({key: row for key, row in details.items() if isinstance(row, dict)})
    values = list(document.values())
    if values and all(map(str.isdigit, document)) and all(isinstance(row, dict) for row in values):
        return [{"id": name, **row} for name, row in document.items()]
    if len(values) > 1 and all(isinstance(column, list) for column in values):
        lengths = {len(column) for column in values}
        if len(lengths) == 1 and lengths != {0} and not all(map(_is_table, values)):
            return [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
    if len(values) > 1 and all(isinstance(column, dict) and column for column in values):
        keys = list(values[0])
        is_table_of_columns = all(list(column) == keys for column in values)
        if is_table_of_columns and all(key.isdigit() for key in keys):
            return [{name: column[key] for name, column in document.items()} for key in keys]
        return [{"id": name, **row} for name, row in document.items()]
    return None


def _parse(content: bytes) -> Any:
    with _bounded():
        return _whole(json.loads(content), has_escapes=rb"\ud" in content.lower())


def _whole(value: Any, *, has_escapes: bool) -> Any:
    """Refuse half of a surrogate pair, which can be read but never written or tokenized."""
    if has_escapes:
        json.dumps(value, ensure_ascii=False).encode()
    return value


@contextmanager
def _bounded() -> Generator[None]:
    try:
        yield
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(_parse(line), dict)
    except ValueError:
        return False


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
