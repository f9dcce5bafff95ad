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
        Path | None, typer.Option(metavar="FILE", help="Also write the comparison as an HTML page with plots.")
    ] = None,
) -> None:
    """Compare two evaluations problem by problem.

    Reads A/scores.json and B/scores.json, and writes nothing but --json and --page. For each benchmark that both have
    it prints the difference of mean@k with the 95% interval of the paired differences, and the probability that its
    sign is right; then accuracy by length (the same groups for both) and the budget curves. Different problem sets are
    refused; different protocols are named in a warning.

    \b
    Examples:
      polaris-eval compare eval/base eval/trained
      polaris-eval compare eval/plain eval/yarn --page yarn.html
    """
    from polaris_eval.compare import compare_scores, only_in_one, protocol_differences, read_scores
    from polaris_eval.report import print_comparisons
    from polaris_eval.side_by_side import side_by_side, write_comparison_page

    first, second = read_scores(before), read_scores(after)
    comparisons = compare_scores(first, second, common=common)
    warnings = only_in_one(first, second)
    differing = protocol_differences(first.protocol, second.protocol)
    if not (first.protocol and second.protocol):
        warnings.append("one of them does not say how it was made, so that cannot be compared")
    elif differing:
        warnings.append("\n  ".join(["the protocols differ, which may be what changed the scores:", *differing]))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    pairs = side_by_side(before, after)
    print_comparisons(comparisons, pairs, before=first.model, after=second.model)
    if json_file:
        from dataclasses import asdict

        from polaris_data.journal import write_json

        content = {"before": first.model, "after": second.model, "protocol_differences": differing}
        write_json(json_file, content | {"comparisons": [asdict(each) for each in comparisons]})
    if page:
        write_comparison_page(page, comparisons, pairs, before=before, after=after, warnings=warnings)
        print(f"page: {page}")
