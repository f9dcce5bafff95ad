"""Two evaluations of the same problems beside each other: accuracy by length, and under smaller token budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from polaris_data.view import svg_part, table_part, text_part, warning_part, write_page

from polaris_eval.records import Evaluation, read_content, read_evaluations
from polaris_eval.report.pages import read_records
from polaris_eval.report.tables import comparison_rows, length_tables
from polaris_eval.scores.compare import Comparison
from polaris_eval.scores.lengths import group_by_length, inner_bounds


def side_by_side(before: Path, after: Path) -> list[tuple[Evaluation, Evaluation]]:
    """Return what two evaluations say of each benchmark that both have, renamed ``NAME A`` and ``NAME B``.

    Completions are grouped by the same lengths on both sides, over the problems that both scored. Each keeps its own
    groups where the completions of one are gone.

    Args:
        before: The first, a folder or its ``scores.json``.
        after: The second.

    Raises:
        ScoresFileError: If scores cannot be read.
        DataError: If a file of completions is damaged.
    """
    theirs = {each.benchmark: each for each in read_evaluations(after)}
    return [
        _paired(each, theirs[each.benchmark], before, after)
        for each in read_evaluations(before)
        if each.benchmark in theirs
    ]


def write_comparison_page(
    path: Path,
    comparisons: Sequence[Comparison],
    pairs: Sequence[tuple[Evaluation, Evaluation]],
    *,
    before: Path,
    after: Path,
    warnings: Sequence[str],
) -> None:
    """Write a comparison as one HTML page that needs no other file."""
    from polaris_eval.report.plots import draw_budgets, draw_length_groups  # matplotlib takes a second to import

    names = [str(read_content(each).get("model")) for each in (before, after)]
    figures = [figure for pair in pairs for figure in (draw_length_groups(pair), draw_budgets(pair)) if figure]
    rows, both = comparison_rows(comparisons), [evaluation for pair in pairs for evaluation in pair]
    parts = [
        text_part(f"A: {names[0]} ({before}). B: {names[1]} ({after}). Shares in percent; intervals are 95%."),
        *map(warning_part, warnings),
        table_part(rows[0], rows[1:]),
        *map(svg_part, figures),
        *(f"<h2>{heading}</h2>{table_part(rows[0], rows[1:])}" for heading, rows in length_tables(both).items()),
    ]
    write_page(path, f"{names[0]} and {names[1]}", parts)


def _paired(first: Evaluation, second: Evaluation, before: Path, after: Path) -> tuple[Evaluation, Evaluation]:
    scored = _scored(first) & _scored(second)
    records = [_records(path, first.benchmark, scored) for path in (before, after)]
    groups = [first.length_groups, second.length_groups]
    if all(records):
        bounds = inner_bounds([*records[0], *records[1]])
        groups = [group_by_length(each, bounds) for each in records]
    one, other = (
        replace(evaluation, benchmark=f"{evaluation.benchmark} {side}", length_groups=own)
        for evaluation, side, own in zip((first, second), "AB", groups, strict=True)
    )
    return one, other


def _scored(evaluation: Evaluation) -> set[str]:
    return {each.problem_id for each in evaluation.problems} - set(evaluation.unscored)


def _records(path: Path, benchmark: str, scored: set[str]) -> list[Mapping[str, Any]]:
    folder = path if path.is_dir() else path.parent
    return [record for record in read_records(folder, benchmark) if record["problem_id"] in scored]
