"""Finding a sampling temperature: which temperatures to probe, how often, and when to stop.

Two questions. Where does exploration start: what is the highest temperature at which accuracy has hardly suffered
(stage 1)? And at which temperature does diversity equal a target, such as that of stage 1 (later stages)? Both are
answered by probing where the answer is most uncertain, so neither needs a grid. Probing and grading are the caller's:
here a temperature goes in and measurements come out.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from polaris_rollout.errors import SettingError
from polaris_rollout.temperature.budget import GRID, Floats, ProbeRun
from polaris_rollout.temperature.diversity import Interval
from polaris_rollout.temperature.zones import COLLAPSE_LOSS, AccuracyFit, fit_accuracy

WITHIN_PROBABILITY = 2 / 3
"""Probability that the accuracy loss at the start of exploration is within its bound."""

ZONES_ANSWERS = 80
"""Answers per problem that finding the zones may take: the published grid, 5 temperatures with 16 answers each."""

TARGET_ANSWERS = ZONES_ANSWERS // 3
"""Answers per problem that finding a diversity may take."""

LEAST_SHARE = 0.5
"""Share of the problems that must have a diversity for a temperature to count."""

_STRIDE = 0.4
_COLLAPSED_SHARE = 0.6
_COLLAPSE_WEIGHT = 0.2
_NUM_RESAMPLES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A temperature, why it was chosen, and what is known of the zones."""

    temperature: float
    """To sample with."""

    reason: str
    """One sentence."""

    diversity: Interval
    """Expected at the chosen temperature, over problems of the kind."""

    exploration: Interval
    """Where accuracy has lost the allowed share: the robust zone ends and controlled exploration begins."""

    collapse: Interval | None
    """Where collapse begins; ``None`` if that is beyond the highest temperature."""

    fit: AccuracyFit
    """Of accuracy over temperature."""

    level: float
    """Probability that each interval claims."""


def find_exploration_start(
    run: ProbeRun, *, max_loss: float = 0.02, precision: float = 0.05, level: float = 0.95, seed: int = 0
) -> Choice:
    """Choose stage 1's temperature: the highest whose accuracy loss stays within a bound.

    That is where controlled exploration starts, and, diversity rising with temperature, the most diverse that the
    bound allows. Probes climb until accuracy collapses; then each batch goes where it narrows the borders most for
    its tokens, until that of exploration is known to ``precision`` or the budget is spent.

    Args:
        run: Unused, or with what an interrupted search measured.
        max_loss: Share of the robust zone's accuracy that may be lost.
        precision: Half-width of the interval at which the search stops.
        level: Probability that the intervals claim.
        seed: Of the fit.

    Raises:
        SettingError: If the model solves nothing, so that there is no accuracy to lose.
    """
    _climb(run)
    fit = _fit(run, seed)
    while run.affords_more and _half_width(_within(run, fit.border(max_loss)), level) > precision:
        exploration, collapse = (_within(run, fit.border(loss)) for loss in (max_loss, COLLAPSE_LOSS))
        gains = run.gain(fit, exploration) + _COLLAPSE_WEIGHT * run.gain(fit, collapse)
        run.add(float(run.grid[gains.argmax()]))
        fit = _fit(run, seed)
    borders = fit.border(max_loss)
    wanted = _round_down(float(np.quantile(borders, 1 - WITHIN_PROBABILITY)))
    safe = _round_down(float(np.quantile(fit.border(COLLAPSE_LOSS), 1 - level)))
    temperature = min(max(min(wanted, safe), run.lowest), run.highest)
    if wanted < run.lowest:
        reason = f"accuracy already falls at the lowest temperature probed, {run.lowest:g}; probe lower ones too"
    elif wanted >= run.highest:
        reason = f"accuracy holds up to the highest temperature probed, {run.highest:g}; probe higher ones too"
    else:
        reason = (
            f"the highest multiple of {GRID:g} at which accuracy has lost at most {max_loss:.0%} of its level "
            f"with a probability of {WITHIN_PROBABILITY:.2f}"
        )
    return _choice(run, temperature, reason, fit, max_loss=max_loss, level=level, seed=seed)


