"""Where a step's numbers go besides the run folder.

A live table in a terminal, a line a step in a log, and the trackers of the recipe: W&B and TensorBoard.
"""

import secrets
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from accelerate import tracking
from accelerate.state import PartialState
from polaris_data.files import write_text
from rich.console import Console
from rich.live import Live
from rich.table import Table

from polaris_train.recipe import Tracker
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.stopping import expected_steps

SHOWN_STEPS = 12

COLUMNS = ("step", "reward", "informative", "truncated", "tokens", "entropy", "loss", "grad norm", "gap", "s")


class StepTable:
    """The newest steps of a stage, on stderr."""

    def __init__(
        self,
        title: str,
        *,
        num_steps: int,
        max_tokens: int | None = None,
        sampled_tokens: int = 0,
        columns: Sequence[str] = COLUMNS,
        cells: Callable[[dict[str, Any]], tuple[str, ...]] | None = None,
    ) -> None:
        """Show nothing yet.

        Args:
            title: Names the stage.
            num_steps: Of the stage.
            max_tokens: That the stage samples, where they end it.
            sampled_tokens: Of steps that were done before.
            columns: What is shown of a step; the first is its number, the last its seconds.
            cells: Gives all but the last from a line of ``metrics.jsonl``; by default of reinforcement learning.
        """
        self._columns = columns
        self._cells = cells or _cells
        self._title = title
        self._num_steps = num_steps
        self._max_tokens = max_tokens
        self._sampled_tokens = sampled_tokens
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
        self._rows.append((*self._cells(metrics), f"{seconds:.1f}"))
        self._seconds.append(seconds)
        step = metrics["step"]
        self._sampled_tokens += metrics.get("sampled_tokens", 0)
        last = expected_steps(step, self._sampled_tokens, steps=self._num_steps, max_sampled_tokens=self._max_tokens)
        left = sum(self._seconds) / len(self._seconds) * (last - step)
        heading = f"{self._title}  step {step}/{last}  {_clock(left)} left"
        if self._live is None:
            cells = "  ".join(
                f"{name} {cell}" for name, cell in zip(self._columns[1:], self._rows[-1][1:], strict=True)
            )
            print(f"{heading}  {cells}", file=sys.stderr, flush=True)
            return
        table = Table(title=heading, title_justify="left")
        for name in self._columns:
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
        number(metrics["entropy"], ".3f"),
        number(metrics["loss"], "+.4f"),
        number(metrics["grad_norm"], ".3f"),
        number(metrics["logprob_gap_max"], ".1e"),
    )


def number(value: float | None, form: str) -> str:
    """Return a number as a cell."""
    return "-" if value is None else format(value, form)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


class Trackers:
    """The trackers of a stage, on rank 0."""

    def __init__(self, config: ResolvedStage, folder: StageFolder, stack: ExitStack) -> None:
        """Start what ``config.trackers`` names; a continued stage goes on in the same run.

        Args:
            config: Of the stage.
            folder: Of the stage.
            stack: Ends the trackers.
        """
        if config.trackers:
            PartialState()  # accelerate's trackers ask it which process is the main one
        self._trackers: list[Any] = [_start(name, config, folder) for name in config.trackers]
        for each in self._trackers:
            each.store_init_configuration(_flat(config.model_dump(mode="json")))
            stack.callback(each.finish)

    def log(self, record: Mapping[str, Any]) -> None:
        """Send the numbers of a step's record."""
        numbers = {name: value for name, value in _flat(record).items() if isinstance(value, int | float)}
        for each in self._trackers:
            each.log(numbers, step=record["step"])


def _start(name: Tracker, config: ResolvedStage, folder: StageFolder) -> Any:
    if name == "wandb":
        tracker: Any = tracking.WandBTracker(
            config.run,
            name=f"{config.run}/{config.stage}",
            id=_run_id(folder.wandb_id),
            resume="allow",
            dir=str(folder.path),
        )
    else:
        tracker = tracking.TensorBoardTracker(config.stage, logging_dir=str(folder.tensorboard))
    tracker.start()
    return tracker


def _run_id(path: Path) -> str:
    """Return the name under which W&B knows the stage, made up when it first starts."""
    if not path.exists():
        write_text(path, secrets.token_hex(8))
    return path.read_text(encoding="utf-8")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under joined names; lists as text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}/")
        else:
            flat[f"{prefix}{name}"] = str(value) if isinstance(value, Sequence) else value
    return flat
