"""The optimizer steps on a step's batches, and what they did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from polaris_train.grpo.batches import TrainingBatch
from polaris_train.grpo.loss import LossSettings, token_losses
from polaris_train.model.attempts import fitting, take_step
from polaris_train.model.packing import MicroBatch, TrainingSequence
from polaris_train.model.policy import Policy, WithoutAdapters
from polaris_train.model.step import OptimizerStep, StepSettings, TokenLosses, sequence_logprobs

Teacher: TypeAlias = Callable[[Sequence[TrainingSequence]], list[tuple[float, ...]]]
"""Gives a teacher's log-probabilities of the tokens of sequences, [T] of each; collective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LagStats:
    """How the trainer's policy differs from what drew the tokens of one lag."""

    num_tokens: int
    """That were trained on, rescued completions left out."""

    prob_gap_mean: float | None
    """Difference between the trainer's probability of a token and the one it was drawn with; ``None`` without any."""

    mismatch_share: float | None
    """Share of them whose weight the mismatch correction cut; ``None`` without any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What the optimizer steps on one rollout did, over all ranks; means are over tokens."""

    loss: float | None
    """With the aggregation's denominator; the mean over several optimizer steps. ``None`` if not finite."""

    grad_norm: float | None
    """Before clipping; the largest of several optimizer steps. ``None`` if not finite."""

    skipped_updates: int
    """Optimizer steps that were left out because loss or gradient was not finite."""

    overflows: int
    """Times that an optimizer step was taken again at half the scale of the loss, because its gradients overflowed."""

    num_tokens: int
    """Response tokens in the loss."""

    entropy: float
    """Of the distribution at the sampling temperature, in nats."""

    prob_gap_mean: float | None
    """Difference between the trainer's and the engine's probability of a token; of tokens of lag 0, which tell engine
    and trainer apart. ``None`` if all are older."""

    mismatch_kl: float | None
    """Divergence of the trainer's policy from what drew the tokens, in nats a token, as `kl_penalty` estimates it, over
    tokens of every lag but not of rescued completions; ``None`` where there are no others."""

    ess: float | None
    """Effective sample size of these tokens as a share of their number, ``(sum rho)^2 / (n * sum rho^2)`` with the
    weights ``rho`` of `mismatch_weights` before any is cut: 1 where trainer and engine agree."""

    logprob_gap_max: float | None
    """Largest difference between the trainer's and the engine's log-probability of a token of lag 0, in nats."""

    mismatch_share: float
    """Share of tokens whose weight the mismatch correction cut."""

    clipped_share: float
    """Share of tokens whose ratio (of their sequence with gspo) is outside ``[1 - clip_low, 1 + clip_high]``; of those
    that dppo leaves out."""

    kl: float
    """Divergence from the reference policy, in nats; 0 without one."""

    reverse_kl: float | None = None
    """Divergence of the policy from a teacher, ``KL(policy || teacher)`` in nats a token, as the sampled tokens tell
    it; ``None`` without a teacher."""

    copied_groups: int
    """Copies of groups that took the place of others (``substitution = "copy"``)."""

    rescued_groups: int
    """Groups with a completion from an earlier step."""

    rescue_age: float | None
    """How many steps ago those completions were sampled, on average; ``None`` without any."""

    rescue_share: float
    """Share of the gradient, counted as weight times advantage, that rescued completions have."""

    lags: tuple[LagStats, ...] = ()
    """Of lag 0, 1, ... up to the largest that a token may have; none where that is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What became of the policy."""

    stats: UpdateStats
    """Of all optimizer steps together."""

    steps: tuple[OptimizerStep, ...]
    """One for each batch with sequences."""


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[TrainingBatch],
    loss: LossSettings,
    settings: StepSettings,
    *,
    scaler: torch.amp.GradScaler | None = None,
    reference: Policy | WithoutAdapters | None = None,
    teacher: Teacher | None = None,
) -> Update:
    """Take one optimizer step on each batch; collective, every rank passes the same.

    Old log-probabilities that are not known cost a forward pass only in the batches after the first, before the first
    optimizer step: the first batch's own forward passes give them.

    Args:
        policy: Changed in place.
        optimizer: Of the policy.
        batches: As `training_batches` returns them.
        loss: Which loss.
        settings: Of the steps; micro-batches become smaller where memory runs out.
        scaler: Of the loss, for float16.
        reference: What ``loss.kl_coef`` keeps the policy close to.
        teacher: What ``loss.teacher_weight`` draws the policy to.
    """

    def token_loss(logprobs: Tensor, entropies: Tensor, batch: MicroBatch) -> TokenLosses:
        start = None if reference is None else reference.frozen_logprobs(batch, temperature=settings.temperature)
        return token_losses(logprobs, entropies, batch, loss, reference_logprobs=start)

    scaler = scaler or torch.amp.GradScaler(policy.device.type, enabled=False)
    if teacher is not None:
        batches = [_with_teacher_logprobs(batch, teacher) for batch in batches]
    known = [*batches[:1], *(_with_old_logprobs(policy, batch, settings) for batch in batches[1:])]
    steps = tuple(
        take_step(policy, optimizer, batch.sequences, token_loss, settings, scaler=scaler, reference=reference)
        for batch in known
        if batch.sequences
    )
    return Update(stats=_stats(steps, batches, max_lag=loss.max_lag), steps=steps)


