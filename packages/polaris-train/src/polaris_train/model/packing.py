"""Packing sequences of any length into micro-batches without padding."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PerToken: TypeAlias = Float[Tensor, " tokens"]
"""One number for each token that the loss is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSequence:
    """One completion as the trainer sees it."""

    prompt_token_ids: tuple[int, ...]
    """[P] context of the first token that is trained on, at least one."""

    token_ids: tuple[int, ...]
    """[T] tokens that are trained on, at least one."""

    weight: float | tuple[float, ...] = 1.0
    """How much each token counts in the loss of the step, on all ranks: the loss is the weighted sum over tokens. One
    number, or [T] where some count nothing, such as what a user says between two answers."""

    advantages: float | tuple[float, ...] = 0.0
    """Of all tokens, or [T] of each."""

    engine_logprobs: tuple[float, ...] | None = None
    """[T] log-probability of each token when it was sampled, in nats; ``None`` where no engine sampled it."""

    old_logprobs: tuple[float, ...] | None = None
    """[T] what ratios are taken to; ``None`` is the policy of the very forward pass that trains on the sequence."""

    teacher_logprobs: tuple[float, ...] | None = None
    """[T] log-probability of each token under a teacher, in nats; ``None`` where none was asked."""

    off_policy: bool = False
    """Whether an earlier policy sampled it, so that it says nothing about how engine and trainer differ."""

    lags: int | tuple[int, ...] = 0
    """Steps by which the weights that drew it are older than those that the step begins with: of all tokens, or [T]."""

    def __post_init__(self) -> None:
        for name in ("weight", "advantages", "engine_logprobs", "old_logprobs", "teacher_logprobs", "lags"):
            values = getattr(self, name)
            if isinstance(values, tuple) and len(values) != len(self.token_ids):
                raise ValueError(f"{name} has {len(values)} values for {len(self.token_ids)} tokens; give one a token")

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
    """Where in ``length`` each token that is trained on is predicted: one before it."""

    targets: Int[Tensor, " tokens"]
    """The tokens that are trained on."""

    sequences: Int[Tensor, " tokens"]
    """Which of the micro-batch's sequences each token belongs to."""

    weights: PerToken
    """How much each token counts in the loss of the step."""

    advantages: PerToken
    """Of each token, or of its sequence."""

    engine_logprobs: PerToken
    """When it was sampled; NaN where no engine sampled it, so that a loss cannot use them unnoticed."""

    old_logprobs: PerToken
    """What ratios are taken to, where ``has_old_logprobs``."""

    has_old_logprobs: Bool[Tensor, " tokens"]
    """Whether they are known; elsewhere they are those of this forward pass."""

    teacher_logprobs: PerToken
    """Under a teacher; NaN where none was asked."""

    off_policy: Bool[Tensor, " tokens"]
    """Whether an earlier policy sampled it."""

    lags: Int[Tensor, " tokens"]
    """Steps by which the weights that drew it are older than those that the step begins with."""

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the micro-batch with its tensors on a device."""
        moved: dict[str, Any] = {
            name: getattr(self, name).to(device, non_blocking=True) for name in self.__dataclass_fields__
        }
        return replace(self, **moved)


def partition(
    lengths: Sequence[int],
    *,
    max_tokens: int,
    num_ranks: int,
    quadratic_length: float = float("inf"),
    alone: bool = False,
) -> list[list[list[int]]]:
    """Share sequences among ranks, in micro-batches of at most ``max_tokens``.

    Costliest first, each into the cheapest micro-batch that has room; every rank gets the same number of
    micro-batches, because ranks that share a sharded model step through it together, and those that run at the same
    time cost about the same. Some may be empty.

    Args:
        lengths: Tokens of each sequence.
        max_tokens: Of one micro-batch, except where a single sequence is longer.
        num_ranks: Number of ranks.
        quadratic_length: Length at which attention costs as much as everything that grows with the length itself.
        alone: Put each sequence into a micro-batch of its own.

    Returns:
        ``[rank][micro-batch]`` lists of indices into ``lengths``; each index appears once.
    """
    costs = [length + length**2 / quadratic_length for length in lengths]
    order = sorted(range(len(lengths)), key=lambda index: (-costs[index], index))
    sizes, room = ([1] * len(lengths), 1) if alone else (lengths, max_tokens)
    num_rounds = max(1, -(-sum(sizes) // (room * num_ranks)))
    while (bins := _fill(order, sizes, costs, max_tokens=room, num_bins=num_rounds * num_ranks)) is None:
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
    sequences = sequences or [TrainingSequence(prompt_token_ids=(0,), token_ids=())]
    starts = [0]
    for each in sequences:
        starts.append(starts[-1] + each.length)
    counts = torch.tensor([len(each.token_ids) for each in sequences])

    def per_token(values: Sequence[float | tuple[float, ...] | None]) -> Tensor:
        """Repeat what belongs to a whole sequence for each of its tokens; what is not known is NaN."""
        rows = [
            value if isinstance(value, tuple) else (float("nan") if value is None else value,) * len(each.token_ids)
            for value, each in zip(values, sequences, strict=True)
        ]
        return torch.tensor([value for row in rows for value in row], dtype=torch.get_default_dtype())

    return MicroBatch(
        input_ids=torch.tensor([[token for each in sequences for token in each.prompt_token_ids + each.token_ids]]),
        position_ids=torch.cat([torch.arange(each.length) for each in sequences])[None],
        predicting=torch.cat(
            [
                torch.arange(start + len(each.prompt_token_ids), start + each.length) - 1
                for start, each in zip(starts, sequences, strict=False)
            ]
        ),
        targets=torch.tensor([token for each in sequences for token in each.token_ids], dtype=torch.long),
        sequences=torch.arange(len(sequences)).repeat_interleave(counts),
        weights=per_token([each.weight for each in sequences]),
        advantages=per_token([each.advantages for each in sequences]),
        engine_logprobs=per_token([each.engine_logprobs for each in sequences]),
        old_logprobs=per_token([each.old_logprobs for each in sequences]),
        has_old_logprobs=torch.tensor([each.old_logprobs is not None for each in sequences]).repeat_interleave(counts),
        teacher_logprobs=per_token([each.teacher_logprobs for each in sequences]),
        off_policy=torch.tensor([each.off_policy for each in sequences]).repeat_interleave(counts),
        lags=per_token([each.lags for each in sequences]).long(),
    )


def padded(batch: MicroBatch, *, to: int) -> MicroBatch:
    """Return a micro-batch as long as a multiple of ``to``; what fills it up is a sequence that predicts nothing."""
    missing = -batch.input_ids.shape[1] % to
    positions = torch.arange(missing, device=batch.position_ids.device)[None]
    return replace(
        batch,
        input_ids=torch.nn.functional.pad(batch.input_ids, (0, missing)),
        position_ids=torch.cat([batch.position_ids, positions], dim=1),
    )
