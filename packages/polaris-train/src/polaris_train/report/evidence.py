"""What a run folder says about the run: decisions, measurements, costs; whatever is not there yet is ``None``."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from polaris_data import DataError, Difficulty, Problem, VisitLog, read_problems, read_profile, read_visits
from polaris_eval import ScoresFileError
from polaris_eval.scores import Scores, read_scores
from pydantic import ValidationError

from polaris_train.errors import RunFolderError
from polaris_train.recipe import Recipe, Stage
from polaris_train.recipe.sft import SftStage, Supervised
from polaris_train.recipe.tables import Distillation
from polaris_train.report.files import Reader
from polaris_train.report.lineage import TracesEvidence, read_traces
from polaris_train.report.records import (
    Event,
    Finding,
    HeldOut,
    Manifest,
    Outcome,
    Selection,
    SetAside,
    SftMetrics,
    StepLine,
    StepMetrics,
    StepPerformance,
    TemperatureSearch,
)
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import RunFolder, StageFolder

EVALUATIONS = {"start": "first model", "final": "last model", "yarn": "last model, YaRN"}
"""What each evaluation of a run is of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEvidence:
    """What is known about a stage."""

    folder: StageFolder
    """Its place."""

    resolved: ResolvedStage | None
    """Every value it uses; ``None`` before it started."""

    planned: Stage | SftStage | None
    """As the recipe has it; ``None`` where its steps were typed."""

    traces: TracesEvidence | None
    """What it learns from and whence that is; ``None`` where it learns from its own answers."""

    selection: Selection | None
    """What the stage before had mastered."""

    curriculum: Selection | None
    """What it takes of the problems that are left for it, and which have a hint."""

    temperature: TemperatureSearch | None
    """How its temperature was found."""

    outcome: Outcome | None
    """Why it ended and what it hands on."""

    metrics: list[StepMetrics]
    """Of each step, where it learns from its own answers."""

    learned: list[SftMetrics]
    """Of each step, where it learns from traces."""

    performance: list[StepPerformance]
    """Of each step."""

    held_out: Mapping[str, list[HeldOut]]
    """By set of problems, what the policy reached after which step."""

    visits: VisitLog | None
    """What it saw of each problem."""

    @property
    def name(self) -> str:
        """Of the stage."""
        return self.folder.path.name

    @property
    def steps(self) -> Sequence[StepLine]:
        """What is known of each step, however it learns."""
        return self.learned or self.metrics

    @property
    def distillation(self) -> Distillation | None:
        """Its teacher, where it has one and has started."""
        return self.resolved.distillation if self.resolved and self.traces is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """What is known about a run."""

    folder: RunFolder
    """Its place."""

    recipe: Recipe | None
    """What it is a run of; ``None`` where its steps were typed."""

    manifests: Mapping[str, Manifest]
    """By step of the recipe."""

    events: list[Event]
    """Oldest first."""

    counts: Mapping[str, int | None]
    """Problems after each step of preparing them."""

    set_aside: Mapping[str, Mapping[str, int]]
    """By the step that did, ``import`` or ``check``: how many rows or problems for which reason."""

    profile: list[Difficulty]
    """How often each problem was solved at the start."""

    selection: Selection | None
    """Which problems the first model learns from."""

    questions: Mapping[str, Problem]
    """Problems of the run by id, as far as they are there."""

    stages: list[StageEvidence]
    """In the order of the recipe; those to come are empty."""

    evaluations: Mapping[str, Scores]
    """Of the first model, the last, and with YaRN."""

    notes: list[str]
    """What could not be used."""

    @property
    def name(self) -> str:
        """Of the run."""
        return self.folder.path.resolve().name

    @property
    def reinforced(self) -> list[StageEvidence]:
        """The stages that learn from their own answers: only between these is dropped what has been mastered."""
        return [stage for stage in self.stages if stage.traces is None]

    @property
    def model(self) -> str | None:
        """What it starts from."""
        if self.recipe:
            return self.recipe.model
        return next((stage.resolved.model for stage in self.stages if stage.resolved), None)


def read_run(path: Path) -> RunEvidence:
    """Read everything that a run folder holds.

    Raises:
        RunFolderError: If it is no run.
    """
    folder, reader = RunFolder(path), Reader(path)
    _refuse_other_folders(folder)
    recipe = reader.attempt(
        folder.recipe, lambda: Recipe.model_validate_json(folder.recipe.read_bytes()), ValidationError
    )
    planned = {stage.name: stage for stage in recipe.stages} if recipe else {}
    names = [*planned, *(name for name in _started_stages(folder) if name not in planned)]
    stages = [_read_stage(folder.stage(name), planned.get(name), reader) for name in names]
    return RunEvidence(
        folder=folder,
        recipe=recipe,
        manifests=_read_manifests(folder, reader),
        events=reader.lines(folder.events, Event),
        counts=_count_problems(folder, reader),
        set_aside={
            "import": Counter(each.reason for path in folder.rows_set_aside() for each in reader.lines(path, SetAside)),
            "check": Counter(each.finding for each in reader.lines(folder.check_findings, Finding)),
        },
        profile=reader.attempt(folder.profile, lambda: read_profile(folder.profile), DataError) or [],
        selection=reader.document(folder.decisions, Selection),
        questions=_read_questions(folder, stages, reader),
        stages=stages,
        evaluations=_read_evaluations(folder, reader),
        notes=reader.notes,
    )