def find_diversity(
    run: ProbeRun,
    target: float | Floats,
    *,
    max_loss: float = 0.02,
    precision: float = 0.02,
    level: float = 0.95,
    seed: int = 0,
) -> Choice:
    """Choose a later stage's temperature: the one whose diversity equals a target, never in collapse.

    Diversity rises with temperature, so it is fitted with a rising curve and the target bracketed, by bisection on
    the fit and then with more answers at both ends of the bracket.

    Args:
        run: Unused, or with what an interrupted search measured.
        target: Mean diversity, 0 to 1; or ``[P]`` that of each problem in an earlier stage, which is compared
            problem by problem. Training narrows a model, so that of an earlier stage may be out of reach: then the
            highest temperature without collapse is as near as can be.
        max_loss: Share of the robust zone's accuracy that is lost where exploration starts; for the zones only.
        precision: Half-width of the interval of the temperature at which the search stops.
        level: Probability that the intervals claim.
        seed: Of the fit.

    Raises:
        SettingError: If no temperature in the range has the target, unless it is an earlier stage's and above them all;
            names the closest.
    """
    # What accuracy is lost at the target shows only against the robust zone.
    run.add(run.lowest)
    run.add(min(run.lowest + _STRIDE, run.highest))
    while run.affords_more:
        draws, _ = _crossings(run, target, seed)
        low, high = _bracket(run, target)
        if low is not None and high is not None:
            if high - low <= GRID + 1e-6 and _half_width(draws, level) <= precision:
                break
            run.add(_inside(run, low, high, float(np.median(draws))))
        elif _is_out_of_reach(run, target):
            break
        else:
            run.add(_beyond(run, target, low, high))
    # With the budget spent, noise may have moved the target just outside of what was probed.
    draws, share_reached = _crossings(run, target, seed)
    out_of_reach = share_reached < 1 - level
    if out_of_reach and not _is_out_of_reach(run, target):
        raise SettingError(_unreached(run, target))
    fit = _fit(run, seed)
    wanted = float(np.median(draws))
    safe = float(np.quantile(fit.border(COLLAPSE_LOSS), 1 - WITHIN_PROBABILITY))
    if out_of_reach:
        temperature = min(max(_round_down(safe), run.lowest), run.highest)
        reason = (
            f"no temperature up to {run.highest:g} reaches diversity {_mean(target):.3f}, as the earlier stage did; "
            "this is the highest at which accuracy has not collapsed"
        )
    elif wanted <= safe:
        temperature = round(wanted, 2)
        reason = f"the temperature at which diversity is {_mean(target):.3f}"
    else:
        temperature = max(_round_down(safe), run.lowest)
        reason = (
            f"diversity {_mean(target):.3f} is reached at {wanted:.2f}, where accuracy may have collapsed; this is the "
            "closest temperature that has not"
        )
    return _choice(run, temperature, reason, fit, max_loss=max_loss, level=level, seed=seed)


def measure_given(
    run: ProbeRun, temperature: float, *, max_loss: float = 0.02, level: float = 0.95, seed: int = 0
) -> Choice:
    """Measure a temperature that was decided already, so that a later search can restore its diversity.

    Args:
        run: Unused, or with what an interrupted search measured; its grid has the temperature.
        temperature: That all of the budget goes to, but for one batch where accuracy is best.
        max_loss: Share of the robust zone's accuracy that is lost where exploration starts; for the zones only.
        level: Probability that the intervals claim.
        seed: Of the fit.
    """
    run.add(run.lowest)
    while run.affords_more:
        run.add(temperature)
    reason = "given, not searched for; measured so that its diversity can be restored"
    return _choice(run, temperature, reason, _fit(run, seed), max_loss=max_loss, level=level, seed=seed)


def diversity_at(run: ProbeRun, temperature: float, *, level: float = 0.95, seed: int = 0) -> Interval:
    """Return the diversity at any temperature between those probed, from the rising fit."""
    temperatures, values, weights = _diversity(run)
    draws = np.array([np.interp(temperature, temperatures, curve) for curve in _rising(values, weights, seed)])
    value = float(np.interp(temperature, temperatures, _rising_fit(values, weights)))
    return _interval(value, draws, level)


def _climb(run: ProbeRun) -> None:
    """Probe from the lowest temperature upwards until accuracy has collapsed."""
    temperature = run.lowest
    while run.affords_more:
        accuracy = float(run.add(temperature).accuracy.mean())
        best = float(run.values("accuracy").mean(axis=1).max())
        if best == 0 and run.temperatures[-1] >= 1:
            raise SettingError(
                "no answer was correct at any temperature, so there is no accuracy to lose; give easier problems"
            )
        if accuracy < _COLLAPSED_SHARE * best or temperature >= run.highest:
            return
        temperature = min(temperature + _STRIDE, run.highest)


def _fit(run: ProbeRun, seed: int) -> AccuracyFit:
    bounds = (run.lowest, run.highest)
    return fit_accuracy(run.temperatures, run.values("accuracy"), run.num_samples, bounds=bounds, seed=seed)


def _within(run: ProbeRun, temperatures: Floats) -> Floats:
    return np.clip(temperatures, run.lowest, run.highest)


def _half_width(draws: Floats, level: float) -> float:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(high - low) / 2


def _interval(value: float, draws: Floats, level: float) -> Interval:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=value, low=float(low), high=float(high))


def _round_down(temperature: float) -> float:
    return round(math.floor(temperature / GRID + 1e-9) * GRID, 6)


def _choice(
    run: ProbeRun, temperature: float, reason: str, fit: AccuracyFit, *, max_loss: float, level: float, seed: int
) -> Choice:
    exploration, collapse = fit.border(max_loss), fit.border(COLLAPSE_LOSS)
    beyond = float(np.median(collapse)) > run.highest
    return Choice(
        temperature=temperature,
        reason=reason,
        diversity=diversity_at(run, temperature, level=level, seed=seed),
        exploration=_interval(float(np.median(exploration)), exploration, level),
        collapse=None if beyond else _interval(float(np.median(collapse)), collapse, level),
        fit=fit,
        level=level,
    )