def _with_teacher_logprobs(batch: TrainingBatch, teacher: Teacher) -> TrainingBatch:
    found = teacher(batch.sequences) if batch.sequences else []
    sequences = [replace(each, teacher_logprobs=row) for each, row in zip(batch.sequences, found, strict=True)]
    return replace(batch, sequences=sequences)


def _with_old_logprobs(policy: Policy, batch: TrainingBatch, settings: StepSettings) -> TrainingBatch:
    if all(each.old_logprobs is not None for each in batch.sequences):
        return batch
    found = fitting([policy], settings, lambda: sequence_logprobs(policy, batch.sequences, settings))
    return replace(
        batch,
        sequences=[
            replace(each, old_logprobs=now) if each.old_logprobs is None else each
            for each, now in zip(batch.sequences, found, strict=True)
        ],
    )


def _stats(steps: Sequence[OptimizerStep], batches: Sequence[TrainingBatch], *, max_lag: int) -> UpdateStats:
    def total(name: str) -> float:
        return sum(step.sums[name] for step in steps)

    def of_lag(lag: int) -> LagStats:
        num_tokens = int(total(f"lag {lag}"))
        means = [total(f"{name} {lag}") / num_tokens if num_tokens else None for name in ("prob_gap", "mismatch")]
        return LagStats(num_tokens=num_tokens, prob_gap_mean=means[0], mismatch_share=means[1])

    tokens, on_policy, fresh = (max(total(name), 1.0) for name in ("tokens", "on_policy", "fresh"))
    all_older = total("on_policy") > 0 and not total("fresh")
    finite = [step for step in steps if step.finite]
    skipped = len(steps) - len(finite)
    ages = [age for batch in batches for age in batch.rescue_ages]
    return UpdateStats(
        loss=None if skipped else sum(step.sums["loss"] for step in finite) / max(len(finite), 1),
        grad_norm=None if skipped else max((step.grad_norm for step in finite), default=0.0),
        skipped_updates=skipped,
        overflows=sum(step.overflows for step in steps),
        num_tokens=int(total("tokens")),
        entropy=total("entropy") / tokens,
        prob_gap_mean=None if all_older else total("prob_gap") / fresh,
        logprob_gap_max=None if all_older else max((step.maxima["logprob_gap"] for step in steps), default=0.0),
        mismatch_kl=total("mismatch_kl") / on_policy if total("on_policy") else None,
        ess=total("rho") ** 2 / (on_policy * total("rho_squared")) if total("on_policy") else None,
        mismatch_share=total("mismatch") / on_policy,
        clipped_share=total("clipped") / tokens,
        kl=total("kl") / tokens,
        reverse_kl=total("reverse_kl") / on_policy if any("reverse_kl" in step.sums for step in steps) else None,
        copied_groups=sum(batch.copied_groups for batch in batches),
        rescued_groups=len(ages),
        rescue_age=sum(ages) / len(ages) if ages else None,
        rescue_share=total("rescue") / max(total("gradient"), 1e-12),
        lags=tuple(of_lag(lag) for lag in range(max_lag + 1)) if max_lag else (),
    )
