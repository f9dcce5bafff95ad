"""Does the temperature search find what it claims, on published curves with known answers?

``python tests/bench/temperature.py [TRIALS]`` needs ../shared/facts/figures.json beside the repository. Every trial has
its own problems and its own noise. Answers are right with a probability that differs between problems and falls, for
all of them together, along a digitised accuracy curve; each has a diversity that scatters around a digitised diversity
curve. The search sees these answers only, as it would see a model's.
"""

import json
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from polaris_rollout.temperature.budget import Probe, ProbeRun
from polaris_rollout.temperature.diversity import Interval
from polaris_rollout.temperature.search import (
    TARGET_ANSWERS,
    ZONES_ANSWERS,
    Choice,
    find_diversity,
    find_exploration_start,
)
from polaris_rollout.temperature.zones import COLLAPSE_LOSS
from scipy.optimize import brentq
from scipy.special import expit

FIGURES = Path(__file__).resolve().parents[3] / "shared" / "facts" / "figures.json"

NUM_PROBLEMS = 30
BATCH = 4
LOWEST, HIGHEST = 0.6, 2.0
MAX_LOSS = 0.02
FACTORS = (4, 16)
"""Larger budgets, in published grids, to see what a border within 0.05 needs."""

ABILITY_SPREAD = 3.0
"""Standard deviation of the problems' log odds: most are nearly always or nearly never solved, as with AIME."""
DIVERSITY_NOISE = 0.10
"""Standard deviation of one answer's diversity about its problem's; of the problems' about the curve too."""


@dataclass(frozen=True)
class Curve:
    """A published model: accuracy and diversity over temperature, straight between the digitised points."""

    name: str
    accuracy: tuple[Sequence[float], Sequence[float]]
    diversity: tuple[Sequence[float], Sequence[float]]

    def accuracy_at(self, temperature: float) -> float:
        return _interpolate(temperature, *self.accuracy)

    def diversity_at(self, temperature: float) -> float:
        return _interpolate(temperature, *self.diversity)

    def border(self, loss: float) -> float:
        """Return where the curve has lost a share of its level, the mean of the points within 3% of the best."""
        temperatures, accuracies = map(np.array, self.accuracy)
        robust = (accuracies >= 0.97 * accuracies.max()) & (temperatures >= LOWEST)
        level = accuracies[robust].mean() / 100
        fine = np.arange(temperatures[accuracies.argmax()], HIGHEST, 1e-4)
        lost = np.array([self.accuracy_at(each) for each in fine]) < (1 - loss) * level
        return float(fine[lost.argmax()])

    def temperature_of(self, diversity: float) -> float:
        fine = np.arange(LOWEST, HIGHEST, 1e-4)
        return float(fine[np.argmax([self.diversity_at(each) >= diversity for each in fine])])


