"""The folder of a run: what is where in it, and the small files that several modules read and write."""

import json
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from polaris_data.files import write_json

from polaris_train.errors import RunFolderError
from polaris_train.resolved import ResolvedStage

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

    recipe = _Place("recipe.json")
    """The recipe that the run is of, every default filled in."""

    events = _Place("events.jsonl")
    """When each step was started, finished, failed or put aside."""

    servers = _Place("servers.txt")
    """Addresses of the servers of a launched job, as long as it runs."""

    holder = _Place("controller.json")
    """The process that runs the recipe, or did last."""

    imported = _Place("data", "imported.jsonl")
    """All problems, as they were read."""

    checked = _Place("data", "checked.jsonl")
    """Those whose answers can be graded."""

    set_aside = _Place("data", "imported.jsonl.set-aside.jsonl")
    """Rows that are no problems."""

    check_findings = _Place("data", "checked.jsonl.findings.jsonl")
    """What is wrong with those that cannot be graded."""

    deduplicated = _Place("data", "dedup", "problems.jsonl")
    """One of each cluster of near-duplicates."""

    clusters = _Place("data", "dedup", "clusters.jsonl")
    """Which problems are the same."""

    decontaminated = _Place("data", "clean", "problems.jsonl")
    """What no benchmark asks."""

    contamination = _Place("data", "clean", "findings.jsonl")
    """What has something in common with a benchmark."""

    training = _Place("data", "split", "train.jsonl")
    """The problems to train on, before any selection."""

    held_out = _Place("data", "split", "held-out.jsonl")
    """Problems that nothing is trained on."""

    profile = _Place("data", "profile.jsonl")
    """How often each training problem was solved."""

    selected = _Place("data", "selection", "selected.jsonl")
    """The training problems that were kept."""

    decisions = _Place("data", "selection", "decisions.json")
    """Why each problem was kept or dropped."""

    report = _Place("report.html")
    """The page about the run; Markdown beside it has the same stem."""

    release = _Place("release")
    """The model as others take it."""

    superseded = _Place("superseded")
    """Folder of what was made with other settings and put aside."""

    def part(self, number: int) -> Path:
        """Return the problems of one source of several, counted from 1."""
        return self.path / "data" / "import" / f"{number}.jsonl"

    def benchmark(self, name: str) -> Path:
        """Return the problems of a benchmark that has a name."""
        return self.path / "data" / "benchmarks" / f"{name}.jsonl"

    def evaluation(self, name: str) -> Path:
        """Return the folder of an evaluation, as polaris-eval writes it."""
        return self.path / "eval" / name

    def manifest(self, step: str) -> Path:
        """Return what says that a step is done, and from what."""
        return self.path / "steps" / f"{step}.json"

    def begun(self, step: str) -> Path:
        """Return what says from what a step was begun."""
        return self.path / "steps" / f"{step}.begun.json"

    @contextmanager
    def locked(self) -> Generator[None]:
        """Keep a second controller out while the block runs.

        Raises:
            RunFolderError: If another process holds the run.
        """
        with _locked(self.path / ".lock", self._refusal):
            yield

    def _refusal(self) -> str:
        try:
            held = json.loads(self.holder.read_text(encoding="utf-8"))
            who = f"process {held['pid']} on {held['host']}, since {held['since']}"
        except (OSError, ValueError, KeyError):
            who = "another process"
        return f"{self.path} is being run by {who}; wait for it or stop it ('polaris status {self.path}' looks on)"

    def stage(self, name: str) -> "StageFolder":
        """Return the folder of a stage."""
        return StageFolder(self.path / name)

    def rows_set_aside(self) -> list[Path]:
        """Return the files of rows that are no problems, one for each source that had such."""
        return sorted(self.imported.parent.glob("**/*.set-aside.jsonl"))

    def counts(self, problems: Path) -> Path:
        """Return how many problems were dropped for which reason, beside those that were kept."""
        return problems.with_name("counts.json")

    def completions(self, evaluation: str) -> list[Path]:
        """Return the answers of an evaluation, finished or growing, a file for each benchmark."""
        return sorted(self.evaluation(evaluation).glob("*/completions.jsonl*"))

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

    traces = _Place("traces.jsonl")
    """What a stage of supervised fine-tuning learns from, where the run itself makes it."""

    traces_counts = _Place("traces.jsonl.counts.json")
    """What became of the answers that these were chosen from."""

    sequences = _Place("sequences.arrow")
    """The tokens that it learns from."""

    sequences_made = _Place("sequences.json")
    """What they were made from, and how many."""

    traces_set_aside = _Place("traces.set-aside.jsonl")
    """Traces that it cannot learn from, and why."""

    selected = _Place("selection", "selected.jsonl")
    """What was kept of it."""

    decisions = _Place("selection", "decisions.json")
    """Why each problem was kept or dropped."""

    curriculum = _Place("curriculum", "decisions.json")
    """Why each problem that was left for it is in or out, or has a hint."""

    temperature = _Place("temperature.json")
    """What the temperature search found and why, as ``polaris-rollout temperature`` writes it."""

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

    heartbeat = _Place("heartbeat.json")
    """While it is trained: where every rank is, and when that was written."""

    stalled = _Place("stalled")
    """Folder of what every rank left when nothing moved any more: stacks, and torch's record of collectives."""

    consensus = _Place("consensus.json")
    """What right answers to each problem have underlined, when the stage has ended (CORE)."""

    first_consensus = _Place("consensus-before.json")
    """The same of the stage before, or of the profile, which this one begins with."""

    weights = _Place("weights")
    """Folder of the newest weights on their way to servers, as long as the stage runs."""

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

    def stacks(self, rank: int) -> Path:
        """Return where a rank leaves the stacks of its threads when nothing moves any more."""
        return self.stalled / f"stacks-{rank}.txt"

    def collectives(self, rank: int) -> Path:
        """Return where it leaves torch's record of its collectives then."""
        return self.stalled / f"collectives-{rank}"

    @property
    def checkpoints(self) -> "Checkpoints":
        """Its resumable states."""
        return Checkpoints(self.path / "checkpoints")

    @property
    def rescue(self) -> "StepFiles":
        """The answers for rescue of each step."""
        return StepFiles(self.path / "rescue")

    @property
    def temperature_files(self) -> tuple[Path, ...]:
        """All that the temperature search writes, as glob patterns."""
        return self.path / "temperature.*", self.path / "probes*"

    @property
    def traces_files(self) -> Path:
        """All that is written with the traces, as a glob pattern."""
        return self.traces.with_suffix(".*")

    @property
    def training_files(self) -> tuple[Path, ...]:
        """All that training writes, as glob patterns."""
        learned = (self.sequences, self.sequences_made, self.traces_set_aside, self.consensus, self.first_consensus)
        single = (self.resolved, self.problems, *self.logs, self.model, self.outcome, self.wandb_id, self._memory)
        folders = ("rollouts", "capsules", "eval", "checkpoints", "tensorboard", "curriculum")
        passing = (self.rescue.path, self.weights, self.heartbeat, self.stalled)
        return *learned, *single, *(self.path / name for name in folders), *passing

    def rollout(self, step: int) -> Path:
        """Return the graded completions of a step."""
        return self.path / "rollouts" / f"step-{step:06d}.parquet"

    def capsule(self, step: int) -> Path:
        """Return what is recorded of a step."""
        return self.path / "capsules" / f"step-{step:06d}.parquet"

    def capsule_steps(self) -> list[int]:
        """Return the steps that are recorded, oldest first."""
        return _steps(self.path / "capsules")

    def rollout_steps(self) -> list[int]:
        """Return the steps whose completions are on disk, oldest first."""
        return _steps(self.path / "rollouts")

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

    def read_outcome(self) -> dict[str, Any]:
        """Return why a stage that has ended did, and which weights were chosen."""
        return json.loads(self.outcome.read_text(encoding="utf-8"))

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
        with _locked(self.path / ".lock", lambda: f"{self.path} is in use by another run; wait for it or stop it"):
            yield


