"""What a step costs: seconds and peak memory of each phase."""

import resource
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

_GIB = 2**30


class Phases:
    """Measures the phases of one step on this rank.

    Attributes:
        seconds: Of each phase by name, over all times it was gone through.
        peak_memory_gib: Highest memory in each phase: of the GPU, or of this process where there is none.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_memory_gib: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Measure what happens inside the block."""
        _reset_peak()
        started = time.monotonic()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
        self.peak_memory_gib[name] = max(self.peak_memory_gib.get(name, 0.0), _peak_bytes() / _GIB)


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):  # Some sandboxes refuse it; the peak is then that of the whole run.
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is in use


def _peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
