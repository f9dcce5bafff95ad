"""Whether a checkpoint is what was written: the checksums of its files, which it gets last.

A file has one for every `RANGE_BYTES`, so that the one large file of a single rank is read by several threads, too. Of
a file of one range it stands alone, as that of any file did before.
"""

import json
import os
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeAlias

from polaris_data.files import write_json

from polaris_train.run_folder import CheckpointFolder, Checkpoints

_READ_BYTES = 2**20
"""Of each thread: checksums are taken while a step trains, which may have left little memory."""

RANGE_BYTES = 2**28
"""What is known by a checksum of its own; another size would not be that of checkpoints that were written."""

_MOST_THREADS = 16

Checksums: TypeAlias = int | list[int]
"""Of a file: of the whole, or of each of its ranges."""


class _Range(NamedTuple):
    path: Path
    start: int
    size: int


def write_manifest(folder: CheckpointFolder) -> None:
    """Write the checksums of all files of a checkpoint."""
    names = sorted(path.name for path in folder.path.rglob("*") if path.is_file() and path != folder.manifest)
    write_json(folder.manifest, _checksums({name: _ranges(folder.path / name, RANGE_BYTES) for name in names}))


def damage(folder: CheckpointFolder) -> str | None:
    """Return what is wrong with a checkpoint, or ``None``."""
    try:
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return " ".join(str(error).split())
    for name in manifest:
        if not (folder.path / name).is_file():
            return f"{name} is missing"
    sizes = {name: RANGE_BYTES if isinstance(known, list) else None for name, known in manifest.items()}
    found = _checksums({name: _ranges(folder.path / name, size) for name, size in sizes.items()})
    return next(
        (f"{name} has changed since it was written" for name in manifest if found[name] != manifest[name]), None
    )


def newest_whole(checkpoints: Checkpoints) -> int:
    """Return the step of the newest checkpoint that is what was written, or 0 when there is none."""
    steps = reversed(checkpoints.steps())
    return next((step for step in steps if damage(checkpoints.step(step)) is None), 0)


def _ranges(path: Path, size: int | None) -> list[_Range]:
    """Return the ranges of a file, at least one; the file as one where no size of them is given."""
    whole = path.stat().st_size
    step = size or max(whole, 1)
    return [_Range(path, start, step) for start in range(0, max(whole, 1), step)]


def _checksums(files: Mapping[str, list[_Range]]) -> dict[str, Checksums]:
    every = [each for ranges in files.values() for each in ranges]
    try:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS), thread_name_prefix="checksum") as threads:
            found = iter(list(threads.map(_checksum, every)))
    except RuntimeError:  # No thread can be started where memory is scarce or processes are limited.
        found = map(_checksum, every)
    of_files = {name: [next(found) for _ in ranges] for name, ranges in files.items()}
    return {name: each[0] if len(each) == 1 else each for name, each in of_files.items()}


def _checksum(part: _Range) -> int:
    checksum, left = 0, part.size
    with part.path.open("rb") as file:
        file.seek(part.start)
        while block := file.read(min(_READ_BYTES, left)):
            checksum = zlib.crc32(block, checksum)  # other threads run meanwhile
            left -= len(block)
    return checksum
