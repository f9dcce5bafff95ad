"""The optimizer steps on the completions of a rollout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from polaris_rollout import derive_seed
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from polaris_train.errors import MemoryExhaustedError
from polaris_train.grpo.advantage import group_advantages, group_multiplicities, soft_overlong_penalty
from polaris_train.grpo.loss import cispo_loss, clipped_loss, gspo_loss, kl_penalty, mismatch_weights, token_weights
from polaris_train.model.packing import MicroBatch, TrainingSequence, pack, partition
from polaris_train.model.policy import Policy, clip_grad_norm, is_out_of_memory, sync_gradients
from polaris_train.recipe import ResolvedStage
from polaris_train.records import GradedGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What the optimizer steps on one rollout did, over all ranks; means are over tokens."""

    loss: float | None
    """With the aggregation's denominator; the mean over several optimizer steps. ``None`` if not finite."""

    grad_norm: float | None
    """Before clipping; the largest of several optimizer steps. ``None`` if not finite."""

    skipped_updates: int
    """Optimizer steps that were left out because loss or gradient was not finite."""

    num_tokens: int
    """Response tokens in the loss."""

    entropy: float
    """Of the distribution at the sampling temperature, in nats."""

    prob_gap_mean: float
    """Difference between the trainer's and the engine's probability of a token."""

    logprob_gap_max: float
    """Largest difference between the trainer's and the engine's log-probability of a token, in nats."""

    mismatch_share: float
    """Share of tokens whose weight the mismatch correction cut."""

    clipped_share: float
    """Share of tokens whose ratio is outside ``[1 - clip_low, 1 + clip_high]``."""

    kl: float
    """Divergence from the model that the stage started from, in nats; 0 where none is asked for."""

    copied_groups: int
    """Copies of groups that took the place of others (``substitution = "copy"``)."""

    rescued_groups: int
    """Groups with a completion from an earlier step."""

    rescue_age: float | None
    """How many steps ago those completions were sampled, on average; ``None`` without any."""

    rescue_share: float
    """Share of the gradient, counted as weight times advantage, that rescued completions have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """What one optimizer step trains on."""

    sequences: list[TrainingSequence]
    """Completions that can teach something, with their advantages and weights."""

    copied_groups: int
    """Groups that count more than once, by how often more."""

    rescue_ages: tuple[int, ...]
    """How many steps ago the rescued completions were sampled."""

    @property
    def rescued_groups(self) -> int:
        """Groups with a completion from an earlier step."""
        return len(self.rescue_ages)


def training_batches(rollout: Sequence[GradedGroup], config: ResolvedStage, *, step: int) -> list[TrainingBatch]:
    """Return what each of the step's optimizer steps trains on.

    Groups that are all right or all wrong have no advantage: they are left out of the update and of its
    denominator. Every token's weight has the denominator of its optimizer step, over all ranks.
    """
    counts = group_multiplicities(
        [each.informative for each in rollout],
        substitution=config.substitution,
        seed=derive_seed(config.seed, "substitution", step),
    )
    size = len(rollout) // config.optimizer_steps_per_batch
    pairs = list(zip(rollout, counts, strict=True))
    return [_batch(pairs[start : start + size], config) for start in range(0, len(pairs), size)]


def _batch(pairs: Sequence[tuple[GradedGroup, int]], config: ResolvedStage) -> TrainingBatch:
    chosen = [(each, count) for each, count in pairs if count]
    sequences = [
        (sequence, count) for each, count in chosen for sequence in _sequences(each, config) if sequence is not None
    ]
    weights = token_weights(
        [len(sequence.token_ids) for sequence, _ in sequences],
        [count for _, count in sequences],
        aggregation=config.aggregation,
        max_tokens=config.max_answer_tokens,
    )
    return TrainingBatch(
        sequences=[replace(sequence, weight=weight) for (sequence, _), weight in zip(sequences, weights, strict=True)],
        copied_groups=sum(count - 1 for _, count in chosen),
        rescue_ages=tuple(each.rescue_age for each, _ in chosen if each.rescued is not None),
    )


def _sequences(each: GradedGroup, config: ResolvedStage) -> list[TrainingSequence | None]:
    """Return the group's completions with their advantages, ``None`` where the loss is masked."""
    completions = each.group.completions
    rewards = list(each.rewards)
    if config.overlong_cache is not None:
        penalty = partial(
            soft_overlong_penalty, max_tokens=config.max_answer_tokens, cache_tokens=config.overlong_cache
        )
        rewards = [reward + penalty(len(one.token_ids)) for reward, one in zip(rewards, completions, strict=True)]
    advantages = group_advantages(torch.tensor([rewards]), normalize_std=config.normalize_std)[0].tolist()
    return [
        None
        if config.truncated == "masked" and completion.finish_reason == "length"
        else TrainingSequence(
            prompt_token_ids=each.group.prompt_token_ids,
            token_ids=completion.token_ids,
            engine_logprobs=completion.logprobs,
            advantage=advantage,
            off_policy=index == each.rescued,
        )
        for index, (completion, advantage) in enumerate(zip(completions, advantages, strict=True))
    ]


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[TrainingBatch],
    config: ResolvedStage,
    *,
    scaler: torch.amp.GradScaler,
    reference: Policy | None = None,
) -> UpdateStats:
    """Take one optimizer step on each batch; collective, every rank passes the same.

    The first batch's policy is the one that started the step, so its old log-probabilities cost no forward pass;
    those of later batches are taken before the first optimizer step.

    Args:
        policy: Changed in place.
        optimizer: Of the policy.
        batches: As `training_batches` returns them.
        config: The stage.
        scaler: Of the loss, for float16.
        reference: What ``config.kl_coef`` keeps the policy close to.
    """
    first, *later = batches
    later = [replace(batch, sequences=with_old_logprobs(policy, batch.sequences, config)) for batch in later]
    results = [
        _optimizer_step(policy, optimizer, batch.sequences, config, scaler=scaler, reference=reference)
        for batch in [first, *later]
        if batch.sequences
    ]
    return _stats(results, batches)


