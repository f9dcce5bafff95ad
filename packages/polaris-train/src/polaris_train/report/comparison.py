"""Two runs on one page: what differs in their recipes, and what came of it, paired."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from polaris_eval.scores import Comparison, compare_scores, flat

from polaris_train.report.costs import duration, phase_costs, sampled_tokens
from polaris_train.report.decisions import recipe_steps
from polaris_train.report.document import Missing, Part, Pictures, Section, Table, Text, Warning, write_document
from polaris_train.report.evaluations import difference_parts, difference_pictures, protocol_hashes, protocol_notes
from polaris_train.report.evidence import EVALUATIONS, RunEvidence, read_run
from polaris_train.report.page import signal_parts
from polaris_train.report.panels import draw_both

_MISSING = "–"


def write_comparison(first: Path, second: Path, out: Path, *, common: bool = False) -> tuple[Path, Path]:
    """Write a page and Markdown about two runs: the same bytes for the same folders.

    Args:
        first: Folder of run A.
        second: Folder of run B.
        out: The page.
        common: Compare the problems that both evaluations have where one has more; else that is refused.

    Returns:
        The page and the Markdown.

    Raises:
        RunFolderError: If a folder is no run.
        MixedProblemsError: If an evaluation that both have is of other problems.
    """
    runs = read_run(first), read_run(second)
    both = [stage for run in runs for stage in run.stages]
    names = [f"{letter} {stage.name}" for letter, run in zip("AB", runs, strict=True) for stage in run.stages]
    phases = phase_costs(both, names)
    panels = draw_both(*runs)
    sections = [
        Section("recipe", "Recipe", _recipe_parts(*runs)),
        Section("evaluation", "Evaluation", _evaluation_parts(*runs, common=common)),
        Section(
            "training", "Training", [Pictures(panels)] if panels else [Missing("Neither has finished a step yet.")]
        ),
        Section("decisions", "Decisions", [_decisions(*runs)]),
        Section("signal", "Signal", signal_parts(both, names)),
        Section("costs", "Time and tokens", [_costs(*runs), *([phases] if phases else [])]),
    ]
    lead = [f"{letter}: {run.name}, starting from {run.model or '?'}" for letter, run in zip("AB", runs, strict=True)]
    lead += [
        f"{letter}: protocol of the evaluations: {', '.join(hashes)}"
        for letter, run in zip("AB", runs, strict=True)
        if (hashes := protocol_hashes(run))
    ]
    return out, write_document(out, f"Runs {runs[0].name} and {runs[1].name}", lead, sections)


def _recipe_parts(first: RunEvidence, second: RunEvidence) -> list[Part]:
    notes: list[Part] = [
        Warning(f"{letter}: {note}") for letter, run in (("A", first), ("B", second)) for note in run.notes
    ]
    one, other = _fields(first), _fields(second)
    rows = [
        (key, str(one.get(key, _MISSING)), str(other.get(key, _MISSING)))
        for key in dict.fromkeys([*one, *other])
        if one.get(key, _MISSING) != other.get(key, _MISSING)
    ]
    if not rows:
        return [*notes, Text("Both follow the same recipe.")]
    return [*notes, Table(("field that differs", "A", "B"), rows, words=("A", "B"))]


def _fields(run: RunEvidence) -> dict[str, Any]:
    """Return the values of a run's recipe by dotted path; where there is none, what its stages resolved."""
    if run.recipe:
        values = run.recipe.model_dump(mode="json")
        stages = values.pop("stages")
        return dict(flat({**values, "stages": {str(number): stage for number, stage in enumerate(stages)}}))
    return dict(flat({stage.name: stage.resolved.model_dump(mode="json") for stage in run.stages if stage.resolved}))


def _evaluation_parts(first: RunEvidence, second: RunEvidence, *, common: bool) -> list[Part]:
    differences: dict[tuple[str, str, str], list[Comparison]] = {}
    parts: list[Part] = []
    for name, words in EVALUATIONS.items():
        if name in first.evaluations and name in second.evaluations:
            one, other = first.evaluations[name], second.evaluations[name]
            differences[f"{words}, B − A", "A", "B"] = compare_scores(one, other, common=common)
            parts += protocol_notes(words, one, other)
        elif name in first.evaluations or name in second.evaluations:
            has, lacks = ("A", "B") if name in first.evaluations else ("B", "A")
            parts.append(Missing(f"{words}: {has} has an evaluation, {lacks} not yet."))
    if not differences:
        return [*parts, Missing("There is no evaluation that both have.")]
    return [*difference_parts(differences), Pictures(difference_pictures(differences)), *parts]


def _decisions(first: RunEvidence, second: RunEvidence) -> Table:
    runs = [{step.name: step.result or step.state for step in recipe_steps(run)} for run in (first, second)]
    rows = [(name, *(run.get(name, _MISSING) for run in runs)) for name in dict.fromkeys([*runs[0], *runs[1]])]
    return Table(("step", "A", "B"), rows, words=("A", "B"))


def _costs(first: RunEvidence, second: RunEvidence) -> Table:
    tokens = [sampled_tokens(run) for run in (first, second)]
    keys = list(
        dict.fromkeys(
            key for run, known in zip((first, second), tokens, strict=True) for key in [*run.manifests, *known]
        )
    )
    rows = [
        [
            key,
            *(_seconds(run, [key]) for run in (first, second)),
            *(f"{known[key]:,}" if key in known else "" for known in tokens),
        ]
        for key in keys
    ]
    total = [
        "all",
        *(_seconds(run, keys) for run in (first, second)),
        *(f"{sum(known.values()):,}" for known in tokens),
    ]
    return Table(("step", "time A", "time B", "tokens A", "tokens B"), [*rows, total])


def _seconds(run: RunEvidence, keys: Sequence[str]) -> str:
    seconds = [each.seconds for key, each in run.manifests.items() if key in keys and each.seconds is not None]
    return duration(sum(seconds)) if seconds else ""
