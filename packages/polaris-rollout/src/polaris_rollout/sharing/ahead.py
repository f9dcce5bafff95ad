"""How long a training run takes when the engines sample ahead of the updates: a simulation of trainer and engines.

Engines share groups as in `polaris_rollout.sharing.simulate`. The groups of a step are handed out in the order of the
steps, once the update of the step ``ahead + 1`` before has ended; the update of a step begins when all its groups are
finished and the update before has ended. With ``ahead = 0`` sampling and update take turns. Handing over the weights
takes no time.
"""

import heapq
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np

from polaris_rollout.errors import SettingError
from polaris_rollout.sharing.simulate import Workload, draw_lengths
from polaris_rollout.sharing.work import fair_share, longest_first

AHEAD = (0, 1, 2)
"""Steps ahead that the report compares."""

Step = Sequence[Sequence[float]]
"""``[group][completion]`` how long each takes, groups in the order in which they are handed out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """How a run went."""

    makespan: float
    """Time until the last update ends, in the unit of the lengths."""

    engines_idle: float
    """Share of the engines' time in which they sample nothing."""

    slots_empty: float
    """Share of the slots' time in which they hold no completion."""

    trainer_idle: float
    """Share of the time in which no update goes on."""


def run_ahead(steps: Sequence[Step], *, ahead: int, update: float, num_engines: int, slots: int) -> Timeline:
    """Run steps through engines and trainer.

    Args:
        steps: At least one, each with a completion.
        ahead: Steps that may be sampled before the update in progress has ended.
        update: How long each update takes.
        num_engines: That share the groups.
        slots: Of each engine.
    """
    engines = _Engines(num_engines, slots)
    left = [sum(map(len, step)) for step in steps]
    num_begun = num_sampled = num_updated = 0
    now, update_ends = 0.0, float("inf")
    while num_updated < len(steps):
        while num_begun < min(num_updated + ahead + 1, len(steps)):
            engines.groups.extend((num_begun, group) for group in steps[num_begun])
            num_begun += 1
        engines.fill(now)
        while num_sampled < len(steps) and not left[num_sampled]:
            num_sampled += 1
        if update_ends == float("inf") and num_updated < num_sampled:
            update_ends = now + update
        now = min(update_ends, engines.next_end)
        for step in engines.finish(now):
            left[step] -= 1
        if now == update_ends:
            num_updated, update_ends = num_updated + 1, float("inf")
    sampled = sum(length for step in steps for group in step for length in group)
    return Timeline(
        makespan=now,
        engines_idle=1 - engines.busy / (num_engines * now),
        slots_empty=1 - sampled / (num_engines * slots * now),
        trainer_idle=1 - len(steps) * update / now,
    )


class _Engines:
    """Slots that are idle or run a completion; idle ones take turns as engines that start together do."""

    def __init__(self, num_engines: int, slots: int) -> None:
        self.groups: deque[tuple[int, Sequence[float]]] = deque()
        self.busy = 0.0
        self._waiting: list[deque[tuple[int, float]]] = [deque() for _ in range(num_engines)]
        self._idle = [(slot, engine) for slot in range(slots) for engine in range(num_engines)]
        self._running: list[tuple[float, int, int, int]] = []
        self._num_running = [0] * num_engines
        self._began = [0.0] * num_engines

    @property
    def next_end(self) -> float:
        return self._running[0][0] if self._running else float("inf")

    def fill(self, now: float) -> None:
        """Let every idle slot take a completion that waits on its engine, or the first of a new group."""
        kept: list[tuple[int, int]] = []
        while self._idle and (self.groups or any(self._waiting)):
            slot, engine = heapq.heappop(self._idle)
            waiting = self._waiting[engine]
            if not waiting and self.groups:
                step, group = self.groups.popleft()
                waiting.extend((step, length) for length in group)
            if not waiting:
                kept.append((slot, engine))
                continue
            step, length = waiting.popleft()
            heapq.heappush(self._running, (now + length, slot, engine, step))
            if not self._num_running[engine]:
                self._began[engine] = now
            self._num_running[engine] += 1
        for each in kept:
            heapq.heappush(self._idle, each)

    def finish(self, now: float) -> list[int]:
        """Free the slots whose completion ends now; return the steps of these completions."""
        steps: list[int] = []
        while self._running and self._running[0][0] <= now:
            _, slot, engine, step = heapq.heappop(self._running)
            heapq.heappush(self._idle, (slot, engine))
            steps.append(step)
            self._num_running[engine] -= 1
            if not self._num_running[engine]:
                self.busy += now - self._began[engine]
        return steps


