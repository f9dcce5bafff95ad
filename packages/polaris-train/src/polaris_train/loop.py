"""The algorithm of a stage, on one page."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from polaris_data.records import Problem
from polaris_reward import Grader, Outcome
from polaris_rollout import Sampler

from polaris_train.checkpoint import save_checkpoint
from polaris_train.policy import Policy
from polaris_train.recipe import ResolvedStage
from polaris_train.rollout import GradedGroup, draw_problems, obtain_rollout
from polaris_train.update import UpdateStats, training_sequences, update


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step saw and did."""

    step: int
    """Counted from 1 within the stage."""

    rollout: list[GradedGroup]
    """Every group that was drawn."""

    metrics: dict[str, Any]
    """The step's line of ``metrics.jsonl``."""


def train_stage(
    config: ResolvedStage,
    *,
    problems: Sequence[Problem],
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    open_sampler: Callable[[int], AbstractContextManager[Sampler]],
    grader: Grader,
    folder: Path,
    done: int = 0,
) -> Iterator[StepResult]:
    """Run the steps of a stage after ``done``; collective.

    Yields each step's result after its optimizer step and before its checkpoint, so that what the caller
    records of a step is on disk when the checkpoint says that the step is done.

    Args:
        config: The stage.
        problems: Training problems; at least one step's worth.
        policy: Sharded model; holds the stage's result at the end.
        optimizer: Of the policy.
        open_sampler: Given the step, gives an engine that holds the policy's current weights.
        grader: Decides the rewards.
        folder: Of the stage.
        done: Steps that policy and optimizer already hold.
    """
    for step in range(done + 1, config.steps + 1):
        started = time.monotonic()
        batch = draw_problems(problems, step=step, num_problems=config.prompts_per_step, seed=config.seed)
        rollout = obtain_rollout(
            folder / "rollouts" / f"step-{step:06d}.parquet",
            batch,
            config,
            step=step,
            open_sampler=open_sampler,
            grader=grader,
        )
        sampled = time.monotonic()
        stats = update(policy, optimizer, training_sequences(rollout), config)
        seconds = {"sample": sampled - started, "update": time.monotonic() - sampled}
        yield StepResult(step=step, rollout=rollout, metrics=_metrics(step, rollout, stats, seconds))
        if step % config.checkpoint_every == 0 or step == config.steps:
            save_checkpoint(folder / "checkpoints", step, policy, optimizer, keep=config.keep_checkpoints)


def _metrics(
    step: int, rollout: Sequence[GradedGroup], stats: UpdateStats, seconds: dict[str, float]
) -> dict[str, Any]:
    completions = [completion for each in rollout for completion in each.group.completions]
    outcomes = [outcome for each in rollout for outcome in each.outcomes]
    rewards = [reward for each in rollout for reward in each.rewards]
    num_tokens = sum(len(completion.token_ids) for completion in completions)
    return {
        "step": step,
        "reward": sum(rewards) / len(rewards),
        "informative_share": sum(each.informative for each in rollout) / len(rollout),
        "solved_none": sum(not any(each.rewards) for each in rollout),
        "solved_all": sum(all(each.rewards) for each in rollout),
        "mean_tokens": num_tokens / len(completions),
        "truncated_share": sum(each.num_truncated for each in rollout) / len(completions),
        "outcomes": {outcome.value: outcomes.count(outcome) for outcome in Outcome if outcome in outcomes},
        "sampled_tokens": num_tokens,
        **asdict(stats),
        "seconds": seconds,
    }
