"""Log-probabilities and entropy from hidden states, without ever holding ``[tokens, vocab]``."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_BYTES = {"cpu": 2**25, "cuda": 2**28}
"""Bytes of logits that exist at the same time, by device: a CPU is fastest where a chunk nearly fits its cache."""


def token_logprobs(
    hidden: Float[Tensor, "tokens hidden"],
    head: Float[Tensor, "vocab hidden"],
    targets: Int[Tensor, " tokens"],
    *,
    temperature: float,
    chunk_tokens: int | None = None,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Return the log-probability of each target and the entropy of each distribution, in nats.

    Both are those of ``softmax(hidden @ head.T / temperature)``. The tokens are taken in chunks whose logits are
    computed again in the backward pass, so memory grows with the chunk, not with the number of tokens times the
    vocabulary. Products with the head are accumulated and kept in float32 whatever the precision of the weights
    (float64 stays float64): rounding logits to bfloat16 would bias what is learned.

    Args:
        hidden: Last hidden states at the positions that predict the targets.
        head: Weight of the language-model head.
        targets: Tokens that were sampled.
        temperature: Of sampling.
        chunk_tokens: Tokens of one chunk; by default as many as have `CHUNK_BYTES` of logits.

    Returns:
        Log-probabilities (differentiable) and entropies (not differentiable), float32.
    """
    if chunk_tokens is None:
        chunk_tokens = max(1, CHUNK_BYTES[hidden.device.type] // (4 * len(head)))
    logprobs, entropies = _TokenLogprobs.apply(hidden, head, targets, temperature, chunk_tokens)  # pyright: ignore
    return logprobs, entropies


class _TokenLogprobs(torch.autograd.Function):
    """``d logprob[t] / d logits[t, v] = (1[v = target] - p[v]) / temperature``, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, temperature: float, chunk_tokens: int
    ) -> tuple[Tensor, Tensor]:
        logprobs, entropies, normalizers = (hidden.new_empty(len(targets), dtype=_wide(hidden)) for _ in range(3))
        wide_head = _factor(head)
        # One chunk's memory serves all: new logits for each would be made while the last ones are still there.
        rooms = [wide_head.new_empty(min(chunk_tokens, len(targets)), len(head), dtype=_wide(head)) for _ in range(2)]
        for chunk in _chunks(len(targets), chunk_tokens):
            logits, exponentials = (room[: len(targets[chunk])] for room in rooms)
            _product(_factor(hidden[chunk]), wide_head.T, out=logits).div_(temperature)
            highest = logits.amax(dim=-1)
            logits.sub_(highest[:, None])
            picked = logits.gather(-1, targets[chunk, None]).squeeze(-1)
            torch.exp(logits, out=exponentials)
            total = exponentials.sum(dim=-1)
            logprobs[chunk] = picked - total.log()
            entropies[chunk] = total.log() - exponentials.mul_(logits).sum(dim=-1) / total
            normalizers[chunk] = highest + total.log()
        ctx.save_for_backward(hidden, head, targets, normalizers)
        ctx.temperature, ctx.chunk_tokens = temperature, chunk_tokens
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        hidden, head, targets, normalizers = ctx.saved_tensors
        scales = gradients[0] / ctx.temperature
        wide_head = _factor(head)
        hidden_gradient = torch.empty_like(hidden)
        # A frozen head, as beside adapters, has none.
        head_gradient = torch.zeros_like(head, dtype=_wide(head)) if ctx.needs_input_grad[1] else None
        room = wide_head.new_empty(min(ctx.chunk_tokens, len(targets)), len(head), dtype=_wide(head))
        for chunk in _chunks(len(targets), ctx.chunk_tokens):
            factor, scale = _factor(hidden[chunk]), scales[chunk, None]
            logits = _product(factor, wide_head.T, out=room[: len(factor)]).div_(ctx.temperature)
            slopes = logits.sub_(normalizers[chunk, None]).exp_().mul_(-scale)
            slopes.scatter_add_(-1, targets[chunk, None], scale)
            narrow = slopes.to(factor.dtype)
            hidden_gradient[chunk] = (narrow @ wide_head).to(hidden.dtype)
            if head_gradient is None:
                continue
            if factor.dtype == head_gradient.dtype:
                head_gradient.addmm_(narrow.T, factor)
            else:
                head_gradient += _product(narrow.T, factor)
        narrow_gradient = None if head_gradient is None else head_gradient.to(head.dtype)
        return hidden_gradient, narrow_gradient, None, None, None


def _chunks(num_tokens: int, chunk_tokens: int) -> Iterator[slice]:
    return (slice(start, start + chunk_tokens) for start in range(0, num_tokens, chunk_tokens))


def _wide(tensor: Tensor) -> torch.dtype:
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def _factor(tensor: Tensor) -> Tensor:
    """Return a factor as the device multiplies it best: tensor cores take half precision, a CPU is given float32."""
    return tensor if tensor.device.type == "cuda" else tensor.to(_wide(tensor))


def _product(left: Tensor, right: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Multiply with a result that is not rounded to the factors' precision."""
    if left.dtype == _wide(left):
        return torch.mm(left, right, out=out)
    return torch.mm(left, right, out_dtype=_wide(left), out=out)
