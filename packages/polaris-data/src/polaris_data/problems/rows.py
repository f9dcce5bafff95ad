"""Rows of a problem set, wherever it lies: JSON of any shape, a table, parquet, or a data set of the Hub.

A row keeps its place, so that whatever is wrong with it can be found again.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_data.errors import ProblemFileError
from polaris_data.files.archives import read_samples
from polaris_data.files.documents import LINES, Item, read_json, read_json_lines
from polaris_data.files.opening import COMPRESSED
from polaris_data.files.tables import read_table
from polaris_data.problems.hub import dataset_rows

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source, as it is written there."""

    place: str
    """Where it stands: ``problems.jsonl:17``."""

    columns: Mapping[str, Any]
    """Its fields by name."""

    defect: str | None = None
    """Why it cannot be read; ``columns`` are then what could be read of it, or the line under ``line``."""


def read_rows(source: str | Path, *, split: str, revision: str | None, keep_broken: bool = False) -> Iterator[Row]:
    """Yield the rows of a file, of a folder that holds a data set, or of a Hub data set.

    Args:
        source: A path ending in ``.jsonl`` or ``.json`` (lines, a list, a list in an object, columns), ``.csv`` or
            ``.tsv``, or ``.parquet``; compressed with gzip, zstd or bzip2 or not, in UTF-8, UTF-16 or UTF-32; or
            ``.eval``, the samples of a log of inspect. Or a folder or Hub id that ``datasets`` can load, with ``:NAME``
            after it to choose one of its configurations; or a folder that ``save_to_disk`` wrote. JSON that is not
            lines is read whole; every other kind takes constant memory, however long it is.
        split: Of a folder or Hub data set, or of a JSON object that holds several lists.
        revision: Commit, branch or tag of a Hub data set.
        keep_broken: Yield what cannot be read as a row with its `Row.defect` rather than refuse the source.

    Raises:
        ProblemFileError: If there is no such source, or it cannot be read.
        MissingExtraError: If a folder or Hub id is given and ``datasets`` is not installed.
    """
    path = Path(source)
    ending = _ending(path)
    if ending in _FORMATS:
        if not path.is_file():
            raise ProblemFileError(f"no file {str(path)!r}; check the path")
        return _checked(_FORMATS[ending](path, split), keep_broken=keep_broken)
    if path.is_file():
        raise ProblemFileError(
            f"{path}: cannot read {path.suffix!r} files; give one of {', '.join(_FORMATS)} (a spreadsheet: save it as "
            "CSV)"
        )
    name, _, configuration = (str(source), "", "") if path.is_dir() else str(source).partition(":")
    if Path(name).is_dir() or _HUB_NAME.fullmatch(name):
        rows = dataset_rows(name, configuration or None, split=split, revision=revision)
        return (Row(place, columns) for place, columns in rows)
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
    if path.suffix not in (*LINES, ".csv", ".tsv"):
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
    return _checked(read_json_lines(path), keep_broken=False)


def _ending(path: Path) -> str:
    """Return the ending that names the format, below that of a compression."""
    name = path.name.lower()
    for ending in COMPRESSED:
        name = name.removesuffix(ending)
    return Path(name).suffix


def _checked(items: Iterator[Item], *, keep_broken: bool) -> Iterator[Row]:
    for place, value, defect in items:
        if defect and not keep_broken:
            raise ProblemFileError(f"{place}: {defect}")
        yield Row(place, value if isinstance(value, dict) else {"line": value}, defect)


def _parquet_rows(path: Path, split: str) -> Iterator[Item]:
    del split
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for columns in batch.to_pylist():
                    number += 1
                    yield Item(f"{path}: row {number}", columns)
    except (ArrowException, OSError) as error:
        message = " ".join(str(error).split())[:300]
        raise ProblemFileError(f"{path}: not a readable parquet file ({message})") from error


_FORMATS: dict[str, Callable[[Path, str], Iterator[Item]]] = {
    **{ending: lambda path, split: read_json(path, split=split) for ending in (".jsonl", ".json", *LINES[1:])},
    **{ending: lambda path, _: read_table(path) for ending in (".csv", ".tsv")},
    ".parquet": _parquet_rows,
    ".eval": lambda path, _: read_samples(path),
}
