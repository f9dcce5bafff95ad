"""Diversity over temperature: a rising curve through what was measured, and where it reaches a target."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polaris_rollout.errors import SettingError
from polaris_rollout.temperature.budget import Floats, ProbeRun
from polaris_rollout.temperature.diversity import Interval

LEAST_SHARE = 0.5
"""Share of the problems that must have a diversity for a temperature to count."""

_NUM_RESAMPLES = 500
_NUM_ROUNDS = 20
_FARTHEST = 0.4


@dataclass(frozen=True, slots=True)
class RisingFit:
    """Rising curves of diversity minus a target, over the temperatures at which diversity is known."""

    temperatures: Floats
    """[T] probed, rising."""

    curve: Floats
    """[T] closest to what was measured."""

    draws: Floats
    """[D, T] of problems drawn anew."""

    measured: Floats
    """[T] means over problems, rising or not."""

    def crossings(self) -> Floats:
        """Return ``[D]`` temperatures at which the curves reach the target.

        Beyond what was probed a curve goes on as the closest one does between its last two temperatures, but not far.
        """
        last = len(self.temperatures) - 1
        if last == 0:
            return np.full(len(self.draws), self.temperatures[0])
        # A level stretch has no inverse; the slightest slope gives it one.
        curves = self.draws + 1e-9 * np.arange(last + 1)
        after = np.clip((curves < 0).sum(axis=1), 1, last)
        start, end = (np.take_along_axis(curves, each[:, None], axis=1)[:, 0] for each in (after - 1, after))
        share = np.clip(-start / (end - start), 0.0, 1.0)
        found = self.temperatures[after - 1] + share * (self.temperatures[after] - self.temperatures[after - 1])
        below = np.clip(self.draws[:, 0] / self._slope(0, 1), 0.0, _FARTHEST)
        above = np.clip(-self.draws[:, -1] / self._slope(-2, -1), 0.0, _FARTHEST)
        return found - below + above

    def _slope(self, start: int, end: int) -> float:
        """Return the slope between two temperatures, or where that is level the one over all; never 0."""
        rises = ((start, end), (0, -1))
        slopes = [(self.curve[b] - self.curve[a]) / (self.temperatures[b] - self.temperatures[a]) for a, b in rises]
        return max(float(slopes[0]) or float(slopes[1]), 1e-6)

    @property
    def share_reaching(self) -> float:
        """Share of the curves that reach the target between the temperatures."""
        return float(np.mean((self.draws[:, 0] <= 0) & (self.draws[:, -1] >= 0)))

    def bracket(self) -> tuple[float | None, float | None]:
        """Return the temperatures next to the target: below it, and at or above it."""
        below, reached = self.temperatures[self.curve < 0], self.temperatures[self.curve >= 0]
        return (float(below[-1]) if len(below) else None, float(reached[0]) if len(reached) else None)

    def at(self, temperature: float, level: float) -> Interval:
        """Return the value at a temperature, with its interval."""
        drawn = np.array([np.interp(temperature, self.temperatures, curve) for curve in self.draws])
        return interval(float(np.interp(temperature, self.temperatures, self.curve)), drawn, level)


def fit_diversity(run: ProbeRun, target: float | Floats = 0.0, *, seed: int) -> RisingFit:
    """Fit a rising curve to the diversity of a run's probes.

    A problem without a value at a temperature is taken to differ from the others there as it does elsewhere: to leave
    it out would change of which problems the mean is. Fresh problems, asked at one temperature, shift the whole curve.

    Args:
        run: With at least one probe.
        target: Subtracted; ``[P]`` of each problem.
        seed: Of the resampling.

    Raises:
        SettingError: If no temperature has a diversity of at least half of the problems.
    """
    values = run.values("diversity") - target
    known = ~np.isnan(values)
    usable = known.mean(axis=1) >= LEAST_SHARE
    if not usable.any():
        raise SettingError(
            "too few answers are long enough to measure diversity; give more problems, or a larger --max-tokens or "
            "--context if the answers are cut short"
        )
    temperatures, weights = run.temperatures[usable], (run.num_samples * known.mean(axis=1))[usable]
    of_problems = filled(values[usable])
    num_problems = of_problems.shape[1]
    generator = np.random.default_rng(seed)
    drawn = generator.integers(num_problems, size=(_NUM_RESAMPLES, num_problems))
    means = of_problems.mean(axis=1)
    # A resample of P problems spreads too little by this factor.
    stretch = math.sqrt(num_problems / max(num_problems - 1, 1))
    resampled = means + stretch * (of_problems[:, drawn].mean(axis=2).T - means)
    fresh, index = _fresh(run, temperatures, float(np.mean(target)))
    again = generator.integers(max(len(fresh), 1), size=(_NUM_RESAMPLES, len(fresh)))
    total = num_problems + len(fresh)
    measured = means + (fresh - means[index]).sum() / total
    shifts = (fresh[again] - np.take_along_axis(resampled, index[again], axis=1)).sum(axis=1) / total
    draws = rising(resampled + shifts[:, None], weights)
    return RisingFit(temperatures, rising(measured, weights), draws, measured)


def rising(values: Floats, weights: Floats) -> Floats:
    """Return ``[..., T]`` the rising curves closest to ``[..., T]`` values.

    The largest, over all starts at or before a temperature, of the smallest mean from there to an end at or after it.
    """
    size = len(weights)
    zero = np.zeros((*values.shape[:-1], 1))
    sums = np.concatenate([zero, np.cumsum(values * weights, axis=-1)], axis=-1)
    total = np.concatenate([[0.0], np.cumsum(weights)])
    start, end = np.tril_indices(size)[::-1]
    means = np.full((*values.shape[:-1], size, size), math.inf)
    means[..., start, end] = (sums[..., end + 1] - sums[..., start]) / (total[end + 1] - total[start])
    smallest = np.minimum.accumulate(means[..., ::-1], axis=-1)[..., ::-1]
    smallest[..., *np.tril_indices(size, -1)] = -math.inf
    return smallest.max(axis=-2)


def filled(values: Floats) -> Floats:
    """Return ``[T, P]`` values with the missing ones as the sum of a temperature's and a problem's effect.

    Problems without any value are left out.
    """
    values = values[:, ~np.isnan(values).all(axis=0)]
    missing = np.isnan(values)
    if not missing.any():
        return values
    of_problems = np.zeros(values.shape[1])
    of_temperatures = np.zeros(len(values))
    for _ in range(_NUM_ROUNDS):
        of_temperatures = np.nanmean(values - of_problems, axis=1)
        of_problems = np.nanmean(values - of_temperatures[:, None], axis=0)
    return np.where(missing, of_temperatures[:, None] + of_problems, values)


def interval(value: float, draws: Floats, level: float) -> Interval:
    """Return a value with the quantiles of its draws."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def _fresh(run: ProbeRun, temperatures: Floats, target: float) -> tuple[Floats, NDArray[np.int64]]:
    """Return ``[F]`` values of fresh problems and the index of the temperature of each."""
    values, index = [np.empty(0)], [np.empty(0, dtype=np.int64)]
    for probe in run.fresh:
        if probe.temperature in temperatures:
            values.append(probe.diversity[~np.isnan(probe.diversity)] - target)
            index.append(np.full(len(values[-1]), np.searchsorted(temperatures, probe.temperature)))
    return np.concatenate(values), np.concatenate(index)
