"""The penalty for answers that come close to the token budget."""


def soft_overlong_penalty(num_tokens: int, *, max_tokens: int, cache_tokens: int) -> float:
    """Return DAPO's soft punishment of long answers, added to the reward: from 0 down to -1.

    0 up to ``max_tokens - cache_tokens``, then linear down to -1 at ``max_tokens``.

    Args:
        num_tokens: Length of the answer.
        max_tokens: Longest possible answer.
        cache_tokens: Where the punishment begins, counted back from ``max_tokens``.

    References:
        Yu et al., "DAPO", 2025. https://arxiv.org/abs/2503.14476
    """
    return max(-1.0, min(0.0, (max_tokens - cache_tokens - num_tokens) / cache_tokens))
