"""The command ``polaris-eval list``."""

from pathlib import Path
from typing import Annotated

import typer


def list_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Tell everything about this one.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Write the problems of NAME, e.g. to keep them out of training.", show_default=False
        ),
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of local copies (NAME.jsonl); the default is $POLARIS_BENCHMARKS."),
    ] = None,
) -> None:
    """Print the benchmarks that have a name: problems, default k, the pinned Hub data set, checksum.

    With NAME: columns, notes, and what others published for it. Writes nothing but --out.

    Examples:

        polaris-eval list aime25
        polaris-eval list aime25 --out aime25.jsonl
    """
    from polaris_data import write_problems

    from polaris_eval.benchmarks.loading import load_benchmark
    from polaris_eval.benchmarks.published import describe
    from polaris_eval.benchmarks.registry import BENCHMARKS, find_benchmark
    from polaris_eval.errors import SettingError
    from polaris_eval.report.tables import print_benchmarks

    if out is not None:
        if name is None:
            raise SettingError("--out writes the problems of one benchmark; give its NAME")
        problems = load_benchmark(find_benchmark(name).name, data_dir=data_dir)[1]
        write_problems(out, problems)
        print(f"wrote {out}: {len(problems)} problems")
    elif name is None:
        print_benchmarks(BENCHMARKS.values())
        print("\npolaris-eval list NAME tells the columns, notes and published figures of one")
    else:
        print("\n".join(describe(find_benchmark(name))))
