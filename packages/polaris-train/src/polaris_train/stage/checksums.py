"""Whether a checkpoint is what was written: the checksums of its files, which it gets last."""

import json
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from polaris_data.files import write_json

from polaris_train.run_folder import CheckpointFolder, Checkpoints

_READ_BYTES = 2**20
"""Of each thread: checksums are taken while a step trains, which may have left little memory."""

_MOST_THREADS = 16
"""Each reads a file of its own: those that the ranks wrote."""


def write_manifest(folder: CheckpointFolder) -> None:
    """Write the checksums of all files of a checkpoint."""
    names = sorted(path.name for path in folder.path.rglob("*") if path.is_file() and path != folder.manifest)
    write_json(folder.manifest, _checksums(folder.path, names))


def damage(folder: CheckpointFolder) -> str | None:
    """Return what is wrong with a checkpoint, or ``None``."""
    try:
        manifest = json.loads(folder.manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return " ".join(str(error).split())
    for name in manifest:
        if not (folder.path / name).is_file():
            return f"{name} is missing"
    found = _checksums(folder.path, list(manifest))
    return next(
        (f"{name} has changed since it was written" for name in manifest if found[name] != manifest[name]), None
    )


def newest_whole(checkpoints: Checkpoints) -> int:
    """Return the step of the newest checkpoint that is what was written, or 0 when there is none."""
    steps = reversed(checkpoints.steps())
    return next((step for step in steps if damage(checkpoints.step(step)) is None), 0)


def _checksums(folder: Path, names: list[str]) -> dict[str, int]:
    paths = [folder / name for name in names]
    try:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, _MOST_THREADS), thread_name_prefix="checksum") as threads:
            found = list(threads.map(_checksum, paths))
    except RuntimeError:  # No thread can be started where memory is scarce or processes are limited.
        found = list(map(_checksum, paths))
    return dict(zip(names, found, strict=True))


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            checksum = zlib.crc32(block, checksum)  # other threads run meanwhile
    return checksum
