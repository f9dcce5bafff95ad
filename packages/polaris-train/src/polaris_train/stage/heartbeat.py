"""What each rank of a stage tells the others of itself, and the end of a stage in which nothing moves.

One thread of each rank says every few seconds, through the store that the ranks met in, where its rank is and how much
it has done: phases, layers computed, tokens sampled, answers graded. A rank that waits for another does nothing itself,
so the stage has stalled when no rank has done anything for ``stall_limit_s``. Every rank then leaves its stacks and
its newest collectives in ``RUN/STAGE/stalled``, and one of them says which rank is behind and what for.
"""

import faulthandler
import json
import os
import socket
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, cast

import torch
import torch.distributed as dist
from polaris_data.files import write_json
from polaris_reward import Grade, GradeMany
from polaris_rollout import Engine
from polaris_rollout.engines import STALL_EXIT_CODE, describe_status, end_when_stalled, period_s
from torch import nn
from torch._C import _distributed_c10d
from torch.distributed.distributed_c10d import Store

from polaris_train.run_folder import StageFolder
from polaris_train.stage.training_state import TrainingState

START, RECORDS, ENGINE_START = "start", "records", "engine start"
"""Before the first phase of a step, between two of them, and inside the first that samples."""

START_LIMIT_S = 1800.0
"""Reading a model and starting an engine show no progress; for so long they count as progress."""

SILENT_PERIODS = 2.5
"""A rank that has not spoken for so many looks gives no sign of life."""

_RECORDER: Any = _distributed_c10d  # torch's flight recorder is missing in its type stubs

_STALLED = "stalled"

Beat = dict[str, Any]
"""What a rank says of itself."""


