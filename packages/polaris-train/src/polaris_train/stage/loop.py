"""The algorithm of a stage, on one page."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from polaris_train.errors import DivergenceError
from polaris_train.grpo.batches import training_batches
from polaris_train.grpo.updating import Teacher, update
from polaris_train.model.learning_rate import set_learning_rate
from polaris_train.model.policy import Policy, WithoutAdapters
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.capsule import TakenStep
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.ending import Ending
from polaris_train.stage.evaluation import is_due
from polaris_train.stage.monitor import Phases, ResidentMemory, Watched, alarms, step_metrics, step_performance
from polaris_train.stage.rollouts import Rollouts
from polaris_train.stage.settings import learning_rate, update_settings
from polaris_train.stage.training_state import TrainingState, random_state
from polaris_train.stage.truncation import refuse_truncated_start


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step saw and did."""

    step: int
    """Counted from 1 within the stage."""

    groups: list[GradedGroup]
    """Every group that was drawn, before any rescue."""

    metrics: dict[str, Any]
    """The step's line of ``metrics.jsonl``: the same whenever and wherever it is computed again."""

    performance: dict[str, Any]
    """The step's line of ``performance.jsonl``: seconds, memory and tokens per second on this machine."""

    taken: TakenStep
    """What it computed, from what."""


class Evaluate(Protocol):
    """Measures the policy after so many steps where that is due, or because it is the last."""

    def __call__(self, step: int, phases: Phases, *, last: bool = False) -> dict[str, Any]:
        """Return its part of the step's record; collective."""
        ...


def train_stage(
    config: ResolvedStage,
    *,
    state: TrainingState,
    rollouts: Rollouts,
    evaluate: Evaluate,
    ending: Ending,
    checkpointer: Checkpointer,
    reference: Policy | WithoutAdapters | None = None,
    teacher: Teacher | None = None,
    watched: Watched = nullcontext,
) -> Iterator[StepResult]:
    """Run the steps of a stage after ``state.step`` until it ends; collective.

    Yields each step's result after its update and before its checkpoint, so that what the caller records of a step
    is on disk when the checkpoint says that the step is done.

    Args:
        config: The stage.
        state: Holds the stage's result at the end.
        rollouts: Gives the graded groups of a step.
        evaluate: Measures the policy.
        ending: Says when the stage ends, and which checkpoint must be kept.
        checkpointer: Of the stage's folder.
        reference: The model that the stage started from, where ``config.kl_coef`` asks for it.
        teacher: Whose log-probabilities ``config.distillation`` asks for.
        watched: Told of each phase while it lasts.

    Raises:
        DivergenceError: If loss or gradient was not finite too many steps in a row.
        RecipeError: If too many answers of the first step were cut short.
    """
    batching, loss, stepping = update_settings(config)
    known, waited, memory = ending.history(), Phases(watched), ResidentMemory()
    evaluate(state.step, waited)
    stop = ending.stop(known)
    while stop is None:
        step = state.step + 1
        phases, waited = waited, Phases(watched)
        with phases.phase("sample"):
            rollout = rollouts.next(step)
        groups = rollout.groups if state.core is None else state.core.reward(rollout.groups, step=step)
        if step == 1:
            refuse_truncated_start(groups, config)
        with phases.phase("update"):
            rescued = state.rescue.rescue(groups, step=step)
            batches = training_batches(rescued, batching, step=step)
            random, rate = random_state(), learning_rate(config, step)
            set_learning_rate(state.optimizer, rate)
            updated = update(
                state.policy,
                state.optimizer,
                batches,
                loss,
                stepping,
                scaler=state.scaler,
                reference=reference,
                teacher=teacher,
            )
            stats, taken = updated.stats, TakenStep(step, random, rescued, batches, updated.steps)
        state.step = step
        state.skipped_in_row = state.skipped_in_row + 1 if stats.skipped_updates else 0
        metrics = step_metrics(step, groups, stats) | {"learning_rate": rate}
        if config.refill_below:
            metrics["refilled_groups"] = len(groups) - config.prompts_per_step
        metrics["alarms"] = alarms(metrics, known)
        known.append(metrics)
        metrics |= evaluate(step, phases)
        stop = ending.stop(known)
        if stop is not None:
            metrics |= evaluate(step, phases, last=True)
        overlapped = config.sampling_ahead > 0
        performance = step_performance(metrics, phases, replayed=rollout.replayed, overlapped=overlapped)
        performance |= memory.measure()
        yield StepResult(step=step, groups=groups, metrics=metrics, performance=performance, taken=taken)
        if state.skipped_in_row > config.max_skipped_steps:
            raise DivergenceError(
                f"step {step}: loss or gradient was not finite in {state.skipped_in_row} steps in a row, and nothing "
                "was learned from them; start another run folder with a lower learning_rate or another precision, "
                "from the newest checkpoint if it is still good (polaris-train export)"
            )
        measured = is_due(step, every=config.evaluate_every, steps=config.steps)
        if stop is not None or measured or step % config.checkpoint_every == 0:
            with waited.phase("checkpoint"):
                checkpointer.save(state, rollouts.position(step + 1), chosen=ending.choice(known).step)
    with waited.phase("checkpoint"):
        checkpointer.wait()
