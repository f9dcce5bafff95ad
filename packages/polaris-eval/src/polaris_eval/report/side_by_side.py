"""Two evaluations of the same problems beside each other: the differences, lengths, budgets, and every problem."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from polaris_data.files import write_json
from polaris_data.view import svg_part, table_part, text_part, warning_part, write_page

from polaris_eval.records import Evaluation, ProblemResult
from polaris_eval.report.documents import protocol_part, read_records
from polaris_eval.report.tables import comparison_rows, length_tables
from polaris_eval.scores.compare import (
    Comparison,
    compare_scores,
    differences_to_know,
    differing_settings,
    protocol_differences,
)
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
    """Write a comparison as one HTML page that needs no other file; it links to the reports of both where they are."""
    from polaris_eval.report.plots import draw_budgets, draw_length_groups  # matplotlib takes a second to import

    first, second = both.before, both.after
    figures = [figure for pair in both.pairs for figure in (draw_length_groups(pair), draw_budgets(pair)) if figure]
    tables = length_tables([evaluation for pair in both.pairs for evaluation in pair])
    settings = [
        (key, _as_text(old), _as_text(new)) for key, old, new in differing_settings(first.protocol, second.protocol)
    ]
    header, *rows = comparison_rows(both.comparisons)
    parts = [
        f"<style>{(Path(__file__).parent / 'table.css').read_text('utf-8')}</style>",
        text_part(
            f"A: {first.model} ({first.path}). B: {second.model} ({second.path}). Shares in percent; intervals are 95%."
        ),
        protocol_part(first.protocol, side="A: "),
        protocol_part(second.protocol, side="B: "),
        *map(warning_part, both.warnings),
        table_part(header, rows),
        *(["<h2>What was done differently</h2>", table_part(("setting", "A", "B"), settings)] if settings else []),
        *map(svg_part, figures),
        *(f"<h2>{heading}</h2>{table_part(rows[0], rows[1:])}" for heading, rows in tables.items()),
        _problems_part(both, path.parent),
    ]
    script = (Path(__file__).parent / "table.js").read_text("utf-8")
    write_page(path, f"{first.model} and {second.model}", parts, scripts=[script])


def _problems_part(both: SideBySide, place: Path) -> str:
    """Return every problem of both with what became of it, the largest changes first, as a fragment."""
    theirs = {each.benchmark: {one.problem_id: one for one in each.problems} for each in both.after.evaluations}
    lines = [
        (_change(old, new), each.benchmark, old, new)
        for each in both.before.evaluations
        for old in each.problems
        if (new := theirs.get(each.benchmark, {}).get(old.problem_id))
    ]
    rows = "\n".join(
        f"<tr><td>{escape(benchmark)}</td><td>{escape(old.problem_id)}</td>"
        f"{_result_cell(both.before, benchmark, old, place)}{_result_cell(both.after, benchmark, new, place)}"
        + (f'<td data-value="{change}">{100 * change:+.1f}</td></tr>' if change is not None else "<td>?</td></tr>")
        for change, benchmark, old, new in sorted(lines, key=lambda line: -abs(line[0] or 0))
    )
    header = "".join(f"<th><button>{name}</button></th>" for name in ("benchmark", "problem", "A", "B", "B - A"))
    return (
        '<h2 id="by-problem">Problem by problem</h2>\n<p class="bar"><input id="search" type="search" '
        'aria-label="search" placeholder="search problems"> <select id="choice" aria-label="filter">'
        '<option value="">all</option><option value="1">better in B</option><option value="-1">worse in B</option>'
        '<option value="0">the same</option></select> <span id="count" role="status"></span></p>\n'
        f'<table id="problems"><thead><tr>{header}</tr></thead>\n<tbody>{rows}</tbody></table>'
    )


def _change(old: ProblemResult, new: ProblemResult) -> float | None:
    if old.num_correct is None or new.num_correct is None:
        return None
    return new.num_correct / new.num_samples - old.num_correct / old.num_samples


def _result_cell(scores: Scores, benchmark: str, result: ProblemResult, place: Path) -> str:
    """Return how a problem went, with a link into the report that shows its completions."""
    if result.num_correct is None:
        return "<td>?</td>"
    shown = f"{result.num_correct}/{result.num_samples}"
    report = scores.folder / "report.html"
    if report.is_file():
        view = urlencode({"benchmark": benchmark, "problem": result.problem_id})
        where = quote(os.path.relpath(report, place))
        shown = f'<a href="{escape(where)}#{escape(view)}">{shown}</a>'
    return f'<td data-value="{result.num_correct / result.num_samples}">{shown}</td>'


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


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
