"""How long the engines of a step wait for each other: a simulation of static, shared and longest-first work.

Lengths are lognormal, cut at the token budget. Part of the spread in log length lies between problems, the rest
between the samples of one problem; only the first part can be foreseen, here from the mean length of an earlier
visit of the same number of samples. An engine advances each of its running completions by one token a step and
holds as many as its slots; a group is drawn when a slot is free and no sample of the last one waits, and all its
samples stay on that engine. The cost of a step does not depend on how many slots are taken.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from polaris_rollout.errors import SettingError
from polaris_rollout.sharing.work import fair_share, longest_first

NUM_ENGINES = (1, 2, 4, 8, 16, 32, 64)
"""Engines that the report compares."""

SCHEMES = ("static split", "shared counter", "longest first", "lengths known")
"""Every n-th group; whoever has room; that, longest mean of an earlier visit first; that, true longest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One step of sampling."""

    num_problems: int = 128
    """Groups of the step."""

    samples_per_problem: int = 8
    """Completions of a group."""

    slots: int = 24
    """Completions that one engine's memory holds. A 4B model keeps 147 kB a token, and a running answer of this
    workload about 9,000 of them: 24 need 32 GB."""

    mean_tokens: float = 8192.0
    """Of a completion, after cutting."""

    max_tokens: int = 53248
    """Token budget at which completions are cut."""

    sigma: float = 1.0
    """Standard deviation of the log length; 1.0 cuts one answer in a hundred."""

    between_share: float = 0.75
    """Share of the variance of the log length that lies between problems. 0.75 leaves a sample a standard
    deviation of a factor 1.65 about its problem."""

    def __post_init__(self) -> None:
        for name in ("num_problems", "samples_per_problem", "slots"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)!r}; give 1 or more")
        if not 1 < self.mean_tokens < self.max_tokens:
            raise SettingError(
                f"mean_tokens is {self.mean_tokens!r} and max_tokens {self.max_tokens!r}; the mean lies between 1 and "
                "the maximum"
            )
        if not self.sigma > 0 or not 0 <= self.between_share <= 1:
            raise SettingError(
                f"sigma is {self.sigma!r} and between_share {self.between_share!r}; give a sigma above 0 and a share "
                "from 0 to 1"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """How a workload went on a number of engines."""

    num_engines: int
    """Each with the slots of the workload."""

    ideal_tokens: NDArray[np.float64]
    """[seeds] steps that no scheme can beat: all tokens over all slots, or the longest completion."""

    ratios: dict[str, NDArray[np.float64]]
    """[seeds] steps until the last engine is done divided by the ideal, for each of `SCHEMES`."""


def simulate(workload: Workload, *, num_engines: Sequence[int] = NUM_ENGINES, num_seeds: int = 100) -> list[Balance]:
    """Draw a workload's lengths and run every scheme on them, on every number of engines.

    Args:
        workload: What is sampled.
        num_engines: Of each comparison.
        num_seeds: Draws; the same for all schemes and numbers of engines.
    """
    drawn = [draw_lengths(workload, np.random.default_rng(seed)) for seed in range(num_seeds)]
    return [_balance(workload, engines, drawn) for engines in num_engines]


def draw_lengths(workload: Workload, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``[problem, sample]`` lengths in tokens: those of the step, and those of an earlier visit."""
    log_mean = fit_log_mean(workload.mean_tokens, workload.max_tokens, workload.sigma)
    shape = (workload.num_problems, workload.samples_per_problem)
    of_problem = rng.normal(log_mean, workload.sigma * math.sqrt(workload.between_share), size=(shape[0], 1))
    spread = workload.sigma * math.sqrt(1 - workload.between_share)
    now, earlier = (
        np.exp(of_problem + rng.normal(0, spread, size=shape)).clip(1, workload.max_tokens).astype(np.int64)
        for _ in range(2)
    )
    return now, earlier


def fit_log_mean(mean_tokens: float, max_tokens: float, sigma: float) -> float:
    """Return the mean log length of the lognormal whose mean, after cutting at a maximum, is the one given.

    Solved by bisection: the mean after cutting grows with the mean log length.
    """
    low, high = -20.0, math.log(max_tokens) + 20.0 * sigma
    for _ in range(100):
        middle = (low + high) / 2
        if _mean_after_cutting(middle, max_tokens, sigma) < mean_tokens:
            low = middle
        else:
            high = middle
    return low


