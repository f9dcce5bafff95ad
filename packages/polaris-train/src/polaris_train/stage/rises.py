"""How much a window of steps raises reward and held-out accuracy, each with its interval."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import mul
from statistics import fmean, stdev
from typing import Any

from polaris_eval import Estimate, clustered_mean
from polaris_eval.scores import student_quantile

WORTH = 0.02
"""Rise of reward or accuracy that a window of steps must bring, or its cost is too high."""

LEVEL = 0.99
"""Confidence of the intervals of a rise: with 0.95, so many looks find a plateau on one of four rising curves."""

PARTS = 10
"""Of the newest steps, whose mean rewards the line is laid through: what lasts shorter than a part averages out."""

_SPAN_GROWTH = 1.19
"""Each span that is tried is so much longer than the one before: its interval is 0.77 times as wide."""

_FEWEST = 4
"""Values that a line is laid through; its residuals have two degrees of freedom then."""

_CORRELATED = 0.9
"""Largest correlation of neighbours that is corrected for."""

_UNKNOWN = Estimate(value=0.0, interval=(-math.inf, math.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """An evaluation of a stage on its held-out problems."""

    step: int
    """Steps done; 0 is the model that the stage started from."""

    shares: Mapping[str, float]
    """Share of each problem's completions that is correct, by problem id."""

    @property
    def accuracy(self) -> Estimate:
        """Mean over problems."""
        return clustered_mean(list(self.shares.values()), low=0.0, high=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """How much a window of steps brings."""

    estimate: Estimate
    """Per window, with its interval at `LEVEL`."""

    span: int
    """Newest steps that it was found over."""


def reward_rise(rewards: Sequence[float], *, window: int) -> Rise | None:
    """Return how much a window of steps raises the training reward, ``None`` while the interval settles nothing.

    Args:
        rewards: Of every step so far.
        window: Steps.
    """
    for span in _spans(window, longest=len(rewards)):
        estimate = _line(*_in_parts(rewards[-span:]), window=window)
        if _settles(estimate):
            return Rise(estimate=estimate, span=span)
    return None


def held_out_rise(evaluations: Sequence[HeldOut], *, window: int) -> Rise | None:
    """Return how much a window of steps raises held-out accuracy, ``None`` while the interval settles nothing.

    Args:
        evaluations: Of the same problems; oldest first.
        window: Steps.
    """
    newest = evaluations[-1].step
    for span in _spans(window, longest=newest - evaluations[0].step):
        within = [each for each in evaluations if each.step >= newest - span]
        by_step = _line([each.step for each in within], [_mean(each) for each in within], window=window)
        if not _settles(by_step):
            continue
        by_problem = _mean_of_lines(within, window=window)
        estimate = max(by_step, by_problem, key=_width)
        if _settles(estimate):
            return Rise(estimate=estimate, span=span)
    return None


def points(estimate: Estimate) -> str:
    """Say a difference of shares in points, for a person."""
    low, high = estimate.interval
    return f"{100 * estimate.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def numbers(estimate: Estimate) -> dict[str, Any]:
    """Return what JSON can say of an estimate."""
    return {"value": estimate.value, "interval": list(estimate.interval)}


def _spans(window: int, *, longest: int) -> list[int]:
    """Return the numbers of steps to look back over, from a window on."""
    spans: list[int] = []
    span = float(window)
    while round(span) <= longest:
        spans.append(round(span))
        span *= _SPAN_GROWTH
    return list(dict.fromkeys(spans))


def _settles(estimate: Estimate) -> bool:
    """Return whether an interval excludes either that nothing rises or that enough does."""
    low, high = estimate.interval
    return low > 0 or high < WORTH


def _width(estimate: Estimate) -> float:
    low, high = estimate.interval
    return high - low


def _mean(evaluation: HeldOut) -> float:
    return fmean(evaluation.shares.values())


def _in_parts(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the middles and means of equal parts of consecutive values, each at least one value long."""
    num_parts = min(PARTS, len(values))
    ends = [len(values) * part // num_parts for part in range(num_parts + 1)]
    middles = [(first + end - 1) / 2 for first, end in pairwise(ends)]
    return middles, [fmean(values[first:end]) for first, end in pairwise(ends)]


def _line(times: Sequence[float], values: Sequence[float], *, window: int) -> Estimate:
    """Return the rise per window of the least-squares line, its interval from the scatter around it."""
    size = len(values)
    if size < _FEWEST:
        return _UNKNOWN
    weights = _slope_weights(times, window=window)
    rise = math.fsum(map(mul, weights, values))
    mean, middle = fmean(values), fmean(times)
    residuals = [value - mean - rise * (time - middle) / window for time, value in zip(times, values, strict=True)]
    squares = math.fsum(map(mul, residuals, residuals))
    correlation = _neighbours(residuals, squares)
    variance = squares / (size - 2) * math.fsum(map(mul, weights, weights)) * (1 + correlation) / (1 - correlation)
    half = student_quantile(size - 2, LEVEL) * math.sqrt(variance)
    return Estimate(value=rise, interval=(rise - half, rise + half))


def _neighbours(residuals: Sequence[float], squares: float) -> float:
    """Return the correlation of neighbouring residuals, none where they only seem to repel each other.

    A fitted line takes about ``(2 + 4 r) / n`` of it away, which is given back.
    """
    if squares <= 0:
        return 0.0
    seen = math.fsum(map(mul, residuals, residuals[1:])) / squares
    return min(max(0.0, seen + (2 + 4 * seen) / len(residuals)), _CORRELATED)


def _mean_of_lines(evaluations: Sequence[HeldOut], *, window: int) -> Estimate:
    """Return the mean over problems of the rise per window of each one's least-squares line."""
    weights = _slope_weights([each.step for each in evaluations], window=window)
    problems = [problem for problem in evaluations[0].shares if all(problem in each.shares for each in evaluations)]
    if len(problems) < 2:
        return _UNKNOWN
    rows = zip(*([each.shares[problem] for problem in problems] for each in evaluations), strict=True)
    rises = [math.fsum(map(mul, weights, row)) for row in rows]
    rise = fmean(rises)
    half = student_quantile(len(rises) - 1, LEVEL) * stdev(rises, rise) / math.sqrt(len(rises))
    return Estimate(value=rise, interval=(rise - half, rise + half))


def _slope_weights(times: Sequence[float], *, window: int) -> list[float]:
    """Return what values at these times are multiplied with: the sum is the rise per window of their line."""
    middle = fmean(times)
    spread = math.fsum((time - middle) ** 2 for time in times)
    return [window * (time - middle) / spread for time in times]
