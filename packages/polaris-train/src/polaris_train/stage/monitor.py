"""What is written down of a step: its metrics, what they warn of, and what its phases cost."""

import math
import resource
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
import torch.distributed as dist
from polaris_reward import Outcome
from polaris_reward.core import process_reward

from polaris_train.grpo.lag import spans, token_lags
from polaris_train.grpo.updating import UpdateStats
from polaris_train.records import GradedGroup
from polaris_train.stage.levels import ENTROPY_SHARE, GROWTH, PROB_GAP, SPIKE, TRUNCATED_SHARE, ZERO_SIGNAL_SHARE

WINDOW = 20
"""Steps that a median is taken over."""

_FEWEST = 5
"""Steps before an alarm that compares with earlier ones can ring."""

GROWTH_WARM_UP, GROWTH_BLOCKS, GROWTH_BLOCK = 10, 10, 6
"""Steps before a process holds what it needs; means that a growth of memory is fitted to, and steps of each."""

_T_999 = 5.04
"""Student's quantile of a 99.9% interval, for the rises between `GROWTH_BLOCKS` means (8 degrees of freedom)."""

_GIB = 2**30


def step_metrics(step: int, groups: Sequence[GradedGroup], stats: UpdateStats) -> dict[str, Any]:
    """Return a step's line of ``metrics.jsonl``, without its alarms and evaluations."""
    completions = [completion for each in groups for completion in each.group.completions]
    outcomes = [outcome for each in groups for outcome in each.outcomes]
    rewards = [reward for each in groups for reward in each.rewards]
    num_tokens = sum(len(completion.token_ids) for completion in completions)
    updated = asdict(stats)
    by_lag = updated.pop("lags")
    if not updated["overflows"]:  # In float16 alone.
        del updated["overflows"]
    if stats.reverse_kl is None:
        del updated["reverse_kl"]
    return {
        "step": step,
        "reward": sum(rewards) / len(rewards),
        "informative_share": sum(each.informative for each in groups) / len(groups),
        "solved_none": sum(not any(each.rewards) for each in groups),
        "solved_all": sum(all(each.rewards) for each in groups),
        "mean_tokens": num_tokens / len(completions),
        "truncated_share": sum(each.num_truncated for each in groups) / len(completions),
        "outcomes": {outcome.value: outcomes.count(outcome) for outcome in Outcome if outcome in outcomes},
        "sampled_tokens": num_tokens,
        **{name: _finite(value) for name, value in updated.items()},
        **(_lag_metrics(step, groups, by_lag) if by_lag else {}),
        **_core_metrics(groups),
    }


