"""Rows of a problem set, wherever it lies: JSON lines, JSON, CSV, parquet, or a data set of the Hub.

A row keeps its place, so that whatever is wrong with it can be found again.
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_data.errors import MissingExtraError, ProblemFileError

_MAX_CELL_CHARS = 2**27
"""Of CSV; the module's own limit of 131,072 is short for a worked solution."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source, as it is written there."""

    place: str
    """Where it stands: ``problems.jsonl:17``."""

    columns: Mapping[str, Any]
    """Its fields by name."""


def read_rows(source: str | Path, *, split: str, revision: str | None) -> Iterator[Row]:
    """Yield the rows of a file, of a folder that holds a data set, or of a Hub data set.

    Args:
        source: A path ending in ``.jsonl``, ``.json``, ``.csv`` or ``.parquet``; a folder or Hub id that
            ``datasets`` can load, with ``:NAME`` after it to choose one of its configurations. A JSON list is
            read whole; every other kind takes constant memory, however long it is.
        split: Of a folder or Hub data set.
        revision: Commit, branch or tag of a Hub data set.

    Raises:
        ProblemFileError: If there is no such source, or it cannot be read.
        MissingExtraError: If a folder or Hub id is given and ``datasets`` is not installed.
    """
    path = Path(source)
    if path.suffix in _FORMATS:
        if not path.is_file():
            raise ProblemFileError(f"no file {str(path)!r}; check the path")
        return _FORMATS[path.suffix](path)
    if path.is_file():
        raise ProblemFileError(f"{path}: cannot read {path.suffix!r} files; give one of {', '.join(_FORMATS)}")
    name, _, configuration = (str(source), "", "") if path.is_dir() else str(source).partition(":")
    if Path(name).is_dir() or _HUB_NAME.fullmatch(name):
        return _dataset_rows(name, configuration or None, split=split, revision=revision)
    raise ProblemFileError(
        f"no problems at {str(source)!r}; give a file ({', '.join(_FORMATS)}), a folder or Hub id that datasets "
        "can load, or 'synthetic'"
    )


def count_rows(source: str | Path) -> int | None:
    """Return about how many rows a file has, quickly, for a progress bar; ``None`` if it does not tell."""
    path = Path(source)
    if not path.is_file():
        return None
    if path.suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import read_metadata

        try:
            return read_metadata(path).num_rows
        except (ArrowException, OSError):
            return None  # `read_rows` says what is wrong with it.
    if path.suffix not in (".jsonl", ".csv"):
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def fingerprint(source: str | Path, *, split: str, revision: str | None) -> dict[str, str | None]:
    """Return what tells a source from a later version of itself: the hash of a file, the revision of a data set."""
    path = Path(source)
    if path.is_file():
        with path.open("rb") as file:
            return {"source": str(source), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return {"source": str(source), "split": split, "revision": revision}


def json_lines(path: Path) -> Iterator[Row]:
    """Yield the objects of a file of JSON lines; empty lines are passed over.

    Raises:
        ProblemFileError: At the first line that is not a JSON object.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _row(f"{path}:{number}", _parse(line, f"{path}:{number}"))


def _json_list(path: Path) -> Iterator[Row]:
    values = _parse(path.read_bytes(), str(path))
    if not isinstance(values, list):
        raise ProblemFileError(f"{path}: expected a list of objects, found {type(values).__name__}")
    for number, value in enumerate(values, start=1):
        yield _row(f"{path}: item {number}", value)


def _csv_rows(path: Path) -> Iterator[Row]:
    """Yield the lines below the first, which names the columns; every value is text, an empty one is ``None``."""
    csv.field_size_limit(_MAX_CELL_CHARS)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            names = next(reader, [])
            for values in reader:
                place = f"{path}:{reader.line_num}"
                if not values:
                    continue
                if len(values) != len(names):
                    raise ProblemFileError(f"{place}: {len(values)} values for {len(names)} columns; quote the commas")
                yield Row(place, {name: value or None for name, value in zip(names, values, strict=True)})
        except (csv.Error, UnicodeDecodeError) as error:
            raise ProblemFileError(f"{path}:{reader.line_num}: not CSV in UTF-8 ({_one_line(error)})") from error


def _parquet_rows(path: Path) -> Iterator[Row]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for columns in batch.to_pylist():
                    number += 1
                    yield Row(f"{path}: row {number}", columns)
    except (ArrowException, OSError) as error:
        raise ProblemFileError(f"{path}: not a readable parquet file ({_one_line(error)})") from error


_FORMATS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": json_lines,
    ".json": _json_list,
    ".csv": _csv_rows,
    ".parquet": _parquet_rows,
}


def _dataset_rows(name: str, configuration: str | None, *, split: str, revision: str | None) -> Iterator[Row]:
    try:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise MissingExtraError(
            f"reading the data set {name!r} needs datasets: pip install 'polaris-data[hub]>=2026.11' ({error})"
        ) from error
    try:
        dataset = load_dataset(name, configuration, split=split, revision=revision)
    except (OSError, ValueError, DatasetsError) as error:
        cause = error.__cause__ if isinstance(error, DatasetsError) else error
        raise ProblemFileError(
            f"cannot load the data set {name!r}, split {split!r}: {_one_line(cause or error)}; without a "
            "connection, give the path of a local copy in its place (a file, or a folder that datasets can load)"
        ) from error
    for number, columns in enumerate(dataset, start=1):
        yield Row(f"{name}[{split}] row {number}", dict(columns))


def _row(place: str, value: object) -> Row:
    if not isinstance(value, dict):
        raise ProblemFileError(f"{place}: expected an object, found {value!r:.60}")
    return Row(place, value)


def _parse(content: bytes, place: str) -> Any:
    try:
        value = json.loads(content)
        if rb"\ud" in content.lower():  # half of a surrogate pair can be read but never written or tokenized
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except ValueError as error:
        raise ProblemFileError(f"{place}: not JSON ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