@dataclass(frozen=True, slots=True)
class _Result:
    """Of one optimizer step."""

    sums: dict[str, float]
    grad_norm: float
    gap_max: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.grad_norm) and math.isfinite(self.sums["loss"])


def _optimizer_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    sequences: Sequence[TrainingSequence],
    config: ResolvedStage,
    *,
    scaler: torch.amp.GradScaler,
    reference: Policy | None,
) -> _Result:
    sums, gap_max = _accumulate_gradients(policy, sequences, config, scaler=scaler, reference=reference)
    dist.all_reduce(sums)
    dist.all_reduce(gap_max, op=dist.ReduceOp.MAX)
    scaler.unscale_(optimizer)
    grad_norm = clip_grad_norm(policy, config.max_grad_norm)
    result = _Result(dict(zip(_SUMS, sums.tolist(), strict=True)), grad_norm, float(gap_max))
    if result.finite:
        scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    return result


def _accumulate_gradients(
    policy: Policy,
    sequences: Sequence[TrainingSequence],
    config: ResolvedStage,
    *,
    scaler: torch.amp.GradScaler,
    reference: Policy | None,
) -> tuple[Tensor, Tensor]:
    """Leave the gradient of the loss on the policy; return the rank's sums and its largest gap.

    Raises:
        MemoryExhaustedError: If a micro-batch did not fit. Ranks that still have memory wait for this one in the middle
            of a collective, so nothing can be tried again in this process.
    """
    try:
        return _run_micro_batches(policy, sequences, config, scaler=scaler, reference=reference)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryExhaustedError(
            max_tokens=config.max_microbatch_tokens, longest=max(sequence.length for sequence in sequences)
        ) from error


def _run_micro_batches(
    policy: Policy,
    sequences: Sequence[TrainingSequence],
    config: ResolvedStage,
    *,
    scaler: torch.amp.GradScaler,
    reference: Policy | None,
) -> tuple[Tensor, Tensor]:
    num_ranks = dist.get_world_size()
    shares = partition(
        [sequence.length for sequence in sequences],
        max_tokens=config.max_microbatch_tokens,
        num_ranks=num_ranks,
        quadratic_length=policy.quadratic_length,
    )
    mine = shares[dist.get_rank()]
    sums = torch.zeros(len(_SUMS), dtype=torch.float64, device=policy.device)
    gap_max = torch.zeros((), device=policy.device)
    for index, members in enumerate(mine):
        sync_gradients(policy, now=index == len(mine) - 1)
        batch = pack([sequences[member] for member in members]).to(policy.device)
        logprobs, entropies = policy(batch, temperature=config.temperature)
        terms = token_losses(logprobs, batch, config, reference_logprobs=_frozen(reference, batch, config))
        # FSDP averages gradients over the ranks; the loss is a sum over them.
        scaler.scale((terms.losses * batch.weights).sum() * num_ranks).backward()
        with torch.no_grad():
            sums += _sum(terms, batch, logprobs, entropies, config)
            gaps = (terms.old_logprobs - batch.engine_logprobs)[~batch.off_policy].abs()
            gap_max = torch.cat([gaps, gap_max[None]]).max()
    return sums, gap_max


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """The loss of each token of a micro-batch, before its weight, and what it is made of."""

    losses: Float[Tensor, " tokens"]
    """Differentiable."""

    old_logprobs: Float[Tensor, " tokens"]
    """What the ratios were taken to."""

    mismatch: Float[Tensor, " tokens"]
    """Weight of the mismatch correction, 1 where the completion is off-policy."""

    kl: Float[Tensor, " tokens"]
    """Divergence from the reference; zeros without one."""