def _diversity(run: ProbeRun, target: float | Floats = 0.0) -> tuple[Floats, Floats, Floats]:
    """Return temperatures, ``[T, P]`` diversity minus target, and weights, where half of the problems have values.

    In collapse most answers are cut off by the token budget, and what is left says little.
    """
    values = run.values("diversity") - target
    share = 1 - np.isnan(values).mean(axis=1)
    usable = share >= LEAST_SHARE
    if not usable.any():
        raise SettingError(
            "too few answers end by themselves to measure diversity; give a larger --max-tokens or --context"
        )
    return run.temperatures[usable], values[usable], (run.num_samples * share)[usable]


def _rising_fit(values: Floats, weights: Floats) -> Floats:
    """Return ``[T]`` the rising curve closest to the mean over problems."""
    return isotonic_regression(np.nanmean(values, axis=1), weights=weights).x


def _rising(values: Floats, weights: Floats, seed: int) -> list[Floats]:
    """Return rising curves, each of problems drawn anew."""
    num_problems = values.shape[1]
    drawn = np.random.default_rng(seed).integers(num_problems, size=(_NUM_RESAMPLES, num_problems))
    # A resample of P problems spreads too little by this factor.
    stretch = math.sqrt(num_problems / (num_problems - 1))
    means = np.nanmean(values, axis=1, keepdims=True)
    return [_rising_fit(means + stretch * (values[:, each] - means), weights) for each in drawn]


def _crossings(run: ProbeRun, target: float | Floats, seed: int) -> tuple[Floats, float]:
    """Return temperatures at which each rising curve reaches the target, and the share of curves that do reach it.

    One that does not gives the end of what was probed that is nearest.
    """
    temperatures, values, weights = _diversity(run, target)
    curves = _rising(values, weights, seed)
    # A level stretch has no inverse; the slightest slope gives it one.
    slope = 1e-9 * np.arange(len(temperatures))
    crossings = np.array([np.interp(0.0, curve + slope, temperatures) for curve in curves])
    return crossings, float(np.mean([curve[0] <= 0 <= curve[-1] for curve in curves]))


def _bracket(run: ProbeRun, target: float | Floats) -> tuple[float | None, float | None]:
    """Return the probed temperatures next to the target: below it, and at or above it."""
    temperatures, values, weights = _diversity(run, target)
    above = _rising_fit(values, weights) >= 0
    below, reached = temperatures[~above], temperatures[above]
    return (float(below[-1]) if len(below) else None, float(reached[0]) if len(reached) else None)


def _inside(run: ProbeRun, low: float, high: float, crossing: float) -> float:
    """Return the next temperature to probe within a bracket: a new one, or the end known less well."""
    between = run.grid[(run.grid > low + 1e-6) & (run.grid < high - 1e-6)]
    if len(between):
        return float(between[np.abs(between - crossing).argmin()])
    return min((low, high), key=lambda end: (run.probes[end].num_samples, abs(end - crossing)))


def _is_out_of_reach(run: ProbeRun, target: float | Floats) -> bool:
    """Return whether an earlier stage was more diverse than this model is at the highest temperature."""
    if isinstance(target, float) or run.temperatures[-1] < run.highest:
        return False
    return _bracket(run, target)[1] is None


def _beyond(run: ProbeRun, target: float | Floats, low: float | None, high: float | None) -> float:
    """Return the next temperature to probe outside what was probed.

    Raises:
        SettingError: If that is outside the range.
    """
    if run.temperatures[-1] >= run.highest if high is None else run.temperatures[0] <= run.lowest:
        raise SettingError(_unreached(run, target))
    temperatures, values, weights = _diversity(run, target)
    fit = _rising_fit(values, weights)
    stride = _STRIDE
    if len(fit) > 1 and fit[-1] > fit[0]:
        slope = (fit[-1] - fit[0]) / (temperatures[-1] - temperatures[0])
        stride = min(_STRIDE, max(GRID, float(min(abs(fit[0]), abs(fit[-1])) / slope)))
    return float(run.temperatures[-1] + stride if high is None else run.temperatures[0] - stride)


def _unreached(run: ProbeRun, target: float | Floats) -> str:
    temperatures, values, _ = _diversity(run)
    means = np.nanmean(values, axis=1)
    closest = int(np.abs(means - _mean(target)).argmin())
    return (
        f"no temperature probed from {run.lowest:g} to {run.highest:g} reaches diversity {_mean(target):.3f}; "
        f"the closest is {means[closest]:.3f} at {temperatures[closest]:g}: give a target that the model has, "
        "a wider range of temperatures, or a larger budget"
    )


def _mean(target: float | Floats) -> float:
    return float(np.nanmean(target))
