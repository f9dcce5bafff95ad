"""Context parallel: neighbouring ranks hold a slice each of the same tokens, for sequences that one device cannot hold.

Everything but attention is computed token by token, so on a slice as on the whole. In attention the ranks exchange:
each gives the heads of its tokens away, gets all tokens of its share of the heads, attends to whole sequences as a
single rank would, and gives what comes out of it back. Any attention that keeps packed sequences apart will do.

References:
    Jacobs et al., "DeepSpeed Ulysses", 2023. https://arxiv.org/abs/2309.14509
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import lcm
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import AttentionInterface

from polaris_train.model.packing import MicroBatch, PerToken

_Attention = Callable[..., tuple[Tensor, Tensor | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextRanks:
    """The ranks that share the tokens of a micro-batch, as one of them sees them."""

    group: dist.ProcessGroup
    """Of neighbouring ranks."""

    size: int
    """How many they are."""

    rank: int
    """Which of them this one is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The tokens of a micro-batch that one rank holds."""

    input_ids: Int[Tensor, "1 length"]
    """Its tokens."""

    position_ids: Int[Tensor, "1 length"]
    """Of its tokens in their sequences."""

    every_position: Int[Tensor, "1 whole"]
    """Of the tokens of all ranks; the padding that makes the slices equally long is a sequence of its own."""

    predicting: Int[Tensor, " some"]
    """Where in ``length`` the tokens that are trained on are predicted, of those that are predicted here."""

    here: Bool[Tensor, " tokens"]
    """Which of the micro-batch's tokens that are trained on these are."""


def join_context_ranks(size: int) -> ContextRanks:
    """Return this rank's group of so many neighbouring ranks; collective.

    Args:
        size: Divides the number of ranks.
    """
    own, _ = cast(tuple[dist.ProcessGroup, Any], dist.new_subgroups(group_size=size))
    return ContextRanks(group=own, size=size, rank=dist.get_rank() % size)


def slice_of(batch: MicroBatch, ranks: ContextRanks) -> Slice:
    """Return a rank's slice of a micro-batch that all ranks of the group have."""
    missing = -batch.input_ids.shape[1] % ranks.size
    padding = torch.arange(missing, device=batch.position_ids.device)[None]
    input_ids = pad(batch.input_ids, (0, missing))
    every_position = torch.cat([batch.position_ids, padding], dim=1)
    length = input_ids.shape[1] // ranks.size
    start = ranks.rank * length
    here = (batch.predicting >= start) & (batch.predicting < start + length)
    return Slice(
        input_ids=input_ids[:, start : start + length],
        position_ids=every_position[:, start : start + length],
        every_position=every_position,
        predicting=batch.predicting[here] - start,
        here=here,
    )


def attend_across_ranks(implementation: str) -> None:
    """Let an attention that transformers knows by this name also attend across ranks, where it is given `ContextRanks`.

    Under its own name, by which transformers chooses masks and kernels.
    """
    attend: _Attention = AttentionInterface()[implementation]
    if not hasattr(attend, "across_ranks"):
        AttentionInterface.register(implementation, _across_ranks(attend))


def _across_ranks(attend: _Attention) -> _Attention:
    @wraps(attend)
    def attend_to_whole_sequences(
        module: nn.Module,
        query: Float[Tensor, "1 heads length size"],
        key: Float[Tensor, "1 key_heads length size"],
        value: Float[Tensor, "1 key_heads length size"],
        attention_mask: Any,
        *,
        context_ranks: ContextRanks | None = None,
        every_position: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if context_ranks is None:
            return attend(module, query, key, value, attention_mask, **others)
        query, key, value = (_all_tokens(states, context_ranks) for states in (query, key, value))
        attended, _ = attend(module, query, key, value, attention_mask, **others | {"position_ids": every_position})
        return _own_tokens(attended, context_ranks), None

    attend_to_whole_sequences.across_ranks = True  # type: ignore[attr-defined]
    return attend_to_whole_sequences


def _all_tokens(
    states: Float[Tensor, "1 heads length size"], ranks: ContextRanks
) -> Float[Tensor, "1 part whole size"]:
    """Give the heads of this rank's tokens away, and get all tokens of its share of the heads.

    Fewer key heads than ranks, or a number that these do not divide, are repeated until they can be shared out: a rank
    gets the key heads that its query heads attend with.
    """
    heads = states.shape[1]
    given = states[0]
    if heads % ranks.size:
        given = given.repeat_interleave(lcm(heads, ranks.size) // heads, dim=0)
    given = given.unflatten(0, (ranks.size, -1))
    return _Exchange.apply(given, ranks.group).transpose(0, 1).flatten(1, 2)[None]  # pyright: ignore


def _own_tokens(
    states: Float[Tensor, "1 whole part size"], ranks: ContextRanks
) -> Float[Tensor, "1 length heads size"]:
    """Give what came out of this rank's heads to the ranks whose tokens it is for, and get all heads of its own."""
    given = states[0].unflatten(0, (ranks.size, -1))
    return _Exchange.apply(given, ranks.group).transpose(0, 1).flatten(1, 2)[None]  # pyright: ignore


def everywhere(values: Float[Tensor, " some"], here: Bool[Tensor, " tokens"], ranks: ContextRanks) -> PerToken:
    """Return the values of all ranks on each of them; each gets the gradient of its own.

    So a loss that every rank computes from all of them is one loss, and the gradients of the ranks add up to its own.
    """
    return _Everywhere.apply(values, here, ranks.group)  # pyright: ignore


class _Exchange(torch.autograd.Function):
    """Part ``i`` of the first dimension goes to rank ``i``, and what rank ``i`` gave comes in its place."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return _exchange(given, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _exchange(gradients[0], ctx.group), None


def _exchange(given: Tensor, group: dist.ProcessGroup) -> Tensor:
    given = given.contiguous()
    got = torch.empty_like(given)
    dist.all_to_all_single(got, given, group=group)
    return got


class _Everywhere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, here: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.save_for_backward(here)
        whole = values.new_zeros(len(here))
        whole[here] = values
        dist.all_reduce(whole, group=group)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (here,) = ctx.saved_tensors
        return gradients[0][here], None, None
