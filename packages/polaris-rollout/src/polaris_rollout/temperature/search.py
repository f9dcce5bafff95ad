"""Finding a sampling temperature: which temperatures to probe, how often, and when to stop.

Two questions. Where does exploration start: what is the highest temperature at which accuracy has hardly suffered
(stage 1)? And at which temperature does diversity equal a target, such as that of stage 1 (later stages)? Both are
answered by probing where the answer is most uncertain, so neither needs a grid. Probing and grading are the caller's:
here a temperature goes in and measurements come out.
"""

import math
from dataclasses import dataclass

import numpy as np

from polaris_rollout.errors import SettingError
from polaris_rollout.temperature.budget import COLLAPSED_SHARE, GRID, Floats, ProbeRun
from polaris_rollout.temperature.diversity import Interval
from polaris_rollout.temperature.rising import RisingFit, fit_diversity, interval
from polaris_rollout.temperature.zones import COLLAPSE_LOSS, AccuracyFit, fit_accuracy

WITHIN_PROBABILITY = 2 / 3
"""Probability that the accuracy loss at the start of exploration is within its bound."""

ZONES_ANSWERS = 80
"""Answers per problem that finding the zones may take: the published grid, 5 temperatures with 16 answers each."""

TARGET_ANSWERS = ZONES_ANSWERS // 3
"""Answers per problem that finding a diversity may take."""

FRESH_WIDTH = 2 * GRID
"""Width of the bracket of a target within which fresh problems are worth more than another temperature."""

_STRIDE = 0.4
_COLLAPSE_WEIGHT = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A temperature, why it was chosen, and what is known of the zones."""

    temperature: float
    """To sample with."""

    reason: str
    """One sentence."""

    interval: Interval | None
    """Where what was searched for lies; ``None`` if nothing was."""

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
    found = interval(float(np.median(borders)), borders, level)
    return _choice(run, temperature, reason, fit, found=found, max_loss=max_loss, level=level, seed=seed)


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
    the fit. Then fresh problems are asked, as long as there are some, for what differs between problems is most of the
    error of a mean; and then more answers are drawn at both ends of the bracket.

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
        SettingError: If every temperature is more diverse than the target; or less, none of them has collapsed, and
            the target is not an earlier stage's. Names the closest.
    """
    # What accuracy is lost at the target shows only against the robust zone.
    run.add(run.lowest)
    run.add(min(run.lowest + _STRIDE, run.highest))
    while run.affords_more:
        fit = fit_diversity(run, target, seed=seed)
        crossings, (low, high) = fit.crossings(), fit.bracket()
        crossing = float(np.median(crossings))
        if low is None or high is None:
            further = _beyond(run, fit)
            if further is None and fit.share_reaching < 1 - level:
                break
            end = float(fit.temperatures[0 if low is None else -1])
            _ask_more(run, end) if further is None else run.add(further)
        elif high - low <= GRID + 1e-6 and _half_width(crossings, level) <= precision:
            break
        elif run.has_fresh and high - low <= FRESH_WIDTH + 1e-6:
            _ask_more(run, min((low, high), key=lambda end: abs(end - crossing)))
        else:
            run.add(_inside(run, low, high, crossing))
    fit = fit_diversity(run, target, seed=seed)
    found = None
    if fit.share_reaching >= 1 - level:
        crossings = fit.crossings()
        found = interval(float(np.median(crossings)), crossings, level)
    elif not (fit.curve[-1] < 0 and (not isinstance(target, float) or run.ceiling < math.inf)):
        raise SettingError(_unreached(run, target))
    zones = _fit(run, seed)
    safe = float(np.quantile(zones.border(COLLAPSE_LOSS), 1 - WITHIN_PROBABILITY))
    temperature, reason = _reached(run, _mean(target), found.value if found else None, safe)
    return _choice(run, temperature, reason, zones, found=found, max_loss=max_loss, level=level, seed=seed)


def _reached(run: ProbeRun, target: float, wanted: float | None, safe: float) -> tuple[float, str]:
    """Return the temperature to take for a target, and why, given where it is reached and where collapse is not yet."""
    highest = float(run.temperatures[-1])
    if wanted is not None and wanted <= safe:
        return round(
            min(max(wanted, run.lowest), run.highest), 2
        ), f"the temperature at which {run.quantity} is {target:.3f}"
    below_collapse = max(min(_round_down(safe), highest), run.lowest)
    if wanted is None:
        return below_collapse, (
            f"no temperature up to {highest:g} reaches {run.quantity} {target:.3f}, as the earlier stage did or as was "
            "asked for; this is the highest at which accuracy has not collapsed"
        )
    return below_collapse, (
        f"{run.quantity} {target:.3f} is reached at {wanted:.2f}, where accuracy may have collapsed; this is the "
        "closest temperature that has not"
    )


