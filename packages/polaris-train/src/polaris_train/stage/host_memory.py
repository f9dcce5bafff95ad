"""Memory of the host, as far as the container of a process lets it have that."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from polaris_train.errors import RecipeError

_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Of a control group, of the second and of the first version: its limit, what it uses, and in ``memory.stat`` what of
this is files that are given back when somebody needs their place."""


def available_bytes(root: Path = Path("/")) -> int:
    """Return the memory that a process can have without swapping, and without being ended for it.

    Args:
        root: Where ``proc`` and ``sys`` are.

    Raises:
        RecipeError: If the system does not say it.
    """
    return min([_of_host(root), *_of_groups(root)])


def _of_host(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RecipeError("/proc/meminfo does not say how much memory is available; set cpu_offload = false")


def _of_groups(root: Path) -> Iterator[int]:
    """Yield what is left to each control group that this process is in: its own, and those above it."""
    with suppress(FileNotFoundError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            for version in _FILES.keys() & controllers.split(","):
                top = root / "sys/fs/cgroup" / version
                own = top / path.lstrip("/")
                for group in (own, *own.parents):
                    if group.is_relative_to(top):
                        yield from _left(group, *_FILES[version])


def _left(group: Path, limit: str, usage: str, cache: str) -> Iterator[int]:
    with suppress(FileNotFoundError, ValueError):  # A group may have no limit, or "max".
        most, used = (int((group / name).read_text(encoding="utf-8")) for name in (limit, usage))
        stat = dict(line.split() for line in (group / "memory.stat").read_text(encoding="utf-8").splitlines())
        yield most - used + int(stat.get(cache, 0))
