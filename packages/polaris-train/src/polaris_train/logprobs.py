"""Log-probabilities and entropy from hidden states, without ever holding ``[tokens, vocab]``."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CHUNK_TOKENS = 256
"""Tokens whose logits exist at the same time."""


def token_logprobs(
    hidden: Float[Tensor, "tokens hidden"],
    head: Float[Tensor, "vocab hidden"],
    targets: Int[Tensor, " tokens"],
    *,
    temperature: float,
    chunk_tokens: int = CHUNK_TOKENS,
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Return the log-probability of each target and the entropy of each distribution, in nats.

    Both are those of ``softmax(hidden @ head.T / temperature)``, reduced in float32. The sequence is taken in
    chunks whose logits are recomputed in the backward pass, so memory grows with the chunk, not with the
    number of tokens times the vocabulary.

    Args:
        hidden: Last hidden states at the positions that predict the targets.
        head: Weight of the language-model head.
        targets: Tokens that were sampled.
        temperature: Of sampling.
        chunk_tokens: Tokens of one chunk.

    Returns:
        Log-probabilities (differentiable) and entropies (detached).
    """
    # At least one chunk, so that the result depends on `hidden` and `head` even without targets: a rank without
    # work takes part in the backward pass of a sharded model too.
    starts = range(0, max(len(targets), 1), chunk_tokens)
    chunks = [
        checkpoint(
            _chunk_logprobs,
            hidden[start : start + chunk_tokens],
            head,
            targets[start : start + chunk_tokens],
            temperature,
            use_reentrant=False,
        )
        for start in starts
    ]
    logprobs, entropies = zip(*chunks, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk_logprobs(hidden: Tensor, head: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    logits = functional.linear(hidden, head).float() / temperature
    log_normalizer = logits.logsumexp(dim=-1)
    logprobs = logits.gather(-1, targets[:, None]).squeeze(-1) - log_normalizer
    with torch.no_grad():
        expected = (logits.softmax(dim=-1) * logits).sum(dim=-1)
    return logprobs, (log_normalizer - expected).detach()
