"""A few worker processes shared by all threads, and the wall-clock deadline over each item they work on.

The deadline is the parent's: a signal handler or a second thread in the worker would have to wait until C
code lets go of the interpreter, which for a large power is minutes.
"""

import math
import os
import select
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from polaris_reward.errors import GraderClosedError
from polaris_reward.process import WorkerDiedError, WorkerProcess
from polaris_reward.records import Outcome

Task = tuple[str, Sequence[str]]
"""An answer that needs algebra, and the references it may equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a worker, or its end, says about a task."""

    outcome: Outcome
    """What became of the answer."""

    reference: int | None
    """Index of the task's reference that the answer equals."""

    seconds: float
    """Wall-clock time from sending the task."""


class WorkerPool:
    """Worker processes that are started as work comes in and killed with the pool."""

    def __init__(self, *, num_workers: int, deadline_s: float, memory_gib: float) -> None:
        self._workers = [WorkerProcess(deadline_s=deadline_s, memory_gib=memory_gib) for _ in range(num_workers)]
        self._reset()
        # Runs when the pool is collected and when the interpreter exits, whichever comes first.
        self._finalizer = weakref.finalize(self, _kill_all, self._workers)
        _pools.add(self)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that run now; each has one child, which does the work."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def judge(self, tasks: Sequence[Task]) -> list[Verdict]:
        """Judge all tasks, in order, with every worker that is free; at least one.

        Raises:
            GraderClosedError: If the pool was closed.
            WorkerStartError: If a worker cannot start.
        """
        if self._closed:
            raise GraderClosedError("this grader is closed; make a new one")
        if not tasks:
            return []
        crew = self._borrow(len(tasks))
        try:
            return _Batch(tasks, crew).run()
        finally:
            self._give_back(crew)

    def close(self) -> None:
        """Kill the workers; one that is at work for another thread is killed when that thread returns it."""
        with self._free:
            self._closed = True
            _kill_all(self._idle)
            self._free.notify_all()

    def forget(self) -> None:
        """Start over in a forked child: the workers, and whoever held the lock, stayed with the parent."""
        for worker in self._workers:
            worker.forget()
        self._reset()

    def _reset(self) -> None:
        self._free = threading.Condition()
        self._idle = list(self._workers)
        self._closed = getattr(self, "_closed", False)

    def _borrow(self, wanted: int) -> list[WorkerProcess]:
        with self._free:
            self._free.wait_for(lambda: self._idle or self._closed)
            if self._closed:
                raise GraderClosedError("this grader is closed; make a new one")
            # From the end, where the workers that already run are put back.
            crew, self._idle[-wanted:] = self._idle[-wanted:], []
            return crew

    def _give_back(self, crew: list[WorkerProcess]) -> None:
        with self._free:
            for worker in crew:
                # Still at work only if an exception, such as Ctrl-C, ended the batch.
                if worker.job is not None or self._closed:
                    worker.kill()
            self._idle.extend(sorted(crew, key=lambda worker: worker.ready))
            self._free.notify_all()


class _Batch:
    """The tasks of one call, spread over the workers that were lent to it."""

    def __init__(self, tasks: Sequence[Task], crew: Sequence[WorkerProcess]) -> None:
        self._tasks = tasks
        self._crew = crew
        self._waiting = deque(range(len(tasks)))
        self._verdicts: dict[int, Verdict] = {}

    def run(self) -> list[Verdict]:
        while len(self._verdicts) < len(self._tasks):
            for worker in self._crew:
                self._keep_busy(worker)
            for worker in _wait([worker for worker in self._crew if worker.started]):
                self._hear(worker)
            for worker in self._crew:
                self._check_deadline(worker)
        return [self._verdicts[index] for index in range(len(self._tasks))]

    def _keep_busy(self, worker: WorkerProcess) -> None:
        if worker.job is not None or not self._waiting:
            return
        if not worker.started or (worker.ready and not worker.alive):
            worker.start()
        if worker.ready:
            index = self._waiting.popleft()
            answer, references = self._tasks[index]
            try:
                worker.send(index, {"answer": answer, "references": references})
            except WorkerDiedError:
                self._waiting.appendleft(index)
                worker.kill()

    def _hear(self, worker: WorkerProcess) -> None:
        try:
            messages = worker.receive()
        except WorkerDiedError:
            self._lose(worker)
            return
        for message in messages:
            if "ready" in message:
                self._welcome(worker)
            # Else the last word of a child that was interrupted.
            elif worker.job is not None:
                if "taken" in message:
                    worker.taken = True
                else:
                    self._settle(worker, Outcome(message["outcome"]), reference=message["reference"])

    def _welcome(self, worker: WorkerProcess) -> None:
        """Greet a fresh child; an item that its predecessor had taken was the end of that one."""
        worker.ready = True
        if worker.taken:
            self._settle(worker, Outcome.ANSWER_REJECTED)
        elif worker.job is None:
            worker.due = math.inf

    def _lose(self, worker: WorkerProcess) -> None:
        if not worker.ready:
            raise worker.give_up() from None
        if worker.taken:
            self._settle(worker, Outcome.ANSWER_REJECTED)
        elif worker.job is not None:
            self._waiting.appendleft(worker.job)
        worker.kill()

    def _check_deadline(self, worker: WorkerProcess) -> None:
        if not worker.started or time.monotonic() < worker.due:
            return
        if not worker.ready:
            raise worker.give_up()
        has_read_it = worker.taken
        self._settle(worker, Outcome.ANSWER_TIMEOUT)
        if has_read_it:
            worker.interrupt()
        else:
            # The next child would find the item.
            worker.kill()

    def _settle(self, worker: WorkerProcess, outcome: Outcome, *, reference: int | None = None) -> None:
        if worker.job is not None:
            seconds = time.monotonic() - worker.sent
            self._verdicts[worker.job] = Verdict(outcome=outcome, reference=reference, seconds=seconds)
        worker.job, worker.taken, worker.due = None, False, math.inf


def _wait(workers: list[WorkerProcess]) -> list[WorkerProcess]:
    """Return the workers that have something to say, at the latest when one of them is overdue."""
    poller = select.poll()
    for worker in workers:
        poller.register(worker.fileno(), select.POLLIN)
    left_s = min((worker.due for worker in workers), default=0.0) - time.monotonic()
    ready = {descriptor for descriptor, _ in poller.poll(max(0, math.ceil(min(left_s, 3600.0) * 1000)))}
    return [worker for worker in workers if worker.fileno() in ready]


def _kill_all(workers: list[WorkerProcess]) -> None:
    for worker in workers:
        worker.kill()


_pools: "weakref.WeakSet[WorkerPool]" = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)
