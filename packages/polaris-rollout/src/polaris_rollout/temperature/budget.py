"""Measurements of the same problems at several temperatures, within a budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polaris_rollout.errors import SettingError
from polaris_rollout.records import MAX_TEMPERATURE
from polaris_rollout.temperature.zones import AccuracyFit

Floats = NDArray[np.float64]

GRID = 0.05
"""Temperatures are probed, and stage 1's is chosen, in multiples of this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What all answers at one temperature showed."""

    temperature: float
    """Of sampling."""

    num_samples: int
    """Answers of each problem."""

    accuracy: Floats
    """[P] share of each problem's answers that are correct."""

    diversity: Floats
    """[P] diversity of each problem's answers, 0 to 1; NaN where it has none."""

    truncated: Floats
    """[P] share of each problem's answers that the token budget ended."""

    tokens: Floats
    """[P] mean length of each problem's answers."""


Measure = Callable[[float, int], Probe]
"""Given a temperature and a number of answers for each problem, counting those drawn before, return the probe."""


class ProbeRun:
    """Probes of the same problems at several temperatures, within a budget.

    Attributes:
        probes: By temperature, rising.
    """

    def __init__(
        self,
        measure: Measure,
        *,
        batch: int,
        max_answers: int,
        max_tokens: float = math.inf,
        lowest: float = 0.6,
        highest: float = MAX_TEMPERATURE,
        given: float | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            measure: Draws and judges the answers.
            batch: Answers of each problem that are added at once.
            max_answers: Of each problem, over all temperatures.
            max_tokens: Of all answers; the batch that passes it is the last.
            lowest: Lowest temperature to be probed.
            highest: Highest temperature to be probed.
            given: Between them, and in the grid wherever it lies.

        Raises:
            SettingError: If the range is empty or negative, or the budget does not allow three batches.
        """
        if not 0 < lowest < highest <= MAX_TEMPERATURE:
            raise SettingError(
                f"the temperatures go from {lowest:g} to {highest:g}; give a lowest above 0 and a highest above that, "
                f"at most {MAX_TEMPERATURE:g}"
            )
        if max_answers < 3 * batch:
            raise SettingError(
                f"a budget of {max_answers} answers a problem is too small: three temperatures with {batch} answers "
                f"each are the least; give {3 * batch} or more"
            )
        self.probes: dict[float, Probe] = {}
        self.lowest, self.highest = lowest, highest
        self._given = [] if given is None else [given]
        self._measure = measure
        self._batch = batch
        self._max_answers = max_answers
        self._max_tokens = max_tokens

    @property
    def num_answers(self) -> int:
        """Answers of each problem, so far."""
        return sum(probe.num_samples for probe in self.probes.values())

    @property
    def num_tokens(self) -> float:
        """Of all answers, so far."""
        return sum(float(probe.tokens.sum()) * probe.num_samples for probe in self.probes.values())

    @property
    def affords_more(self) -> bool:
        """Whether the budget has room for another batch."""
        return self.num_answers + self._batch <= self._max_answers and self.num_tokens < self._max_tokens

    @property
    def temperatures(self) -> Floats:
        """[T] probed, rising."""
        return np.array(list(self.probes))

    def values(self, name: str) -> Floats:
        """Return ``[T, P]`` of one of the probes' fields."""
        return np.stack([getattr(probe, name) for probe in self.probes.values()])

    @property
    def num_samples(self) -> Floats:
        """[T] answers of each problem."""
        return np.array([float(probe.num_samples) for probe in self.probes.values()])

    @property
    def grid(self) -> Floats:
        """Temperatures that may be probed."""
        steps = np.arange(math.ceil(self.lowest / GRID - 1e-9), math.floor(self.highest / GRID + 1e-9) + 1)
        return np.unique(np.round([self.lowest, *(steps * GRID), *self._given, self.highest], 6))

    def add(self, temperature: float) -> Probe:
        """Draw another batch at the temperature of the grid that is nearest."""
        grid = self.grid
        nearest = float(grid[np.abs(grid - temperature).argmin()])
        before = self.probes[nearest].num_samples if nearest in self.probes else 0
        self.probes[nearest] = self._measure(nearest, before + self._batch)
        self.probes = dict(sorted(self.probes.items()))
        return self.probes[nearest]

    def gain(self, fit: AccuracyFit, quantity: Floats) -> Floats:
        """Return for each temperature of the grid how much of a quantity's variance a batch there removes, per token.

        ``[D]`` values of the quantity belong to the fit's curves; to first order a batch removes
        ``cov(accuracy, quantity)^2 / (var(accuracy) + noise)``.
        """
        curves = fit.accuracy(self.grid)
        means = curves.mean(axis=0)
        num_problems = len(next(iter(self.probes.values())).accuracy)
        noise = np.maximum(fit.variance_share * means * (1 - means), 0.01) / (self._batch * num_problems)
        shared = ((curves - means) * (quantity - quantity.mean())[:, None]).mean(axis=0)
        tokens = np.interp(self.grid, self.temperatures, self.values("tokens").mean(axis=1))
        return shared**2 / (curves.var(axis=0) + noise) / np.maximum(tokens, 1.0)
