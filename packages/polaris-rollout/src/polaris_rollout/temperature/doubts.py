"""What a temperature search leaves in doubt, in sentences: nothing uncertain is decided without a word."""

import math
from collections.abc import Iterator

import numpy as np

from polaris_rollout.temperature.budget import GRID, Floats, ProbeRun
from polaris_rollout.temperature.diversity import Interval
from polaris_rollout.temperature.rising import LEAST_SHARE, fit_diversity
from polaris_rollout.temperature.search import Choice

WIDE_ZONES, WIDE_TARGET = 0.5, 0.25
"""Widths of the intervals of temperatures from which on they are called wide: the published number of answers leaves
some 0.4 to where exploration starts, and a third of it some 0.15 to a diversity."""

MANY_TRUNCATED = 0.1
"""Share of truncated answers at the chosen temperature from which on it is mentioned."""

_SIGMAS = 3.0
"""A change between two of some ten temperatures is taken for real from so many standard errors on: some 45 pairs are
looked at."""

_LEAST_RISE = 0.05
"""Share of the accuracy by which it must rise to be mentioned."""

_LEAST_FALL = 0.01
"""Diversity by which it must fall to be mentioned."""


def doubts(run: ProbeRun, choice: Choice, *, target: float | Floats | None, max_loss: float) -> list[str]:
    """Return a sentence for everything that makes a choice less certain than it looks.

    Args:
        run: All probes.
        choice: What was decided.
        target: Diversity that was searched for, if any, as the search took it.
        max_loss: Share of the accuracy whose loss was searched for where there is no target.
    """
    found = [*_missing(run), *_truncated(run, choice)]
    if choice.interval is None:
        return found
    widest = WIDE_ZONES if target is None else WIDE_TARGET
    found += [*_wide(run, choice.interval, widest, choice.level), *_accuracy_rises(run)]
    if target is None:
        return [*found, *_borders_outside(run, choice, max_loss)]
    return [*found, *_diversity_falls(run, choice, target)]


def _missing(run: ProbeRun) -> Iterator[str]:
    """Name the temperatures that do not count, and why."""
    for temperature, probe in run.probes.items():
        if probe.num_asked < run.num_problems:
            yield (
                f"temperature {temperature:g} has collapsed: none of the first {probe.num_asked * probe.num_samples} "
                f"answers was right, {np.nanmean(probe.truncated):.0%} of them cut short, and the other "
                f"{run.num_problems - probe.num_asked} problems were not asked"
            )
            continue
        num_missing = int(np.isnan(probe.diversity).sum())
        if num_missing:
            counts = num_missing <= (1 - LEAST_SHARE) * run.num_problems
            then = "the others count" if counts else "it does not count there"
            yield (
                f"at temperature {temperature:g} {num_missing} of {run.num_problems} problems have no {run.quantity}, "
                f"their answers being shorter than the window; {then}"
            )


def _truncated(run: ProbeRun, choice: Choice) -> Iterator[str]:
    share = float(np.interp(choice.temperature, run.temperatures, run.means("truncated")))
    if share >= MANY_TRUNCATED:
        yield (
            f"about {share:.0%} of the answers at {choice.temperature:g} are cut short: accuracy and its zones are "
            "those within this budget of tokens, where what has no final answer yet is wrong"
        )


def _wide(run: ProbeRun, found: Interval, widest: float, level: float) -> Iterator[str]:
    low, high = (min(max(each, run.lowest), run.highest) for each in (found.low, found.high))
    if high - low > widest:
        accuracy = float(np.nanmax(run.means("accuracy")))
        yield (
            f"what was searched for may lie anywhere from {low:.2f} to {high:.2f} ({level:.0%}), for all that "
            f"{run.num_answers * run.num_problems:,} answers show (accuracy {accuracy:.1%}); give more --answers, more "
            "problems, or easier ones"
        )


def _borders_outside(run: ProbeRun, choice: Choice, max_loss: float) -> Iterator[str]:
    lowest, highest = run.temperatures[0], run.temperatures[-1]
    borders = {f"{max_loss:.0%} of the accuracy is lost": choice.exploration.value}
    borders["collapse begins"] = choice.collapse.value if choice.collapse else math.inf
    for name, border in borders.items():
        if border < lowest:
            yield f"{name} below {lowest:g}, the lowest temperature probed: give a lower --lowest"
        elif border > highest:
            more = "give a higher --highest" if highest >= run.highest else "give more --answers"
            yield f"{name} above {highest:g}, the highest temperature probed: {more} to see where"


def _accuracy_rises(run: ProbeRun) -> Iterator[str]:
    """Accuracy is taken to be level and then to fall; say where it rises."""
    means, values = run.means("accuracy"), run.values("accuracy")
    rise = _clearest(values)
    if rise is None or means[rise[1]] - means[rise[0]] < _LEAST_RISE * means[rise[1]]:
        return
    low, high = rise
    start, end = run.temperatures[low], run.temperatures[high]
    sentence = f"accuracy is not monotone: it rises from {means[low]:.3f} at {start:g} to {means[high]:.3f} at {end:g}"
    if any(_sigmas(values[before] - values[low]) > 2 for before in range(low)):
        yield f"{sentence}, having fallen before: the bound is crossed more than once, and the last crossing is taken"
    else:
        yield f"{sentence}; the zones take the higher for the level, and nothing is said of temperatures below {end:g}"


def _diversity_falls(run: ProbeRun, choice: Choice, target: float | Floats) -> Iterator[str]:
    """Diversity is taken to rise; say where it falls, and where the target is reached first."""
    fit = fit_diversity(run, target, seed=0)
    means, values = fit.measured, run.values("diversity")[np.isin(run.temperatures, fit.temperatures)]
    fall = _clearest(-(values - target))
    if fall is None or means[fall[0]] - means[fall[1]] < _LEAST_FALL:
        return
    start, end = fit.temperatures[fall[0]], fit.temperatures[fall[1]]
    sentence = f"{run.quantity} is not monotone: it falls between {start:g} and {end:g}, and a rising curve was fitted"
    ups = [index for index in range(1, len(means)) if means[index - 1] < 0 <= means[index]]
    if means[0] >= 0:
        ups.insert(0, 0)
    first = fit.temperatures[ups[0]] if ups else math.inf
    if first < choice.temperature - GRID:
        taken = f"the crossing at {choice.temperature:g} is taken"
        yield f"{sentence}; the target is first reached by {first:g}, and {taken}"
    else:
        yield sentence


def _clearest(values: Floats) -> tuple[int, int] | None:
    """Return the two temperatures between which ``[T, P]`` values rise most surely; ``None`` if they nowhere do."""
    pairs = [(low, high) for high in range(len(values)) for low in range(high)]
    sigmas = {(low, high): _sigmas(values[high] - values[low]) for low, high in pairs}
    best = max(sigmas, key=sigmas.__getitem__, default=None)
    return best if best is not None and sigmas[best] > _SIGMAS else None


def _sigmas(differences: Floats) -> float:
    """Return a mean over problems in its standard errors; 0 with fewer than four problems."""
    known = differences[~np.isnan(differences)]
    if len(known) < 4:
        return 0.0
    return float(known.mean() / max(known.std(ddof=1) / math.sqrt(len(known)), 1e-9))
