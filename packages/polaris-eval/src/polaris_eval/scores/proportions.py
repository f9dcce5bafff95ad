"""Intervals of a mean of shares that hold down to 0 and up to 100%.

Completions of one problem resemble each other, so problems are what is drawn. Student's interval of their means holds
in the middle and fails at the edges: with a true mean of 1% most benchmarks of 30 problems show none of the few
problems that can be solved, and the spread that is seen says nothing about those. Here every mean is tested against
what was seen: with a correlation ``c`` of the completions of a problem, ``m`` problems of ``n`` completions say as much
as ``m / (c + (1 - c) / n)`` independent answers (Kish's design effect), and a mean is kept if so many answers are right
with a probability that is not too small. The correlation is averaged over what the shares allow at that mean.

References:
    Berry and Armitage, "Mid-P confidence intervals: a brief review", 1995.
    Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data", 1998 (the binomial interval of an effective number).
    Gelman, "Prior distributions for variance parameters in hierarchical models", 2006 (flat in the deviation).
    Miller, "Adding Error Bars to Evals", 2024, https://arxiv.org/abs/2411.00640 (problems as clusters).
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from polaris_eval.records import Estimate

LEVEL = 0.95
"""Confidence of every interval."""

_DEVIATIONS = 32
"""Values of the correlation's root, evenly between 0 and 1: the deviation of difficulties, as a share of the largest
that their mean allows, each as likely beforehand."""

_WIDEST_LOGIT = 16.0
"""Of a mean that is not told from 0 or 1."""

_BINS = 256
"""Distinct shares that are told apart: pass@k of 500 problems may have as many values as problems."""

_NONE = 1e-12
"""In place of a beta distribution's parameter of 0, which has no values."""

_DIGITS = 6
"""Of an interval's ends: more would differ between machines."""


def mean_share(shares: Sequence[float], trials: Sequence[float]) -> Estimate:
    """Estimate the mean of shares, one of each problem.

    Either end leaves out the means at which what was seen, or more of it, has a probability below 2.5%; what was seen
    itself counts by half (mid-p). Near 0 and 1 there are means that only one end can leave out, because the other lies
    beyond them even where nothing, or everything, is right: there this end has the whole 5%. With one trial each it is
    the mid-p interval of a binomial proportion.

    Args:
        shares: One per problem, between 0 and 1.
        trials: Independent draws that each share is the mean of, in effect: ``n`` completions for ``mean@k``, ``n / k``
            sets of ``k`` for what looks at ``k`` at a time.

    Returns:
        The mean of the shares, and the interval, which holds it. An end is 0 or 1 where nothing or everything was
        right.

    Raises:
        ValueError: If there is no share.
    """
    if not shares:
        raise ValueError("no problems to take a mean over")
    mean = math.fsum(shares) / len(shares)
    beyond_nothing = 1 - _low_end([1.0] * len(shares), trials, one_sided=0.0)
    one_sided = min(beyond_nothing, 1 - beyond_nothing)
    low = _low_end(shares, trials, one_sided=one_sided)
    high = 1 - _low_end([1 - share for share in shares], trials, one_sided=one_sided)
    return Estimate(value=mean, interval=(min(round(low, _DIGITS), mean), max(round(high, _DIGITS), mean)))


def _low_end(shares: Sequence[float], trials: Sequence[float], *, one_sided: float) -> float:
    """Return the smallest mean that is kept; below ``one_sided`` no other end leaves out a mean."""
    if max(shares) == 0:
        return 0.0
    probability = _probability_of_more(shares, trials)
    low = _mean_where(probability, (1 - LEVEL) / 2)
    return low if low >= one_sided else min(_mean_where(probability, 1 - LEVEL), one_sided)


def _mean_where(probability: Callable[[float], float], level: float) -> float:
    from scipy.optimize import brentq

    if probability(-_WIDEST_LOGIT) >= level:
        return 0.0

    def gap(logit: float) -> float:
        return probability(logit) - level

    logit: Any = brentq(gap, -_WIDEST_LOGIT, _WIDEST_LOGIT, xtol=1e-7)
    return 1 / (1 + math.exp(-logit))


def _probability_of_more(shares: Sequence[float], trials: Sequence[float]) -> Callable[[float], float]:
    """Return the mid-p probability of what was seen or more, as a function of the logit of the mean."""
    import numpy as np  # both of which `--help` should not wait for
    from scipy.special import betainc, betaln, expit

    counts = Counter(zip(shares, trials, strict=True))
    if len(counts) > _BINS:
        counts = Counter((round(share * _BINS) / _BINS, number) for share, number in zip(shares, trials, strict=True))
    (share, number), problems = np.array(list(counts)).T[:, :, None], np.array(list(counts.values()))
    correlations = ((np.arange(_DEVIATIONS) + 0.5) / _DEVIATIONS) ** 2
    size = (1 - correlations) / correlations  # of the beta distribution of the problems' own probabilities
    effective = len(shares) / (problems @ (correlations + (1 - correlations) / number) / len(shares))
    mean = math.fsum(shares) / len(shares)
    right, wrong = mean * effective, np.maximum((1 - mean) * effective, _NONE)

    def probability(logit: float) -> float:
        first, second = expit(logit) * size, expit(-logit) * size
        seen: Any = betaln(first + share * number, second + (1 - share) * number) - betaln(first, second)
        log_weights = problems @ seen
        weights = np.exp(log_weights - log_weights.max())
        tails = betainc(right, 1 + wrong, expit(logit)) + betainc(1 + right, wrong, expit(logit))
        return float(weights @ tails / weights.sum() / 2)

    return probability
