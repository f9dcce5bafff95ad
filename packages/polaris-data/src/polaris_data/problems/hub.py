"""Rows of a folder or Hub data set that ``datasets`` can load, and of a folder that ``save_to_disk`` wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polaris_data.errors import MissingExtraError, ProblemFileError

_BATCH = 1_000


def dataset_rows(
    name: str, configuration: str | None, *, split: str, revision: str | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a data set with their places.

    Raises:
        ProblemFileError: If it cannot be loaded.
        MissingExtraError: If ``datasets`` is not installed.
    """
    try:
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise MissingExtraError(
            f"reading the data set {name!r} needs datasets: pip install 'polaris-data[hub]>=2026.11' ({error})"
        ) from error
    try:
        dataset = _load(name, configuration, split=split, revision=revision)
    except (OSError, ValueError, KeyError, DatasetsError) as error:
        cause = error.__cause__ if isinstance(error, DatasetsError) else error
        raise ProblemFileError(
            f"cannot load the data set {name!r}, split {split!r}: {' '.join(str(cause or error).split())[:300]}; "
            "without a connection, give the path of a local copy in its place (a file, or a folder that datasets can "
            "load)"
        ) from error
    number = 0
    for batch in dataset.with_format("arrow").iter(_BATCH):  # pictures are not decoded
        for columns in batch.to_pylist():
            number += 1
            yield f"{name}[{split}] row {number}", columns


def _load(name: str, configuration: str | None, *, split: str, revision: str | None) -> Any:
    from datasets import DatasetDict, load_dataset, load_from_disk

    folder = Path(name)
    if not any((folder / known).is_file() for known in ("state.json", "dataset_dict.json")):
        return load_dataset(name, configuration, split=split, revision=revision)
    saved = load_from_disk(name)
    if not isinstance(saved, DatasetDict):
        return saved
    if split not in saved:
        raise ValueError(f"its splits are {', '.join(map(str, saved))}")
    return saved[split]
