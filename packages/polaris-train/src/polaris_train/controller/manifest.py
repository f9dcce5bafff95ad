"""What proves that a step is done: the settings, inputs and versions that it was done with.

A step is done when its outputs are there and its manifest says the same as would be said of it now. What differs is
named; nothing is guessed from times.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from polaris_data.files import write_json
from polaris_rollout import model_digest, resolve_model

from polaris_train.controller.step import Step
from polaris_train.errors import RunFolderError
from polaris_train.run_folder import RunFolder

State = Literal["done", "next", "waiting", "changed", "extended", "behind"]
"""Done; can be done now; an input is not there yet; done or begun with other settings or inputs; likewise, but its
command continues what is there; done or begun, but after a step that has changed."""

_PACKAGES = ("polaris-data", "polaris-eval", "polaris-reward", "polaris-rollout", "polaris-train")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepState:
    """Where a step of a run stands."""

    step: Step
    state: State
    changes: tuple[str, ...] = ()
    """What differs from what it was done with."""


def step_states(steps: Sequence[Step], folder: RunFolder) -> list[StepState]:
    """Return where each step stands.

    Raises:
        RunFolderError: If a manifest was changed by hand or is damaged.
    """
    found: list[StepState] = []
    outdated: set[Path] = set()
    pending: set[Path] = set()
    for step in steps:
        manifest = read_manifest(folder.manifest(step.name))
        begun = manifest or read_manifest(folder.begun(step.name))
        changes = () if begun is None else _changes(begun["fingerprint"], _settings(step, folder))
        state: State
        if changes:
            state = "extended" if _extends(changes, step) else "changed"
        elif _among(step.inputs, outdated):
            state = "behind" if begun else "waiting"
        elif _among(step.inputs, pending) or not all(_is_there(path) for path in step.inputs):
            state = "waiting"
        elif begun and (changes := _changed_inputs(begun["fingerprint"], _inputs(step, folder))):
            state = "changed"
        else:
            state = "done" if manifest and all(path.exists() for path in step.outputs) else "next"
        if state in ("changed", "extended", "behind"):
            outdated |= {*step.outputs}
        elif state != "done":
            pending |= {*step.outputs}
        found.append(StepState(step=step, state=state, changes=tuple(line for _, line in changes)))
    return found


def fingerprint(step: Step, folder: RunFolder) -> dict[str, Any]:
    """Return everything that decides what a step gives, in a form that JSON keeps; the run folder may be moved."""
    return _settings(step, folder) | {"inputs": _inputs(step, folder)}


def write_manifest(path: Path, record: dict[str, Any]) -> None:
    """Write a manifest with a checksum of itself."""
    write_json(path, record | {"checksum": _checksum(record)})


def read_manifest(path: Path) -> dict[str, Any] | None:
    """Return a manifest; ``None`` where there is none.

    Raises:
        RunFolderError: If it was changed by hand or is damaged.
    """
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        intact = record.pop("checksum") == _checksum(record)
    except (ValueError, KeyError, AttributeError):
        intact, record = False, {}
    if not intact:
        raise RunFolderError(
            f"{path} was changed by hand or is damaged, so it proves nothing; remove it, and the step's command is "
            "given again, which keeps what it finds"
        )
    return record


def _checksum(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]


def _settings(step: Step, folder: RunFolder) -> dict[str, Any]:
    root, free = str(folder.path), [*step.free]
    words: list[str] = []
    for word in step.argv:
        if word in free:
            free.remove(word)
        else:
            words.append("RUN" + word[len(root) :] if word == root or word.startswith(f"{root}/") else word)
    versions = {name: version(name) for name in _PACKAGES if step.recipe or name == step.argv[0]}
    return json.loads(json.dumps({"command": words, "recipe": dict(step.recipe), "versions": versions}))


def _inputs(step: Step, folder: RunFolder) -> dict[str, str]:
    inside = folder.path
    return {
        f"RUN/{path.relative_to(inside)}" if path.is_relative_to(inside) else str(path): _digest(path)
        for path in step.inputs
    }


_Changes = tuple[tuple[str, str], ...]
"""Each with a name and a line that says what changed."""


def _changes(before: dict[str, Any], now: dict[str, Any]) -> _Changes:
    """Say what differs between the settings of two fingerprints."""
    old = before["versions"] | _flat(before["recipe"]) | _options(before["command"])
    new = now["versions"] | _flat(now["recipe"]) | _options(now["command"])
    differing = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return tuple((name, f"{name} was {_short(old.get(name))}, is {_short(new.get(name))}") for name in differing)


def _changed_inputs(before: dict[str, Any], now: dict[str, str]) -> _Changes:
    return tuple((name, f"{name} is not what it was") for name in now if before["inputs"].get(name) != now[name])


def _extends(changes: _Changes, step: Step) -> bool:
    return {name for name, _ in changes} <= step.extending


def _options(words: Sequence[str]) -> dict[str, str]:
    """Return the values that each option of a command has, and its arguments under a name of their own."""
    found: dict[str, list[str]] = {}
    name = "what the command is given"
    for word in words:
        if word.startswith("--"):
            name = word
        found.setdefault(name, []).append(word)
    return {name: " ".join(values[1:]) or "set" for name, values in found.items()}


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in recipe.items():
        flat |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def _short(value: Any, most: int = 60) -> str:
    text = "not given" if value is None else str(value)
    return text if len(text) <= most else f"{text[:most]}..."


def _among(paths: Iterable[Path], others: set[Path]) -> bool:
    """Whether one of the paths is one of the others or lies in one."""
    return any(path in others or any(above in others for above in path.parents) for path in paths)


def _is_there(path: Path) -> bool:
    return path.exists() or _is_carried(path)


_ABSENT = "absent"


def _digest(path: Path) -> str:
    """Return a fingerprint of a file or of a model."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    model = resolve_model(str(path)) if _is_carried(path) else str(path)
    return model_digest(model) or _ABSENT


def _is_carried(path: Path) -> bool:
    """Whether this is a model that an installed package carries."""
    return len(path.parts) == 1 and not path.exists() and path.name in carried_models()


def carried_models() -> set[str]:
    """Return the names of models that installed packages carry."""
    from importlib.metadata import entry_points

    return {entry.name for entry in entry_points(group="polaris_rollout.models")}
