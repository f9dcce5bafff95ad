"""Means over problems with 95% intervals; pure functions of what was correct.

Completions of one problem resemble each other, so the problem is the observation: each contributes one mean,
and the interval comes from the spread of these means. It covers both sources of chance, which problems are in
the benchmark and which completions were drawn, and does not shrink when the same problems are only sampled
more often (Miller, "Adding Error Bars to Evals", 2024, https://arxiv.org/abs/2411.00640).
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from polaris_eval.records import Estimate
from polaris_eval.scores.proportions import LEVEL, mean_share

_DRAWN_VALUES = 2**22
"""Values that the bootstrap holds at the same time."""

_ROUNDING = 1e-9
"""Shares closer than this are the same; 0.3 - 0.2 and 0.2 - 0.1 are."""


def mean_at_k(correct: Sequence[Sequence[bool]]) -> Estimate:
    """Estimate the probability that one completion is correct (``mean@k``, also called avg@k).

    Args:
        correct: For each problem, what was correct among its completions, at least one.

    Returns:
        The mean over problems of their shares of correct completions, and the interval of `mean_share`.

    Raises:
        ValueError: If there is no problem, or one without completions.
    """
    return mean_share(_problem_means(correct), [len(group) for group in correct])


def paired_difference(before: Sequence[Sequence[bool]], after: Sequence[Sequence[bool]]) -> Estimate:
    """Estimate how much ``mean@k`` changed between two models on the same problems.

    Pairing removes the spread in difficulty that both models share, so the interval is narrower than that of
    two unpaired scores.

    Args:
        before: For each problem, what was correct among the first model's completions.
        after: The same for the second model, in the same order of problems; the number of completions may
            differ.

    Returns:
        The mean over problems of (after - before), and the interval of `mean_difference`.

    Raises:
        ValueError: If the numbers of problems differ, there is no problem, or one without completions.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} problems before and {len(after)} after; compare the same problems")
    means = zip(_problem_means(before), _problem_means(after), strict=True)
    differences = [second - first for first, second in means]
    return mean_difference(
        differences, [(len(first), len(second)) for first, second in zip(before, after, strict=True)]
    )


def mean_difference(differences: Sequence[float], num_samples: Sequence[tuple[int, int]]) -> Estimate:
    """Estimate a mean of paired differences of shares, one per problem.

    The interval is Student's with two problems more, whose differences are as large as chance alone makes them at a
    probability of 1/2, up and down. They matter where few problems differ: equal differences are no certainty, and a
    model compared with itself is known to the noise of its samples. Agresti and Min ("Simple Improved Confidence
    Intervals for Comparing Matched Proportions", 2005) add as much to pairs of single outcomes.

    Args:
        differences: One per problem.
        num_samples: Completions of each problem, before and after.

    Raises:
        ValueError: If there is no difference.
    """
    if not differences:
        raise ValueError("no problems to take a mean over")
    mean = math.fsum(differences) / len(differences)
    center, error, degrees = _with_chance(differences, num_samples)
    half = student_quantile(degrees) * error
    return Estimate(value=mean, interval=(max(-1.0, center - half), min(1.0, center + half)))


