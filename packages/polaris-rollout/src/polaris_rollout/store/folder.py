"""Sampled groups on disk: parquet files with a row for each completion, and a folder of them that grows.

A `RolloutStore` fills ``part-000001.parquet``, ``part-000002.parquet``, and so on. The groups of the next part are in
``part-000003.tail``, each appended whole, with a checksum, the moment it is finished: a kill at any time leaves at
most one torn group at its end, which is dropped. A part is complete when it has its name; the tail of the same
number, which a kill may have left behind, is then only a copy.

A problem's completions may come in several groups, each beginning where the one before ended: a sampler that looks at
the first answers before it draws more. They are read in that order, and those that stand together may be read as one.
"""

import json
import logging
import os
import re
import zlib
from collections import Counter
from collections.abc import Collection, Generator, Iterator, KeysView, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
from filelock import FileLock, Timeout

from polaris_rollout.errors import StoreError
from polaris_rollout.records import Group, SamplingParams
from polaris_rollout.store.table import (
    explain_reading,
    explain_writing,
    iterate_groups,
    read_columns,
    read_groups,
    renamed_when_whole,
    to_groups,
    to_table,
    write_groups,
    write_table,
)

logger = logging.getLogger(__name__)

__all__ = ["RolloutStore", "read_columns", "read_groups", "read_store", "write_groups"]

TAIL_BYTES = 2**26
"""A tail of this size becomes a part."""

_FRAME = Struct("<II")
"""Before each group of a tail: the bytes that follow, and their CRC-32."""

_STREAM = b"\xff\xff\xff\xff"
"""What the bytes of a frame begin with: the first message of an Arrow stream."""

_PART_NAME = re.compile(r"part-(\d{6,})\.(parquet|tail)")


class RolloutStore:
    """A folder of groups for one writer, readable by others at any time; a context manager.

    Attributes:
        folder: Where the groups are.
        num_samples: Completions of each problem on disk; a kill, a full disk or another run does not lose them.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any] | None = None) -> None:
        """Open a folder for writing and recover what a killed writer left.

        Args:
            folder: Created if there is none.
            settings: Everything that changes what is drawn, fit for JSON. The first group claims the folder for
                them: they are kept in ``settings.json``.

        Raises:
            StoreError: If the folder belongs to other settings, another process writes to it, it cannot be
                written, or a part is damaged.
        """
        self.folder = folder
        self._settings = settings
        _refuse_other_settings(folder, settings)
        with explain_writing(folder), ExitStack() as stack:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(_locked(folder))
            _refuse_other_settings(folder, settings)  # Another writer may have come and gone in between.
            for left_over in folder.glob("*.tmp"):
                left_over.unlink()
            self._number = _next_number(folder)
            self._tail = _tail_path(folder, self._number).open("ab", buffering=0)
            stack.callback(lambda: self._tail.close())
            self.num_samples = self._recover()
            stack.callback(self._remove_empty_tail)
            self._resources = stack.pop_all()

    @property
    def finished(self) -> KeysView[str]:
        """Problems that have a group on disk."""
        return self.num_samples.keys()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                with explain_writing(self.folder):
                    self._seal()
        finally:
            self.close()

    def append(self, group: Group, params: SamplingParams, *, first_sample: int = 0) -> None:
        """Write a finished group; once this returns, it survives whatever happens to the process.

        Args:
            group: Of a problem that is not among ``finished``, or its next completions.
            params: What it was sampled with.
            first_sample: Number of the group's first completion, as in its prompt.

        Raises:
            ValueError: If these completions are there already, or those before them are not.
            StoreError: If the disk is full, for example; every group that was finished before is kept.
        """
        num_before = self.num_samples[group.problem_id]
        if first_sample < num_before:
            raise ValueError(f"the group of {group.problem_id!r} is in {self.folder} already")
        if first_sample > num_before:
            raise ValueError(
                f"completions of {group.problem_id!r} from {first_sample} on do not follow the {num_before} in "
                f"{self.folder}"
            )
        with explain_writing(self.folder):
            if self._settings is not None:
                _write_settings(self.folder, self._settings)
                self._settings = None
            size = _append_frame(self._tail, to_table([group], params, first_sample=first_sample))
            self.num_samples[group.problem_id] += len(group.completions)
            if size >= TAIL_BYTES:
                self._seal()
                self._number += 1
                self._tail = _tail_path(self.folder, self._number).open("ab", buffering=0)

    def close(self) -> None:
        """Release the folder; what the tail holds stays there for the next writer."""
        self._resources.close()

    def _recover(self) -> Counter[str]:
        """Count the completions in the parts and the tail, and cut off what is torn at the tail's end."""
        found: Counter[str] = Counter()
        for number in _numbers(self.folder):
            if number != self._number:
                found.update(read_columns(_part_path(self.folder, number), ["problem_id"])["problem_id"])
        tail = _tail_path(self.folder, self._number)
        whole: list[tuple[int, int]] = []
        for start, end, table in _read_frames(tail):
            problem_id, first = table["problem_id"][0].as_py(), table["sample"][0].as_py()
            if first == found[problem_id]:  # not what followed completions that are lost
                found[problem_id] += table.num_rows
                whole.append((start, end))
        self._keep(tail, whole)
        return found

    def _keep(self, tail: Path, whole: Sequence[tuple[int, int]]) -> None:
        """Cut off what is torn at the end of the tail, and leave out what the disk has damaged before it."""
        size = sum(end - start for start, end in whole)
        if all(end == start for (_, end), (start, _) in pairwise([(0, 0), *whole])):
            self._tail.truncate(size)
            return
        logger.warning(
            "%s: %d bytes are damaged; the %d groups beside them are kept, and what is missing is drawn again",
            tail,
            os.fstat(self._tail.fileno()).st_size - size,
            len(whole),
        )
        data = tail.read_bytes()
        with renamed_when_whole(tail) as file:
            file.writelines(data[start:end] for start, end in whole)
        self._tail.close()
        self._tail = tail.open("ab", buffering=0)

    def _seal(self) -> None:
        """Make the tail a part; if that fails, the tail stays as it is."""
        tail = _tail_path(self.folder, self._number)
        if tables := [table for _, _, table in _read_frames(tail)]:
            write_table(_part_path(self.folder, self._number), pa.concat_tables(tables, promote_options="default"))
        self._tail.close()
        tail.unlink()

    def _remove_empty_tail(self) -> None:
        tail = _tail_path(self.folder, self._number)
        if tail.exists() and not tail.stat().st_size:
            tail.unlink()