class Heartbeat:
    """Where this rank is, and what it has heard of the others.

    Attributes:
        engine: Of this rank, once it has one.
    """

    def __init__(self, store: Store, folder: StageFolder, *, stall_limit_s: float) -> None:
        """Say for the first time that this rank is there.

        Args:
            store: Reached by all ranks and used for nothing else.
            folder: Of the stage.
            stall_limit_s: Longest time without progress, in seconds.
        """
        self.engine: Engine | None = None
        self._state: TrainingState | None = None
        self._rank, self._num_ranks = dist.get_rank(), dist.get_world_size()
        self._folder = folder
        self._limit_s = stall_limit_s
        self._period_s = period_s(stall_limit_s)
        self._store = cast(Any, store).clone()  # The other connection is taken while the main thread waits in it.
        self._store.set_timeout(timedelta(seconds=self._period_s))
        self._phases: list[str] = []
        self._num_entered = self._num_moves = self._num_graded = self._grading = self._num_looks = 0
        self._counting = Lock()  # Steps that are sampled ahead are graded by threads of their own.
        self._since = time.monotonic()
        self._beats: list[Beat] = []
        self._heard: dict[int, tuple[int, float]] = {}

    @contextmanager
    def watched(self) -> Generator["Heartbeat"]:
        """End this process with exit code 75 if no rank does anything for too long while the block runs."""
        try:
            with end_when_stalled(self._look, self._tell, stall_limit_s=self._limit_s):
                yield self
        finally:
            if self._rank == 0:
                self._folder.heartbeat.unlink(missing_ok=True)

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Say that this rank is in a phase while the block runs; phases may lie in each other."""
        self._enter([*self._phases, name])
        yield
        self._enter(self._phases[:-1])

    def follow(self, state: TrainingState) -> None:
        """Take the steps of a stage for progress, and every layer that its policy computes, in backward passes too."""
        self._state = state
        for module in state.policy.modules():
            if isinstance(module, nn.ModuleList):
                for layer in module:
                    layer.register_forward_pre_hook(self._count)

    def graded(self, grade_many: GradeMany) -> GradeMany:
        """Return a grader whose work is seen."""

        def grade(answers: Sequence[tuple[str, Sequence[str]]]) -> Sequence[Grade]:
            with self._counting:
                self._grading += len(answers)
            grades = grade_many(answers)
            with self._counting:
                self._grading -= len(answers)
                self._num_moves += 1
            return grades

        return grade

    def _enter(self, phases: list[str]) -> None:
        self._phases = phases
        self._num_entered += 1
        self._since = time.monotonic()

    def _count(self, *_: object) -> None:
        self._num_moves += 1

    def _beat(self) -> Beat:
        """Return what this rank says of itself."""
        statuses = [] if self.engine is None else self.engine.status()
        phase = self._phases[-1] if self._phases else RECORDS if self._num_entered else START
        in_phase_s = time.monotonic() - self._since
        starting = phase in (START, ENGINE_START) and in_phase_s < START_LIMIT_S
        sampled = sum(status.sampled_tokens for status in statuses)
        return {
            "rank": self._rank,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "look": self._num_looks,
            "steps": 0 if self._state is None else self._state.step,
            "phase": phase,
            "seconds": round(in_phase_s, 1),
            "entered": self._num_entered,
            "moves": [self._num_entered, self._num_moves, sampled, self._num_looks if starting else 0],
            "grading": self._grading,
            "engines": [describe_status(status) for status in statuses],
        }

    def _look(self) -> object:
        """Say where this rank is, hear of the others, and return how much all have done."""
        self._num_looks += 1
        beat = self._beat()
        self._exchange(beat)
        if self._rank == 0 and self._beats:
            with suppress(OSError):  # A full disk is told by what writes results.
                now = datetime.now(UTC).isoformat(timespec="seconds")
                write_json(self._folder.heartbeat, {"time": now, "ranks": self._beats})
        with suppress(dist.DistError):
            if self._store.check([_STALLED]):
                return None
        return [beat["moves"], *(each["moves"] for each in self._beats)]

    def _exchange(self, beat: Beat) -> None:
        """Store what this rank says and read what the others said; without an answer, what is known stays."""
        names = [f"beat-{rank}" for rank in range(self._num_ranks)]
        with suppress(dist.DistError):
            self._store.set(names[self._rank], json.dumps(beat))
            if self._store.check(names):
                self._beats = [json.loads(each) for each in self._store.multi_get(names)]
        for each in self._beats:
            if each["look"] != self._heard.get(each["rank"], (0, 0.0))[0]:
                self._heard[each["rank"]] = each["look"], time.monotonic()

    def _tell(self) -> str:
        """Leave what this rank knows, and say who is behind when the others have too; of several ranks, one does."""
        teller = str(self._rank)
        with suppress(dist.DistError):
            teller = self._store.compare_set(_STALLED, "", teller).decode()
        mine = self._beat() | {"collectives": self._leave_evidence()}
        for _ in range(2):
            self._num_looks += 1
            self._exchange(mine | {"look": self._num_looks})
            time.sleep(self._period_s)
        if teller != str(self._rank):
            time.sleep(2 * self._period_s)  # Where one rank has ended, the others are ended: let the teller speak.
            return f"rank {self._rank} ends as well; its stacks:\n"
        self._exchange(mine)
        now = time.monotonic()
        silent_s = {rank: now - heard for rank, (_, heard) in self._heard.items() if rank != self._rank}
        silent_s = {rank: seconds for rank, seconds in silent_s.items() if seconds > SILENT_PERIODS * self._period_s}
        beats = self._beats or [mine]
        said = stall_message(beats, silent_s, folder=self._folder, stall_limit_s=self._limit_s)
        return said + "".join(map(self._stacks_of, _behind(beats)))

    def _stacks_of(self, beat: Beat) -> str:
        """Return the stacks that another rank has left; torchrun ends it before it could print them."""
        path = self._folder.stacks(beat["rank"])
        if beat["rank"] == self._rank or "collectives" not in beat or not path.exists():
            return ""
        return f"stacks of rank {beat['rank']}:\n{path.read_text(encoding='utf-8')}stacks of rank {self._rank}:\n"

    def _leave_evidence(self) -> dict[str, Any]:
        """Write stacks and collectives to the stage's folder; return how many collectives there were, and the last."""
        cuda = torch.cuda.is_available()
        dump = _RECORDER._dump_nccl_trace if cuda else _RECORDER._dump_fr_trace
        with suppress(OSError):  # The disk may be what hangs or is full; the message must still come.
            self._folder.stalled.mkdir(exist_ok=True)
            with self._folder.stacks(self._rank).open("w") as file:
                faulthandler.dump_traceback(file=file, all_threads=True)
            self._folder.collectives(self._rank).write_bytes(dump())
        return last_collective(cuda=cuda)


