"""Supervised fine-tuning, on one page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from torch import Tensor

from polaris_train.errors import DivergenceError
from polaris_train.model.attempts import fitting, take_step
from polaris_train.model.learning_rate import set_learning_rate
from polaris_train.model.packing import MicroBatch, TrainingSequence
from polaris_train.model.policy import Policy
from polaris_train.model.step import OptimizerStep, StepSettings, TokenLosses, sequence_logprobs
from polaris_train.recipe.sft import Supervised
from polaris_train.resolved import ResolvedStage
from polaris_train.sft.sequences import Traces, num_learned, with_equal_weights
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.ending import Ending
from polaris_train.stage.evaluation import is_due
from polaris_train.stage.loop import Evaluate
from polaris_train.stage.monitor import Phases, ResidentMemory, Watched, skipped, spike
from polaris_train.stage.settings import learning_rate
from polaris_train.stage.training_state import TrainingState


@dataclass(frozen=True, slots=True, kw_only=True)
class SftStep:
    """What one step did."""

    metrics: dict[str, Any]
    """The step's line of ``metrics.jsonl``: the same whenever it is computed again."""

    performance: dict[str, Any]
    """The step's line of ``performance.jsonl``: what it cost on this machine."""


def negative_logprobs(logprobs: Tensor, entropies: Tensor, batch: MicroBatch) -> TokenLosses:
    """Return the loss of supervised fine-tuning: how surprised the model is at each token, in nats."""
    return TokenLosses(losses=-logprobs, sums={"entropy": entropies * (batch.weights > 0)})


def train_sft(
    config: ResolvedStage,
    learning: Supervised,
    *,
    state: TrainingState,
    traces: Traces,
    evaluate: Evaluate,
    ending: Ending,
    checkpointer: Checkpointer,
    watched: Watched = nullcontext,
) -> Iterator[SftStep]:
    """Run the steps of a stage after ``state.step`` until its epochs are over; collective.

    Yields each step after its update and before its checkpoint, as `polaris_train.stage.loop.train_stage` does.

    Args:
        config: The stage.
        learning: What it learns from.
        state: Holds the stage's result at the end.
        traces: Of the stage.
        evaluate: Measures the policy.
        ending: Says which checkpoint must be kept.
        checkpointer: Of the stage's folder.
        watched: Told of each phase while it lasts.

    Raises:
        DivergenceError: If loss or gradient was not finite too many steps in a row.
    """
    # Temperature 1: what is learned is the distribution itself.
    settings = StepSettings(
        max_tokens=config.max_microbatch_tokens,
        max_grad_norm=config.max_grad_norm,
        reduce_each=config.reduce_each_microbatch,
    )
    known, waited, memory = ending.history(), Phases(watched), ResidentMemory()
    evaluate(state.step, waited)
    while state.step < config.steps:
        step = state.step + 1
        phases, waited = waited, Phases(watched)
        with phases.phase("update"):
            drawn = traces.draw(step, epochs=learning.epochs, traces_per_step=learning.traces_per_step)
            sequences = with_equal_weights(traces.sequences(drawn))
            rate = learning_rate(config, step)
            set_learning_rate(state.optimizer, rate)
            taken = take_step(
                state.policy, state.optimizer, sequences, negative_logprobs, settings, scaler=state.scaler
            )
        state.step = step
        state.skipped_in_row = 0 if taken.finite else state.skipped_in_row + 1
        epoch = min(step * learning.traces_per_step / len(traces.learned), learning.epochs)
        metrics = _metrics(step, taken, sequences) | {"epoch": epoch, "learning_rate": rate}
        metrics["alarms"] = _alarms(metrics, known)
        known.append(metrics)
        if traces.validated and is_due(step, every=config.evaluate_every or config.steps, steps=config.steps):
            with phases.phase("validate"):
                metrics["validation_loss"] = validation_loss(state.policy, traces, settings)
        metrics |= evaluate(step, phases)
        yield SftStep(metrics=metrics, performance=_performance(metrics, phases) | memory.measure())
        if state.skipped_in_row > config.max_skipped_steps:
            raise DivergenceError(
                f"step {step}: loss or gradient was not finite in {state.skipped_in_row} steps in a row, and nothing "
                "was learned from them; start another run folder with a lower learning_rate or another precision"
            )
        measured = is_due(step, every=config.evaluate_every, steps=config.steps)
        if step == config.steps or measured or step % config.checkpoint_every == 0:
            with waited.phase("checkpoint"):
                position = {"traces drawn": step * learning.traces_per_step}
                checkpointer.save(state, position, chosen=ending.choice(known).step)
    with waited.phase("checkpoint"):
        checkpointer.wait()


def validation_loss(policy: Policy, traces: Traces, settings: StepSettings) -> float:
    """Return the mean loss over the assistant's tokens of the traces that are not learned from; collective."""
    total, count = 0.0, 0
    for start in range(0, len(traces.validated), _VALIDATED_AT_ONCE):
        sequences = traces.sequences(traces.validated[start : start + _VALIDATED_AT_ONCE])
        found = fitting([policy], settings, partial(sequence_logprobs, policy, sequences, settings))
        for each, logprobs in zip(sequences, found, strict=True):
            weights = each.weight if isinstance(each.weight, tuple) else (each.weight,) * len(logprobs)
            total -= sum(weight * logprob for weight, logprob in zip(weights, logprobs, strict=True))
        count += num_learned(sequences)
    return total / count


_VALIDATED_AT_ONCE = 64
"""Traces whose tokens are in memory at the same time."""


def _metrics(step: int, taken: OptimizerStep, sequences: Sequence[TrainingSequence]) -> dict[str, Any]:
    learned = num_learned(sequences)
    return {
        "step": step,
        "loss": taken.sums["loss"] if taken.finite else None,
        "num_tokens": learned,
        "read_tokens": sum(each.length for each in sequences),
        "mean_tokens": fmean(len(each.token_ids) for each in sequences),
        "entropy": taken.sums["entropy"] / learned if taken.finite else None,
        "grad_norm": taken.grad_norm if taken.finite else None,
        "skipped_updates": 0 if taken.finite else 1,
        **({"overflows": taken.overflows} if taken.overflows else {}),
    }


def _alarms(metrics: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> list[str]:
    trained = [each for each in history if each["grad_norm"] is not None]
    return [each for each in (spike(metrics, trained), skipped(metrics)) if each]


def _performance(metrics: Mapping[str, Any], phases: Phases) -> dict[str, Any]:
    return {
        "step": metrics["step"],
        "seconds": phases.seconds,
        "peak_memory_gib": phases.peak_memory_gib,
        "tokens_per_second": {"update": metrics["read_tokens"] / phases.seconds["update"]},
    }
