"""One writer at a time for an output file."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from polaris_data.errors import OtherRunError

_WAIT_S = 0.1
"""For a lock whose last holder is removing its file at this moment."""


@contextmanager
def locked_output(out: Path) -> Generator[None]:
    """Keep every other run away from an output while the block runs.

    The lock is on ``NAME.lock`` beside it. The system releases it when the process ends, however it ends; what a
    killed process leaves of the file does not keep others out.

    Raises:
        OtherRunError: If another process holds it.
    """
    path = out.with_name(f"{out.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(path).acquire(_WAIT_S, poll_interval=_WAIT_S / 10)
    except Timeout:
        raise OtherRunError(f"another process is writing {out}; wait for it or choose another --out") from None
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # still locked: whoever waits for it finds it gone, and makes a new one
