"""What a run is doing, from its folder alone: while it runs, from another terminal, or afterwards."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from polaris_train.controller.manifest import read_manifest
from polaris_train.controller.step import Request, Step
from polaris_train.controller.steps import plan_steps
from polaris_train.errors import RunFolderError
from polaris_train.recipe import Recipe, Stage
from polaris_train.recipe.sft import SftStage
from polaris_train.run_folder import RunFolder, StageFolder, partial_path, read_records
from polaris_train.stage.stopping import expected_steps

_WINDOW = 12
"""Newest training steps that the time left is told from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepStatus:
    """Where one step of a run stands."""

    name: str

    meaning: str

    state: str
    """``done``, ``running``, ``stopped`` (begun, and nobody runs it) or ``to do``."""

    seconds: float | None = None
    """That it took, or has taken until now."""

    told: str = ""
    """How far it is, and what is wrong with it."""


def read_status(folder: RunFolder) -> list[StepStatus]:
    """Return where each step of a run stands.

    Raises:
        RunFolderError: If the folder is of no run.
    """
    request = read_request(folder)
    running, begun_at = is_running(folder), _begun_at(folder)
    found: list[StepStatus] = []
    for step in plan_steps(request):
        if done := read_manifest(folder.manifest(step.name)):
            found.append(
                StepStatus(name=step.name, meaning=step.meaning, state="done", seconds=done.get("seconds", 0.0))
            )
        elif folder.begun(step.name).exists():
            since = begun_at.get(step.name)
            seconds = None if since is None else (datetime.now(UTC) - since).total_seconds()
            state = "running" if running else "stopped"
            told = "; ".join(_progress(step, request, seconds))
            found.append(StepStatus(name=step.name, meaning=step.meaning, state=state, seconds=seconds, told=told))
        else:
            found.append(StepStatus(name=step.name, meaning=step.meaning, state="to do"))
    return found


def describe_status(folder: RunFolder) -> str:
    """Return one line about the run and one for each step."""
    steps = read_status(folder)
    try:
        held: dict[str, Any] = json.loads(folder.holder.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        held = {}
    num_done = sum(step.state == "done" for step in steps)
    if is_running(folder):
        now = f"running as process {held.get('pid')} on {held.get('host')}, since {held.get('since')}"
    else:
        now = "finished" if num_done == len(steps) else "not running: 'polaris run' continues it"
    lines = [f"{folder.path}: {num_done} of {len(steps)} steps done, {now}"]
    for step in steps:
        clock = "" if step.seconds is None else _clock(step.seconds)
        lines.append(f"  {step.state:8}{clock:>10}  {step.name:22}{step.told or step.meaning}")
    return "\n".join(lines)


def read_request(folder: RunFolder) -> Request:
    """Return what a run is of.

    Raises:
        RunFolderError: If the folder is of no run.
    """
    try:
        recipe = Recipe.model_validate_json(folder.recipe.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(
            f"{folder.path} is not the folder of a run: it has no {folder.recipe.name}; give the --out of 'polaris run'"
        ) from None
    except ValueError as error:
        raise RunFolderError(f"{folder.recipe} is damaged ({error}); 'polaris run' writes it again") from None
    return Request(recipe=recipe, argument=recipe.name, overrides=(), folder=folder)


def is_running(folder: RunFolder) -> bool:
    """Whether a controller holds the run."""
    try:
        with folder.locked():
            return False
    except RunFolderError:
        return True


def _begun_at(folder: RunFolder) -> dict[str, datetime]:
    """Return when each step was last started."""
    return {
        each["step"]: datetime.fromisoformat(each["time"])
        for each in read_records(folder.events)
        if each["event"] == "started"
    }


def _progress(step: Step, request: Request, seconds: float | None) -> Iterator[str]:
    """Say how far a step is; nothing of those that take seconds."""
    kind = step.name.partition(".")[2] or step.name
    if kind == "train":
        yield from _training(step, request)
    elif step.name == "profile":
        yield from _counted(
            _count_lines(request.folder.profile), _count_lines(request.folder.training), "problems", seconds
        )
    elif step.name.startswith("evaluate."):
        answered = sum(map(_count_lines, request.folder.completions(kind)))
        yield f"{answered:,} problems answered"


def _training(step: Step, request: Request) -> Iterator[str]:
    name = step.name.rpartition(".")[0]
    folder, stage = request.folder.stage(name), request.recipe.stage(name)
    yield from _sign_of_life(folder)
    metrics, costs = read_records(folder.metrics), read_records(folder.performance)
    most = None if isinstance(stage, SftStage) else stage.max_sampled_tokens
    steps = folder.read_resolved().steps if isinstance(stage, SftStage) and folder.resolved.exists() else None
    steps = stage.steps if isinstance(stage, Stage) else steps
    if not metrics or not costs or steps is None:
        yield "traces are encoded" if steps is None else f"step 0 of {steps}"
        return
    seconds = median(sum(each["seconds"].values()) for each in costs[-_WINDOW:])
    now, sampled = metrics[-1]["step"], sum(each.get("sampled_tokens", 0) for each in metrics)
    last = expected_steps(now, sampled, steps=steps, max_sampled_tokens=most)
    left = _clock(seconds * (last - now))
    name = "reward" if "reward" in metrics[-1] else "loss"
    value = metrics[-1][name]
    yield f"step {now} of {last}, {name} {'-' if value is None else f'{value:.3f}'}, at most {left} left"
    lines = sorted([*metrics, *costs], key=lambda each: each["step"])
    alarms = [(each["step"], alarm) for each in lines for alarm in each.get("alarms", ())]
    if alarms:
        yield f"last alarm at step {alarms[-1][0]}: {alarms[-1][1]}"


def _sign_of_life(folder: StageFolder) -> Iterator[str]:
    """Say what the last of the ranks is doing and when the ranks last spoke; nothing where none runs."""
    try:
        said = json.loads(folder.heartbeat.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return
    last = min(said["ranks"], key=lambda each: each["entered"])
    of = f" on rank {last['rank']}, the last of {len(said['ranks'])}" if len(said["ranks"]) > 1 else ""
    age = (datetime.now(UTC) - datetime.fromisoformat(said["time"])).total_seconds()
    yield f"{last['phase']}{of} for {_clock(last['seconds'])}, last sign of life {_clock(max(age, 0.0))} ago"


def _counted(done: int, total: int, what: str, seconds: float | None) -> Iterator[str]:
    left = f", about {_clock(seconds / done * (total - done))} left" if seconds and done else ""
    yield f"{done:,} of {total:,} {what}{left}"


def _count_lines(path: Path) -> int:
    """Count the records of a file, or of what it is called while it grows."""
    path = path if path.exists() else partial_path(path)
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 86400:.1f} days"
