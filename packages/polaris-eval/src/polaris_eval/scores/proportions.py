"""Intervals of a mean of shares that hold down to 0 and up to 100%.

Completions of one problem resemble each other, so problems are what is drawn. Student's interval of their means holds
in the middle and fails at the edges: with a true mean of 1% most benchmarks of 30 problems show none of the few
problems that can be solved, and the spread that is seen says nothing about those. Here each problem's success
probability is drawn from a beta distribution whose mean and spread are both unknown, so that what was not seen is
allowed for.

References:
    Brown, Cai and DasGupta, "Interval Estimation for a Binomial Proportion", 2001 (Jeffreys' prior for the mean).
    Miller, "Adding Error Bars to Evals", 2024, https://arxiv.org/abs/2411.00640 (problems as clusters).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from polaris_eval.records import Estimate

LEVEL = 0.95
"""Confidence of every interval."""

_SPREADS = 32
"""Values of the correlation of two completions of a problem, evenly between 0 and 1, each as likely beforehand."""

_WIDEST_LOGIT = 16.0
_COARSE, _FINE = 129, 201
_TAIL = 1e-5
"""Probability beyond the range that is looked at closely."""

_BINS = 256
"""Distinct shares that are told apart: pass@k of 500 problems may have as many values as problems."""

_DIGITS = 6
"""Of an interval's ends: more would differ between machines."""


def mean_share(shares: Sequence[float], trials: Sequence[float]) -> Estimate:
    """Estimate the mean of shares, one of each problem.

    The interval is the central one of the posterior: each share is what ``trials`` draws with the problem's own
    probability gave, this probability is drawn from ``Beta(mean, correlation)``, the mean has Jeffreys' prior and the
    correlation a flat one. An end is 0 or 1 where nothing or everything was right.

    Args:
        shares: One per problem, between 0 and 1.
        trials: Independent draws that each share is the mean of, in effect: ``n`` completions for ``mean@k``, ``n / k``
            sets of ``k`` for what looks at ``k`` at a time.

    Returns:
        The mean of the shares, and the interval, which holds it.

    Raises:
        ValueError: If there is no share.
    """
    if not shares:
        raise ValueError("no problems to take a mean over")
    mean = math.fsum(shares) / len(shares)
    low, high = _posterior_interval(Counter(zip(shares, trials, strict=True)))
    low = 0.0 if max(shares) == 0 else min(round(low, _DIGITS), mean)
    high = 1.0 if min(shares) == 1 else max(round(high, _DIGITS), mean)
    return Estimate(value=mean, interval=(low, high))


def _posterior_interval(counts: Counter[tuple[float, float]]) -> tuple[float, float]:
    import numpy as np  # both of which `--help` should not wait for
    from scipy.special import expit

    if len(counts) > _BINS:
        counts = _binned(counts)
    logits: Any = np.linspace(-_WIDEST_LOGIT, _WIDEST_LOGIT, _COARSE)
    coarse = _cumulated(logits, counts)
    first = max(int(np.searchsorted(coarse, _TAIL)) - 2, 0)
    last = min(int(np.searchsorted(coarse, 1 - _TAIL)) + 1, len(logits) - 1)
    logits = np.linspace(logits[first], logits[last], _FINE)
    ends = np.interp([(1 - LEVEL) / 2, (1 + LEVEL) / 2], _cumulated(logits, counts), logits)
    low, high = expit(ends)
    return float(low), float(high)


def _binned(counts: Counter[tuple[float, float]]) -> Counter[tuple[float, float]]:
    binned: Counter[tuple[float, float]] = Counter()
    for (share, trials), number in counts.items():
        binned[round(share * _BINS) / _BINS, trials] += number
    return binned


def _cumulated(logits: Any, counts: Counter[tuple[float, float]]) -> Any:
    """Return the posterior probability of a smaller mean, at each of these."""
    import numpy as np
    from scipy.special import expit, gammaln

    means: Any = expit(logits)[:, None]
    correlations = (np.arange(_SPREADS) + 0.5) / _SPREADS
    size = (1 - correlations) / correlations
    right, wrong = means * size, expit(-logits)[:, None] * size
    # Jeffreys' Beta(1/2, 1/2) of the mean, as a density over its logit.
    log_posterior = np.repeat(0.5 * (np.log(means) + np.log(expit(-logits)[:, None])), _SPREADS, axis=1)
    for (share, trials), number in counts.items():
        log_posterior += number * (
            (gammaln(right + share * trials) - gammaln(right))
            + (gammaln(wrong + (1 - share) * trials) - gammaln(wrong))
            - (gammaln(size + trials) - gammaln(size))
        )
    density = np.exp(log_posterior - log_posterior.max()).sum(axis=1)
    steps = np.concatenate([[0.0], (density[1:] + density[:-1]) / 2])
    return np.cumsum(steps) / steps.sum()
