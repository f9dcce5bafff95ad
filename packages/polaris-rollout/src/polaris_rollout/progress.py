"""Progress of sampling: groups done, tokens a second, what the engine is doing, time left."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column

from polaris_rollout.contracts import Engine, EngineStatus
from polaris_rollout.records import Group

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

REFRESH_S = 1.0
"""The bar is drawn at this interval."""

LOG_EVERY_S = 15.0
"""Where the bar cannot be drawn (a log file), one line is logged at this interval."""

SPEED_WINDOW_S = 60.0
"""Tokens a second are those of this time."""


def track(
    groups: Iterable[Item], *, total: int, done: int = 0, label: str = "sampling", engine: Engine | None = None
) -> Iterator[Item]:
    """Pass groups through, or whatever else is counted, showing progress on stderr.

    Args:
        groups: Groups as a sampler yields them, or what was made of them.
        total: Groups of the whole job.
        done: Groups that an earlier run finished.
        label: Word in front of the bar.
        engine: Asked from another thread what it is doing; without one, finished groups are all that is known.
    """
    console = Console(stderr=True)
    figures_column = TextColumn("{task.fields[figures]}", table_column=Column(no_wrap=False))
    columns = (TextColumn("{task.description}"), BarColumn(10), MofNCompleteColumn(), figures_column)
    meter = Meter(total=total, done=done, engine=engine)
    # The bar's own thread would draw ten times a second, at the cost of the engine in this process.
    with Progress(*columns, console=console, auto_refresh=False, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=done, figures="")

        def show() -> None:
            figures = meter.read()
            if console.is_terminal:
                bar.update(task, completed=meter.num_done, figures=figures, refresh=True)
            else:
                logger.info("%s %d/%d  %s", label, meter.num_done, total, figures)

        with _repeated(show, REFRESH_S if console.is_terminal else LOG_EVERY_S):
            try:
                for group in groups:
                    meter.add(group)
                    yield group
            except KeyboardInterrupt:
                logger.warning("interrupted: %d of %d are done; the same command continues", meter.num_done, total)
                raise
        if console.is_terminal:
            show()


class Meter:
    """Counts groups and tokens as they come.

    Attributes:
        num_done: Groups finished, those of an earlier run included.
    """

    def __init__(
        self,
        *,
        total: int,
        done: int = 0,
        engine: Engine | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start to count; see `track`."""
        self.num_done = done
        self._done_before = done
        self._total = total
        self._engine = engine
        self._clock = clock
        self._num_tokens = 0
        self._started = clock()
        self._readings = deque([(self._started, self._count_tokens(self._ask()))])

    def add(self, finished: object) -> None:
        """Count what is finished; of a group the tokens as well."""
        self.num_done += 1
        if isinstance(finished, Group):
            self._num_tokens += sum(len(completion.token_ids) for completion in finished.completions)

    def read(self) -> str:
        """Say how fast it goes, what the engine is doing, how long it took, and how long it will take."""
        now, statuses = self._clock(), self._ask()
        self._readings.append((now, self._count_tokens(statuses)))
        while self._readings[1][0] < now - SPEED_WINDOW_S:
            self._readings.popleft()
        (since, before), (_, after) = self._readings[0], self._readings[-1]
        speed = max(0, after - before) / max(now - since, 1e-9)
        parts = [f"{speed:,.0f} tokens/s", *_describe(statuses), f"{_clock_face(now - self._started)} elapsed"]
        return "  ".join([*parts, f"{self._time_left(now)} left"])

    def _ask(self) -> Sequence[EngineStatus]:
        return self._engine.status() if self._engine else ()

    def _count_tokens(self, statuses: Sequence[EngineStatus]) -> int:
        return sum(status.sampled_tokens for status in statuses) if self._engine else self._num_tokens

    def _time_left(self, now: float) -> str:
        """Estimate from the groups of this run; their mean time holds only when some are done."""
        num_new = self.num_done - self._done_before
        if not num_new:
            return "?"
        return _clock_face((now - self._started) / num_new * (self._total - self.num_done))


def _describe(statuses: Sequence[EngineStatus]) -> list[str]:
    if not statuses:
        return []
    known = [status.longest_running for status in statuses if status.longest_running is not None]
    return [
        f"{sum(status.running for status in statuses)} running",
        f"{sum(status.waiting for status in statuses)} waiting",
        f"longest {max(known):,} tokens" if known else "longest ?",
    ]


def _clock_face(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


@contextmanager
def _repeated(action: Callable[[], None], every_s: float) -> Generator[None]:
    """Call an action in another thread at an interval while the block runs."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(every_s):
            action()

    thread = threading.Thread(target=repeat, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(every_s)
