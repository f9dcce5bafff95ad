"""Where metrics are sent besides the run folder: W&B and TensorBoard, through accelerate."""

import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from accelerate import tracking
from accelerate.state import PartialState
from polaris_data.journal import write_text

from polaris_train.recipe import ResolvedStage, Tracker


class Trackers:
    """The trackers of a stage, on rank 0."""

    def __init__(self, config: ResolvedStage, folder: Path, stack: ExitStack) -> None:
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


def _start(name: Tracker, config: ResolvedStage, folder: Path) -> Any:
    if name == "wandb":
        tracker: Any = tracking.WandBTracker(
            config.run, name=f"{config.run}/{config.stage}", id=_run_id(folder), resume="allow", dir=str(folder)
        )
    else:
        tracker = tracking.TensorBoardTracker(config.stage, logging_dir=str(folder / "tensorboard"))
    tracker.start()
    return tracker


def _run_id(folder: Path) -> str:
    """Return the name under which W&B knows this folder's run, made up when it first starts."""
    path = folder / "wandb-id"
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
