"""How good each completion is, compared with its siblings."""

from jaxtyping import Float
from torch import Tensor


def group_advantages(
    rewards: Float[Tensor, "prompts samples"], *, normalize_std: bool = True, eps: float = 1e-6
) -> Float[Tensor, "prompts samples"]:
    """Score each completion against its siblings for the same problem.

    ``A[p, g] = (r[p, g] - mean_g r[p]) / (std_g r[p] + eps)``, with the unbiased standard deviation; without
    ``normalize_std`` the denominator is 1 (Dr. GRPO).

    Args:
        rewards: Reward of completion ``g`` of problem ``p``.
        normalize_std: Divide by the group's standard deviation.
        eps: Keeps the division finite when all siblings agree.

    Returns:
        Zero-mean advantages; a row of equal rewards gives a row of zeros.

    Raises:
        ValueError: If a group has fewer than two samples.

    References:
        Shao et al., "DeepSeekMath", 2024. https://arxiv.org/abs/2402.03300
        Liu et al., "Understanding R1-Zero-Like Training", 2025. https://arxiv.org/abs/2503.20783
    """
    if rewards.shape[1] < 2:
        raise ValueError(f"groups have {rewards.shape[1]} samples; comparing siblings needs at least 2")
    centered = rewards - rewards.mean(dim=1, keepdim=True)
    if not normalize_std:
        return centered
    return centered / (rewards.std(dim=1, keepdim=True) + eps)
