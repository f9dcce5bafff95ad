"""One writer at a time for an output file."""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from polaris_data.errors import OtherRunError


@contextmanager
def locked_output(out: Path) -> Generator[None]:
    """Keep every other run away from an output file while the block runs.

    The lock is on ``NAME.lock`` beside the file. The system releases it when the process ends, however it ends; what
    a killed process leaves of the file does not keep others out.

    Raises:
        OtherRunError: If another process holds it.
    """
    path = out.with_name(f"{out.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = os.open(path, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise OtherRunError(f"another process is writing {out}; wait for it or choose another --out") from None
        # Its last holder may have removed the file after we had opened it: then we hold a lock that nobody sees.
        if path.exists() and path.stat().st_ino == os.fstat(file).st_ino:
            break
        os.close(file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)
