"""The reasons of a run: each decision with the evidence that its step left behind."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from polaris_data.selection import tell_history
from polaris_eval import Evaluation
from polaris_eval.scores import Comparison, Scores, compare_scores, read_scores
from polaris_rollout.temperature import quantity_of
from pydantic import ValidationError

from polaris_train.controller.status import read_request
from polaris_train.controller.step import Request
from polaris_train.errors import RunFolderError
from polaris_train.recipe.sft import OWN_TRACES
from polaris_train.report.files import Reader
from polaris_train.report.lineage import read_traces, tell_teacher, tell_traces
from polaris_train.run_folder import RunFolder, StageFolder, read_records


@dataclass(frozen=True, slots=True, kw_only=True)
class Reasons:
    """What was decided at one point of a run."""

    title: str

    lines: tuple[str, ...]
    """Sentences with figures."""

    evidence: Path
    """The file to look at."""


def explain_run(folder: RunFolder, subject: str | None = None) -> list[Reasons]:
    """Return the decisions of a run, of one of its stages, or about one problem; what is not decided yet is left out.

    Args:
        folder: Of a run.
        subject: Name of a stage, or id of a problem.

    Raises:
        RunFolderError: If the folder is of no run.
        DataError: If there is no such stage and no such problem.
    """
    request = read_request(folder)
    names = [stage.name for stage in request.recipe.stages]
    if subject is not None and subject not in names:
        chapters = tell_history(subject, [folder.path])
        return [
            Reasons(title=f"{each.path}  ({each.kind})", lines=each.lines or ("not in this set",), evidence=each.path)
            for each in chapters
        ]
    chosen = names if subject is None else [subject]
    found = [] if subject else [*_about_data(folder)]
    for name in chosen:
        found += _about_stage(name, folder.stage(name))
    return found if subject else [*found, *_about_evaluations(request)]


def describe_reasons(reasons: Sequence[Reasons]) -> str:
    """Return the reasons as text."""
    return "\n\n".join("\n".join((each.title, *(f"  {line}" for line in each.lines))) for each in reasons)


def _about_data(folder: RunFolder) -> Iterator[Reasons]:
    if folder.imported.exists():
        aside = Counter(each["reason"] for path in folder.rows_set_aside() for each in read_records(path))
        lines = (f"{_count(folder.imported):,} problems were read", *_counts("set aside", aside))
        yield Reasons(title="import", lines=lines, evidence=folder.imported)
    if folder.checked.exists():
        lost = _count(folder.imported) - _count(folder.checked)
        yield Reasons(
            title="check",
            lines=(f"{lost:,} problems have a reference that the grader cannot read, or a prompt that is too long",),
            evidence=folder.checked,
        )
    for title, place in (("dedup", folder.deduplicated), ("decontaminate", folder.decontaminated)):
        if (path := folder.counts(place)).exists():
            counts: dict[str, Any] = _read(path)
            kept = counts.pop("kept")
            others = {name: count for name, count in counts.items() if count and not name.startswith("num_")}
            yield Reasons(
                title=title, lines=(f"{kept:,} problems are kept", *_counts("dropped", others)), evidence=path
            )
    if folder.training.exists():
        line = f"{_count(folder.held_out):,} problems are held out, {_count(folder.training):,} are left to train on"
        yield Reasons(title="split", lines=(line,), evidence=folder.training)
    yield from _about_selection("select", folder.decisions)


def _about_stage(name: str, stage: StageFolder) -> Iterator[Reasons]:
    yield from _about_selection(f"{name}: problems", stage.decisions)
    yield from _about_selection(f"{name}: curriculum", stage.curriculum)
    yield from _about_teachers(name, stage)
    if stage.temperature.exists():
        found = _read(stage.temperature)
        diversity, quantity = found["diversity"], quantity_of((found.get("measure") or {}).get("name"))
        lines = (
            f"temperature {found['temperature']:g}: {found['reason']}",
            f"{quantity} there {diversity['value']:.3f} [{diversity['low']:.3f}, {diversity['high']:.3f}]",
        )
        yield Reasons(title=f"{name}: temperature", lines=lines, evidence=stage.temperature)
    if stage.outcome.exists():
        found = _read(stage.outcome)
        lines = (found["stopped"]["sentence"], found["chosen"]["sentence"])
        yield Reasons(title=f"{name}: end", lines=lines, evidence=stage.outcome)


def _about_teachers(name: str, stage: StageFolder) -> Iterator[Reasons]:
    """Yield what a stage learns from besides problems: its traces, and what they did to the loss, or its teacher."""
    reader = Reader(stage.run.path)
    resolved = reader.attempt(stage.resolved, stage.read_resolved, ValidationError)
    made = next((path for path in (stage.sequences_made, stage.traces_counts) if path.exists()), None)
    if made is not None:
        source = resolved.sft.traces if resolved and resolved.sft else OWN_TRACES
        lines = [*tell_traces(read_traces(stage, source, reader)), *reader.notes]
        yield Reasons(title=f"{name}: traces", lines=tuple(lines), evidence=made)
    if resolved and resolved.distillation and not resolved.sft:
        yield Reasons(title=f"{name}: teacher", lines=(tell_teacher(resolved.distillation),), evidence=stage.resolved)


def _about_selection(title: str, path: Path) -> Iterator[Reasons]:
    if not path.exists():
        return
    found = _read(path)
    lines = [f"{found['num_kept']:,} of {found['num_problems']:,} problems are kept"]
    lines += [f"{count:,}: {reason}" for reason, count in found["reasons"].items()]
    for when in ("before", "after"):
        if shape := found.get(when):
            lines.append(
                f"{when}: shape {shape['shape']}, mean accuracy {shape['mean_accuracy']:.3f}, never solved "
                f"{shape['never']:.0%}, always {shape['always']:.0%}"
            )
    yield Reasons(title=title, lines=tuple(lines), evidence=path)


def _about_evaluations(request: Request) -> Iterator[Reasons]:
    found: dict[str, Scores] = {}
    for name in ("start", "final", "yarn"):
        place = request.folder.scores(name)
        if not place.exists():
            continue
        found[name] = read_scores(place)
        before = found.get({"final": "start", "yarn": "final"}.get(name, ""))
        lines = [_score(each) for each in found[name].evaluations]
        lines += [] if before is None else [_difference(each) for each in compare_scores(before, found[name])]
        yield Reasons(title=f"evaluate: {name}", lines=tuple(lines), evidence=place)


def _score(evaluation: Evaluation) -> str:
    score = evaluation.score("mean@k")
    low, high = score.interval
    return f"{evaluation.benchmark} mean@{score.k} {100 * score.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _difference(comparison: Comparison) -> str:
    low, high = comparison.difference.interval
    change = f"{100 * comparison.difference.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"{comparison.benchmark}: {change} to the one before, paired by problem"


def _counts(word: str, counts: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each count; what stands apart in a table of its own is of problems that are close and kept."""
    for reason, count in counts.items():
        if isinstance(count, Mapping):
            yield from _counts("close and kept", cast("Mapping[str, Any]", count))
        elif count:
            yield f"{count:,} {word}: {reason}"


def _count(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunFolderError(f"{path} is damaged ({error}); remove it and give 'polaris run' again") from None
