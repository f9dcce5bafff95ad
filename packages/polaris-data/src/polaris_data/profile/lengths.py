"""How long the answers of a profile are, and how different."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from polaris_data.profile.grades import CORRECT, GradedAnswers

_MAX_BINS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerLengths:
    """Histograms of the answers of a profile by their length, over the same bins."""

    width: int
    """Tokens of a bin: the first holds answers of 0 to below this many."""

    every: tuple[int, ...]
    """[B] answers."""

    correct: tuple[int, ...]
    """[B] those that are correct."""

    truncated: tuple[int, ...]
    """[B] those that the token budget ended."""

    median: int
    """Tokens that half of the answers have at most."""

    median_correct: int | None
    """Tokens that half of the correct answers have at most; ``None`` where none is."""

    longest: int
    """Tokens of the longest answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDiversity:
    """Distinct-4 diversity of the answers of a profile; see `polaris_rollout.temperature.stored_diversity`."""

    value: float
    """Share of distinct 4-grams of tokens expected, mean over problems."""

    low: float
    """Lower end of its 95% interval."""

    high: float
    """Upper end of its 95% interval."""

    published: float | None
    """The published score, over words; ``None`` where problems have different numbers of answers."""

    num_problems: int
    """That were measured."""

    num_samples: int
    """Answers that the share is expected of."""

    num_tokens: int
    """Tokens of each answer that the share is expected of."""


def count_lengths(graded: Iterable[GradedAnswers]) -> AnswerLengths:
    """Count answers by their length; one group is in memory at a time."""
    every, correct, truncated = Counter[int](), Counter[int](), Counter[int]()
    for group in graded:
        for outcome, length, cut in zip(group.outcomes, group.num_tokens, group.truncated, strict=True):
            every[length] += 1
            correct[length] += outcome == CORRECT
            truncated[length] += cut
    longest = max(every)
    width = _bin_width(longest)
    bins = longest // width + 1

    def binned(lengths: Counter[int]) -> tuple[int, ...]:
        counts = [0] * bins
        for length, count in lengths.items():
            counts[length // width] += count
        return tuple(counts)

    return AnswerLengths(
        width=width,
        every=binned(every),
        correct=binned(correct),
        truncated=binned(truncated),
        median=_median(every),
        median_correct=_median(correct) if correct.total() else None,
        longest=longest,
    )


def _bin_width(longest: int) -> int:
    """Return 1, 2, 5, 10, 20, ...: the first that needs no more than so many bins."""
    return next(
        step * 10**power for power in range(20) for step in (1, 2, 5) if longest // (step * 10**power) < _MAX_BINS
    )


def _median(lengths: Counter[int]) -> int:
    ordered = sorted(lengths)
    half = lengths.total() / 2
    return next(
        length
        for length, below in zip(ordered, accumulate(lengths[each] for each in ordered), strict=True)
        if below >= half
    )
