"""What a profile or a problem set looks like, in the terminal."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from rich.bar import Bar
from rich.table import Table

from polaris_data.profile.lengths import AnswerDiversity, AnswerLengths
from polaris_data.profile.shape import Histogram, truncation_warnings
from polaris_data.profile.shift import Shift
from polaris_data.records import Difficulty, Problem

_BAR_WIDTH = 40
"""Characters of the longest bar."""

_NUM_SOURCES = 20
"""Sources listed by name."""


def histogram_table(histogram: Histogram) -> Table:
    """Draw a histogram: one line for each k/n with its count, its share and a bar; the shape in the title."""
    table = Table(
        "solved", title=f"{histogram.num_problems:,} problems, shape: {histogram.shape}", box=None, title_justify="left"
    )
    table.add_column("problems", justify="right")
    table.add_column("share", justify="right")
    table.add_column()
    for row, count in zip(histogram_rows(histogram), histogram.counts, strict=True):
        table.add_row(*row, Bar(max(histogram.counts), 0, count, width=_BAR_WIDTH))
    return table


def histogram_rows(histogram: Histogram) -> list[tuple[str, str, str]]:
    """Return k/n, count and share of each bin as text."""
    n = len(histogram.counts) - 1
    return [
        (f"{k}/{n}", f"{count:,}", f"{count / histogram.num_problems:.1%}") for k, count in enumerate(histogram.counts)
    ]


def describe_profile(histogram: Histogram, profile: Sequence[Difficulty]) -> str:
    """Say in a few lines how often the model was right, how often cut short, and what speaks against these problems."""
    num_samples = sum(difficulty.num_samples for difficulty in profile)
    truncated = sum(difficulty.num_truncated for difficulty in profile) / num_samples
    never, sometimes, always = histogram.shares
    return "\n".join(
        [
            f"mean accuracy {histogram.mean_accuracy:.1%} over {num_samples:,} answers, {truncated:.1%} of them "
            f"truncated, {_describe_tokens(profile)}",
            f"never solved {never:.1%}, sometimes {sometimes:.1%}, always {always:.1%}",
            *(f"warning: {warning}" for warning in [*truncation_warnings(profile), *histogram.warnings]),
        ]
    )


def lengths_table(lengths: AnswerLengths) -> Table:
    """Draw the answers by their length: a line for each bin with all, the correct and the truncated ones, and a bar."""
    table = Table("tokens", title="answers by length", box=None, title_justify="left")
    for name in ("answers", "correct", "truncated"):
        table.add_column(name, justify="right")
    table.add_column()
    for row, count in zip(length_rows(lengths), lengths.every, strict=True):
        table.add_row(*row, Bar(max(lengths.every), 0, count, width=_BAR_WIDTH))
    return table


def length_rows(lengths: AnswerLengths) -> list[tuple[str, ...]]:
    """Return the range of tokens and the counts of each bin as text."""
    counts = zip(lengths.every, lengths.correct, lengths.truncated, strict=True)
    width = lengths.width
    return [
        (
            f"{number * width:,}" + (f"-{(number + 1) * width - 1:,}" if width > 1 else ""),
            *(f"{each:,}" for each in row),
        )
        for number, row in enumerate(counts)
    ]


def describe_answers(lengths: AnswerLengths, diversity: AnswerDiversity | None) -> str:
    """Say in a line or two how long the answers are and how different."""
    correct = "none is correct" if lengths.median_correct is None else f"correct ones {lengths.median_correct:,}"
    lines = [f"answers of {lengths.median:,} tokens (median), at most {lengths.longest:,}; {correct}"]
    if diversity:
        lines.append(
            f"distinct-4 diversity {diversity.value:.3f} (95% interval {diversity.low:.3f} to {diversity.high:.3f}), "
            f"of {diversity.num_samples} answers of {diversity.num_tokens:,} tokens, over "
            f"{diversity.num_problems:,} problems"
        )
        if diversity.published is not None:
            lines.append(f"distinct-4 of all words, as published {diversity.published:.3f}")
    return "\n".join(lines)


def transition_table(shift: Shift) -> Table:
    """Draw how many problems moved from each bin of the first profile, a row, to each of the second, a column."""
    n, m = len(shift.transitions) - 1, len(shift.transitions[0]) - 1
    table = Table("", title="problems solved k/n in the first (rows) and in the second (columns)", box=None)
    table.title_justify = "left"
    for k in range(m + 1):
        table.add_column(f"{k}/{m}", justify="right")
    for k, row in enumerate(shift.transitions):
        table.add_row(f"{k}/{n}", *(f"{count:,}" if count else "·" for count in row))
    return table


def describe_shift(shift: Shift) -> str:
    """Say in a line or two how much the accuracy changed, and what was left out."""
    low, high = shift.interval
    n = len(shift.transitions) - 1
    learned = sum(shift.transitions[0][1:])
    lost = sum(row[0] for row in shift.transitions[1:])
    lines = [
        f"mean change of the accuracy {shift.mean_change:+.1%} (95% interval {low:+.1%} to {high:+.1%}) over "
        f"{shift.num_problems:,} problems",
        f"{learned:,} were never solved (0/{n}) and are now; {lost:,} were solved and are never now",
    ]
    if shift.num_only_first or shift.num_only_second:
        lines.append(
            f"left out: {shift.num_only_first:,} only in the first, {shift.num_only_second:,} only in the second"
        )
    return "\n".join(lines)


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


def _describe_tokens(profile: Sequence[Difficulty]) -> str:
    known = [(each.mean_tokens, each.num_samples) for each in profile if each.mean_tokens is not None]
    if not known:
        return "of unknown length"
    mean = sum(tokens * samples for tokens, samples in known) / sum(samples for _, samples in known)
    return f"{mean:,.0f} tokens on average"
