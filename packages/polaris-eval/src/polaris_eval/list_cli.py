"""The command ``polaris-eval list``."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polaris_eval.benchmarks import Benchmark

_FILE_WIDTH = 120
"""Columns where the output is not a terminal."""

_SHORT_REVISION = 7


def list_command(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Tell everything about this one.", show_default=False)
    ] = None,
) -> None:
    """Print the benchmarks that have a name: problems, default k, the pinned Hub data set, checksum.

    With NAME: columns, notes, and what others published for it. Reads and writes nothing.

    Example: polaris-eval list aime25
    """
    from polaris_eval.benchmarks import BENCHMARKS, find_benchmark

    if name is None:
        _print_table(BENCHMARKS.values())
    else:
        _print_one(find_benchmark(name))


def _print_table(benchmarks: "Iterable[Benchmark]") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("benchmark", "problems", "k", "Hub data set", "revision", "split", "checksum"):
        table.add_column(heading, justify="right" if heading in ("problems", "k") else "left", no_wrap=True)
    for benchmark in benchmarks:
        table.add_row(
            benchmark.name,
            str(benchmark.num_problems),
            str(benchmark.k),
            benchmark.hub_id,
            benchmark.revision[:_SHORT_REVISION],
            benchmark.split,
            benchmark.checksum or "none",
        )
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)
    print("\npolaris-eval list NAME tells the columns, notes and published figures of one")


def _print_one(benchmark: "Benchmark") -> None:
    from polaris_eval.published import PUBLISHED

    stem = benchmark.file or benchmark.name
    question, reference = benchmark.columns
    print(f"{benchmark.name}: {benchmark.num_problems} problems, {benchmark.k} completions each")
    print(f"Hub data set: {benchmark.hub_id}, split {benchmark.split}, revision {benchmark.revision}")
    print(f"columns: {question} (question), {reference} (reference)")
    print(f"local copy: {stem}.jsonl or {stem}_{benchmark.split}.jsonl in --data-dir")
    print(f"checksum of the checked copy: {benchmark.checksum or 'none, no copy was at hand'}")
    if benchmark.note:
        print(f"note: {benchmark.note}")
    for source, figures in PUBLISHED.get(benchmark.name, {}).items():
        print(f"\npublished mean@{benchmark.k} in percent, {source}:")
        for model, percent in figures.items():
            print(f"  {model:<22}{percent:5.1f}")
