"""The training step, whatever the loss: gradients from micro-batches, then the optimizer.

The loss is a sum over tokens with weights that are set before it is cut into micro-batches and shared among ranks, so
neither changes it. A policy that is not sharded is trained in a single process, with or without a process group.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from polaris_train.errors import MemoryExhaustedError
from polaris_train.model.exhaustion import is_out_of_memory
from polaris_train.model.packing import MicroBatch, PerToken, TrainingSequence, pack, partition
from polaris_train.model.policy import Policy


@dataclass(slots=True, kw_only=True)
class StepSettings:
    """What a step needs beside its loss."""

    max_tokens: int
    """That go through the model at once on each rank, unless one sequence, or its slice, is longer; fewer once memory
    has run out, see `polaris_train.model.attempts.fitting`."""

    temperature: float = 1.0
    """Of the policy's distribution: that of sampling."""

    max_grad_norm: float = 1.0
    """Longer gradients are scaled down to this norm."""

    reduce_each: bool = False
    """Share gradients out among the ranks after every micro-batch: until the last, no rank has them whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenLosses:
    """What a loss says of a micro-batch."""

    losses: PerToken
    """Differentiable, before the weights."""

    sums: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """[tokens] to be added up over the step, by name."""

    maxima: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Tensors whose largest value of the step is wanted, at least 0, by name."""


TokenLoss: TypeAlias = Callable[[PerToken, PerToken, MicroBatch], TokenLosses]
"""Given log-probabilities (differentiable), entropies and the micro-batch they are of, gives the loss of each token."""


@dataclass(frozen=True, slots=True)
class Totals:
    """What one rank's micro-batches add up to: what the loss asked for, its weighted sum ``loss``, and ``tokens``."""

    sums: dict[str, Tensor]
    maxima: dict[str, Tensor]
    logprobs: dict[int, Tensor]
    """[T] of the tokens of each sequence that was this rank's, by its index: what the loss was computed from."""


@dataclass(frozen=True, slots=True)
class OptimizerStep:
    """What an optimizer step did, over all ranks."""

    sums: dict[str, float]
    """As in `Totals`."""

    maxima: dict[str, float]
    """As in `Totals`."""

    grad_norm: float
    """Before clipping."""

    logprobs: Mapping[int, Tensor] = field(default_factory=dict[int, Tensor])
    """As in `Totals`: of this rank alone."""

    overflows: int = 0
    """Times that gradients overflowed before, each at twice the scale of the loss."""

    @property
    def finite(self) -> bool:
        """Whether the step was taken: with a loss or gradient that is not finite it is left out."""
        return math.isfinite(self.grad_norm) and math.isfinite(self.sums["loss"])


def accumulate(
    policy: Policy,
    sequences: Sequence[TrainingSequence],
    token_loss: TokenLoss,
    settings: StepSettings,
    *,
    scaler: torch.amp.GradScaler | None = None,
) -> Totals:
    """Leave the gradient of ``sum(weight * loss)`` over all tokens on the policy; collective.

    Args:
        policy: Every rank its shard.
        sequences: Of the step, the same on every rank; each rank takes its share.
        token_loss: Called once for each micro-batch, also for one without tokens.
        settings: Of the step.
        scaler: Of the loss, for float16.

    Raises:
        MemoryExhaustedError: If a micro-batch did not fit. Ranks that still have memory wait for this one in the middle
            of a collective, so nothing can be tried again in this process.
    """
    num_ranks = _num_ranks()
    sums: dict[str, Tensor] = {}
    maxima: dict[str, Tensor] = {}
    computed: dict[int, Tensor] = {}
    with named_if_out_of_memory(policy, sequences, settings):
        mine = _share(policy, sequences, settings)
        for number, members in enumerate(mine, start=1):
            if isinstance(policy, FSDPModule):
                policy.set_requires_gradient_sync(settings.reduce_each or number == len(mine))
            batch = pack([sequences[member] for member in members]).to(policy.device)
            logprobs, entropies = policy(batch, temperature=settings.temperature)
            lengths = [len(sequences[member].token_ids) for member in members]
            computed |= zip(members, logprobs.detach().split(lengths) if members else (), strict=True)
            terms = token_loss(logprobs, entropies, batch)
            loss = (terms.losses * batch.weights).sum()
            # FSDP averages gradients over the ranks; the loss is a sum over them. Ranks that share tokens all have the
            # loss of all of these, and each only the gradient of its own.
            scaled = loss * num_ranks
            (scaled if scaler is None else scaler.scale(scaled)).backward()
            with torch.no_grad():
                measured = {"loss": loss.detach(), "tokens": torch.ones_like(entropies), **terms.sums}
                for name, values in measured.items():
                    sums[name] = sums.get(name, 0.0) + values.sum().double()
                for name, values in terms.maxima.items():
                    maxima[name] = torch.cat([values, maxima.get(name, values.new_zeros(()))[None]]).max()
    return Totals(sums, maxima, computed)


