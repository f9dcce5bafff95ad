"""What a profile or a problem set looks like, in the terminal."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from rich.bar import Bar
from rich.table import Table

from polaris_data.records import Difficulty, Problem
from polaris_data.shape import Histogram

_BAR_WIDTH = 40
"""Characters of the longest bar."""


def histogram_table(histogram: Histogram) -> Table:
    """Draw a histogram: one line for each k/n with its count, its share and a bar; the shape in the title."""
    n = len(histogram.counts) - 1
    table = Table(
        "solved", title=f"{histogram.num_problems:,} problems, shape: {histogram.shape}", box=None, title_justify="left"
    )
    table.add_column("problems", justify="right")
    table.add_column("share", justify="right")
    table.add_column()
    for k, count in enumerate(histogram.counts):
        share = count / histogram.num_problems
        bar = Bar(max(histogram.counts), 0, count, width=_BAR_WIDTH)
        table.add_row(f"{k}/{n}", f"{count:,}", f"{share:.1%}", bar)
    return table


def describe_profile(histogram: Histogram, profile: Sequence[Difficulty]) -> str:
    """Say in two lines how often the model was right, how often it was cut short, and what can be learned from."""
    num_samples = sum(difficulty.num_samples for difficulty in profile)
    truncated = sum(difficulty.num_truncated for difficulty in profile) / num_samples
    tokens = sum(difficulty.mean_tokens * difficulty.num_samples for difficulty in profile) / num_samples
    return (
        f"mean accuracy {histogram.mean_accuracy:.1%} over {num_samples:,} answers, {truncated:.1%} of them "
        f"truncated, {tokens:,.0f} tokens on average\n"
        f"never solved {histogram.counts[0] / histogram.num_problems:.1%}, sometimes "
        f"{histogram.informative_share:.1%}, always {histogram.counts[-1] / histogram.num_problems:.1%}"
    )


def describe_problems(problems: Sequence[Problem]) -> str:
    """Say how many problems there are, how long, with how many references, and from where."""
    lengths = [len(problem.question) for problem in problems]
    several = sum(len(problem.references) > 1 for problem in problems)
    sources = Counter(problem.source for problem in problems).most_common()
    return "\n".join(
        [
            f"{len(problems):,} problems; questions of {median(lengths):,.0f} characters (median), at most "
            f"{max(lengths):,}; {several:,} with several references",
            *(f"{count:>8,}  {source or '(no source)'}" for source, count in sources[:_NUM_SOURCES]),
            *([f"and {len(sources) - _NUM_SOURCES:,} more sources"] if len(sources) > _NUM_SOURCES else []),
        ]
    )


_NUM_SOURCES = 20
"""Sources listed by name."""
