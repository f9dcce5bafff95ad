"""Measurements of the same problems at several temperatures, within a budget."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from polaris_rollout.errors import SettingError
from polaris_rollout.records import MAX_TEMPERATURE
from polaris_rollout.temperature.zones import AccuracyFit

Floats = NDArray[np.float64]

GRID = 0.05
"""Temperatures are probed, and stage 1's is chosen, in multiples of this."""

COLLAPSED_SHARE = 0.6
"""Share of the best accuracy; below it a temperature has collapsed and none above it is of interest."""

FIRST_SHARE = 4
"""A new temperature is first tried on one in so many of the problems, those that are solved most often."""

_CHANCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What all answers at one temperature showed."""

    temperature: float
    """Of sampling."""

    num_samples: int
    """Answers of each problem."""

    accuracy: Floats
    """[P] share of each problem's answers that are correct; NaN where it was not asked."""

    diversity: Floats
    """[P] diversity of each problem's answers, 0 to 1; NaN where it has none."""

    truncated: Floats
    """[P] share of each problem's answers that the token budget ended."""

    tokens: Floats
    """[P] mean length of each problem's answers."""

    @property
    def num_asked(self) -> int:
        """Problems that were asked: some where the first answers showed collapse, else all."""
        return int((~np.isnan(self.accuracy)).sum())

    def spread(self, problems: Sequence[int], num_problems: int) -> "Probe":
        """Return the probe of some problems as one of all, with NaN for the others."""

        def every(values: Floats) -> Floats:
            found = np.full(num_problems, math.nan)
            found[list(problems)] = values
            return found

        return replace(
            self,
            accuracy=every(self.accuracy),
            diversity=every(self.diversity),
            truncated=every(self.truncated),
            tokens=every(self.tokens),
        )


Measure = Callable[[float, int, Sequence[int]], Probe]
"""Given a temperature, a number of answers counting those drawn before, and the indices of the problems to ask, return
the probe of these problems."""