@dataclass(frozen=True, slots=True)
class StepFiles:
    """A folder with a file of completions for each of some steps."""

    path: Path
    """``runs/NAME/STAGE/rescue``."""

    def step(self, step: int) -> Path:
        """Return the file of a step."""
        return self.path / f"step-{step:06d}.parquet"

    def steps(self) -> list[int]:
        """Return the steps that have a file, oldest first."""
        return _steps(self.path)


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

    consensus = _Place("consensus.json")
    """What right answers to each problem have underlined (CORE)."""

    rescue = _Place("rescue.json")
    """Which step sampled the answer for rescue of each problem."""

    pickled_rescue = _Place("rescue.pt")
    """The answers for rescue themselves, as an earlier version wrote them."""

    older_rescue = _Place("rescue.parquet")
    """The same, as versions before that wrote them, in the form of rollouts."""

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


def _steps(folder: Path) -> list[int]:
    """Return the steps that have a file of completions in a folder, oldest first."""
    matches = [_ROLLOUT.fullmatch(path.name) for path in folder.glob("step-*.parquet")]
    return sorted(int(match[1]) for match in matches if match)


@contextmanager
def _locked(path: Path, refusal: Callable[[], str]) -> Generator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise RunFolderError(refusal()) from None
    try:
        yield
    finally:
        lock.release()


def partial_path(folder: Path) -> Path:
    """Return the name that a folder has until it is whole."""
    return folder.with_name(f"{folder.name}.partial")


def origin(model: Path) -> Path:
    """Return the file of an exported model that says which run, stage and step it comes from."""
    return model / "trained.json"


def adapter(model: Path) -> Path:
    """Return the folder of a model's adapters alone, where it was trained with some."""
    return model / "adapter"


def read_records(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of JSON lines, none where there is no file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
