"""The zones of a sampling temperature: a change-point fit of accuracy.

Up to a first change point accuracy does not depend on the temperature (the robust zone), after it its logarithm falls
linearly (controlled exploration), after a second one faster (collapse). Where the slopes change is hard to see through
the noise of a few thousand answers; where accuracy has lost a stated share of its level is not, so that is what the
borders of the zones mean here.

The fit is a sample of the posterior of the four shape parameters under flat priors, with the level integrated out. A
maximum-likelihood fit with a bootstrap would not do: at a change point its intervals do not cover what they claim.

References:
    An et al., "POLARIS", 2025 (the three zones). https://hkunlp.github.io/blog/2025/Polaris
    Goodman and Weare, "Ensemble samplers with affine invariance", 2010. https://doi.org/10.2140/camcos.2010.5.65
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COLLAPSE_LOSS = 0.2
"""Share of the accuracy that is lost where collapse begins; fits the published zones of three models."""

FIT_ERROR = 0.01
"""Relative error that two straight lines are allowed against a real curve."""

_FIRST_SLOPES = (0.1, 10.0)
_SECOND_SLOPES = (0.5, 50.0)
_LONGEST_EXPLORATION = 1.0
_NUM_WALKERS, _NUM_STEPS, _NUM_BURNT, _KEEP_EVERY = 128, 300, 100, 4


@dataclass(frozen=True, slots=True)
class AccuracyFit:
    """Curves of accuracy over temperature, drawn from what the measurements leave possible."""

    level: Floats
    """[D] accuracy of the robust zone."""

    first: Floats
    """[D] temperature of the first change point."""

    first_slope: Floats
    """[D] fall of log accuracy per unit of temperature after it."""

    second: Floats
    """[D] temperature of the second change point."""

    second_slope: Floats
    """[D] further fall of log accuracy per unit of temperature after that."""

    variance_share: float
    """Variance of one answer's correctness within its problem, as a share of that over all answers."""

    def accuracy(self, temperatures: Floats) -> Floats:
        """Return ``[D, T]`` accuracies."""
        return self.level[:, None] * np.exp(-_losses(self._shape(), temperatures))

    def border(self, loss: float) -> Floats:
        """Return ``[D]`` temperatures above which more than a share ``loss`` of the level is lost."""
        fall = -math.log1p(-loss)
        slow = self.first + fall / self.first_slope
        left = fall - self.first_slope * (self.second - self.first)
        return np.where(slow <= self.second, slow, self.second + left / (self.first_slope + self.second_slope))

    def _shape(self) -> Floats:
        return np.stack(
            [self.first, np.log(self.first_slope), self.second - self.first, np.log(self.second_slope)], axis=1
        )


