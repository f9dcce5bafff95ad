"""Doing the steps of a recipe, each once; whatever is killed, the same command continues."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from polaris_data.files import append_records, write_json
from rich.console import Console

from polaris_train.controller.inputs import missing_inputs
from polaris_train.controller.manifest import StepState, fingerprint, step_states, write_manifest
from polaris_train.controller.nodes import Leader, follow, read_nodes
from polaris_train.controller.step import Request, Step
from polaris_train.controller.steps import plan_steps
from polaris_train.errors import RecipeError, RunFolderError
from polaris_train.run_folder import RunFolder
from polaris_train.stage.launch import die_with_parent


def run_recipe(request: Request, *, redo: bool = False, until: str | None = None) -> int:
    """Do the steps of a recipe that are not done; return the exit code of the first that failed, or 0.

    On several nodes this is called on each: the first does the steps, the others train with it (see `Nodes`).

    Args:
        request: The recipe and the run folder.
        redo: Put aside what was made with other settings, and do it again.
        until: Name of a step: what comes before it is done.

    Raises:
        RunFolderError: If the folder is of another recipe or in use, or something would have to be done again and
            ``redo`` does not allow it.
        RecipeError: If an input is missing, or no step has the name ``until``.
        NodesError: If the nodes do not meet, or this is not the first and the first has gone.
    """
    nodes = read_nodes()
    if nodes is None:
        return _lead(request, None, redo=redo, until=until)
    if nodes.rank:
        return follow(nodes)
    with Leader(nodes) as leader:
        leader.exit_code = _lead(request, leader, redo=redo, until=until)
        return leader.exit_code


def _lead(request: Request, leader: Leader | None, *, redo: bool, until: str | None) -> int:
    folder = request.folder
    _refuse_other_recipe(request)
    steps = plan_steps(request)
    _refuse_unknown(until, steps)
    if missing := missing_inputs(request, steps):
        raise RecipeError("\n".join(missing))
    with folder.locked():
        _introduce(folder)
        _settle(step_states(steps, folder), folder, redo=redo)
        write_json(folder.recipe, request.recipe.model_dump(mode="json"))
        for number, step in enumerate(steps, 1):
            if step.name == until:
                break
            (*_, now) = step_states(steps[:number], folder)
            if now.state == "done":
                continue
            if now.state == "waiting":
                absent = next((path for path in step.inputs if not path.exists()), step.inputs[0])
                raise RunFolderError(f"step {step.name} needs {absent}, which is not there; put it back")
            heading = f"[{number}/{len(steps)}] {step.name}: {step.meaning}"
            if leader is None or step.trains is None:
                code = _do(step, folder, heading=heading)
            elif not (code := _run([*step.argv, "--prepare-only"], stdout=subprocess.DEVNULL)):
                with leader.training(step.trains):
                    code = _do(step, folder, heading=heading)
            if code:
                return code
    return 0


def describe_changes(states: Sequence[StepState]) -> str:
    """Say which steps would have to be done again, and why."""
    lines = [
        f"  {each.step.name}: {'; '.join(each.changes)}" for each in states if each.state in ("changed", "extended")
    ]
    after = [each.step.name for each in states if each.state == "behind"]
    return "\n".join(lines) + (f"\n  and what was made from it: {', '.join(after)}" if after else "")


def _refuse_unknown(name: str | None, steps: Sequence[Step]) -> None:
    names = [step.name for step in steps]
    if name is not None and name not in names:
        raise RecipeError(f"--until: the recipe has no step {name!r}; its steps are {', '.join(names)}")


def _settle(states: Sequence[StepState], folder: RunFolder, *, redo: bool) -> None:
    """Refuse to do anything again without leave, or put aside what is out of date."""
    outdated = [each for each in states if each.state in ("changed", "behind", "extended")]
    if not outdated:
        return
    if not redo:
        raise RunFolderError(
            f"{folder.path} was made with other settings:\n{describe_changes(states)}\nNothing was changed. Give "
            "--redo to put these results aside and make them again, take the change back, or give another --out"
        )
    place = folder.superseded / str(1 + len(list(folder.superseded.glob("*"))))
    for each in outdated:
        _say(f"put aside: {each.step.name}" if each.state != "extended" else f"to be continued: {each.step.name}")
        _put_aside(each, folder, place)
        _record(folder, "superseded", each.step, {"changes": list(each.changes)})


def _put_aside(each: StepState, folder: RunFolder, place: Path) -> None:
    """Move a step's results; of one that continues, only what says that it is done.

    The manifests go first: without them nothing counts as done, wherever this is cut short.
    """
    step = each.step
    results = () if each.state == "extended" else (*step.owns, *step.outputs)
    for pattern in (folder.manifest(step.name), folder.begun(step.name), *results):
        for path in sorted(folder.path.glob(str(pattern.relative_to(folder.path)))):
            target = place / path.relative_to(folder.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)


def _do(step: Step, folder: RunFolder, *, heading: str) -> int:
    """Give one command; return its exit code, or 0 once its outputs are there and its manifest is written."""
    began, clock = _now(), time.monotonic()
    record = {"step": step.name, "argv": list(step.argv), "fingerprint": fingerprint(step, folder)}
    write_manifest(folder.begun(step.name), record)
    _record(folder, "started", step)
    _say(f"\n{heading}")
    Console(stderr=True).print(f"$ {step.line}", style="dim", highlight=False, markup=False, soft_wrap=True)
    if code := _run(step.argv):
        _record(folder, "failed", step, {"exit_code": code})
        _say(
            f"{step.name} ended with exit code {code}. Everything that was finished is kept: see the lines above, and "
            "give the same command again"
        )
        return code
    if absent := [str(path) for path in step.outputs if not path.exists()]:
        raise RunFolderError(f"step {step.name} ended well but left no {', '.join(absent)}; please report this")
    seconds = round(time.monotonic() - clock, 1)
    write_manifest(folder.manifest(step.name), record | {"started": began, "finished": _now(), "seconds": seconds})
    folder.begun(step.name).unlink(missing_ok=True)
    _record(folder, "finished", step, {"seconds": seconds})
    return 0


def _run(argv: Sequence[str], *, stdout: int | None = None) -> int:
    """Run a command of ours in this environment; a signal that ends this process ends it too.

    Ctrl-C reaches the command from the terminal: it is waited for, so that it can end in order.
    """
    module, *arguments = argv
    command = [sys.executable, "-m", module.replace("-", "_"), *arguments]
    if module == "polaris":
        command = [sys.executable, "-m", "polaris_train.cli.polaris", *arguments]
    child = subprocess.Popen(command, stdout=stdout, preexec_fn=die_with_parent)

    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    before = signal.signal(signal.SIGTERM, forward)
    try:
        while True:
            try:
                code = child.wait()
            except KeyboardInterrupt:
                continue
            return code if code >= 0 else 128 - code
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse_other_recipe(request: Request) -> None:
    path = request.folder.recipe
    if not path.exists():
        return  # What commands that were typed by hand left is refused by the commands if it is not their own.
    name = json.loads(path.read_text(encoding="utf-8")).get("name")
    if name != request.recipe.name:
        raise RunFolderError(
            f"{request.folder.path} is a run of the recipe {name!r}, not of {request.recipe.name!r}; give another --out"
        )


def _introduce(folder: RunFolder) -> None:
    write_json(folder.holder, {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()})


def _record(folder: RunFolder, event: str, step: Step, more: dict[str, object] | None = None) -> None:
    append_records(folder.events, [{"time": _now(), "event": event, "step": step.name, **(more or {})}])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _say(line: str) -> None:
    Console(stderr=True).print(line, style="bold", highlight=False, markup=False, soft_wrap=True)
