"""How much one arm is better than another: paired by seed and by problem, with what each kind of chance allows.

An arm's result varies with the seed of its training and with the problems that it is asked. Three 95% intervals:

- over seeds: Student's t over the mean difference of each seed. What another training would give on these problems;
  with few seeds it is wide, as it has to be. This is the headline.
- over problems: clustered, from each problem's difference over all seeds. What these trainings would give on other
  problems of the kind.
- over both: seeds and problems are crossed (every seed is asked every problem), so the variance of the mean is that
  over seeds plus that over problems, less what both count: ``V_s + V_p - V_e`` with ``V_e`` from the residuals of
  seed and problem, and never less than the larger of the two. Student's quantile of the fewer degrees of freedom.
  (Cameron, Gelbach and Miller, "Robust Inference with Multiway Clustering", 2011.) A nested bootstrap would draw
  problems anew within each seed, which they are not, and with five seeds it is too narrow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from polaris_eval.scores import clustered_mean, student_quantile

Table = Sequence[Sequence[float]]
"""[seeds][problems] share of correct answers, or a difference of shares."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """A mean over seeds and problems."""

    value: float

    by_seed: tuple[float, ...]
    """[seeds] means over problems."""

    seeds: Interval | None
    """95%, over seeds; ``None`` with one seed."""

    problems: Interval
    """95%, over problems."""

    both: Interval | None
    """95%, over both; ``None`` with one seed or one problem."""


def contrast(after: Table, before: Table | None = None) -> Contrast:
    """Return a mean of shares, or of the differences of two arms paired by seed and problem.

    Args:
        after: Of the arm.
        before: Of the arm that it is compared with: the same seeds and problems in the same order.
    """
    if before is None:
        rows, low = [list(row) for row in after], 0.0
    else:
        rows = [[now - then for now, then in zip(*pair, strict=True)] for pair in zip(after, before, strict=True)]
        low = -1.0
    by_seed = [fmean(row) for row in rows]
    by_problem = [fmean(column) for column in zip(*rows, strict=True)]
    value = fmean(by_seed)
    seeds = clustered_mean(by_seed, low=low, high=1.0).interval if len(rows) > 1 else None
    problems = clustered_mean(by_problem, low=low, high=1.0).interval
    half = _half_width(rows, by_seed, by_problem)
    return Contrast(
        value=value,
        by_seed=tuple(by_seed),
        seeds=seeds,
        problems=problems,
        # The other two matter where all seeds or all problems agree: no spread is not certainty.
        both=None
        if seeds is None or half is None
        else (min(seeds[0], problems[0], max(low, value - half)), max(seeds[1], problems[1], min(1.0, value + half))),
    )


def _half_width(rows: Table, by_seed: Sequence[float], by_problem: Sequence[float]) -> float | None:
    num_seeds, num_problems = len(by_seed), len(by_problem)
    if num_seeds < 2 or num_problems < 2:
        return None
    mean = fmean(by_seed)
    residuals = (
        share - seed - problem + mean
        for row, seed in zip(rows, by_seed, strict=True)
        for share, problem in zip(row, by_problem, strict=True)
    )
    squares = math.fsum(each**2 for each in residuals)
    over_seeds, over_problems = variance(by_seed) / num_seeds, variance(by_problem) / num_problems
    counted_twice = squares / ((num_seeds - 1) * (num_problems - 1)) / (num_seeds * num_problems)
    total = max(over_seeds + over_problems - counted_twice, over_seeds, over_problems)
    return student_quantile(min(num_seeds, num_problems) - 1) * math.sqrt(total)
