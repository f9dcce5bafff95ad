"""What is written down of a step: its metrics, what they warn of, and what its phases cost."""

import math
import resource
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from polaris_reward import Outcome

from polaris_train.grpo.batches import UpdateStats
from polaris_train.records import GradedGroup
from polaris_train.stage.levels import ENTROPY_SHARE, PROB_GAP, SPIKE, TRUNCATED_SHARE, ZERO_SIGNAL_SHARE

WINDOW = 20
"""Steps that a median is taken over."""

_FEWEST = 5
"""Steps before an alarm that compares with earlier ones can ring."""

_GIB = 2**30


def step_metrics(step: int, groups: Sequence[GradedGroup], stats: UpdateStats) -> dict[str, Any]:
    """Return a step's line of ``metrics.jsonl``, without its alarms and evaluations."""
    completions = [completion for each in groups for completion in each.group.completions]
    outcomes = [outcome for each in groups for outcome in each.outcomes]
    rewards = [reward for each in groups for reward in each.rewards]
    num_tokens = sum(len(completion.token_ids) for completion in completions)
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
        **{name: _finite(value) for name, value in asdict(stats).items()},
    }


def step_performance(metrics: Mapping[str, Any], phases: "Phases", *, replayed: bool) -> dict[str, Any]:
    """Return a step's line of ``performance.jsonl``; what was replayed was not sampled."""
    tokens = {"sample": 0 if replayed else metrics["sampled_tokens"], "update": metrics["num_tokens"]}
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
        _spike(metrics, trained),
        _skipped(metrics),
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
    if share <= ZERO_SIGNAL_SHARE:
        return None
    return f"{share:.0%} of the groups are all right or all wrong: select problems that fit the model"


def _collapse(metrics: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]) -> str | None:
    if len(trained) < _FEWEST or not metrics["num_tokens"] or metrics["entropy"] is None:
        return None
    first = median(each["entropy"] for each in trained[:_FEWEST])
    if metrics["entropy"] >= ENTROPY_SHARE * first:
        return None
    return f"entropy is {metrics['entropy']:.3g}, of {first:.3g} at the start: raise the temperature"


def _spike(metrics: Mapping[str, Any], trained: Sequence[Mapping[str, Any]]) -> str | None:
    if len(trained) < _FEWEST or metrics["grad_norm"] is None:
        return None
    usual = median(each["grad_norm"] for each in trained[-WINDOW:])
    if metrics["grad_norm"] <= SPIKE * usual:
        return None
    return f"grad_norm is {metrics['grad_norm']:.3g}, usually {usual:.3g}: look at this step's answers"


def _skipped(metrics: Mapping[str, Any]) -> str | None:
    if not metrics["skipped_updates"]:
        return None
    return "loss or gradient was not finite: the update was skipped"


class Phases:
    """Measures the phases of one step on this rank.

    Attributes:
        seconds: Of each phase by name, over all times it was gone through.
        peak_memory_gib: Highest memory in each phase: of the GPU, or of this process where there is none.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_memory_gib: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Generator[None]:
        """Measure what happens inside the block."""
        _reset_peak()
        started = time.monotonic()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
        self.peak_memory_gib[name] = max(self.peak_memory_gib.get(name, 0.0), _peak_bytes() / _GIB)


def _reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):  # Some sandboxes refuse it; the peak is then that of the whole run.
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to what is in use


def _peak_bytes() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