def _refuse_other_folders(folder: RunFolder) -> None:
    path = folder.path
    if not path.is_dir():
        raise RunFolderError(
            f"no folder {str(path)!r}; give a run, as `polaris run` or `polaris-train stage` writes it"
        )
    if StageFolder(path).resolved.exists():
        raise RunFolderError(f"{path} is a stage; give the run that it belongs to: {path.parent}")
    if not (folder.recipe.exists() or _started_stages(folder) or folder.decisions.exists()):
        raise RunFolderError(
            f"{path} is no run: it has neither recipe.json nor a stage with a resolved.json; give the folder that "
            "`polaris run` or `polaris-train stage` wrote"
        )


def _started_stages(folder: RunFolder) -> list[str]:
    """Return the stages that have a folder, stage 2 before stage 10."""
    names = [path.parent.name for path in folder.path.glob(f"*/{StageFolder(folder.path).resolved.name}")]
    return sorted(
        names, key=lambda name: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
    )


def _read_stage(folder: StageFolder, planned: Stage | SftStage | None, reader: Reader) -> StageEvidence:
    resolved = reader.attempt(folder.resolved, folder.read_resolved, ValidationError)
    supervised: Supervised | None = resolved.sft if resolved else planned if isinstance(planned, SftStage) else None
    learned = reader.lines(folder.metrics, SftMetrics) if supervised else []
    metrics = [] if supervised else reader.lines(folder.metrics, StepMetrics)
    return StageEvidence(
        folder=folder,
        resolved=resolved,
        planned=planned,
        traces=read_traces(folder, supervised.traces, reader) if supervised else None,
        selection=reader.document(folder.decisions, Selection),
        curriculum=reader.document(folder.curriculum, Selection),
        temperature=reader.document(folder.temperature, TemperatureSearch),
        outcome=reader.document(folder.outcome, Outcome),
        metrics=metrics,
        learned=learned,
        performance=reader.lines(folder.performance, StepPerformance),
        held_out=_held_out(folder, learned or metrics, reader),
        visits=reader.attempt(folder.visits, lambda: read_visits([folder.visits]), DataError),
    )


def _held_out(folder: StageFolder, metrics: Sequence[StepLine], reader: Reader) -> dict[str, list[HeldOut]]:
    """Return what the policy reached: before the first step from its scores, later from the steps' own lines."""
    found: dict[str, list[HeldOut]] = {}
    if scores := reader.attempt(folder.scores(0), lambda: read_scores(folder.scores(0)), ScoresFileError):
        for each in scores.evaluations:
            score = each.score("mean@k")
            found[each.benchmark] = [HeldOut(step=0, value=score.value, interval=score.interval)]
    for line in metrics:
        for name, figures in line.evaluations.items():
            value = next((value for key, value in figures.items() if key.startswith("mean@")), None)
            if value is not None and {"low", "high"} <= figures.keys():
                interval = figures["low"], figures["high"]
                found.setdefault(name, []).append(HeldOut(step=line.step, value=value, interval=interval))
    return found


def _read_manifests(folder: RunFolder, reader: Reader) -> dict[str, Manifest]:
    manifests = [manifest for path in folder.manifests() if (manifest := reader.document(path, Manifest))]
    return {each.step: each for each in sorted(manifests, key=lambda each: (each.started or "", each.step))}


def _count_problems(folder: RunFolder, reader: Reader) -> dict[str, int | None]:
    files = {
        "imported": folder.imported,
        "checked": folder.checked,
        "dedup": folder.deduplicated,
        "clean": folder.decontaminated,
        "train": folder.training,
        "held-out": folder.held_out,
        "selected": folder.selected,
    }
    return {name: reader.count(path) for name, path in files.items()}


def _read_questions(folder: RunFolder, stages: list[StageEvidence], reader: Reader) -> dict[str, Problem]:
    paths = [folder.imported, folder.training, *(stage.folder.problems for stage in stages)]
    sets = [reader.attempt(path, lambda path=path: read_problems(str(path)), DataError) or [] for path in paths]
    return {problem.problem_id: problem for problems in sets for problem in problems}


def _read_evaluations(folder: RunFolder, reader: Reader) -> dict[str, Scores]:
    found: dict[str, Scores] = {}
    for name in EVALUATIONS:
        path = folder.scores(name)
        if scores := reader.attempt(path, lambda path=path: read_scores(path), ScoresFileError):
            found[name] = scores
    return found