def read_store(folder: Path, *, problem_ids: Collection[str] | None = None) -> Iterator[Group]:
    """Yield the groups of a `RolloutStore` in the order they finished, also while it is being written.

    Never more than a few completions and one group are in memory.

    Args:
        folder: Of the store.
        problem_ids: Problems whose groups are wanted; a part without any of them is not read. ``None`` wants all.

    Raises:
        StoreError: If there is no such folder, or a part is damaged.
    """
    if not folder.is_dir():
        raise StoreError(f"no folder {str(folder)!r}; give one that groups were written to")
    for number in _numbers(folder):
        # A part has its name before its tail is removed: of the two, one is there, unless the tail was empty.
        try:
            for _, _, table in _read_frames(_tail_path(folder, number)):
                if problem_ids is None or table["problem_id"][0].as_py() in problem_ids:
                    yield from to_groups(table.to_pylist())
        except FileNotFoundError:
            if (part := _part_path(folder, number)).exists():
                yield from iterate_groups(part, problem_ids=problem_ids)


def store_parts(folder: Path) -> list[Path]:
    """Return the parts of a store that is not being written."""
    return [part for number in _numbers(folder) if (part := _part_path(folder, number)).exists()]


def _append_frame(tail: BinaryIO, table: Any) -> int:
    """Write one whole frame, or nothing; return the size of the tail."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    payload = sink.getvalue()
    frame = _FRAME.pack(payload.size, zlib.crc32(payload)) + payload.to_pybytes()
    size = os.fstat(tail.fileno()).st_size
    left = memoryview(frame)
    try:
        while left:  # The system may take less than it is given: what is left of the disk, for example.
            left = left[tail.write(left) :]
    finally:
        if left:
            tail.truncate(size)
    return size + len(frame)


def _read_frames(tail: Path) -> Iterator[tuple[int, int, Any]]:
    """Yield the groups of a tail, each with the places where it begins and ends.

    Left out are one that is torn or being written, at the end, and those that a disk has damaged.
    """
    with tail.open("rb") as file:
        start = 0
        while len(header := file.read(_FRAME.size)) == _FRAME.size:
            num_bytes, checksum = _FRAME.unpack(header)
            payload = file.read(num_bytes)
            if payload and len(payload) == num_bytes and zlib.crc32(payload) == checksum:
                yield start, file.tell(), pa.ipc.open_stream(payload).read_all()
                start = file.tell()
                continue
            file.seek(start)
            behind = _next_frame(file.read())
            if behind is None:
                return
            start += behind
            file.seek(start)


def _next_frame(data: bytes) -> int | None:
    """Return where the next whole frame begins behind a damaged one; ``None`` if there is none."""
    at = data.find(_STREAM, _FRAME.size + 1)
    while at >= 0:
        num_bytes, checksum = _FRAME.unpack_from(data, at - _FRAME.size)
        if 0 < num_bytes <= len(data) - at and zlib.crc32(data[at : at + num_bytes]) == checksum:
            return at - _FRAME.size
        at = data.find(_STREAM, at + 1)
    return None


def _write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    with renamed_when_whole(folder / "settings.json") as file:
        file.write((json.dumps(settings, indent=2) + "\n").encode())


def _refuse_other_settings(folder: Path, settings: Mapping[str, Any] | None) -> None:
    path = folder / "settings.json"
    if settings is None or not path.exists():
        return
    with explain_reading(path):
        old = json.loads(path.read_text(encoding="utf-8"))
    new = json.loads(json.dumps(settings))
    if old != new:
        differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        what = ", ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in differing)
        raise StoreError(f"{folder} belongs to another job ({what}); choose another folder or remove it")


@contextmanager
def _locked(folder: Path) -> Generator[None]:
    """Keep every other writer out; the system releases the lock when the process ends, however it ends."""
    # A soft lock, the other kind, would stay behind a killed process.
    lock = FileLock(folder / ".lock", thread_local=False, fallback_to_soft=False)
    try:
        held = lock.acquire(blocking=False)
    except Timeout:
        raise StoreError(f"another process is writing to {folder}; wait for it or choose another folder") from None
    with held:
        yield


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the parts and of the tail, ascending."""
    found = (_PART_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted({int(match[1]) for match in found if match})


def _next_number(folder: Path) -> int:
    """Return the number of the part to be filled, and remove tails that became parts."""
    numbers = _numbers(folder)
    for number in numbers:
        if _part_path(folder, number).exists():
            _tail_path(folder, number).unlink(missing_ok=True)
    last = max(numbers, default=0)
    return last if _tail_path(folder, last).exists() else last + 1


def _part_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.parquet"


def _tail_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:06d}.tail"
