"""A few worker processes shared by all threads, and the wall-clock deadline over each item they work on.

The deadline is the parent's: a signal handler or a second thread in the worker would have to wait until C
code lets go of the interpreter, which for a large power is minutes.
"""

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from polaris_reward.errors import GraderClosedError, RewardError
from polaris_reward.records import Outcome
from polaris_reward.workers.keeper import Keeper, Worker, WorkerDiedError

Task = tuple[str, Sequence[str]]
"""An answer that needs algebra, and the references it may equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What a worker, or its end, says about a task."""

    outcome: Outcome
    """What became of the answer."""

    reference: int | None
    """Index of the task's reference that the answer equals."""

    seconds: float
    """Wall-clock time from when a worker was free for the task."""


class WorkerPool:
    """Worker processes that are started as work comes in and killed with the pool."""

    def __init__(self, *, num_workers: int, deadline_s: float, memory_gib: float) -> None:
        self._keeper = Keeper(deadline_s=deadline_s, memory_gib=memory_gib)
        self._workers = [Worker(self._keeper, number) for number in range(num_workers)]
        self._make_all_free()
        # Runs when the pool is collected and when the interpreter exits, whichever comes first.
        weakref.finalize(self, self._keeper.close)
        _pools.add(self)

    @property
    def pids(self) -> list[int]:
        """Process ids of what runs now: of the keeper, whose children are the workers."""
        return [] if self._keeper.pid is None else [self._keeper.pid]

    def judge(self, tasks: Sequence[Task]) -> list[Judgement]:
        """Judge all tasks, in order, sharing the workers with every thread that does the same.

        Raises:
            GraderClosedError: If the pool was closed.
            WorkerStartError: If a worker cannot start.
        """
        if self._keeper.closed:
            raise GraderClosedError("this grader is closed; make a new one")
        batch = _Batch(tasks)
        # This thread takes part, so that a single task needs no other.
        num_helpers = min(len(tasks), len(self._workers)) - 1
        # Daemons: an interpreter that exits does not wait for them.
        helpers = [threading.Thread(target=self._work, args=(batch,), daemon=True) for _ in range(num_helpers)]
        try:
            for helper in helpers:
                helper.start()
            self._work(batch)
            for helper in helpers:
                helper.join()
        finally:
            # After Ctrl-C, the helpers end with the item they are at.
            batch.waiting.clear()
        if batch.error is not None:
            raise batch.error
        return [batch.judgements[index] for index in range(len(tasks))]

    def close(self) -> None:
        """Kill the workers; threads that wait for one are told that the grader is closed."""
        self._keeper.close()

    def forget(self) -> None:
        """Start over in a forked child: the workers, and whoever held a lock, stayed with the parent."""
        self._keeper.forget()
        for worker in self._workers:
            worker.forget()
        self._make_all_free()

    def _make_all_free(self) -> None:
        self._changed = threading.Condition()
        self._free = list(self._workers)
        self._line: deque[object] = deque()

    @contextmanager
    def _borrowed(self) -> Generator[Worker]:
        """Lend a worker; who came first is served first, or a batch would take back what it has just returned."""
        turn = object()
        with self._changed:
            self._line.append(turn)
            try:
                self._changed.wait_for(lambda: self._free and self._line[0] is turn)
                # From the end, where the workers that already run are put back.
                worker = self._free.pop()
            finally:
                self._line.remove(turn)
                self._changed.notify_all()
        try:
            yield worker
        finally:
            with self._changed:
                self._free.append(worker)
                self._changed.notify_all()

    def _work(self, batch: "_Batch") -> None:
        try:
            while (index := batch.next_index()) is not None:
                batch.judgements[index] = self._judge_one(batch.tasks[index])
        except RewardError as error:
            batch.error = error
            batch.waiting.clear()

    def _judge_one(self, task: Task) -> Judgement:
        answer, references = task
        with self._borrowed() as worker:
            started = time.monotonic()
            index = None
            try:
                reply = worker.ask({"answer": answer, "references": references})
                outcome, index = Outcome(reply["outcome"]), reply["reference"]
            except TimeoutError:
                outcome = Outcome.ANSWER_TIMEOUT
            except WorkerDiedError:
                outcome = Outcome.ANSWER_REJECTED
            return Judgement(outcome=outcome, reference=index, seconds=time.monotonic() - started)


class _Batch:
    """The tasks of one call, which several threads take one by one."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks
        self.waiting = deque(range(len(tasks)))
        self.judgements: dict[int, Judgement] = {}
        self.error: RewardError | None = None

    def next_index(self) -> int | None:
        try:
            return self.waiting.popleft()
        except IndexError:
            return None


_pools: "weakref.WeakSet[WorkerPool]" = weakref.WeakSet()


def _forget_all() -> None:
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)
