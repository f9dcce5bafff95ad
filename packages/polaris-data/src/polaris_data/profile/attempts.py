"""What is known of each problem: attempts, pooled and put into bins."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple


class Attempt(NamedTuple):
    """What one visit to a problem, or its profile, measured."""

    num_samples: int
    """Completions drawn, at least one."""

    num_correct: int
    """Completions whose answer was correct."""

    num_truncated: int = 0
    """Completions that the token budget ended."""

    overlap: float | None = None
    """Share of right completions' intermediate results that the wrong ones had; ``None`` where that is not known."""


Evidence = Mapping[str, Sequence[Attempt]]
"""The attempts at each problem by its id, oldest first; at least one."""

_BINS = 8
"""Bins are eighths, as published, where the problems have different numbers of samples."""


def pool(attempts: Iterable[Attempt]) -> Attempt:
    """Add attempts up; their overlap is the mean of those that know it."""
    num_samples, num_correct, num_truncated = 0, 0, 0
    overlaps: list[float] = []
    for attempt in attempts:
        num_samples += attempt.num_samples
        num_correct += attempt.num_correct
        num_truncated += attempt.num_truncated
        if attempt.overlap is not None:
            overlaps.append(attempt.overlap)
    return Attempt(num_samples, num_correct, num_truncated, sum(overlaps) / len(overlaps) if overlaps else None)


def bin_of(attempt: Attempt, n: int) -> int:
    """Return the k of the bin k/n: 0 when never solved, n when always, otherwise the nearest of those between."""
    num_samples, num_correct = attempt[:2]
    if num_correct in (0, num_samples) or n == 1:
        return n if 2 * num_correct > num_samples else 0
    return min(max(round(num_correct * n / num_samples), 1), n - 1)


def resolution(evidence: Evidence) -> int:
    """Return the n of the bins k/n: the number of samples if all problems have the same, else 8."""
    numbers = {pool(attempts).num_samples for attempts in evidence.values()}
    return numbers.pop() if len(numbers) == 1 else _BINS
