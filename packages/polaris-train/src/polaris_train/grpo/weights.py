"""How much each token of a step counts in its loss."""

from collections.abc import Sequence
from typing import Literal

Aggregation = Literal["token-mean", "sequence-mean", "constant"]


def token_weights(
    lengths: Sequence[int], multiplicities: Sequence[int], *, aggregation: Aggregation, max_tokens: int
) -> list[float]:
    """Return the weight of each token of each sequence; the loss of a step is the weighted sum over its tokens.

    One global denominator, whatever the packing and the number of ranks:

    - ``token-mean``: ``m[i] / sum_j m[j] * T[j]``, every token the same (DAPO).
    - ``sequence-mean``: ``m[i] / (T[i] * sum_j m[j])``, every sequence the same (GRPO as published, GSPO).
    - ``constant``: ``m[i] / (max_tokens * sum_j m[j])``, no favour for short or long answers (Dr. GRPO).

    Args:
        lengths: Response tokens ``T`` of each sequence of the step, on all ranks.
        multiplicities: How often each sequence counts, ``m``.
        aggregation: Which of the three.
        max_tokens: Longest possible answer, the denominator of ``constant``.

    References:
        Yu et al., "DAPO", 2025. https://arxiv.org/abs/2503.14476
        Liu et al., "Understanding R1-Zero-Like Training", 2025. https://arxiv.org/abs/2503.20783
    """
    num_sequences = sum(multiplicities)
    num_tokens = sum(many * length for many, length in zip(multiplicities, lengths, strict=True))
    if not num_tokens:
        return [0.0] * len(lengths)
    if aggregation == "token-mean":
        return [many / num_tokens for many in multiplicities]
    if aggregation == "sequence-mean":
        return [many / (max(length, 1) * num_sequences) for many, length in zip(multiplicities, lengths, strict=True)]
    return [many / (max_tokens * num_sequences) for many in multiplicities]
