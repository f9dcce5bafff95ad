"""The algorithm of a stage, on one page."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from polaris_data import Problem
from polaris_reward import Grader, Outcome
from polaris_rollout import Sampler

from polaris_train.errors import DivergenceError
from polaris_train.grpo.batches import UpdateStats, training_batches, update
from polaris_train.model.policy import Policy
from polaris_train.recipe import ResolvedStage
from polaris_train.records import GradedGroup
from polaris_train.stage.checkpoint import Checkpointer, TrainingState
from polaris_train.stage.evaluation import evaluate_when_due
from polaris_train.stage.monitor import Phases, alarms
from polaris_train.stage.sampling import draw_problems, obtain_rollout, sampler_position
from polaris_train.stage.settings import update_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step saw and did."""

    step: int
    """Counted from 1 within the stage."""

    rollout: list[GradedGroup]
    """Every group that was drawn, before any rescue."""

    metrics: dict[str, Any]
    """The step's line of ``metrics.jsonl``: the same whenever and wherever it is computed again."""

    performance: dict[str, Any]
    """The step's line of ``performance.jsonl``: seconds, memory and tokens per second on this machine."""


def train_stage(
    config: ResolvedStage,
    *,
    problems: Sequence[Problem],
    state: TrainingState,
    checkpointer: Checkpointer,
    open_sampler: Callable[[int], AbstractContextManager[Sampler]],
    grader: Grader,
    folder: Path,
    reference: Policy | None = None,
    history: Sequence[Mapping[str, Any]] = (),
) -> Iterator[StepResult]:
    """Run the steps of a stage after ``state.step``; collective.

    Yields each step's result after its update and before its checkpoint, so that what the caller records of a step
    is on disk when the checkpoint says that the step is done.

    Args:
        config: The stage.
        problems: Training problems; at least one step's worth.
        state: Holds the stage's result at the end.
        checkpointer: Of the stage's folder.
        open_sampler: Given the step, gives an engine that holds the policy's current weights.
        grader: Decides the rewards.
        folder: Of the stage.
        reference: The model that the stage started from, where ``config.kl_coef`` asks for it.
        history: Metrics of the steps before, which alarms compare with.

    Raises:
        DivergenceError: If loss or gradient was not finite too many steps in a row.
    """
    evaluate = partial(evaluate_when_due, config, folder, open_sampler=open_sampler, grader=grader)
    batching, loss, stepping = update_settings(config)
    known, waited = list(history), Phases()
    evaluate(state.step, waited)
    for step in range(state.step + 1, config.steps + 1):
        phases, waited = waited, Phases()
        path = folder / "rollouts" / f"step-{step:06d}.parquet"
        replayed = path.exists()
        with phases.phase("sample"):
            batch = draw_problems(problems, step=step, num_problems=config.prompts_per_step, seed=config.seed)
            rollout = obtain_rollout(path, batch, config, step=step, open_sampler=open_sampler, grader=grader)
        with phases.phase("update"):
            rescued = state.rescue.rescue(rollout, step=step)
            batches = training_batches(rescued, batching, step=step)
            stats = update(
                state.policy, state.optimizer, batches, loss, stepping, scaler=state.scaler, reference=reference
            )
        state.step = step
        state.skipped_in_row = state.skipped_in_row + 1 if _diverged(stats, state) else 0
        metrics = _metrics(step, rollout, stats)
        metrics["alarms"] = alarms(metrics, known)
        known.append(metrics)
        metrics |= evaluate(step, phases)
        yield StepResult(
            step=step, rollout=rollout, metrics=metrics, performance=_performance(metrics, phases, replayed=replayed)
        )
        if state.skipped_in_row > config.max_skipped_steps:
            raise DivergenceError(
                f"step {step}: loss or gradient was not finite in {state.skipped_in_row} steps in a row, and nothing "
                "was learned from them; start another run folder with a lower learning_rate or another precision, "
                "from the newest checkpoint if it is still good (polaris-train export)"
            )
        if step % config.checkpoint_every == 0 or step == config.steps:
            with waited.phase("checkpoint"):
                checkpointer.save(state, _position(problems, config, step=step + 1))
    checkpointer.wait()


def _diverged(stats: UpdateStats, state: TrainingState) -> bool:
    """Return whether the step was skipped; not if that is how float16 finds the scale of its loss."""
    finding_scale = state.scaler.is_enabled() and state.scaler.get_scale() >= 1
    return stats.skipped_updates > 0 and not finding_scale


def _position(problems: Sequence[Problem], config: ResolvedStage, *, step: int) -> dict[str, int]:
    return sampler_position(len(problems), step=step, num_problems=config.prompts_per_step, seed=config.seed)


def _metrics(step: int, rollout: Sequence[GradedGroup], stats: UpdateStats) -> dict[str, Any]:
    completions = [completion for each in rollout for completion in each.group.completions]
    outcomes = [outcome for each in rollout for outcome in each.outcomes]
    rewards = [reward for each in rollout for reward in each.rewards]
    num_tokens = sum(len(completion.token_ids) for completion in completions)
    measured = {name: _finite(value) for name, value in asdict(stats).items()}
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
        **measured,
    }


def _finite(value: float | None) -> float | None:
    """Return a number as JSON can say it."""
    return value if value is None or math.isfinite(value) else None


def _performance(metrics: Mapping[str, Any], phases: Phases, *, replayed: bool) -> dict[str, Any]:
    tokens = {"sample": 0 if replayed else metrics["sampled_tokens"], "update": metrics["num_tokens"]}
    return {
        "step": metrics["step"],
        "replayed": replayed,
        "seconds": phases.seconds,
        "peak_memory_gib": phases.peak_memory_gib,
        "tokens_per_second": {name: count / phases.seconds[name] for name, count in tokens.items()},
    }