def clustered_mean(values: Sequence[float], *, low: float, high: float) -> Estimate:
    """Estimate a mean from one value per problem.

    The interval is ``mean ± t * s / sqrt(m)``, with the unbiased standard deviation ``s`` of the ``m`` values
    and Student's quantile of ``m - 1`` degrees of freedom, cut to [low, high].

    With a single value, or when all values agree, no spread can be seen; that is not certainty. The interval
    then assumes the largest variance that values within [low, high] can have at this mean, which is that of
    values at the two ends only (Wilson's score interval): 30 problems without a correct completion give
    [0, 0.114], one problem always solved gives [0.207, 1].

    Args:
        values: One per problem.
        low: The smallest value possible.
        high: The largest value possible.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("no problems to take a mean over")
    mean = math.fsum(values) / len(values)
    if max(values) - min(values) < _ROUNDING:
        return Estimate(value=mean, interval=_wilson(mean, len(values), low=low, high=high))
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    half = student_quantile(len(values) - 1) * math.sqrt(variance / len(values))
    return Estimate(value=mean, interval=(max(low, mean - half), min(high, mean + half)))


def bootstrap_interval(values: Sequence[float], *, num_draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean when the problems are drawn again, with replacement.

    Free of any assumption about the shape of the values, and too narrow for few of them: with 30 problems by about
    4% of its width (Student's quantile is larger than the normal one, which percentiles follow).

    Args:
        values: One per problem.
        num_draws: Draws of as many problems as there are.
        seed: Of the draws; the same gives the same interval.
    """
    import numpy as np  # both of which `--help` should not wait for
    from scipy.stats import bootstrap

    if len(values) < 2:
        return values[0], values[0]
    drawn: Any = bootstrap(
        (np.asarray(values, dtype=np.float64),),
        np.mean,
        n_resamples=num_draws,
        batch=max(1, _DRAWN_VALUES // len(values)),
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def sign_probability(differences: Sequence[float], num_samples: Sequence[tuple[int, int]]) -> float:
    """Return the probability that a mean difference over problems has the sign that was seen.

    That of the distribution behind the interval of `mean_difference`, without a prior opinion: 0.5 says that nothing is
    known, and 0.975 is where the interval touches zero.

    Args:
        differences: One per problem.
        num_samples: Completions of each problem, before and after.

    Returns:
        Between 0.5 and 1; 0.5 where the mean is zero.
    """
    center, error, degrees = _with_chance(differences, num_samples)
    t = abs(center) / error
    return (1 + _student_probability(math.atan(t / math.sqrt(degrees)), degrees)) / 2


def _with_chance(differences: Sequence[float], num_samples: Sequence[tuple[int, int]]) -> tuple[float, float, int]:
    """Return center, standard error and degrees of freedom with the two problems of `mean_difference`."""
    chance = math.sqrt(math.fsum(1 / (4 * old) + 1 / (4 * new) for old, new in num_samples) / len(num_samples))
    values = [*differences, chance, -chance]
    center = math.fsum(values) / len(values)
    variance = math.fsum((value - center) ** 2 for value in values) / (len(values) - 1)
    return center, math.sqrt(variance / len(values)), len(values) - 1


@cache
def student_quantile(degrees: int, level: float = LEVEL) -> float:
    """Return ``t`` with ``P(|T| <= t) = level`` for Student's distribution.

    Found by bisection on the angle ``atan(t / sqrt(degrees))``, in which the probability is a finite sum.

    Args:
        degrees: Degrees of freedom, at least 1.
        level: Probability within ``[-t, t]``, between 0 and 1.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        angle = (low + high) / 2
        if _student_probability(angle, degrees) < level:
            low = angle
        else:
            high = angle
    return math.sqrt(degrees) * math.tan(low)


def _student_probability(angle: float, degrees: int) -> float:
    """Return ``P(|T| <= sqrt(degrees) * tan(angle))``: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    odd = degrees % 2
    term = math.sin(angle) * (math.cos(angle) if odd else 1.0)
    total = 0.0
    for power in range(1 + odd, degrees, 2):
        total += term
        term *= math.cos(angle) ** 2 * power / (power + 1)
    return 2 / math.pi * (angle + total) if odd else total


def _wilson(mean: float, count: int, *, low: float, high: float) -> tuple[float, float]:
    share = (mean - low) / (high - low)
    z = 1.959963984540054  # the normal quantile of LEVEL
    center = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return low + (high - low) * max(0.0, center - half), low + (high - low) * min(1.0, center + half)


def _problem_means(correct: Sequence[Sequence[bool]]) -> list[float]:
    for index, group in enumerate(correct):
        if not group:
            raise ValueError(f"problem {index} has no completions")
    return [sum(group) / len(group) for group in correct]