def token_losses(
    logprobs: Float[Tensor, " tokens"],
    batch: MicroBatch,
    config: ResolvedStage,
    *,
    reference_logprobs: Float[Tensor, " tokens"] | None = None,
) -> TokenLosses:
    """Return the recipe's loss of each token.

    Ratios are taken to the policy that started the step, and the engine's deviation from it is a weight. A rescued
    completion has no such policy: its ratios are taken to the engine that sampled it, and it needs no weight.
    """
    old = logprobs.detach() if batch.old_logprobs is None else batch.old_logprobs
    old = batch.engine_logprobs.where(batch.off_policy, old)
    mismatch = mismatch_weights(
        old,
        batch.engine_logprobs,
        correction=config.mismatch_correction,
        low=config.mismatch_low,
        high=config.mismatch_high,
    )
    clips = {"clip_low": config.clip_low, "clip_high": config.clip_high}
    if config.loss == "gspo":
        losses = gspo_loss(logprobs, old, batch.advantages, batch.sequences, **clips)
    elif config.loss == "cispo":
        losses = cispo_loss(logprobs, old, batch.advantages, **clips)
    else:
        losses = clipped_loss(logprobs, old, batch.advantages, **clips, dual_clip=config.dual_clip)
    losses = losses * mismatch
    kl = torch.zeros_like(old)
    if reference_logprobs is not None:
        divergence = kl_penalty(logprobs, reference_logprobs)
        losses, kl = losses + config.kl_coef * divergence, divergence.detach()
    return TokenLosses(losses, old, mismatch, kl)


def with_old_logprobs(
    policy: Policy, sequences: Sequence[TrainingSequence], config: ResolvedStage
) -> list[TrainingSequence]:
    """Return the sequences with their log-probabilities under the policy as it is now; collective."""
    shares = partition(
        [sequence.length for sequence in sequences],
        max_tokens=config.max_microbatch_tokens,
        num_ranks=dist.get_world_size(),
        quadratic_length=policy.quadratic_length,
    )
    found: dict[int, tuple[float, ...]] = {}
    for members in shares[dist.get_rank()]:
        chosen = [sequences[member] for member in members]
        with torch.no_grad():
            logprobs, _ = policy(pack(chosen).to(policy.device), temperature=config.temperature)
        rows = logprobs.split([len(sequence.token_ids) for sequence in chosen]) if chosen else ()
        found |= {member: tuple(row.tolist()) for member, row in zip(members, rows, strict=True)}
    cast(FSDPModule, policy).reshard()  # no backward pass lets go of what the forward passes gathered
    parts: list[dict[int, tuple[float, ...]]] = [{} for _ in shares]
    dist.all_gather_object(parts, found)
    every = {member: row for part in parts for member, row in part.items()}
    return [replace(sequence, old_logprobs=every[index]) for index, sequence in enumerate(sequences)]


def _frozen(reference: Policy | None, batch: MicroBatch, config: ResolvedStage) -> Tensor | None:
    if reference is None:
        return None
    with torch.no_grad():
        logprobs, _ = reference(batch, temperature=config.temperature)
    cast(FSDPModule, reference).reshard()
    return logprobs


_SUMS = ("loss", "tokens", "entropy", "prob_gap", "on_policy", "mismatch", "clipped", "kl", "gradient", "rescue")


def _sum(terms: TokenLosses, batch: MicroBatch, logprobs: Tensor, entropies: Tensor, config: ResolvedStage) -> Tensor:
    on_policy = ~batch.off_policy
    prob_gaps = (terms.old_logprobs.exp() - batch.engine_logprobs.exp()).abs()
    rho = (terms.old_logprobs - batch.engine_logprobs).exp()
    ratio = (logprobs - terms.old_logprobs).exp()
    pull = (batch.weights * batch.advantages).abs()
    values = (
        terms.losses * batch.weights,
        torch.ones_like(entropies),
        entropies,
        prob_gaps * on_policy,
        on_policy,
        on_policy & ~torch.isclose(terms.mismatch, rho) & (config.mismatch_correction != "none"),
        (ratio < 1 - config.clip_low) | (ratio > 1 + config.clip_high),
        terms.kl,
        pull,
        pull * batch.off_policy,
    )
    return torch.stack([value.sum().double() for value in values])


def _stats(results: Sequence[_Result], batches: Sequence[TrainingBatch]) -> UpdateStats:
    def total(name: str) -> float:
        return sum(result.sums[name] for result in results)

    tokens = max(total("tokens"), 1.0)
    on_policy = max(total("on_policy"), 1.0)
    finite = [result for result in results if result.finite]
    skipped = len(results) - len(finite)
    ages = [age for batch in batches for age in batch.rescue_ages]
    return UpdateStats(
        loss=None if skipped else sum(result.sums["loss"] for result in finite) / max(len(finite), 1),
        grad_norm=None if skipped else max((result.grad_norm for result in finite), default=0.0),
        skipped_updates=skipped,
        num_tokens=int(total("tokens")),
        entropy=total("entropy") / tokens,
        prob_gap_mean=total("prob_gap") / on_policy,
        logprob_gap_max=max((result.gap_max for result in results), default=0.0),
        mismatch_share=total("mismatch") / on_policy,
        clipped_share=total("clipped") / tokens,
        kl=total("kl") / tokens,
        copied_groups=sum(batch.copied_groups for batch in batches),
        rescued_groups=len(ages),
        rescue_age=sum(ages) / len(ages) if ages else None,
        rescue_share=total("rescue") / max(total("gradient"), 1e-12),
    )
