"""Packing sequences of any length into micro-batches without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
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

    weight: float = 1.0
    """How much each token counts in the loss of the step, on all ranks; see `polaris_train.grpo.loss`."""

    off_policy: bool = False
    """Whether an earlier policy sampled it, so that its ratios are taken to ``engine_logprobs``."""

    old_logprobs: tuple[float, ...] | None = None
    """[T] under the policy that started the step, where that is no longer the current one."""

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

    sequences: Int[Tensor, " tokens"]
    """Which of the micro-batch's sequences each token belongs to."""

    advantages: Float[Tensor, " tokens"]
    """Of the completion that each token belongs to."""

    weights: Float[Tensor, " tokens"]
    """How much each token counts in the loss of the step."""

    engine_logprobs: Float[Tensor, " tokens"]
    """Of each token when it was sampled."""

    off_policy: Bool[Tensor, " tokens"]
    """Whether an earlier policy sampled it."""

    old_logprobs: Float[Tensor, " tokens"] | None
    """Under the policy that started the step; ``None`` where that is the current one."""

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the micro-batch with its tensors on a device."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in values.items() if value is not None
        }
        return replace(self, **moved)


def partition(
    lengths: Sequence[int], *, max_tokens: int, num_ranks: int, quadratic_length: float = float("inf")
) -> list[list[list[int]]]:
    """Share sequences among ranks, in micro-batches of at most ``max_tokens``.

    Costliest first, each into the cheapest micro-batch that has room; every rank gets the same number of
    micro-batches, because ranks that share a sharded model step through it together, and those that run at the same
    time cost about the same. Some may be empty.

    Args:
        lengths: Tokens of each sequence.
        max_tokens: Of one micro-batch, except where a single sequence is longer.
        num_ranks: Number of ranks.
        quadratic_length: Length at which attention costs as much as everything that grows with the length itself;
            see `polaris_train.model.policy.Policy.quadratic_length`.

    Returns:
        ``[rank][micro-batch]`` lists of indices into ``lengths``; each index appears once.
    """
    costs = [length + length**2 / quadratic_length for length in lengths]
    order = sorted(range(len(lengths)), key=lambda index: (-costs[index], index))
    num_rounds = max(1, -(-sum(lengths) // (max_tokens * num_ranks)))
    while (bins := _fill(order, lengths, costs, max_tokens=max_tokens, num_bins=num_rounds * num_ranks)) is None:
        num_rounds += 1
    bins.sort(key=lambda members: -sum(costs[index] for index in members))
    return [bins[rank::num_ranks] for rank in range(num_ranks)]


def _fill(
    order: Sequence[int], lengths: Sequence[int], costs: Sequence[float], *, max_tokens: int, num_bins: int
) -> list[list[int]] | None:
    """Return the members of each bin, or ``None`` if they do not fit."""
    bins: list[list[int]] = [[] for _ in range(num_bins)]
    tokens, loads = [0] * num_bins, [0.0] * num_bins
    for index in order:
        room = [each for each in range(num_bins) if not bins[each] or tokens[each] + lengths[index] <= max_tokens]
        if not room:
            return None
        cheapest = min(room, key=loads.__getitem__)
        bins[cheapest].append(index)
        tokens[cheapest] += lengths[index]
        loads[cheapest] += costs[index]
    return bins


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
    counts = torch.tensor([len(sequence.token_ids) for sequence in sequences])
    predicting = [
        torch.arange(start + len(sequence.prompt_token_ids), start + sequence.length) - 1
        for start, sequence in zip(starts, sequences, strict=False)
    ]
    known = [sequence.old_logprobs for sequence in sequences if sequence.old_logprobs is not None]
    return MicroBatch(
        input_ids=torch.tensor(
            [[token for sequence in sequences for token in sequence.prompt_token_ids + sequence.token_ids]]
        ),
        position_ids=torch.cat([torch.arange(sequence.length) for sequence in sequences])[None],
        predicting=torch.cat(predicting),
        targets=torch.tensor([token for sequence in sequences for token in sequence.token_ids], dtype=torch.long),
        sequences=torch.arange(len(sequences)).repeat_interleave(counts),
        advantages=torch.tensor([sequence.advantage for sequence in sequences]).repeat_interleave(counts),
        weights=torch.tensor([sequence.weight for sequence in sequences]).repeat_interleave(counts),
        engine_logprobs=_flat([sequence.engine_logprobs for sequence in sequences]),
        off_policy=torch.tensor([sequence.off_policy for sequence in sequences]).repeat_interleave(counts),
        old_logprobs=_flat(known) if known else None,
    )


def _flat(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.get_default_dtype())
