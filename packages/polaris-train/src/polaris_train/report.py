"""What a running stage shows: a live table in a terminal, a line a step in a log."""

import sys
from collections import deque
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

SHOWN_STEPS = 12

_COLUMNS = (
    "step",
    "reward",
    "informative",
    "truncated",
    "tokens",
    "entropy",
    "loss",
    "grad norm",
    "gap",
    "s",
)


class StepTable:
    """The newest steps of a stage, on stderr."""

    def __init__(self, title: str, *, num_steps: int) -> None:
        self._title = title
        self._num_steps = num_steps
        self._rows: deque[tuple[str, ...]] = deque(maxlen=SHOWN_STEPS)
        self._seconds: deque[float] = deque(maxlen=SHOWN_STEPS)
        console = Console(stderr=True)
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def add(self, metrics: dict[str, Any], performance: dict[str, Any]) -> None:
        """Show one more step.

        Args:
            metrics: The step's line of ``metrics.jsonl``.
            performance: The step's line of ``performance.jsonl``.
        """
        seconds = sum(performance["seconds"].values())
        self._rows.append((*_cells(metrics), f"{seconds:.1f}"))
        self._seconds.append(seconds)
        left = sum(self._seconds) / len(self._seconds) * (self._num_steps - metrics["step"])
        heading = f"{self._title}  step {metrics['step']}/{self._num_steps}  {_clock(left)} left"
        if self._live is None:
            cells = "  ".join(f"{name} {cell}" for name, cell in zip(_COLUMNS[1:], self._rows[-1][1:], strict=True))
            print(f"{heading}  {cells}", file=sys.stderr, flush=True)
            return
        table = Table(title=heading, title_justify="left")
        for name in _COLUMNS:
            table.add_column(name, justify="right")
        for row in self._rows:
            table.add_row(*row)
        self._live.update(table, refresh=True)


def _cells(metrics: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(metrics["step"]),
        f"{metrics['reward']:.3f}",
        f"{metrics['informative_share']:.0%}",
        f"{metrics['truncated_share']:.1%}",
        f"{metrics['mean_tokens']:.0f}",
        _number(metrics["entropy"], ".3f"),
        _number(metrics["loss"], "+.4f"),
        _number(metrics["grad_norm"], ".3f"),
        _number(metrics["logprob_gap_max"], ".1e"),
    )


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