def optimizer_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    totals: Totals,
    settings: StepSettings,
    *,
    scaler: torch.amp.GradScaler | None = None,
) -> OptimizerStep:
    """Step along what `accumulate` left, unless it is not finite, and clear it; collective."""
    scaler = scaler or torch.amp.GradScaler(policy.device.type, enabled=False)
    own = totals.sums if policy.is_counted else {name: torch.zeros_like(each) for name, each in totals.sums.items()}
    sums = _over_ranks(own, dist.ReduceOp.SUM)
    maxima = _over_ranks(totals.maxima, dist.ReduceOp.MAX)
    scaler.unscale_(optimizer)
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), settings.max_grad_norm)
    norm = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    result = OptimizerStep(sums, maxima, norm, totals.logprobs)
    if result.finite:
        optimizer.step()  # All that the scaler's own step would add is known: gradients are finite and have no scale.
    scaler.update()
    optimizer.zero_grad()
    return result


def sequence_logprobs(
    policy: Policy, sequences: Sequence[TrainingSequence], settings: StepSettings
) -> list[tuple[float, ...]]:
    """Return the log-probabilities of each sequence's tokens under the policy as it is now; collective."""
    found: dict[int, tuple[float, ...]] = {}
    with named_if_out_of_memory(policy, sequences, settings):
        for members in _share(policy, sequences, settings):
            chosen = [sequences[member] for member in members]
            batch = pack(chosen).to(policy.device)
            logprobs = policy.frozen_logprobs(batch, temperature=settings.temperature)
            rows = logprobs.split([len(each.token_ids) for each in chosen]) if chosen else ()
            found |= {member: tuple(row.tolist()) for member, row in zip(members, rows, strict=True)}
    parts = [found]
    if dist.is_initialized():
        parts = [{} for _ in range(_num_ranks())]
        dist.all_gather_object(parts, found)
    every = {member: row for part in parts for member, row in part.items()}
    return [every[index] for index in range(len(sequences))]


@contextmanager
def named_if_out_of_memory(
    policy: Policy, sequences: Sequence[TrainingSequence], settings: StepSettings
) -> Generator[None]:
    """Name the sequences that were in the model when memory ran out.

    Raises:
        MemoryExhaustedError: Instead of whatever said that it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        longest = max(-(-each.length // policy.num_slices) for each in sequences)
        raise MemoryExhaustedError(max_tokens=settings.max_tokens, longest=longest) from error


def _share(policy: Policy, sequences: Sequence[TrainingSequence], settings: StepSettings) -> list[list[int]]:
    """Return which sequences each of this rank's micro-batches holds; ranks that share tokens have the same."""
    shares = partition(
        [each.length for each in sequences],
        max_tokens=settings.max_tokens * policy.num_slices,
        num_ranks=_num_ranks() // policy.num_slices,
        quadratic_length=policy.quadratic_length,
        alone=not policy.packs,
    )
    return shares[(dist.get_rank() if dist.is_initialized() else 0) // policy.num_slices]


def _num_ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _over_ranks(values: Mapping[str, Tensor], operation: dist.ReduceOp.RedOpType) -> dict[str, float]:
    if not values:
        return {}
    stacked = torch.stack(list(values.values()))
    if dist.is_initialized():
        dist.all_reduce(stacked, op=operation)
    return dict(zip(values, stacked.tolist(), strict=True))
