"""The command ``polaris-eval report``."""

from pathlib import Path
from typing import Annotated

import typer


def report_command(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that 'run' or 'grade' wrote.")],
) -> None:
    """Print the scores of an evaluation again, and write its report.md and report.html.

    Reads OUT/scores.json and OUT/BENCHMARK/completions.jsonl. The page holds everything it needs: plots, tables, and
    a browser of the completions with their grades.

    Example: polaris-eval report eval/tiny
    """
    from polaris_eval.report import print_evaluations
    from polaris_eval.report_files import write_reports
    from polaris_eval.scores_file import read_content, read_evaluations

    evaluations = read_evaluations(folder)
    folder = folder if folder.is_dir() else folder.parent
    pages = write_reports(folder)
    print_evaluations(evaluations, model=str(read_content(folder).get("model")))
    print(f"report: {' and '.join(map(str, pages))}")
