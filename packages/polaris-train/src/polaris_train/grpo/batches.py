"""From graded groups to optimizer steps: what each of them trains on, and what it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

import torch
from polaris_rollout import derive_seed
from torch import Tensor

from polaris_train.grpo.advantage import Substitution, completion_advantages, group_multiplicities
from polaris_train.grpo.lag import token_lags
from polaris_train.grpo.loss import Aggregation, LossSettings, token_losses, token_weights
from polaris_train.model.attempts import fitting, take_step
from polaris_train.model.packing import MicroBatch, TrainingSequence
from polaris_train.model.policy import Policy, WithoutAdapters
from polaris_train.model.step import OptimizerStep, StepSettings, TokenLosses, sequence_logprobs
from polaris_train.records import GradedGroup

Teacher: TypeAlias = Callable[[Sequence[TrainingSequence]], list[tuple[float, ...]]]
"""Gives a teacher's log-probabilities of the tokens of sequences, [T] of each; collective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How graded groups become batches; the defaults are GRPO's advantages with DAPO's token mean."""

    max_answer_tokens: int
    """Longest possible answer."""

    normalize_std: bool = True
    """Divide advantages by the group's standard deviation; without it, Dr. GRPO."""

    normalize_mean: bool = False
    """Divide them by the group's mean reward instead: MaxRL; see `polaris_train.grpo.max_likelihood_advantages`."""

    mgpo_lambda: float = 0.0
    """Sharpness of `polaris_train.grpo.max_entropy_weight`; 0: every group counts the same."""

    long2short: float = 0.0
    """Weight of `polaris_train.grpo.shorter_is_better`; 0: length does not matter."""

    aggregation: Aggregation = "token-mean"
    """How much each token counts; see `polaris_train.grpo.token_weights`."""

    substitution: Substitution = "reweight"
    """What becomes of groups that teach nothing; see `polaris_train.grpo.group_multiplicities`."""

    reward_weight: float | None = None
    """Of the advantages, beside those of a teacher, from which every group learns; ``None`` without a teacher."""

    mask_truncated: bool = False
    """Leave answers that the token budget ended out of the loss (overlong filtering)."""

    overlong_cache: int | None = None
    """Tokens before the end of the budget at which `soft_overlong_penalty` begins; ``None`` for no penalty."""

    num_optimizer_steps: int = 1
    """Equal parts of the groups that are trained on one after the other."""

    max_lag: int = 0
    """Largest lag that a token may have; at 0 all were drawn with the weights that the step begins with."""

    seed: int = 0
    """Of the draw of substitutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """What one optimizer step trains on."""

    sequences: list[TrainingSequence]
    """Completions that can teach something, with their advantages and weights."""

    members: tuple[tuple[int, int], ...] = ()
    """Which group of the rollout, and which of its completions, each sequence is."""

    copied_groups: int = 0
    """Groups that count more than once, by how often more."""

    rescue_ages: tuple[int, ...] = ()
    """How many steps ago the rescued completions were sampled."""

    @property
    def rescued_groups(self) -> int:
        """Groups with a completion from an earlier step."""
        return len(self.rescue_ages)


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


def training_batches(rollout: Sequence[GradedGroup], settings: BatchSettings, *, step: int) -> list[TrainingBatch]:
    """Return what each of the step's optimizer steps trains on.

    Groups that are all right or all wrong have no advantage: they are left out of the update and of its
    denominator, unless a teacher has something to say of each token. Every token's weight has the denominator of its
    optimizer step, over all ranks.
    """
    counts = group_multiplicities(
        [each.informative or settings.reward_weight is not None for each in rollout],
        substitution=settings.substitution,
        seed=derive_seed(settings.seed, "substitution", step),
    )
    every, parts = list(zip(range(len(rollout)), rollout, counts, strict=True)), settings.num_optimizer_steps
    bounds = [part * len(every) // parts for part in range(parts + 1)]  # A step that was refilled may not divide.
    return [_batch(every[start:end], settings, step) for start, end in pairwise(bounds)]


def _batch(part: Sequence[tuple[int, GradedGroup, int]], settings: BatchSettings, step: int) -> TrainingBatch:
    chosen = [(place, each, count) for place, each, count in part if count]
    members = [
        ((place, index), sequence, count)
        for place, each, count in chosen
        for index, sequence in _sequences(each, settings, step)
    ]
    sequences = [(sequence, count) for _, sequence, count in members]
    weights = token_weights(
        [len(sequence.token_ids) for sequence, _ in sequences],
        [count for _, count in sequences],
        aggregation=settings.aggregation,
        max_tokens=settings.max_answer_tokens,
    )
    return TrainingBatch(
        sequences=[replace(sequence, weight=weight) for (sequence, _), weight in zip(sequences, weights, strict=True)],
        members=tuple(member for member, _, _ in members),
        copied_groups=sum(count - 1 for _, _, count in chosen),
        rescue_ages=tuple(each.rescue_age for _, each, _ in chosen if each.rescued is not None),
    )


def _sequences(each: GradedGroup, settings: BatchSettings, step: int) -> list[tuple[int, TrainingSequence]]:
    """Return the group's completions by number, with their advantages, but for those that are masked."""
    completions = each.group.completions
    advantages = completion_advantages(
        each.scores,
        [len(completion.token_ids) for completion in completions],
        normalize_std=settings.normalize_std,
        max_tokens=settings.max_answer_tokens,
        overlong_cache=settings.overlong_cache,
        normalize_mean=settings.normalize_mean,
        mgpo_lambda=settings.mgpo_lambda,
        long2short=settings.long2short,
    )
    if settings.reward_weight is not None:
        weight = settings.reward_weight if each.informative else 0.0
        advantages = [weight * advantage for advantage in advantages]
    return [
        (
            index,
            TrainingSequence(
                prompt_token_ids=each.group.prompt_token_ids,
                token_ids=completion.token_ids,
                engine_logprobs=completion.logprobs,
                advantages=advantage,
                old_logprobs=completion.logprobs if index == each.rescued else None,
                off_policy=index == each.rescued,
                lags=token_lags(each.group, completion, step=step) if settings.max_lag and index != each.rescued else 0,
            ),
        )
        for index, (completion, advantage) in enumerate(zip(completions, advantages, strict=True))
        if not (settings.mask_truncated and completion.finish_reason == "length")
    ]


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
