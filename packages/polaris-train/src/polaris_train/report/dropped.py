"""Which problems a run left out, at which step and why, with examples."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from polaris_data import Problem

from polaris_train.report.document import Fold, Missing, Part, Table
from polaris_train.report.evidence import RunEvidence
from polaris_train.report.files import Reader, Record
from polaris_train.report.records import Selection

NUM_EXAMPLES = 4
"""Of each reason."""

MAX_CHARS = 200
"""Of a question."""

MAX_NAME_CHARS = 60
"""Of an id or a reference."""


class _Finding(Record):
    """A line about a problem; which fields it has depends on who wrote it."""

    problem_id: str = ""
    place: str = ""
    reason: str = ""
    finding: str = ""
    kind: str = ""
    question: str | None = None
    reference: str = ""
    benchmark: str = ""
    benchmark_id: str = ""
    is_refused: bool = True
    dropped: bool = True


class _Cluster(Record):
    kept: str | None
    members: list[dict[str, Any]]


def dropped_parts(run: RunEvidence, notes: list[str]) -> list[Part]:
    """Return what was left out, step by step; ``notes`` is told of lines that cannot be used."""
    reader = Reader(run.folder.path, notes)
    parts = [
        _fold("import: rows that are no problems", _findings(reader.lines(run.folder.set_aside, _Finding), run)),
        _fold(
            "check: references that cannot be graded", _findings(reader.lines(run.folder.check_findings, _Finding), run)
        ),
        _fold("dedup: problems that are there already", _copies(reader.lines(run.folder.clusters, _Cluster), run)),
        _fold(
            "decontaminate: problems of a benchmark", _findings(reader.lines(run.folder.contamination, _Finding), run)
        ),
        _fold("select: what the first model has mastered", _by_selection(run.selection, _solved_in_profile(run), run)),
    ]
    for before, stage in pairwise(run.reinforced):
        solved = _solved_in_visits(before.visits.visits if before.visits else [])
        parts.append(
            _fold(f"{stage.name}: what {before.name} has mastered", _by_selection(stage.selection, solved, run))
        )
    found: list[Part] = [part for part in parts if part]
    return found or [Missing("No step has left a problem out yet.")]


def _fold(heading: str, rows: Sequence[Sequence[str]]) -> Fold | None:
    """Return the examples of a step under the number of all that it left out."""
    if not rows:
        return None
    shown, seen = [], {}
    for row in rows:
        seen[row[1]] = seen.get(row[1], 0) + 1
        if seen[row[1]] <= NUM_EXAMPLES:
            shown.append(row)
    counts = (
        ", ".join(f"{count:,} {reason}" for reason, count in seen.items()) if len(seen) <= 4 else f"{len(seen)} reasons"
    )
    table = Table(("problem", "why", "seen", "question"), shown, words=("why", "seen", "question"))
    return Fold(f"{heading}: {len(rows):,} ({counts})", [table])


def _findings(lines: Sequence[_Finding], run: RunEvidence) -> list[list[str]]:
    return [
        [
            _cut(each.problem_id or each.place, MAX_NAME_CHARS),
            (each.reason or each.finding or each.kind).replace("_", " "),
            _cut(f"{each.benchmark}: {each.benchmark_id}" if each.benchmark else each.reference, MAX_NAME_CHARS),
            _cut(each.question, MAX_CHARS) if each.question else _question(run.questions, each.problem_id),
        ]
        for each in lines
        if each.is_refused and each.dropped
    ]


def _copies(clusters: Sequence[_Cluster], run: RunEvidence) -> list[list[str]]:
    return [
        [
            _cut(str(member.get("problem_id")), MAX_NAME_CHARS),
            str(member.get("kind") or "conflicting answers"),
            f"of {_cut(str(member.get('duplicate_of')), MAX_NAME_CHARS)}",
            _question(run.questions, str(member.get("problem_id"))),
        ]
        for cluster in clusters
        for member in cluster.members
        if member.get("problem_id") != cluster.kept
    ]


def _by_selection(selection: Selection | None, solved: Mapping[str, str], run: RunEvidence) -> list[list[str]]:
    return [
        [
            _cut(each.problem_id, MAX_NAME_CHARS),
            each.reason,
            solved.get(each.problem_id, ""),
            _question(run.questions, each.problem_id),
        ]
        for each in (selection.decisions if selection else [])
        if not each.kept
    ]


def _solved_in_profile(run: RunEvidence) -> dict[str, str]:
    return {each.problem_id: f"solved {each.num_correct}/{each.num_samples}" for each in run.profile}


def _solved_in_visits(visits: Sequence[Any]) -> dict[str, str]:
    counts: dict[str, tuple[int, int]] = {}
    for each in visits:
        correct, samples = counts.get(each.problem_id, (0, 0))
        counts[each.problem_id] = (correct + each.num_correct, samples + each.num_samples)
    return {name: f"solved {correct}/{samples}" for name, (correct, samples) in counts.items()}


def _question(questions: Mapping[str, Problem], name: str) -> str:
    return _cut(questions[name].question, MAX_CHARS) if name in questions else ""


def _cut(text: str, max_chars: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= max_chars else f"{text[:max_chars]}…"
