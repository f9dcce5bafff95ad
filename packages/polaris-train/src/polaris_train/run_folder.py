"""The folder of a run: what is where in it, and the small files that several modules read and write."""

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from polaris_data.files import write_json

from polaris_train.errors import RunFolderError
from polaris_train.recipe import ResolvedStage

_CHECKPOINT = re.compile(r"step-(\d{6})")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run: its stages, and the data and evaluations beside them."""

    path: Path
    """``runs/NAME``."""

    def stage(self, name: str) -> "StageFolder":
        """Return the folder of a stage."""
        return StageFolder(self.path / name)

    def visit_logs(self) -> list[Path]:
        """Return what every stage saw of its problems, the log that was written last at the end."""
        return sorted(self.path.glob("*/visits.jsonl"), key=lambda log: log.stat().st_mtime_ns)

    @property
    def data(self) -> Path:
        """Folder of the problems; a selection is written to it."""
        return self.path / "data"

    @property
    def problems(self) -> Path:
        """All training problems."""
        return self.data / "problems.jsonl"

    @property
    def held_out(self) -> Path:
        """Problems that nothing is trained on."""
        return self.data / "held-out.jsonl"

    @property
    def profile(self) -> Path:
        """How often each training problem was solved."""
        return self.data / "profile.jsonl"

    @property
    def selected(self) -> Path:
        """The training problems that were kept."""
        return self.data / "selected.jsonl"

    @property
    def decisions(self) -> Path:
        """Why each problem was kept or dropped."""
        return self.data / "decisions.json"

    def completions(self, name: str) -> Path:
        """Return the answers of an evaluation of that name."""
        return self.path / "eval" / name / "completions.jsonl"

    @property
    def demo(self) -> Path:
        """The settings that a demo claims the folder with."""
        return self.path / "demo.json"

    @property
    def summary(self) -> Path:
        """The figures of a demo."""
        return self.path / "summary.json"


@dataclass(frozen=True, slots=True)
class StageFolder:
    """A stage of a run."""

    path: Path
    """``runs/NAME/STAGE``."""

    @property
    def run(self) -> RunFolder:
        """The run that the stage belongs to."""
        return RunFolder(self.path.parent)

    @property
    def resolved(self) -> Path:
        """Every value that the stage uses."""
        return self.path / "resolved.json"

    def read_resolved(self) -> ResolvedStage:
        """Return every value that the stage uses."""
        return ResolvedStage.model_validate_json(self.resolved.read_text(encoding="utf-8"))

    @property
    def problems(self) -> Path:
        """What it trains on."""
        return self.path / "problems.jsonl"

    @property
    def incoming_problems(self) -> Path:
        """What it would train on, before the folder is known to be its own."""
        return self.path / "problems.jsonl.new"

    @property
    def metrics(self) -> Path:
        """A line a step, the same after any interruption."""
        return self.path / "metrics.jsonl"

    @property
    def performance(self) -> Path:
        """A line a step: what it cost."""
        return self.path / "performance.jsonl"

    @property
    def visits(self) -> Path:
        """What each step saw of each problem."""
        return self.path / "visits.jsonl"

    @property
    def logs(self) -> tuple[Path, ...]:
        """The files that grow with the steps."""
        return self.visits, self.metrics, self.performance

    def rollout(self, step: int) -> Path:
        """Return the graded completions of a step."""
        return self.path / "rollouts" / f"step-{step:06d}.parquet"

    @property
    def checkpoints(self) -> "Checkpoints":
        """Its resumable states."""
        return Checkpoints(self.path / "checkpoints")

    def require_checkpoints(self) -> None:
        """Refuse a folder without checkpoints.

        Raises:
            RunFolderError: If there is none.
        """
        if not self.checkpoints.steps():
            raise RunFolderError(f"{self.path} has no checkpoints; give the folder of a stage that has run, RUN/STAGE")

    @property
    def model(self) -> Path:
        """The result, a Hugging Face folder."""
        return self.path / "model"

    def evaluation_problems(self, name: str) -> Path:
        """Return the problems of an evaluation."""
        return self.path / "eval" / f"{name}.jsonl"

    def evaluation(self, step: int) -> Path:
        """Return the folder of the evaluation after a step, as polaris-eval writes it."""
        return self.path / "eval" / f"step-{step:06d}"

    def scores(self, step: int) -> Path:
        """Return what is there once the evaluation after a step is complete."""
        return self.evaluation(step) / "scores.json"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def wandb_id(self) -> Path:
        """The name under which W&B knows the stage."""
        return self.path / "wandb-id"

    def read_allowed_tokens(self) -> int | None:
        """Return what is left of the stage's micro-batches after memory ran out; ``None`` if it never did."""
        path = self._memory
        return json.loads(path.read_text(encoding="utf-8"))["microbatch_tokens"] if path.exists() else None

    def write_allowed_tokens(self, tokens: int) -> None:
        """Say how large the micro-batches of the next attempt may be."""
        write_json(self._memory, {"microbatch_tokens": tokens})

    @property
    def _memory(self) -> Path:
        return self.path / "memory.json"

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

    @property
    def partial(self) -> "CheckpointFolder":
        """Where it is while it is being written."""
        return CheckpointFolder(partial_path(self.path))

    @property
    def damaged(self) -> Path:
        """Where it is put when it is found damaged."""
        return self.path.with_name(f"{self.path.name}.damaged")

    @property
    def state(self) -> Path:
        """Everything small."""
        return self.path / "state.json"

    @property
    def manifest(self) -> Path:
        """Checksums of all other files."""
        return self.path / "manifest.json"

    @property
    def rescue(self) -> Path:
        """Answers for rescue."""
        return self.path / "rescue.pt"

    @property
    def older_rescue(self) -> Path:
        """Answers for rescue as earlier versions wrote them, in the form of rollouts."""
        return self.path / "rescue.parquet"

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
