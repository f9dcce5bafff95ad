"""One optimizer step on the completions of a rollout."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from polaris_train.advantage import group_advantages
from polaris_train.loss import clipped_loss
from polaris_train.packing import TrainingSequence, pack, partition
from polaris_train.policy import Policy, clip_grad_norm, sync_gradients
from polaris_train.recipe import ResolvedStage
from polaris_train.rollout import GradedGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateStats:
    """What one optimizer step did, over all ranks."""

    loss: float
    """Sum over tokens divided by their number."""

    grad_norm: float
    """Before clipping; a step whose norm is not finite is skipped."""

    num_tokens: int
    """Response tokens in the loss: the global denominator."""

    entropy: float
    """Mean over tokens, of the distribution at the sampling temperature, in nats."""

    prob_gap_mean: float
    """Mean over tokens of the difference between the trainer's and the engine's probability."""

    logprob_gap_max: float
    """Largest difference between the trainer's and the engine's log-probability of a token, in nats."""


def training_sequences(rollout: Sequence[GradedGroup]) -> list[TrainingSequence]:
    """Return the completions that can teach something, with their advantages.

    Groups that are all right or all wrong have no advantage: they are left out of the update and of its
    denominator, which gives the informative groups their weight.
    """
    informative = [each for each in rollout if each.informative]
    if not informative:
        return []
    advantages = group_advantages(torch.tensor([each.rewards for each in informative])).tolist()
    return [
        TrainingSequence(
            prompt_token_ids=each.group.prompt_token_ids,
            token_ids=completion.token_ids,
            engine_logprobs=completion.logprobs,
            advantage=advantage,
        )
        for each, row in zip(informative, advantages, strict=True)
        for completion, advantage in zip(each.group.completions, row, strict=True)
    ]


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    sequences: Sequence[TrainingSequence],
    config: ResolvedStage,
) -> UpdateStats:
    """Take one optimizer step on all sequences; collective, every rank passes the same list.

    The batch is used once, so the policy that started the step is the current one: its log-probabilities cost
    no extra forward pass.
    """
    num_ranks = dist.get_world_size()
    num_tokens = sum(len(sequence.token_ids) for sequence in sequences)
    if num_tokens == 0:
        return UpdateStats(loss=0.0, grad_norm=0.0, num_tokens=0, entropy=0.0, prob_gap_mean=0.0, logprob_gap_max=0.0)
    shares = partition([sequence.length for sequence in sequences], max_tokens=config.context, num_ranks=num_ranks)
    mine = shares[dist.get_rank()]
    sums = torch.zeros(3, dtype=torch.float64, device=policy.device)
    gap_max = torch.zeros((), device=policy.device)
    for index, members in enumerate(mine):
        sync_gradients(policy, now=index == len(mine) - 1)
        batch = pack([sequences[member] for member in members]).to(policy.device)
        logprobs, entropies = policy(batch, temperature=config.temperature)
        losses = clipped_loss(
            logprobs,
            logprobs.detach(),
            batch.advantages,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
        )
        # FSDP averages gradients over the ranks; the loss is a sum over them.
        (losses.sum() * (num_ranks / num_tokens)).backward()
        with torch.no_grad():
            gaps = (logprobs - batch.engine_logprobs).abs()
            prob_gaps = (logprobs.exp() - batch.engine_logprobs.exp()).abs()
            sums += torch.stack([losses.sum(), entropies.sum(), prob_gaps.sum()]).double()
            gap_max = torch.cat([gaps, gap_max[None]]).max()
    grad_norm = clip_grad_norm(policy, config.max_grad_norm)
    if math.isfinite(grad_norm):
        optimizer.step()
    optimizer.zero_grad()
    dist.all_reduce(sums)
    dist.all_reduce(gap_max, op=dist.ReduceOp.MAX)
    return _stats(sums / num_tokens, gap_max, grad_norm, num_tokens)


def _stats(means: Tensor, gap_max: Tensor, grad_norm: float, num_tokens: int) -> UpdateStats:
    loss, entropy, prob_gap_mean = means.tolist()
    return UpdateStats(
        loss=loss,
        grad_norm=grad_norm,
        num_tokens=num_tokens,
        entropy=entropy,
        prob_gap_mean=prob_gap_mean,
        logprob_gap_max=float(gap_max),
    )