def _interpolate(temperature: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Interpolate in percent, going on beyond the last point with the last slope."""
    if temperature > xs[-1]:
        slope = (ys[-1] - ys[-2]) / (xs[-1] - xs[-2])
        return min(max(ys[-1] + slope * (temperature - xs[-1]), 0.0), 99.5) / 100
    return float(np.interp(temperature, xs, ys)) / 100


class Model:
    """Answers of a published model to problems of its own, as the search sees them."""

    def __init__(self, curve: Curve, seed: int) -> None:
        self._curve = curve
        self._generator = np.random.default_rng(seed)
        self._ability = ABILITY_SPREAD * self._generator.standard_normal(NUM_PROBLEMS)
        offsets = DIVERSITY_NOISE * self._generator.standard_normal(NUM_PROBLEMS)
        self._offsets = offsets - offsets.mean()  # the curve is the mean over these very problems
        self._answers: dict[float, tuple[np.ndarray, np.ndarray]] = {}

    def measure(self, temperature: float, num_samples: int) -> Probe:
        shape = (NUM_PROBLEMS, num_samples)
        correct, diversity = self._answers.get(temperature, (np.empty((NUM_PROBLEMS, 0)),) * 2)
        more = (NUM_PROBLEMS, shape[1] - correct.shape[1])
        correct = np.hstack([correct, self._generator.random(more) < self._pass_rates(temperature)[:, None]])
        mean = self._curve.diversity_at(temperature) + self._offsets[:, None]
        diversity = np.hstack([diversity, mean + DIVERSITY_NOISE * self._generator.standard_normal(more)])
        self._answers[temperature] = correct, diversity
        return Probe(
            temperature=temperature,
            num_samples=num_samples,
            accuracy=correct.mean(axis=1),
            diversity=diversity.mean(axis=1),
            truncated=np.zeros(NUM_PROBLEMS),
            tokens=np.ones(NUM_PROBLEMS),
        )

    def _pass_rates(self, temperature: float) -> np.ndarray:
        """Shift all problems' log odds so that problems of this kind are solved as often as the curve says."""
        wanted = min(max(self._curve.accuracy_at(temperature), 1e-4), 1 - 1e-4)
        ability = ABILITY_SPREAD * np.linspace(-5, 5, 401)
        weights = np.exp(-0.5 * np.linspace(-5, 5, 401) ** 2)
        weights /= weights.sum()
        shift = brentq(lambda shift: weights @ expit(shift + ability) - wanted, -60, 60)
        return expit(shift + self._ability)


def curves() -> dict[str, Curve]:
    figures = json.loads(FIGURES.read_text(encoding="utf-8"))
    zones, shift = figures["zones_qwen3_4b_aime24_mean32"], figures["r1_7b_zone_shift(eye)"]
    diversity = figures["diversity_vs_temperature_distinct4_x100"]
    qwen = Curve("Qwen3-4B", (zones["T"], zones["acc"]), (diversity["T"], diversity["Qwen3-4B"]))
    r1 = [
        Curve(f"R1-7B {steps}", (shift["T"], shift["acc"][steps]), (shift["T"], shift["diversity"][steps]))
        for steps in ("before", "400", "800")
    ]
    return {curve.name: curve for curve in (qwen, *r1)}


def zones_trial(curve: Curve, factor: int, seed: int) -> tuple[Choice, int]:
    run = ProbeRun(
        Model(curve, seed).measure,
        batch=factor * BATCH,
        max_answers=factor * ZONES_ANSWERS,
        lowest=LOWEST,
        highest=HIGHEST,
    )
    return find_exploration_start(run, max_loss=MAX_LOSS, seed=seed), run.num_answers * NUM_PROBLEMS


def target_trial(curve: Curve, target: float, seed: int) -> tuple[Choice, int]:
    run = ProbeRun(Model(curve, seed).measure, batch=BATCH, max_answers=TARGET_ANSWERS, lowest=LOWEST, highest=HIGHEST)
    return find_diversity(run, target, max_loss=MAX_LOSS, seed=seed), run.num_answers * NUM_PROBLEMS


def report_target(pool: ProcessPoolExecutor, trials: int, curve: Curve, target: float) -> None:
    found = list(pool.map(partial(target_trial, curve, target), range(trials)))
    temperatures = np.array([choice.temperature for choice, _ in found])
    restored = np.array([curve.diversity_at(temperature) for temperature in temperatures])
    covered = [_holds(choice.diversity, curve.diversity_at(choice.temperature)) for choice, _ in found]
    truth = curve.temperature_of(target)
    columns = [
        f"{curve.name:13} {target:.2f}",
        f"{max(spent for _, spent in found):5d}",
        f"{truth:.3f}",
        f"{temperatures.mean():.3f} ({temperatures.min():.2f}-{temperatures.max():.2f})",
        f"{np.mean(np.abs(temperatures - truth) <= 0.03 + 1e-9):.2f}",
        f"{np.mean(np.abs(restored - target) <= 0.02 + 1e-9):.2f}",
        f"{np.mean(temperatures < curve.border(COLLAPSE_LOSS)):.2f}",
        f"{np.mean(covered):.2f}",
    ]
    print("  ".join(columns), flush=True)


def report_zones(pool: ProcessPoolExecutor, trials: int, curve: Curve, factor: int = 1) -> None:
    found = list(pool.map(partial(zones_trial, curve, factor), range(trials)))
    temperatures = np.array([choice.temperature for choice, _ in found])
    truth, collapse = curve.border(MAX_LOSS), curve.border(COLLAPSE_LOSS)
    first = [choice.exploration for choice, _ in found]
    second = [choice.collapse for choice, _ in found if choice.collapse]
    print(
        f"{curve.name:13} {max(spent for _, spent in found):6d}  {np.quantile(temperatures, 0.5):.2f} "
        f"({temperatures.min():.2f}-{temperatures.max():.2f})  "
        f"{np.mean((temperatures >= 1.3 - 1e-9) & (temperatures <= 1.5 + 1e-9)):.2f}  "
        f"{np.mean(temperatures < collapse):.2f} | {truth:.3f} {_describe(first, truth)} | "
        f"{collapse:.3f} {_describe(second, collapse)}",
        flush=True,
    )


def _describe(estimates: Sequence[Interval], truth: float) -> str:
    values = np.array([each.value for each in estimates])
    covered = [_holds(each, truth) for each in estimates]
    widths = [(each.high - each.low) / 2 for each in estimates]
    error = math.sqrt(np.mean((values - truth) ** 2))
    return (
        f"{error:.3f}  {np.mean(np.abs(values - truth) <= 0.05):.2f}  {np.mean(covered):.2f}  {np.median(widths):.3f}"
    )


def _holds(estimate: Interval, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    published = curves()
    grid = 5 * NUM_PROBLEMS * 16
    with ProcessPoolExecutor(2) as pool:
        print(f"{trials} trials each; the published grid takes {grid} answers\n\nby target diversity")
        print("model         target answers  truth  found (range)  within 0.03  within 2  not in collapse  covered")
        report_target(pool, trials, published["Qwen3-4B"], 0.63)
        report_target(pool, trials, published["R1-7B 400"], 0.59)
        report_target(pool, trials, published["R1-7B 800"], 0.59)
        print(f"\nby zones, loss {MAX_LOSS:.0%}")
        print("of each border: truth, RMS error, share within 0.05, share covered at 95%, half-width of the interval")
        print("model         answers  chosen (range)  in 1.30-1.50  not in collapse | exploration | collapse")
        for name in published:
            report_zones(pool, trials, published[name])
        for factor in FACTORS:
            report_zones(pool, trials, published["Qwen3-4B"], factor)


if __name__ == "__main__":
    main()