class ProbeRun:
    """Probes of the same problems at several temperatures, within a budget.

    Attributes:
        probes: By temperature, rising.
        fresh: Of further problems, each asked once, at a temperature that is in ``probes``.
        quantity: What the probes' ``diversity`` is called in sentences.
    """

    def __init__(
        self,
        measure: Measure,
        *,
        num_problems: int,
        batch: int,
        max_answers: int,
        max_tokens: float = math.inf,
        bounds: tuple[float, float] = (0.6, MAX_TEMPERATURE),
        given: float | None = None,
        num_fresh: int = 0,
        quantity: str = "diversity",
    ) -> None:
        """Prepare a run.

        Args:
            measure: Draws and judges the answers.
            num_problems: That are asked at every temperature: the first ones.
            batch: Answers of each problem that are added at once.
            max_answers: Of each problem, over all temperatures; as many of fresh ones count the same.
            max_tokens: Of all answers; the batch that passes it is the last.
            bounds: Lowest and highest temperature to be probed.
            given: Between them, and in the grid wherever it lies.
            num_fresh: Problems after the first ones.
            quantity: What the probes' ``diversity`` is called in sentences.

        Raises:
            SettingError: If the range is empty or negative, or the budget does not allow three batches.
        """
        lowest, highest = bounds
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
        self.fresh: list[Probe] = []
        self.lowest, self.highest = lowest, highest
        self.num_problems = num_problems
        self.quantity = quantity
        self._num_fresh = num_fresh
        self._given = [] if given is None else [given]
        self._measure = measure
        self._batch = batch
        self._max_answers = max_answers
        self._max_tokens = max_tokens

    @property
    def num_answers(self) -> int:
        """Answers of each problem so far, on average over the problems asked everywhere."""
        drawn = sum(each.num_samples * each.num_asked for each in (*self.probes.values(), *self.fresh))
        return math.ceil(drawn / self.num_problems)

    @property
    def num_tokens(self) -> float:
        """Of all answers, so far."""
        probes = (*self.probes.values(), *self.fresh)
        return sum(float(np.nansum(probe.tokens)) * probe.num_samples for probe in probes)

    @property
    def affords_more(self) -> bool:
        """Whether the budget has room for another batch."""
        return self.num_answers + self._batch <= self._max_answers and self.num_tokens < self._max_tokens

    @property
    def has_fresh(self) -> bool:
        """Whether there are problems that were not asked yet."""
        return sum(len(each.accuracy) for each in self.fresh) < self._num_fresh

    @property
    def temperatures(self) -> Floats:
        """[T] probed, rising."""
        return np.array(list(self.probes))

    def values(self, name: str) -> Floats:
        """Return ``[T, P]`` of one of the probes' fields."""
        return np.stack([getattr(probe, name) for probe in self.probes.values()])

    def means(self, name: str) -> Floats:
        """Return ``[T]`` means over the problems that have a value, NaN where none has."""
        values = self.values(name)
        known = ~np.isnan(values)
        return np.where(known, values, 0.0).sum(axis=1) / np.where(known.any(axis=1), known.sum(axis=1), math.nan)

    @property
    def num_samples(self) -> Floats:
        """[T] answers of each problem."""
        return np.array([float(probe.num_samples) for probe in self.probes.values()])

    @property
    def grid(self) -> Floats:
        """Temperatures that may be probed."""
        steps = np.arange(math.ceil(self.lowest / GRID - 1e-9), math.floor(self.highest / GRID + 1e-9) + 1)
        return np.unique(np.round([self.lowest, *(steps * GRID), *self._given, self.highest], 6))

    @property
    def ceiling(self) -> float:
        """Lowest temperature whose first answers showed collapse; infinite without one."""
        return min(
            (each for each, probe in self.probes.items() if probe.num_asked < self.num_problems), default=math.inf
        )

    def add(self, temperature: float) -> Probe:
        """Draw another batch at the temperature of the grid that is nearest.

        A new temperature above the best one is first tried on the problems that are solved most often. If none of
        their answers is right, which would have a probability below 1 in 1,000 with 0.6 of the best accuracy left, the
        others are not asked: answers in collapse are as long as the budget allows, and dear. Else the first answers
        are part of the batch, so that no estimate is biased by them.
        """
        grid = self.grid
        nearest = float(grid[np.abs(grid - temperature).argmin()])
        before = self.probes[nearest].num_samples if nearest in self.probes else 0
        first = self._first(nearest)
        tried = self._measure(nearest, before + self._batch, first).spread(first, self.num_problems) if first else None
        if tried is None or not self._shows_collapse(tried):
            tried = self._measure(nearest, before + self._batch, range(self.num_problems))
        self.probes[nearest] = tried
        self.probes = dict(sorted(self.probes.items()))
        return tried

    def add_fresh(self, temperature: float) -> Probe:
        """Ask as many problems again that were asked nothing yet, at a temperature that was probed."""
        asked = self.num_problems + sum(len(each.accuracy) for each in self.fresh)
        last = min(asked + self.num_problems, self.num_problems + self._num_fresh)
        self.fresh.append(self._measure(temperature, self._batch, range(asked, last)))
        return self.fresh[-1]

    def gain(self, fit: AccuracyFit, quantity: Floats) -> Floats:
        """Return for each temperature of the grid how much of a quantity's variance a batch there removes, per token.

        ``[D]`` values of the quantity belong to the fit's curves; to first order a batch removes
        ``cov(accuracy, quantity)^2 / (var(accuracy) + noise)``. From where collapse showed nothing is gained.
        """
        curves = fit.accuracy(self.grid)
        means = curves.mean(axis=0)
        noise = np.maximum(fit.variance_share * means * (1 - means), 0.01) / (self._batch * self.num_problems)
        shared = ((curves - means) * (quantity - quantity.mean())[:, None]).mean(axis=0)
        tokens = np.interp(self.grid, self.temperatures, self.means("tokens"))
        gains = shared**2 / (curves.var(axis=0) + noise) / np.maximum(tokens, 1.0)
        return np.where(self.grid < self.ceiling, gains, -1.0)

    def _first(self, temperature: float) -> list[int]:
        """Return the problems that a temperature is first tried on; none where the whole batch is drawn at once."""
        num_first = self.num_problems // FIRST_SHARE
        if temperature in self.probes or not self.probes or not num_first:
            return []
        best = max(self.probes.values(), key=lambda probe: float(np.nanmean(probe.accuracy)))
        if temperature < best.temperature:
            return []
        return np.argsort(-best.accuracy, kind="stable")[:num_first].tolist()

    def _shows_collapse(self, tried: Probe) -> bool:
        # The mean over all problems is below what those solved most often have, and no selection has raised it.
        kept = COLLAPSED_SHARE * float(np.nanmax(self.means("accuracy")))
        num_answers = tried.num_samples * tried.num_asked
        return float(np.nansum(tried.accuracy)) == 0 and (1 - kept) ** num_answers < _CHANCE
