"""The command ``polaris-eval report``."""

from pathlib import Path
from typing import Annotated

import typer


def report_command(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that 'run' or 'grade' wrote.")],
) -> None:
    """Print the scores of an evaluation again, and write its report.md and report.html.

    Reads OUT/scores.json and OUT/BENCHMARK/completions.jsonl. The page holds everything it needs: protocol,
    plots, tables, and every completion with its grade, to filter, sort and search; its address links to what is shown.

    Example:

        polaris-eval report eval/tiny
    """
    from polaris_eval.report.documents import write_reports
    from polaris_eval.report.tables import print_evaluations
    from polaris_eval.scores.files import read_scores

    scores = read_scores(folder)
    files = write_reports(scores.folder)
    print_evaluations(scores.evaluations, model=scores.model)
    print(f"report: {' and '.join(map(str, files))}")
