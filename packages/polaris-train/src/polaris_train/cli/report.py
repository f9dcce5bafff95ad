"""The commands ``polaris report`` and ``polaris compare``."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of the run, finished or still running.")],
    out: Annotated[Path | None, typer.Option(help="Page to write.", show_default="RUN/report.html")] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE:STEP", help="Have the completions of this step, however large; repeatable."),
    ] = None,
    mib: Annotated[int, typer.Option(min=0, help="Room for completions beside the page, in MiB.")] = 512,
) -> None:
    """Write what a run decided and what came of it as one page.

    Reads RUN; writes RUN/report.html, which needs no other file and no network, and report.md beside it. Completions
    that are too many for the page go to RUN/report-steps/, from where it loads them when they are opened. What is not
    there yet is named; a damaged line is counted, named and set aside.

    Examples:

        polaris report runs/tiny-cpu
        polaris report runs/4b --step stage-1:120 --out report.html
    """
    from polaris_train.report import write_report

    page, markdown = write_report(run, out=out, wanted=step or (), beside_mib=mib)
    print(f"page: {page}\nmarkdown: {markdown}")


def compare(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="Folder of a run.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="Folder of another run.")],
    out: Annotated[Path, typer.Option(help="Page to write.")] = Path("comparison.html"),
    common: Annotated[
        bool, typer.Option("--common", help="Compare the problems that both have where one has more.")
    ] = False,
) -> None:
    """Write two runs side by side as one page.

    Reads both; writes to --out, and as Markdown beside it, the fields in which their recipes differ, their evaluations
    with paired differences and 95% intervals, training curves over each other, decisions, time and tokens.

    Example:

        polaris compare runs/plain runs/full --out comparison.html
    """
    from polaris_train.report import write_comparison

    page, markdown = write_comparison(run_a, run_b, out, common=common)
    print(f"page: {page}\nmarkdown: {markdown}")