def makespan(lengths: Sequence[Sequence[int]], *, num_engines: int, slots: int) -> int:
    """Return the steps until engines that share groups in the given order have sampled all completions.

    Engines that are free at the same moment take turns, as ranks that start together do.

    Args:
        lengths: ``[group][sample]`` in tokens; groups in the order in which they are handed out.
        num_engines: That share the groups.
        slots: Of each engine.
    """
    groups = iter(lengths)
    waiting: list[list[int]] = [[] for _ in range(num_engines)]
    free = [(0, slot, engine) for slot in range(slots) for engine in range(num_engines)]
    last = 0
    while free:
        now, slot, engine = free[0]
        if not waiting[engine]:
            waiting[engine] = list(next(groups, ()))
        if waiting[engine]:
            done = now + waiting[engine].pop(0)
            heapq.heapreplace(free, (done, slot, engine))
            last = max(last, done)
        else:
            heapq.heappop(free)
    return last


def print_simulation(
    workload: Workload,
    *,
    num_engines: Sequence[int] = NUM_ENGINES,
    num_seeds: int = 100,
    plot: Path | None = None,
) -> None:
    """Print a table of makespan / ideal for every scheme, and draw it.

    Args:
        workload: What is sampled.
        num_engines: Of each row.
        num_seeds: Draws.
        plot: PNG file to write.
    """
    from rich.console import Console
    from rich.table import Table

    balances = simulate(workload, num_engines=num_engines, num_seeds=num_seeds)
    table = Table(
        title=f"makespan / ideal: {workload.num_problems} problems x {workload.samples_per_problem}, {workload.slots} "
        f"slots an engine, mean {workload.mean_tokens:,.0f} tokens, cut at {workload.max_tokens:,}",
        caption=f"mean over {num_seeds} draws (95th percentile); sigma {workload.sigma:g}, of its variance "
        f"{workload.between_share:.0%} between problems",
    )
    for heading in ("engines", "ideal tokens", *SCHEMES):
        table.add_column(heading, justify="right")
    for balance in balances:
        cells = [f"{ratios.mean():.3f} ({np.quantile(ratios, 0.95):.2f})" for ratios in balance.ratios.values()]
        table.add_row(str(balance.num_engines), f"{balance.ideal_tokens.mean():,.0f}", *cells)
    Console().print(table)
    if plot is not None:
        draw_simulation(balances, plot)


def draw_simulation(balances: Sequence[Balance], path: Path) -> None:
    """Draw makespan / ideal over the number of engines as a PNG: means, and bands from 5th to 95th percentile."""
    from matplotlib.figure import Figure

    from polaris_rollout.store.table import renamed_when_whole

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    engines = [balance.num_engines for balance in balances]
    for scheme in SCHEMES:
        ratios = np.array([balance.ratios[scheme] for balance in balances])
        (line,) = axes.plot(engines, ratios.mean(axis=1), marker="o", label=scheme)
        low, high = np.quantile(ratios, [0.05, 0.95], axis=1)
        axes.fill_between(engines, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(engines, [str(each) for each in engines])
    axes.set_xlabel("engines")
    axes.set_ylabel("makespan / ideal")
    axes.grid(alpha=0.3)
    axes.legend()
    with renamed_when_whole(path) as file:
        figure.savefig(file, format="png", dpi=150)


def _balance(
    workload: Workload, num_engines: int, drawn: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
) -> Balance:
    num_completions = workload.num_problems * workload.samples_per_problem
    slots = min(workload.slots, fair_share(num_completions, num_engines))
    ideal = np.array([max(now.sum() / (num_engines * slots), now.max()) for now, _ in drawn])
    spans = np.array([_spans(now, earlier, num_engines, slots) for now, earlier in drawn])
    ratios = {scheme: spans[:, column] / ideal for column, scheme in enumerate(SCHEMES)}
    return Balance(num_engines=num_engines, ideal_tokens=ideal, ratios=ratios)


def _spans(now: NDArray[np.int64], earlier: NDArray[np.int64], num_engines: int, slots: int) -> list[int]:
    """Return the makespan of each of `SCHEMES`."""
    lengths: list[list[int]] = now.tolist()
    means, longest = earlier.mean(axis=1), now.max(axis=1)
    shares = [lengths[engine::num_engines] for engine in range(num_engines)]
    orders = (
        lengths,
        [lengths[group] for group in longest_first(range(len(lengths)), lambda group: float(means[group]))],
        [lengths[group] for group in longest_first(range(len(lengths)), lambda group: float(longest[group]))],
    )
    return [
        max(makespan(share, num_engines=1, slots=slots) for share in shares),
        *(makespan(order, num_engines=num_engines, slots=slots) for order in orders),
    ]


def _mean_after_cutting(log_mean: float, max_tokens: float, sigma: float) -> float:
    """Return ``E[min(X, max_tokens)]`` for a lognormal ``X``."""
    below = NormalDist().cdf
    distance = (math.log(max_tokens) - log_mean) / sigma
    return math.exp(log_mean + sigma**2 / 2) * below(distance - sigma) + max_tokens * (1 - below(distance))
