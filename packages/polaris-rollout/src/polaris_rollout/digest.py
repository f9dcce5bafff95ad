"""Fingerprints of models by all of their content, read once.

Weights of many gigabytes take seconds to read, and every command and every rank wants to know them. So the hash of a
large file is kept in the user's cache folder, under what a change of the file changes: path, size, times and inode. A
file that was changed a moment ago may change again without that, and is not remembered.
"""

import hashlib
import logging
import os
import time
from pathlib import Path

logger = logging.getLogger(__name__)

WHOLE = "whole:"
"""Stands before a fingerprint of all content; those of earlier versions looked at both ends of each file only."""

_LARGE_BYTES = 2**26
"""A file from this size on is remembered; others take less than a tenth of a second."""

_SETTLED_NS = 2_000_000_000
"""After so long a change shows in a file's times, on any file system."""

_PATTERNS = ("*.json", "*.jinja", "*.model", "*.safetensors")


def model_digest(model: str) -> str | None:
    """Return a fingerprint of a resolved model's files, of all that is in them; ``None`` for a Hub id."""
    if not Path(model).is_dir():
        return None
    digest = hashlib.sha256()
    for pattern in _PATTERNS:
        for path in sorted(Path(model).glob(pattern)):
            digest.update(f"{path.name}\0{_content(path)}\0".encode())
    return WHOLE + digest.hexdigest()[:16]


def _content(path: Path) -> str:
    stat = path.stat()
    if stat.st_size < _LARGE_BYTES:
        return _hash(path)
    key = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\0{stat.st_ino}"
    known = _cache() / hashlib.sha256(key.encode()).hexdigest()
    if known.is_file():
        return known.read_text(encoding="ascii")
    logger.info("reading %s (%.1f GB) once, for the model's fingerprint", path, stat.st_size / 1e9)
    found = _hash(path)
    if time.time_ns() - stat.st_ctime_ns > _SETTLED_NS:
        _remember(known, found)
    return found


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "polaris" / "digests"


def _remember(known: Path, content: str) -> None:
    temporary = known.with_suffix(f".{os.getpid()}")
    try:
        known.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(content, encoding="ascii")
        temporary.replace(known)
    except OSError as error:
        logger.warning("%s cannot be written (%s), so weights are read again at the next start", known.parent, error)
