"""What a few samples say about many: when a decision is settled, and what the histogram would be.

Sampling a problem stops where the samples that are left cannot change what is asked. One wrong answer settles that not
all of eight are right; seven right ones do not settle the opposite. On the published histograms that saves 48 to 75%
of the samples, and every decision is that of all samples. Stopping where a change is merely improbable was measured,
too, with the population below: at an error of 2% it saves nothing more, at 5% up to 5% more for up to 1.5% other
decisions.

The histogram of a profile in which problems have different numbers of samples is an expectation. The population's
distribution of true pass rates is modelled as a mixture of Beta distributions (`BETAS`, from point-like ones at both
ends to flat ones between them), whose weights are fitted to all problems, however often each was sampled. Given k of
n, the posterior is again a mixture of Betas, and the number of right answers among further samples is beta-binomial:
everything here is a sum over `BETAS`, once for each (n, k), and costs nothing per problem.

That sampling stops because of what was seen does not bias the fit: the likelihood of k right answers in a given
order is the same whatever made it stop.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

from polaris_data.errors import SettingError
from polaris_data.profile.shape import Histogram, histogram
from polaris_data.records import Difficulty

_STEPS = tuple(4.0**power for power in range(-2, 4))

BETAS = tuple((a, b) for a in _STEPS for b in _STEPS)
"""Parameters of the mixture's components; the published histograms are met within 0.3% of the problems a bin."""

_NUM_ITERATIONS = 200
"""Of the fit, after which the published histograms no longer move by 0.1% of the problems."""

_PSEUDO_PROBLEMS = 1.0
"""Spread evenly over the components, so that a fit to few problems rules nothing out."""

Cell = tuple[int, int]
"""Samples drawn, and how many of them are correct."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """When sampling a problem may stop early."""

    bounds: tuple[float, ...] = (1.0,)
    """What must be settled: which of these accuracies all samples would reach. 1 is "always solved", the published
    rule's question; 0.01 besides it is "never solved"."""

    at_a_time: int = 1
    """Samples drawn between two looks. More keep an engine busy when there are few problems; fewer save more."""

    def __post_init__(self) -> None:
        if not self.bounds or not all(0 < bound <= 1 for bound in self.bounds):
            raise SettingError(f"bounds are {list(self.bounds)}; give accuracies above 0 and up to 1")
        if self.at_a_time < 1:
            raise SettingError(f"at_a_time is {self.at_a_time}; give 1 or more")


@dataclass(frozen=True, slots=True)
class Population:
    """How pass rates are distributed over problems."""

    weights: tuple[float, ...]
    """[len(BETAS)] share of each component; they add up to 1."""

    def predict(self, cell: Cell, num_more: int) -> tuple[float, ...]:
        """Return the probability of 0, 1, ... ``num_more`` right answers in further samples of a problem."""
        from scipy.stats import betabinom

        (n, k), (a, b) = cell, zip(*BETAS, strict=True)
        posterior = betabinom.pmf(k, n, a, b) * self.weights
        after_a, after_b = [each + k for each in a], [each + n - k for each in b]
        chances = betabinom.pmf([[more] for more in range(num_more + 1)], num_more, after_a, after_b) @ posterior
        return tuple((chances / posterior.sum()).clip(0, 1).tolist())


def fit_population(cells: Mapping[Cell, int]) -> Population:
    """Fit a population to what was seen of it, by expectation maximisation; one optimum, whatever the start.

    Args:
        cells: Number of problems with so many right answers in so many samples.
    """
    from scipy.stats import betabinom

    a, b = zip(*BETAS, strict=True)
    ordered = sorted(cells)  # so that a sum is the same to the last digit, whatever arrived first
    likelihoods = betabinom.pmf([[k] for _, k in ordered], [[n] for n, _ in ordered], a, b)
    counts = [[cells[cell]] for cell in ordered]
    pseudo = _PSEUDO_PROBLEMS / len(BETAS)
    total = sum(cells.values()) + _PSEUDO_PROBLEMS
    weights: Any = 1 / len(BETAS)
    for _ in range(_NUM_ITERATIONS):
        joint = likelihoods * weights
        weights = (pseudo + (joint * counts / joint.sum(axis=1, keepdims=True)).sum(axis=0)) / total
    return Population(tuple(weights.tolist()))


def settled_cells(num_samples: int, settling: Settling) -> frozenset[Cell]:
    """Return where sampling stops: where the accuracy is on the same side of every bound whatever the rest would be.

    Args:
        num_samples: Most samples of a problem; there every cell is settled.
        settling: What must be settled.
    """

    def side(k: int, n: int) -> int:
        return sum(k / n >= bound for bound in settling.bounds)

    cells = ((n, k) for n in range(1, num_samples + 1) for k in range(n + 1))
    return frozenset(
        (n, k)
        for n, k in cells
        if all(side(k + more, num_samples) == side(k, n) for more in range(num_samples - n + 1))
    )


def count_cells(profile: Iterable[Difficulty]) -> Counter[Cell]:
    """Count problems by their samples and right answers."""
    return Counter((difficulty.num_samples, difficulty.num_correct) for difficulty in profile)


def expected_histogram(profile: Iterable[Difficulty], n: int = 8, *, population: Population | None = None) -> Histogram:
    """Return the histogram that a profile of unequal numbers of samples would have with ``n`` for every problem.

    Samples that are missing are predicted, of those that are too many a random choice is taken; the expected
    counts are rounded so that they add up to the number of problems.

    Args:
        profile: At least one problem.
        n: Samples of each problem.
        population: What the problems are from; ``None`` fits it to them. Give the population of the whole profile
            for a part that was selected by its right answers.
    """
    cells = count_cells(profile)
    population = population or fit_population(cells)
    expected = [0.0] * (n + 1)
    for (drawn, k), count in sorted(cells.items()):
        if drawn <= n:
            for more, chance in enumerate(population.predict((drawn, k), n - drawn)):
                expected[k + more] += count * chance
        else:
            for taken in range(n + 1):
                expected[taken] += count * comb(k, taken) * comb(drawn - k, n - taken) / comb(drawn, n)
    return Histogram(_rounded(expected))


def profile_histogram(profile: Iterable[Difficulty], *, part_of: Iterable[Difficulty] | None = None) -> Histogram:
    """Return the histogram of a profile: counted where all problems have as many samples, else expected.

    Args:
        profile: At least one problem.
        part_of: The profile that these problems were selected from; ``None`` if they were not.
    """
    profile = list(profile)
    whole = profile if part_of is None else list(part_of)
    sizes = {difficulty.num_samples for difficulty in whole}
    if len(sizes) == 1:
        return histogram(profile)
    return expected_histogram(profile, max(sizes), population=fit_population(count_cells(whole)))


def _rounded(expected: list[float]) -> tuple[int, ...]:
    """Round counts so that their sum stays: those with the largest fractions go up."""
    floors = [int(each) for each in expected]
    missing = round(sum(expected)) - sum(floors)
    by_fraction = sorted(range(len(expected)), key=lambda bin: floors[bin] - expected[bin])
    for bin in by_fraction[:missing]:
        floors[bin] += 1
    return tuple(floors)
