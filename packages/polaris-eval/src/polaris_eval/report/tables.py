"""Evaluations as terminal tables, and the table of named benchmarks."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import stdev

from rich import box
from rich.console import Console
from rich.table import Table

from polaris_eval.benchmarks.registry import Benchmark
from polaris_eval.records import Estimate, Evaluation, LengthGroup, Score
from polaris_eval.scores.compare import Comparison
from polaris_eval.scores.power import detectable_difference
from polaris_eval.scores.summary import STABLE_SHARES

_FILE_WIDTH = 120
"""Columns where the output is not a terminal."""

_SHORT_REVISION = 7


def print_benchmarks(benchmarks: Iterable[Benchmark]) -> None:
    """Print one line for each benchmark that has a name."""
    rows = [
        [
            each.name,
            str(each.num_problems),
            str(each.k),
            each.hub_id,
            each.revision[:_SHORT_REVISION],
            each.split,
            each.checksum or "none",
        ]
        for each in benchmarks
    ]
    headings = ["benchmark", "problems", "k", "Hub data set", "revision", "split", "checksum"]
    _print([headings, *rows], numbers=("problems", "k"))


def print_plan(jobs: Iterable[tuple[str, int, int]]) -> None:
    """Print name, problems and samples of each benchmark, and what they can tell."""
    rows = [
        [
            name,
            str(num_problems),
            str(num_samples),
            f"{num_problems * num_samples:,}",
            f"{100 * detectable_difference(num_problems, num_samples):.1f}",
        ]
        for name, num_problems, num_samples in jobs
    ]
    _print([["benchmark", "problems", "k", "completions", "detectable difference"], *rows])
    print(
        "\ndetectable difference: in points of mean@k, between two models on the same problems; told in 4 of 5 such "
        "pairs (95% interval),\nfor shares around 50%, and difficulties that the two models mostly share: see "
        "polaris_eval.scores.detectable_difference"
    )


def print_evaluations(evaluations: Iterable[Evaluation], *, model: str) -> None:
    """Print one line for each benchmark to stdout, then what else is known of it; shares in percent."""
    evaluations = list(evaluations)
    print(f"{model}, mean@k in percent with its 95% interval, clustered by problem:\n")
    _print(summary_rows(evaluations))
    _print_tables(detail_tables(evaluations))


def summary_rows(evaluations: Iterable[Evaluation]) -> list[list[str]]:
    """Return one row of text for each benchmark, below one that names the columns; shares in percent."""
    return [
        ["benchmark", "problems", "k", "mean@k", "truncated %", "no answer %", "mean tokens"],
        *(
            [
                each.benchmark,
                _num_scored(each),
                str(each.num_samples),
                percent_with_interval(each.score("mean@k")),
                next((_percent(score.value) for score in _of(each, "truncated")), "?"),
                _percent(each.score("no_answer").value),
                "?" if each.lengths is None else _tokens(each.lengths.mean),
            ]
            for each in evaluations
        ),
    ]


def detail_tables(evaluations: Sequence[Evaluation]) -> dict[str, list[list[str]]]:
    """Return, by heading, the tables below the first one: rows of text, of which the first names the columns.

    A table to which no benchmark contributes is left out.
    """
    tables = {
        "pass@k and maj@k (votes by equivalent answers, ties shared), in percent": [
            ["benchmark", "k", "pass@k", "maj@k"],
            *(
                [each.benchmark, str(score.k), percent_with_interval(score), percent_with_interval(vote)]
                for each in evaluations
                for score, vote in zip(_of(each, "pass@k"), _of(each, "maj@k"), strict=True)
            ),
        ],
        "G-Pass@k: at least that share of k completions correct, in percent": [
            ["benchmark", "k", "at 0.5", "at 0.75", "at 1.0", "mG-Pass@k"],
            *(
                [each.benchmark, str(mean.k), *map(percent_with_interval, stable), percent_with_interval(mean)]
                for each in evaluations
                for mean in _of(each, "mg-pass@k")
                for stable in [[each.score(metric, mean.k) for metric in STABLE_SHARES]]
            ),
        ],
        "Choosing by the completions' own scores, in percent": [
            ["benchmark", "k", "metric", "value", "of the gap from maj@k to pass@k"],
            *(
                [each.benchmark, str(score.k), score.metric, percent_with_interval(score), _gap_closed(each, score)]
                for each in evaluations
                for score in (*_of(each, "weighted_vote"), *_of(each, "best_of"))
            ),
        ],
        "By seed, mean@k in percent": [
            ["benchmark", "seeds", "mean@k of each", "standard deviation"],
            *(
                [
                    each.benchmark,
                    ", ".join(str(seed) for seed, _ in each.by_seed),
                    ", ".join(_percent(share) for _, share in each.by_seed),
                    f"{100 * stdev(share for _, share in each.by_seed):.2f}",
                ]
                for each in evaluations
                if len(each.by_seed) > 1
            ),
        ],
        "Spread and length": [
            ["benchmark", "bootstrap interval of mean@k", "distinct-4 %", "median tokens", "95% of tokens"],
            *(
                [
                    each.benchmark,
                    _interval(each.bootstrap),
                    _percent(each.distinct_4),
                    "?" if each.lengths is None else _tokens(each.lengths.median),
                    "?" if each.lengths is None else _tokens(each.lengths.p95),
                ]
                for each in evaluations
            ),
        ],
    }
    return {heading: rows for heading, rows in tables.items() if len(rows) > 1} | length_tables(evaluations)


def length_tables(evaluations: Sequence[Evaluation]) -> dict[str, list[list[str]]]:
    """Return those of `detail_tables` that say what lengths and token budgets do."""
    tables = {
        "Accuracy by length": [
            ["benchmark", "tokens", "completions", "of problems", "correct %"],
            *(
                [
                    each.benchmark,
                    length_range(group),
                    f"{group.num_completions:,}",
                    f"{group.num_problems:,}",
                    _percent(group.accuracy),
                ]
                for each in evaluations
                for group in each.length_groups
            ),
        ],
        "If every completion were cut after so many tokens, in percent": [
            ["benchmark", "budget", "mean@k", "cut %"],
            *(
                [
                    each.benchmark,
                    f"{point.max_tokens:,}",
                    percent_with_interval(point.accuracy),
                    f"{100 * point.cut:.1f}",
                ]
                for each in evaluations
                for point in each.budgets
            ),
        ],
    }
    return {heading: rows for heading, rows in tables.items() if len(rows) > 1}


def print_comparisons(
    comparisons: Iterable[Comparison], pairs: Iterable[Sequence[Evaluation]], *, before: str, after: str
) -> None:
    """Print one line for each benchmark to stdout, then lengths and budgets of both sides."""
    print(f"A: {before}\nB: {after}\nmean@k in percent, and the paired difference with its 95% interval:\n")
    _print(comparison_rows(comparisons))
    _print_tables(length_tables([evaluation for pair in pairs for evaluation in pair]))


def comparison_rows(comparisons: Iterable[Comparison]) -> list[list[str]]:
    """Return one row of text for each benchmark, below one that names the columns; differences in points."""
    rows = [["benchmark", "problems", "A", "B", "B - A", "sign is right"]]
    for each in comparisons:
        low, high = each.difference.interval
        points = f"{100 * each.difference.value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
        chance = f"{_percent(each.probability)}%"
        rows.append(
            [each.benchmark, str(each.num_problems), _percent(each.before), _percent(each.after), points, chance]
        )
    return rows


def print_differences(comparisons: Sequence[tuple[str, Comparison]], *, first: str) -> None:
    """Print how each model differs from the first one, benchmark by benchmark."""
    if not comparisons:
        return
    header, *rows = comparison_rows(comparison for _, comparison in comparisons)
    print(f"\nA: {first}; mean@k in percent, and the paired difference with its 95% interval (*: without 0):\n")
    _print([["B", *header], *([model, *row] for (model, _), row in zip(comparisons, rows, strict=True))])
    if len(comparisons) > 1:
        print(f"\nof {len(comparisons)} comparisons of equal models, 1 in 20 would bear a * by chance")


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """Print a table of which the first row names the columns."""
    _print(rows)


def length_range(group: LengthGroup) -> str:
    """Return the lengths of a group as text: ``16,384 to 32,767``."""
    if group.high is None:
        return f"{group.low:,} or more"
    return f"below {group.high:,}" if group.low == 0 else f"{group.low:,} to {group.high - 1:,}"


def percent_with_interval(score: Score | Estimate) -> str:
    """Return a share as text: ``41.2 [36.0, 46.5]``."""
    return f"{100 * score.value:.1f} {_interval(score.interval)}"


def _interval(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _tokens(count: float) -> str:
    return f"{count:,.0f}"


def _of(evaluation: Evaluation, metric: str) -> list[Score]:
    return [score for score in evaluation.scores if score.metric == metric]


def _gap_closed(evaluation: Evaluation, score: Score) -> str:
    """Return how much of what a perfect choice gains over plain voting a score gains; both at as many completions."""
    known = {each.metric: each.value for each in evaluation.scores if each.k == score.k}
    if "maj@k" not in known or known["pass@k"] <= known["maj@k"]:
        return "-"
    return f"{(score.value - known['maj@k']) / (known['pass@k'] - known['maj@k']):.0%}"


def _num_scored(evaluation: Evaluation) -> str:
    scored = evaluation.num_problems - len(evaluation.unscored)
    return f"{scored} of {evaluation.num_problems}" if evaluation.unscored else str(scored)


def _print(rows: Sequence[Sequence[str]], *, numbers: Collection[str] | None = None) -> None:
    """Print a table; the columns of these names, all but the first by default, are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in rows[0]:
        is_number = heading in (rows[0][1:] if numbers is None else numbers)
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    console.print(table)


def _print_tables(tables: Mapping[str, Sequence[Sequence[str]]]) -> None:
    for heading, rows in tables.items():
        print(f"\n{heading}:\n")
        _print(rows)