def _ask_more(run: ProbeRun, temperature: float) -> None:
    """Ask fresh problems at a temperature; without any draw more answers to the others there."""
    if run.has_fresh:
        run.add_fresh(temperature)
    else:
        run.add(temperature)


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
    zones = _fit(run, seed)
    return _choice(run, temperature, reason, zones, found=None, max_loss=max_loss, level=level, seed=seed)


def _climb(run: ProbeRun) -> None:
    """Probe from the lowest temperature upwards until accuracy has collapsed."""
    temperature = run.lowest
    while run.affords_more:
        accuracy = float(np.nanmean(run.add(temperature).accuracy))
        best = float(np.nanmax(run.means("accuracy")))
        if best == 0 and run.temperatures[-1] >= 1:
            raise SettingError(
                "no answer was correct at any temperature, so there is no accuracy to lose; give easier problems"
            )
        if accuracy < COLLAPSED_SHARE * best or temperature >= run.highest:
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


def _round_down(temperature: float) -> float:
    return round(math.floor(temperature / GRID + 1e-9) * GRID, 6)


def _choice(
    run: ProbeRun,
    temperature: float,
    reason: str,
    fit: AccuracyFit,
    *,
    found: Interval | None,
    max_loss: float,
    level: float,
    seed: int,
) -> Choice:
    exploration, collapse = fit.border(max_loss), fit.border(COLLAPSE_LOSS)
    beyond = float(np.median(collapse)) > run.highest
    return Choice(
        temperature=temperature,
        reason=reason,
        interval=found,
        diversity=fit_diversity(run, seed=seed).at(temperature, level),
        exploration=interval(float(np.median(exploration)), exploration, level),
        collapse=None if beyond else interval(float(np.median(collapse)), collapse, level),
        fit=fit,
        level=level,
    )


def _inside(run: ProbeRun, low: float, high: float, crossing: float) -> float:
    """Return the next temperature to probe within a bracket: a new one, or the end known less well."""
    between = run.grid[(run.grid > low + 1e-6) & (run.grid < high - 1e-6)]
    if len(between):
        return float(between[np.abs(between - crossing).argmin()])
    return min((low, high), key=lambda end: (run.probes[end].num_samples, abs(end - crossing)))


def _beyond(run: ProbeRun, fit: RisingFit) -> float | None:
    """Return the next temperature to probe outside of those whose diversity is known; ``None`` if there is none."""
    temperatures, stride = fit.temperatures, _STRIDE
    gap = max(float(-fit.curve[-1]), float(fit.curve[0]))
    if len(temperatures) > 1 and fit.curve[-1] > fit.curve[0]:
        slope = float(fit.curve[-1] - fit.curve[0]) / float(temperatures[-1] - temperatures[0])
        stride = min(_STRIDE, max(GRID, gap / slope))
    if fit.curve[-1] >= 0:
        return None if temperatures[0] <= run.lowest else float(temperatures[0] - stride)
    above = run.temperatures[run.temperatures > temperatures[-1]]
    if len(above):  # Probed, but collapse or short answers left too few problems with a diversity.
        between = run.grid[(run.grid > temperatures[-1] + 1e-6) & (run.grid < above[0] - 1e-6)]
        return float(between[len(between) // 2]) if len(between) else None
    return None if temperatures[-1] >= run.highest else float(temperatures[-1] + stride)


def _unreached(run: ProbeRun, target: float | Floats) -> str:
    means = run.means("diversity")
    closest = int(np.nanargmin(np.abs(means - _mean(target))))
    return (
        f"no temperature probed from {run.lowest:g} to {run.highest:g} reaches {run.quantity} {_mean(target):.3f}; "
        f"the closest is {means[closest]:.3f} at {run.temperatures[closest]:g}: give a target that the model has, "
        "a wider range of temperatures, or a larger budget"
    )


def _mean(target: float | Floats) -> float:
    return float(np.nanmean(target))
