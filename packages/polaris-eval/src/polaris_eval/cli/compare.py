"""The command ``polaris-eval compare``."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def compare_command(
    before: Annotated[
        Path, typer.Argument(metavar="A", help="A folder that 'run' or 'grade' wrote, or its scores.json.")
    ],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one, of the same problems.")],
    common: Annotated[
        bool, typer.Option("--common", help="Where one has more problems, compare those that both have.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write the comparison as JSON.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write the comparison as an HTML page: plots, the settings that differ, and every problem in a "
            "table that links to both reports.",
        ),
    ] = None,
) -> None:
    """Compare two evaluations problem by problem.

    Reads A/scores.json and B/scores.json, and writes nothing but --json and --page. For each benchmark that both have
    it prints the difference of mean@k with the 95% interval of the paired differences, and the probability that its
    sign is right; then accuracy by length (the same groups for both) and the budget curves. Different problem sets are
    refused; different protocols are named in a warning.

    Examples:

        polaris-eval compare eval/base eval/trained
        polaris-eval compare eval/plain eval/yarn --page yarn.html
    """
    from polaris_eval.report.side_by_side import put_side_by_side, write_comparison, write_comparison_page
    from polaris_eval.report.tables import print_comparisons

    both = put_side_by_side(before, after, common=common)
    for warning in both.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print_comparisons(both.comparisons, both.pairs, before=both.before.model, after=both.after.model)
    if json_file:
        write_comparison(json_file, both)
    if page:
        write_comparison_page(page, both)
        print(f"page: {page}")