def last_collective(*, cuda: bool = False) -> dict[str, Any]:
    """Return how many collectives this process began, and the newest, from torch's flight recorder.

    Args:
        cuda: Whether those of NCCL are meant, and not those of gloo.
    """
    dump = _RECORDER._dump_nccl_trace_json if cuda else _RECORDER._dump_fr_trace_json
    entries = json.loads(dump()).get("entries", [])
    if not entries:
        return {"number": 0, "last": "none"}
    waited_for = [entry for entry in entries if not entry["retired"]]
    newest = max(waited_for or entries, key=lambda entry: entry["record_id"])
    group = " ".join(filter(None, newest["process_group"]))
    sizes = newest["input_sizes"]
    what = f"{newest['profiling_name']} of sizes {sizes}" if sizes else newest["profiling_name"]
    number = 1 + max(entry["record_id"] for entry in entries)
    return {"number": number, "last": f"{what} in group {group}, {'not ended' if waited_for else 'ended'}"}


def stall_message(
    beats: Sequence[Beat], silent_s: Mapping[int, float], *, folder: StageFolder, stall_limit_s: float
) -> str:
    """Say that nothing moves, which rank the others wait for, and where each rank is.

    Args:
        beats: What each rank said last.
        silent_s: How long ago ranks spoke that give no sign of life any more.
        folder: Of the stage.
        stall_limit_s: Longest time without progress.
    """
    lines = [
        f"{folder.run.path.name}/{folder.path.name}: nothing has moved for {stall_limit_s:g} s: "
        f"{_blame(beats, silent_s)}; the process ends with exit code {STALL_EXIT_CODE}, and the same command "
        "continues with all that was finished",
        *(f"  {_describe(each, silent_s.get(each['rank']))}" for each in beats),
        *(f"  engine of rank {each['rank']}: {engine}" for each in beats for engine in each["engines"]),
        f"  stacks, and torch's flight recorder of collectives, of all ranks that could leave them: {folder.stalled}",
    ]
    return "".join(f"{line}\n" for line in lines)


def _blame(beats: Sequence[Beat], silent_s: Mapping[int, float]) -> str:
    if silent_s:
        return f"rank {_join(silent_s)} gives no sign of life, its process is gone, stopped or cannot run"
    behind = _behind(beats)
    if len(behind) == len(beats):
        return f"{'all ranks are' if len(beats) > 1 else 'it is'} in {_where(behind[0])}"
    return f"the others wait for rank {_join(each['rank'] for each in behind)}, which is in {_where(behind[0])}"


def _behind(beats: Sequence[Beat]) -> list[Beat]:
    least = min(map(_place, beats))
    return [each for each in beats if _place(each) == least]


def _join(ranks: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(ranks)))


def _place(beat: Beat) -> tuple[int, int]:
    """Return how far a rank is: every rank goes through the same phases and the same collectives."""
    return beat["entered"], beat.get("collectives", {}).get("number", 0)


def _where(beat: Beat) -> str:
    answers = f", with {beat['grading']} answers at the grader" if beat["grading"] else ""
    return f"{beat['phase']!r} after {beat['steps']} steps{answers}"


def _describe(beat: Beat, silent_s: float | None) -> str:
    said = f"rank {beat['rank']}: process {beat['process']} on {beat['host']}, {_where(beat)} for {beat['seconds']:g} s"
    if "collectives" in beat:
        said += f"; {beat['collectives']['number']} collectives, the last {beat['collectives']['last']}"
    return said if silent_s is None else f"{said}; silent for {silent_s:.0f} s{_process_state(beat)}"


def _process_state(beat: Beat) -> str:
    """Return what the kernel says of a rank's process, where it is on this machine."""
    if beat["host"] != socket.gethostname():
        return ""
    try:
        lines = Path(f"/proc/{beat['process']}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ", its process is gone"
    return ", its process is in state " + next(line.split(maxsplit=1)[1] for line in lines if line.startswith("State"))