def read_finish_times(path: Path) -> dict[str, list[Step]]:
    """Read when the requests of recorded evaluations finished; each evaluation is a step.

    All requests of an evaluation were sent at its start, so when one finished is how long it took beside the others.
    A line is ``{"run": ..., "total": 30, "finished_at_s": [[0, 0], [1, 39], ...]}``, counts and seconds.

    Returns:
        The steps of each size, by name: ``30 requests``. Every request is a group.

    Raises:
        SettingError: If a line is something else.
    """
    found: dict[str, list[Step]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            record = json.loads(line)
            total, points = int(record["total"]), [(int(count), float(at)) for count, at in record["finished_at_s"]]
        except (ValueError, KeyError, TypeError) as error:
            raise SettingError(
                f"{path}:{number}: no finish times ({error}); a line is "
                '{"run": "name", "total": 30, "finished_at_s": [[1, 39], [2, 45], ...]}'
            ) from error
        counts = [0, *(count for count, _ in points)]
        ends = [at for (count, at), before in zip(points, counts, strict=False) for _ in range(count - before)]
        if len(ends) != total or not total or min(ends) < 0:
            raise SettingError(f"{path}:{number}: {len(ends)} of {total} requests finished; give runs that ended")
        found.setdefault(f"{total} requests", []).append([[end] for end in ends])
    return found


def drawn_steps(workload: Workload, num_steps: int) -> list[Step]:
    """Draw steps of a workload, with the groups first whose answers were longest at an earlier visit."""
    steps: list[Step] = []
    for seed in range(num_steps):
        now, earlier = draw_lengths(workload, np.random.default_rng(seed))
        expected: list[float] = earlier.mean(axis=1).tolist()
        steps.append([now[group].tolist() for group in longest_first(range(len(now)), expected.__getitem__)])
    return steps


def print_ahead(
    named_steps: Mapping[str, Sequence[Step]], *, update: float, num_engines: int = 1, slots: int | None = None
) -> None:
    """Print what sampling ahead saves.

    Args:
        named_steps: The steps of each run that is simulated, by the name of its row.
        update: How long an update takes, as a share of the mean time in which a step is sampled alone.
        num_engines: That share the groups.
        slots: Of each engine; by default as many as it takes to hold a whole step.
    """
    from rich.console import Console
    from rich.table import Table

    if not update > 0:
        raise SettingError(f"update is {update!r}; give how long an update takes for a step's sampling, above 0")
    table = Table(
        title=f"sampling ahead of updates that take {update:g} of a step's sampling",
        caption="time: of a step, divided by that without sampling ahead",
    )
    for heading in ("steps", "ahead", "time", "engines idle", "slots empty", "trainer idle"):
        table.add_column(heading, justify="right")
    for name, steps in named_steps.items():
        held = slots or fair_share(max(sum(map(len, step)) for step in steps), num_engines)
        engines = {"num_engines": num_engines, "slots": held}
        alone = fmean(run_ahead([step], ahead=0, update=0.0, **engines).makespan for step in steps)
        lines = [run_ahead(steps, ahead=ahead, update=update * alone, **engines) for ahead in AHEAD]
        for ahead, line in zip(AHEAD, lines, strict=True):
            shares = (line.engines_idle, line.slots_empty, line.trainer_idle)
            time = f"{line.makespan / lines[0].makespan:.3f}"
            table.add_row(f"{len(steps)} x {name}", str(ahead), time, *(f"{share:.1%}" for share in shares))
    Console().print(table)
