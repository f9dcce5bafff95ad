"""The folder of a run: what is where in it, and the small files that several modules read and write."""

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from polaris_data.files import write_json

from polaris_train.errors import RunFolderError
from polaris_train.recipe import ResolvedStage

_ROLLOUT = re.compile(r"step-(\d{6})\.parquet")
_CHECKPOINT = re.compile(r"step-(\d{6})")


class _Folder(Protocol):
    @property
    def path(self) -> Path: ...


class _Place:
    """What is inside a folder under a name that never changes."""

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __get__(self, folder: _Folder, owner: type) -> Path:
        return folder.path.joinpath(*self._parts)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run: its stages, and the data and evaluations beside them."""

    path: Path
    """``runs/NAME``."""

    data = _Place("data")
    """Folder of the problems; a selection is written to it."""

    problems = _Place("data", "problems.jsonl")
    """All training problems."""

    held_out = _Place("data", "held-out.jsonl")
    """Problems that nothing is trained on."""

    profile = _Place("data", "profile.jsonl")
    """How often each training problem was solved."""

    selected = _Place("data", "selected.jsonl")
    """The training problems that were kept."""

    decisions = _Place("data", "decisions.json")
    """Why each problem was kept or dropped."""

    demo = _Place("demo.json")
    """The settings that a demo claims the folder with."""

    summary = _Place("summary.json")
    """The figures of a demo."""

    recipe = _Place("recipe.json")
    """The recipe that the run is of, every default filled in."""

    events = _Place("events.jsonl")
    """A line for each start and end of a step of the recipe."""

    imported = _Place("data", "imported.jsonl")
    """The problems of all sources."""

    set_aside = _Place("data", "imported.jsonl.set-aside.jsonl")
    """Rows that are no problems."""

    checked = _Place("data", "checked.jsonl")
    """Problems whose references can be graded."""

    check_findings = _Place("data", "checked.jsonl.findings.jsonl")
    """What is wrong with the others."""

    deduplicated = _Place("data", "dedup", "problems.jsonl")
    """Without duplicates."""

    clusters = _Place("data", "dedup", "clusters.jsonl")
    """Which problems are the same."""

    decontaminated = _Place("data", "clean", "problems.jsonl")
    """Without those that are in a benchmark."""

    contamination = _Place("data", "clean", "findings.jsonl")
    """What has something in common with a benchmark."""

    split_training = _Place("data", "split", "train.jsonl")
    """Problems that may be trained on."""

    split_held_out = _Place("data", "split", "held-out.jsonl")
    """Problems that nothing is trained on, in a run that `polaris run` made."""

    report = _Place("report.html")
    """The page about the run; Markdown beside it has the same stem."""

    def stage(self, name: str) -> "StageFolder":
        """Return the folder of a stage."""
        return StageFolder(self.path / name)

    def completions(self, evaluation: str) -> Path:
        """Return the answers of an evaluation."""
        return self.path / "eval" / evaluation / "completions.jsonl"

    def evaluation(self, name: str) -> Path:
        """Return the folder of an evaluation, as polaris-eval writes it: of the first model, the last, with YaRN."""
        return self.path / "eval" / name

    def scores(self, name: str) -> Path:
        """Return what is there once an evaluation is complete."""
        return self.evaluation(name) / "scores.json"

    def manifests(self) -> list[Path]:
        """Return the manifests of the steps of the recipe that are finished, by name."""
        return sorted(path for path in self.path.glob("steps/*.json") if not path.name.endswith(".begun.json"))

    def visit_logs(self) -> list[Path]:
        """Return what every stage saw of its problems, the log that was written last at the end."""
        return sorted(self.path.glob("*/visits.jsonl"), key=lambda log: log.stat().st_mtime_ns)


@dataclass(frozen=True, slots=True)
class StageFolder:
    """A stage of a run."""

    path: Path
    """``runs/NAME/STAGE``."""

    resolved = _Place("resolved.json")
    """Every value that the stage uses."""

    problems = _Place("problems.jsonl")
    """What it trains on."""

    temperature = _Place("temperature.json")
    """What the temperature search found and why, as ``polaris-rollout temperature`` writes it."""

    decisions = _Place("selection", "decisions.json")
    """Which problems the stage before has mastered."""

    incoming_problems = _Place("problems.jsonl.new")
    """What it would train on, before the folder is known to be its own."""

    metrics = _Place("metrics.jsonl")
    """A line a step, the same after any interruption."""

    performance = _Place("performance.jsonl")
    """A line a step: what it cost."""

    visits = _Place("visits.jsonl")
    """What each step saw of each problem."""

    model = _Place("model")
    """The result, a Hugging Face folder."""

    outcome = _Place("outcome.json")
    """Why the stage ended and which weights were chosen; written last, so what it says is there."""

    tensorboard = _Place("tensorboard")
    """Folder of TensorBoard's event files."""

    wandb_id = _Place("wandb-id")
    """The name under which W&B knows the stage."""

    _memory = _Place("memory.json")

    @property
    def run(self) -> RunFolder:
        """The run that the stage belongs to."""
        return RunFolder(self.path.parent)

    @property
    def logs(self) -> tuple[Path, ...]:
        """The files that grow with the steps."""
        return self.visits, self.metrics, self.performance

    @property
    def checkpoints(self) -> "Checkpoints":
        """Its resumable states."""
        return Checkpoints(self.path / "checkpoints")

    def rollout(self, step: int) -> Path:
        """Return the graded completions of a step."""
        return self.path / "rollouts" / f"step-{step:06d}.parquet"

    def rollout_steps(self) -> list[int]:
        """Return the steps whose completions are on disk, oldest first."""
        matches = [_ROLLOUT.fullmatch(path.name) for path in self.path.glob("rollouts/step-*.parquet")]
        return sorted(int(match[1]) for match in matches if match)

    def evaluation_problems(self, name: str) -> Path:
        """Return the problems of an evaluation."""
        return self.path / "eval" / f"{name}.jsonl"

    def evaluation(self, step: int) -> Path:
        """Return the folder of the evaluation after a step, as polaris-eval writes it."""
        return self.path / "eval" / f"step-{step:06d}"

    def scores(self, step: int) -> Path:
        """Return what is there once the evaluation after a step is complete."""
        return self.evaluation(step) / "scores.json"

    def read_resolved(self) -> ResolvedStage:
        """Return every value that the stage uses."""
        return ResolvedStage.model_validate_json(self.resolved.read_text(encoding="utf-8"))

    def read_allowed_tokens(self) -> int | None:
        """Return what is left of the stage's micro-batches after memory ran out; ``None`` if it never did."""
        if not self._memory.exists():
            return None
        return json.loads(self._memory.read_text(encoding="utf-8"))["microbatch_tokens"]

    def write_allowed_tokens(self, tokens: int) -> None:
        """Say how large the micro-batches of the next attempt may be."""
        write_json(self._memory, {"microbatch_tokens": tokens})

    def require_checkpoints(self) -> None:
        """Refuse a folder without checkpoints.

        Raises:
            RunFolderError: If there is none.
        """
        if not self.checkpoints.steps():
            raise RunFolderError(f"{self.path} has no checkpoints; give the folder of a stage that has run, RUN/STAGE")

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep a second run out of the folder while the block runs; a process that dies keeps nobody out.

        Raises:
            RunFolderError: If another process holds the folder.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise RunFolderError(f"{self.path} is in use by another run; wait for it or stop it") from None
        try:
            yield
        finally:
            lock.release()


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The resumable states of a stage."""

    path: Path
    """``runs/NAME/STAGE/checkpoints``."""

    def step(self, step: int) -> "CheckpointFolder":
        """Return the state after a step."""
        return CheckpointFolder(self.path / f"step-{step:06d}")

    def steps(self) -> list[int]:
        """Return the steps of the complete states, oldest first."""
        matches = [_CHECKPOINT.fullmatch(path.name) for path in self.path.glob("step-*")]
        return sorted(int(match[1]) for match in matches if match)

    def unfinished(self) -> list[Path]:
        """Return the folders of states that a kill cut short."""
        return list(self.path.glob("*.partial"))


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """One resumable state; the files of torch.distributed.checkpoint lie beside those named here."""

    path: Path
    """``checkpoints/step-000010``."""

    state = _Place("state.json")
    """Everything small."""

    manifest = _Place("manifest.json")
    """Checksums of all other files."""

    rescue = _Place("rescue.pt")
    """Answers for rescue."""

    older_rescue = _Place("rescue.parquet")
    """Answers for rescue as earlier versions wrote them, in the form of rollouts."""

    @property
    def partial(self) -> "CheckpointFolder":
        """Where it is while it is being written."""
        return CheckpointFolder(partial_path(self.path))

    @property
    def damaged(self) -> Path:
        """Where it is put when it is found damaged."""
        return self.path.with_name(f"{self.path.name}.damaged")

    def random(self, rank: int) -> Path:
        """Return the random state of a rank."""
        return self.path / f"random-{rank:05d}.pt"


def partial_path(folder: Path) -> Path:
    """Return the name that a folder has until it is whole."""
    return folder.with_name(f"{folder.name}.partial")


def origin(model: Path) -> Path:
    """Return the file of an exported model that says which run, stage and step it comes from."""
    return model / "trained.json"


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
