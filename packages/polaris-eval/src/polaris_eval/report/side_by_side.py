"""Two evaluations of the same problems beside each other: the differences, accuracy by length, and token budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from polaris_data.files import write_json
from polaris_data.view import svg_part, table_part, text_part, warning_part, write_page

from polaris_eval.records import Evaluation
from polaris_eval.report.documents import read_records
from polaris_eval.report.tables import comparison_rows, length_tables
from polaris_eval.scores.compare import Comparison, compare_scores, differences_to_know, protocol_differences
from polaris_eval.scores.files import Scores, read_scores
from polaris_eval.scores.lengths import group_by_length, inner_bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """What two evaluations say together."""

    before: Scores
    """The first."""

    after: Scores
    """The second."""

    comparisons: Sequence[Comparison]
    """Of each benchmark that both have."""

    pairs: Sequence[tuple[Evaluation, Evaluation]]
    """The same benchmarks, renamed ``NAME A`` and ``NAME B``. Completions are grouped by the same lengths on both
    sides, over the problems that both scored; each keeps its own groups where the completions of one are gone."""

    warnings: Sequence[str]
    """What else differs between the two."""


def put_side_by_side(before: Path, after: Path, *, common: bool = False) -> SideBySide:
    """Read and compare two evaluations.

    Args:
        before: The first, a folder or its ``scores.json``.
        after: The second.
        common: Compare the problems that both have where one has more; else that is refused.

    Raises:
        ScoresFileError: If scores cannot be read.
        MixedProblemsError: If they are not of the same problems.
        DataError: If a file of completions is damaged.
    """
    first, second = read_scores(before), read_scores(after)
    comparisons = compare_scores(first, second, common=common)
    theirs = {each.benchmark: each for each in second.evaluations}
    return SideBySide(
        before=first,
        after=second,
        comparisons=comparisons,
        pairs=[
            _paired(each, theirs[each.benchmark], (first.folder, second.folder))
            for each in first.evaluations
            if each.benchmark in theirs
        ],
        warnings=differences_to_know(first, second),
    )


def write_comparison(path: Path, both: SideBySide) -> None:
    """Write what was compared as JSON."""
    content = {
        "before": both.before.model,
        "after": both.after.model,
        "protocol_differences": protocol_differences(both.before.protocol, both.after.protocol),
        "comparisons": [asdict(each) for each in both.comparisons],
    }
    write_json(path, content)


def write_comparison_page(path: Path, both: SideBySide) -> None:
    """Write a comparison as one HTML page that needs no other file."""
    from polaris_eval.report.plots import draw_budgets, draw_length_groups  # matplotlib takes a second to import

    first, second = both.before, both.after
    figures = [figure for pair in both.pairs for figure in (draw_length_groups(pair), draw_budgets(pair)) if figure]
    tables = length_tables([evaluation for pair in both.pairs for evaluation in pair])
    header, *rows = comparison_rows(both.comparisons)
    parts = [
        text_part(
            f"A: {first.model} ({first.path}). B: {second.model} ({second.path}). Shares in percent; intervals are 95%."
        ),
        *map(warning_part, both.warnings),
        table_part(header, rows),
        *map(svg_part, figures),
        *(f"<h2>{heading}</h2>{table_part(rows[0], rows[1:])}" for heading, rows in tables.items()),
    ]
    write_page(path, f"{first.model} and {second.model}", parts)


def _paired(first: Evaluation, second: Evaluation, folders: Sequence[Path]) -> tuple[Evaluation, Evaluation]:
    scored = _scored(first) & _scored(second)
    records = [_records(folder, first.benchmark, scored) for folder in folders]
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


def _records(folder: Path, benchmark: str, scored: set[str]) -> list[Mapping[str, Any]]:
    return [record for record in read_records(folder, benchmark) if record["problem_id"] in scored]
