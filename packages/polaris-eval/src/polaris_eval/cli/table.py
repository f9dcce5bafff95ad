"""The command ``polaris-eval table``."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer


def table_command(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders that 'run' or 'grade' wrote; the first is compared with."),
    ],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A row of each model: mean@k, maj@16, pass@64, mg-pass@16, truncated; repeat it for several.  "
            "[default: mean@k]",
            show_default=False,
        ),
    ] = None,
    plus_minus: Annotated[
        bool, typer.Option("--plus-minus", help="Half of the interval's width in place of its ends, for narrow tables.")
    ] = False,
    format: Annotated[
        Literal["text", "markdown", "latex"],
        typer.Option(help="Of the table; latex needs the package booktabs."),
    ] = "text",
    common: Annotated[
        bool, typer.Option("--common", help="Where one has more problems, compare those that both have.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File to write the table to.", show_default=False)
    ] = None,
) -> None:
    """Set several models beside each other: a row of each, a column of each benchmark, in percent with 95% intervals.

    Reads RUN/scores.json of each, and writes nothing but --out. A * marks a mean@k that differs from the first row's:
    the 95% interval of the paired difference over the problems leaves out 0. Below stand the differences themselves.
    Different problem sets are refused; different protocols are named in a warning.

    Examples:

        polaris-eval table eval/base eval/sft eval/grpo --plus-minus
        polaris-eval table eval/base eval/grpo --metric maj@16 --format latex
    """
    from polaris_data.files import write_text

    from polaris_eval.report.several import FORMATS, put_in_table, to_rows
    from polaris_eval.report.tables import print_differences, print_rows

    table = put_in_table(runs, metrics=metric or ["mean@k"], common=common)
    for warning in table.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    rows = to_rows(table, plus_minus=plus_minus)
    if format != "text":
        written = FORMATS[format](rows)
        print(written)
    else:
        written = FORMATS["markdown"](rows)
        print_rows(rows)
        print_differences(table.comparisons, first=table.models[0])
    if out:
        write_text(out, written + "\n")
        print(f"wrote {out}", file=sys.stderr)
