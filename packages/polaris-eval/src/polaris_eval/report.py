"""Evaluations as a terminal table, and the table of named benchmarks."""

from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table

from polaris_eval.benchmarks import Benchmark
from polaris_eval.records import Evaluation, Score

_FILE_WIDTH = 120
"""Columns where the output is not a terminal."""


def print_evaluations(evaluations: Iterable[Evaluation], *, model: str) -> None:
    """Print one line for each benchmark to stdout; shares in percent."""
    table = _table()
    table.add_column("benchmark", no_wrap=True)
    for heading in ("problems", "k", "mean@k", "truncated %", "no answer %", "mean tokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    for evaluation in evaluations:
        table.add_row(
            evaluation.benchmark,
            _num_scored(evaluation),
            str(evaluation.num_samples),
            percent_with_interval(evaluation.score("mean@k")),
            f"{100 * evaluation.score('truncated').value:.1f}",
            f"{100 * evaluation.score('no_answer').value:.1f}",
            f"{evaluation.mean_tokens:,.0f}",
        )
    print(f"{model}, mean@k in percent with its 95% interval, clustered by problem:\n")
    _print(table)


def print_benchmarks(benchmarks: Iterable[Benchmark]) -> None:
    """Print the table of named benchmarks to stdout."""
    table = _table()
    for heading in ("benchmark", "problems", "k", "Hub data set", "split"):
        table.add_column(heading, justify="right" if heading in ("problems", "k") else "left", no_wrap=True)
    for benchmark in benchmarks:
        table.add_row(benchmark.name, str(benchmark.num_problems), str(benchmark.k), benchmark.hub_id, benchmark.split)
    _print(table)


def percent_with_interval(score: Score) -> str:
    """Return a share as text: ``41.2 [36.0, 46.5]``."""
    low, high = score.interval
    return f"{100 * score.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _num_scored(evaluation: Evaluation) -> str:
    scored = evaluation.num_problems - len(evaluation.unscored)
    return f"{scored} of {evaluation.num_problems}" if evaluation.unscored else str(scored)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)