def _lag_metrics(step: int, groups: Sequence[GradedGroup], by_lag: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how old the weights were that drew a step, and what that does to its tokens' probabilities."""
    drawn = [(each.group, completion) for each in groups for completion in each.group.completions]
    lags = [lag for group, completion in drawn for lag in token_lags(group, completion, step=step)]
    return {
        "lag_mean": sum(lags) / len(lags),
        "lag_max": max(lags),
        "spanning_share": sum(len(spans(*each)) > 1 for each in drawn) / len(drawn),
        "by_lag": {str(lag): {name: _finite(value) for name, value in each.items()} for lag, each in enumerate(by_lag)},
    }


def _core_metrics(groups: Sequence[GradedGroup]) -> dict[str, Any]:
    """Return what wrong answers share with their problems' consensus, and how many earned something for it."""
    if not any(each.overlaps for each in groups):
        return {}
    shares = [share for each in groups for share in each.overlaps if share is not None]
    wrong = sum(outcome is not Outcome.CORRECT for each in groups for outcome in each.outcomes)
    return {
        "overlap": fmean(shares) if shares else None,
        "process_reward": fmean(process_reward(share) for share in shares) if shares else None,
        "process_share": sum(share > 0 for share in shares) / wrong if wrong else None,
    }


def step_performance(
    metrics: Mapping[str, Any], phases: "Phases", *, replayed: bool, overlapped: bool = False
) -> dict[str, Any]:
    """Return a step's line of ``performance.jsonl``.

    What was replayed was not sampled, and where sampling overlapped with other work, what the step waited for it says
    nothing of its speed: neither has a rate.
    """
    sampled = 0 if replayed or overlapped else metrics["sampled_tokens"]
    tokens = {"sample": sampled, "update": metrics["num_tokens"]}
    return {
        "step": metrics["step"],
        "replayed": replayed,
        "seconds": phases.seconds,
        "peak_memory_gib": phases.peak_memory_gib,
        "tokens_per_second": {name: count / phases.seconds[name] for name, count in tokens.items()},
    }


def alarms(metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with a step, one sentence each with the value and what to do.

    Args:
        metrics: Of the step.
        history: Of the stage's earlier steps, oldest first.
    """
    trained = [each for each in history if each["num_tokens"] and each["grad_norm"] is not None]
    found = [
        _above("prob_gap_mean", metrics, PROB_GAP, "engine and trainer disagree: compare their precision and versions"),
        _above("truncated_share", metrics, TRUNCATED_SHARE, "answers are cut short: give a longer context"),
        _zero_signal(metrics),
        _collapse(metrics, trained),
        spike(metrics, trained),
        skipped(metrics),
    ]
    return [each for each in found if each]


def _finite(value: float | None) -> float | None:
    """Return a number as JSON can say it."""
    return value if value is None or math.isfinite(value) else None


def _above(name: str, metrics: Mapping[str, Any], level: float, advice: str) -> str | None:
    value = metrics[name]
    return f"{name} is {value:.4g}, above {level:g}: {advice}" if value is not None and value > level else None


def _zero_signal(metrics: Mapping[str, Any]) -> str | None:
    share = 1 - metrics["informative_share"]
    if share <= ZERO_SIGNAL_SHARE or "reverse_kl" in metrics:  # a teacher says something of every group
        return None
    return f"{share:.0%} of the groups are all right or all wrong: select problems that fit the model"


def _collapse(metrics: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]) -> str | None:
    if len(trained) < _FEWEST or not metrics["num_tokens"] or metrics["entropy"] is None:
        return None
    first = median(each["entropy"] for each in trained[:_FEWEST])
    if metrics["entropy"] >= ENTROPY_SHARE * first:
        return None
    return f"entropy is {metrics['entropy']:.3g}, of {first:.3g} at the start: raise the temperature"


def spike(metrics: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what to say of a gradient that is far longer than usual.

    Args:
        metrics: Of the step.
        trained: Of the earlier steps that learned something, oldest first.
    """
    if len(trained) < _FEWEST or metrics["grad_norm"] is None:
        return None
    usual = median(each["grad_norm"] for each in trained[-WINDOW:])
    if metrics["grad_norm"] <= SPIKE * usual:
        return None
    return f"grad_norm is {metrics['grad_norm']:.3g}, usually {usual:.3g}: look at this step's answers"


def skipped(metrics: Mapping[str, Any]) -> str | None:
    """Return what to say of a step that was left out."""
    if not metrics["skipped_updates"]:
        return None
    return "loss or gradient was not finite: the update was skipped"


class ResidentMemory:
    """Watches the memory of every rank's process for steady growth, which ends in the middle of a long stage.

    The newest `GROWTH_BLOCKS` times `GROWTH_BLOCK` steps are cut into blocks, and a random walk with a drift is fitted
    to the means of the blocks: memory that wanders or that jumps once has rises that differ from each other, and a leak
    has equal ones. The alarm rings where the lower end of the 99.9% interval of the drift is worth `GROWTH` of the
    memory and growth does not die away, as that of caches does. The first `GROWTH_WARM_UP` steps do not
    count. How often it errs is in ``tests/test_memory_growth.py``.
    """

    def __init__(self) -> None:
        """Start with nothing: what a process before this one held says nothing about it."""
        self._steps: list[list[float]] = []

    def measure(self) -> dict[str, Any]:
        """Return what the ranks hold now, and alarms, for a step's line of ``performance.jsonl``; collective."""
        held = torch.zeros(dist.get_world_size(), dtype=torch.float64)
        held[dist.get_rank()] = resident_bytes() / _GIB
        dist.all_reduce(held)
        self._steps.append(held.tolist())
        found = [_growth_of(rank, values) for rank, values in enumerate(zip(*self._steps, strict=True))]
        return {
            "resident_gib": {str(rank): round(each, 4) for rank, each in enumerate(held.tolist())},
            "alarms": [each for each in found if each],
        }


def growth(held: Sequence[float]) -> tuple[float, float] | None:
    """Return the 99.9% interval of how much memory grows with each step; ``None`` if this step ends no block.

    Where the second half of the window rises less than two thirds as fast as the first, growth dies away, and the lower
    end is 0 at most.

    Args:
        held: After every step since the process began, in any unit.
    """
    num_steps = len(held) - GROWTH_WARM_UP
    if num_steps < GROWTH_BLOCKS * GROWTH_BLOCK or num_steps % GROWTH_BLOCK:
        return None
    newest = held[-GROWTH_BLOCKS * GROWTH_BLOCK :]
    means = [fmean(newest[start : start + GROWTH_BLOCK]) for start in range(0, len(newest), GROWTH_BLOCK)]
    rises = [after - before for before, after in pairwise(means)]
    drift = fmean(rises)
    variance = sum((rise - drift) ** 2 for rise in rises) / (len(rises) - 1)
    half = _T_999 * math.sqrt(variance / len(rises))
    low, high = (drift - half) / GROWTH_BLOCK, (drift + half) / GROWTH_BLOCK
    middle = len(rises) // 2
    return (min(low, 0.0) if fmean(rises[-middle:]) < 2 / 3 * fmean(rises[:middle]) else low), high


def _growth_of(rank: int, held: Sequence[float]) -> str | None:
    interval = growth(held)
    if interval is None or interval[0] * GROWTH_BLOCKS * GROWTH_BLOCK <= GROWTH * held[-1]:
        return None
    low, high = (1024 * end for end in interval)
    return (
        f"memory of rank {rank} is {held[-1]:.2f} GiB and grows by {low:.1f} to {high:.1f} MiB a step: end the stage "
        "before the machine's memory is full, and the same command continues with what it needs"
    )


Watched = Callable[[str], AbstractContextManager[None]]
"""Is told the name of a phase, which lasts as long as the block."""


class Phases:
    """Measures the phases of one step on this rank.

    Attributes:
        seconds: Of each phase by name, over all times it was gone through.
        peak_memory_gib: Highest memory in each phase: of the GPU, or of this process where there is none.
    """

    def __init__(self, watched: Watched = nullcontext) -> None:
        self._watched = watched
        self.seconds: dict[str, float] = {}
        self.peak_memory_gib: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Measure what happens inside the block."""
        reset_peak()
        started = time.monotonic()
        with self._watched(name):
            yield
            if torch.cuda.is_available():
                torch.cuda.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
        self.peak_memory_gib[name] = max(self.peak_memory_gib.get(name, 0.0), peak_bytes() / _GIB)


def reset_peak() -> None:
    """Let what is held now be the highest that was held."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):  # Some sandboxes refuse it; the peak is then that of the whole run.
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is in use


def peak_bytes() -> int:
    """Return the highest memory since `reset_peak`: of the GPU, or of this process where there is none."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _process_bytes("VmHWM")


def resident_bytes() -> int:
    """Return the memory of this process."""
    return _process_bytes("VmRSS")


def _process_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
