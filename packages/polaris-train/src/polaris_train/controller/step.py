"""One step of a recipe, and what the commands of several steps have in common."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polaris_train.recipe import Recipe
from polaris_train.resolved import FREE_FIELDS
from polaris_train.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One command of a run."""

    name: str
    """``profile``, ``stage-1.train``; names its manifest."""

    meaning: str
    """What it is for, in a few words."""

    argv: tuple[str, ...]
    """The command, as it is typed."""

    inputs: tuple[Path, ...] = ()
    """Files and model folders that earlier steps or the user made, and that decide what comes out."""

    outputs: tuple[Path, ...]
    """What is there when it is done."""

    owns: tuple[Path, ...] = ()
    """What else it writes, as glob patterns; put aside with its outputs when they are out of date."""

    recipe: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The part of the recipe that the command reads itself."""

    trains: Path | None = None
    """Folder of the stage that it trains, with all nodes of the run."""

    free: tuple[str, ...] = ()
    """Words of the command that decide nothing: the recipe's name, what stands in `recipe` already."""

    extending: frozenset[str] = frozenset()
    """Names in `recipe` that may change without beginning anew: the command continues what is there."""

    @property
    def line(self) -> str:
        """The command for a shell."""
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: a recipe as it was named on the command line, and where it is to run."""

    recipe: Recipe
    argument: str
    """The recipe's file or name."""

    overrides: tuple[str, ...]
    """Of ``--set``."""

    folder: RunFolder


def deciding(constants: dict[str, Any]) -> dict[str, Any]:
    """Leave out what alters nothing that a stage computes."""
    kept = {name: value for name, value in constants.items() if name not in FREE_FIELDS}
    return kept if kept.get("engine") else {name: value for name, value in kept.items() if name != "engine"}


def model_input(model: str, folder: RunFolder) -> tuple[Path, ...]:
    """Return the model where its files decide what comes out; of a Hub id there is only the name, in the command."""
    path = Path(model)
    return (path,) if path.is_relative_to(folder.path) or path.is_dir() or "/" not in model else ()


def beside(path: Path) -> tuple[Path, ...]:
    """Return a pattern of the files that belong to one: its settings, what was set aside, its lock."""
    return (path.with_name(f"{path.stem}.*"),)
