"""The command ``polaris-eval list``."""

from typing import Annotated

import typer


def list_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Tell everything about this one.", show_default=False)
    ] = None,
) -> None:
    """Print the benchmarks that have a name: problems, default k, the pinned Hub data set, checksum.

    With NAME: columns, notes, and what others published for it. Reads and writes nothing.

    Example:

        polaris-eval list aime25
    """
    from polaris_eval.benchmarks.published import describe
    from polaris_eval.benchmarks.registry import BENCHMARKS, find_benchmark
    from polaris_eval.report.tables import print_benchmarks

    if name is None:
        print_benchmarks(BENCHMARKS.values())
        print("\npolaris-eval list NAME tells the columns, notes and published figures of one")
    else:
        print("\n".join(describe(find_benchmark(name))))
