"""Packing sequences of any length into micro-batches without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSequence:
    """One completion as the trainer sees it."""

    prompt_token_ids: tuple[int, ...]
    """[P] context of the first sampled token."""

    token_ids: tuple[int, ...]
    """[T] sampled tokens, at least one; the loss is over these."""

    engine_logprobs: tuple[float, ...]
    """[T] log-probability of each token when it was sampled, in nats."""

    advantage: float
    """Shared by all tokens."""

    @property
    def length(self) -> int:
        """Tokens that the model reads."""
        return len(self.prompt_token_ids) + len(self.token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Sequences laid one after the other; their positions restart at 0, which keeps them apart."""

    input_ids: Int[Tensor, "1 length"]
    """Prompts and completions."""

    position_ids: Int[Tensor, "1 length"]
    """Position of each token in its own sequence."""

    predicting: Int[Tensor, " tokens"]
    """Where in ``length`` each sampled token is predicted: one before it."""

    targets: Int[Tensor, " tokens"]
    """The sampled tokens."""

    advantages: Float[Tensor, " tokens"]
    """Of the completion that each token belongs to."""

    engine_logprobs: Float[Tensor, " tokens"]
    """Of each token when it was sampled."""

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the micro-batch with its tensors on a device."""
        moved: dict[str, Any] = {
            name: getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__
        }
        return replace(self, **moved)


def partition(lengths: Sequence[int], *, max_tokens: int, num_ranks: int) -> list[list[list[int]]]:
    """Share sequences among ranks, in micro-batches of at most ``max_tokens``.

    Longest first, each into the lightest micro-batch; every rank gets the same number of micro-batches,
    because ranks that share a sharded model must step through it together. Some may be empty.

    Args:
        lengths: Tokens of each sequence.
        max_tokens: Of one micro-batch, except where a single sequence is longer.
        num_ranks: Number of ranks.

    Returns:
        ``[rank][micro-batch]`` lists of indices into ``lengths``; each index appears once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    rounds = max(1, -(-sum(lengths) // (max_tokens * num_ranks)))
    while True:
        bins: list[list[int]] = [[] for _ in range(rounds * num_ranks)]
        loads = [0] * len(bins)
        for index in order:
            lightest = loads.index(min(loads))
            bins[lightest].append(index)
            loads[lightest] += lengths[index]
        if all(load <= max_tokens or len(bin_) == 1 for load, bin_ in zip(loads, bins, strict=True)):
            return [bins[rank::num_ranks] for rank in range(num_ranks)]
        rounds += 1


def pack(sequences: Sequence[TrainingSequence]) -> MicroBatch:
    """Lay sequences one after the other.

    No sequences give a micro-batch of one token that predicts nothing: a rank without work still has to take
    part in the gathering of a sharded model.
    """
    if not sequences:
        sequences = [TrainingSequence(prompt_token_ids=(0,), token_ids=(), engine_logprobs=(), advantage=0.0)]
    starts = [0]
    for sequence in sequences:
        starts.append(starts[-1] + sequence.length)
    predicting = [
        torch.arange(start + len(sequence.prompt_token_ids), start + sequence.length) - 1
        for start, sequence in zip(starts, sequences, strict=False)
    ]
    return MicroBatch(
        input_ids=torch.tensor(
            [[token for sequence in sequences for token in sequence.prompt_token_ids + sequence.token_ids]]
        ),
        position_ids=torch.cat([torch.arange(sequence.length) for sequence in sequences])[None],
        predicting=torch.cat(predicting),
        targets=torch.tensor([token for sequence in sequences for token in sequence.token_ids], dtype=torch.long),
        advantages=torch.cat([torch.full((len(sequence.token_ids),), sequence.advantage) for sequence in sequences]),
        engine_logprobs=torch.tensor(
            [logprob for sequence in sequences for logprob in sequence.engine_logprobs], dtype=torch.float32
        ),
    )