def fit_accuracy(
    temperatures: Floats, accuracies: Floats, num_samples: Floats, *, bounds: tuple[float, float], seed: int
) -> AccuracyFit:
    """Fit the zones to accuracies of the same problems at several temperatures.

    Args:
        temperatures: ``[T]``, rising.
        accuracies: ``[T, P]`` share of each problem's answers that are correct; NaN where a problem was not asked.
        num_samples: ``[T]`` answers of each problem.
        bounds: Lowest and highest temperature in question.
        seed: Of the sample.

    Returns:
        Some thousand curves; a smaller share of ``accuracy`` correct makes them spread.
    """
    generator = np.random.default_rng(seed)
    means, variances, share = _means_and_variances(accuracies, num_samples)
    low = np.array([bounds[0] - 0.2, math.log(_FIRST_SLOPES[0]), 0.0, math.log(_SECOND_SLOPES[0])])
    high = np.array([bounds[1], math.log(_FIRST_SLOPES[1]), _LONGEST_EXPLORATION, math.log(_SECOND_SLOPES[1])])

    def fit(shapes: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the log posterior of each shape, and mean and precision of the level under it."""
        curves = np.exp(-_losses(shapes, temperatures))
        precision = (curves**2 / variances).sum(axis=1)
        weighted = (curves * (means / variances)).sum(axis=1)
        inside = ((shapes >= low) & (shapes <= high)).all(axis=1)
        log_posterior = 0.5 * weighted**2 / precision - 0.5 * np.log(precision)
        return np.where(inside, log_posterior, -np.inf), weighted / precision, precision

    shapes = _sample(lambda shapes: fit(shapes)[0], low, high, generator)
    _, level, precision = fit(shapes)
    return AccuracyFit(
        level=level + generator.standard_normal(len(level)) / np.sqrt(precision),
        first=shapes[:, 0],
        first_slope=np.exp(shapes[:, 1]),
        second=shapes[:, 0] + shapes[:, 2],
        second_slope=np.exp(shapes[:, 3]),
        variance_share=share,
    )


def _losses(shapes: Floats, temperatures: Floats) -> Floats:
    """Return ``[D, T]`` falls of log accuracy below its level."""
    first, first_slope, gap, second_slope = (column[:, None] for column in shapes.T)
    after_first = np.maximum(temperatures - first, 0)
    after_second = np.maximum(temperatures - first - gap, 0)
    # Beyond e^-50 a curve is 0, and its precision must not be.
    return np.minimum(np.exp(first_slope) * after_first + np.exp(second_slope) * after_second, 50.0)


def _means_and_variances(accuracies: Floats, num_samples: Floats) -> tuple[Floats, Floats, float]:
    """Return mean accuracies, their variances, and the share of the variance that lies within problems.

    The same problems are asked at all temperatures, so what differs between problems is no noise; but each
    problem loses at its own pace, and that the variance of ``accuracy - share left * accuracy when robust`` shows.
    """
    num_problems = (~np.isnan(accuracies)).sum(axis=1)
    means = np.nanmean(accuracies, axis=1)
    num_answers = num_samples * num_problems
    several = num_samples[:, None] / np.maximum(num_samples[:, None] - 1, 1)
    within = np.nansum(accuracies * (1 - accuracies) * several)
    overall = (means * (1 - means) * num_problems).sum()
    share = float(within / overall) if overall > 0 else 1.0
    smooth = (means * num_answers + 1) / (num_answers + 2)
    binomial = share * smooth * (1 - smooth) / num_answers
    robust = accuracies[np.argmax(means - np.sqrt(binomial))]
    paces = accuracies - (means / max(float(np.nanmean(robust)), 1e-9))[:, None] * robust
    spread = np.nanvar(paces, axis=1) / num_problems
    return means, np.maximum(binomial, spread) + (FIT_ERROR * means.max()) ** 2, share


def _sample(
    log_posterior: Callable[[Floats], Floats], low: Floats, high: Floats, generator: np.random.Generator
) -> Floats:
    """Sample a posterior inside a box with walkers that step along the lines to each other."""
    spread = low + (high - low) * generator.random((20_000, len(low)))
    values = log_posterior(spread)
    # A flattened posterior places the walkers, so that every mode starts with some.
    start = np.exp(0.3 * (values - values.max()))
    chosen = generator.choice(len(spread), _NUM_WALKERS, p=start / start.sum())
    walkers, values = spread[chosen], values[chosen]
    half = _NUM_WALKERS // 2
    kept: list[Floats] = []
    for step in range(_NUM_STEPS):
        for movers, others in ((slice(0, half), slice(half, None)), (slice(half, None), slice(0, half))):
            stretch = (generator.random(half) + 1) ** 2 / 2
            anchors = walkers[others][generator.integers(half, size=half)]
            proposed = anchors + stretch[:, None] * (walkers[movers] - anchors)
            proposed_values = log_posterior(proposed)
            log_odds = (len(low) - 1) * np.log(stretch) + proposed_values - values[movers]
            accepted = np.log(generator.random(half)) < log_odds
            walkers[movers] = np.where(accepted[:, None], proposed, walkers[movers])
            values[movers] = np.where(accepted, proposed_values, values[movers])
        if step >= _NUM_BURNT and step % _KEEP_EVERY == 0:
            kept.append(walkers.copy())
    return np.concatenate(kept)
