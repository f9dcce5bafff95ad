"""The difference between the engine that sampled and the trainer, measured and corrected.

The same weights give slightly different probabilities in two programs, so what the engine sampled is off-policy
for the trainer even before the first update.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from polaris_train.loss import MAX_LOG_RATIO

Correction = Literal["truncate", "mask", "none"]


def mismatch_weights(
    old_logprobs: Float[Tensor, " tokens"],
    engine_logprobs: Float[Tensor, " tokens"],
    *,
    correction: Correction,
    low: float,
    high: float,
) -> Float[Tensor, " tokens"]:
    """Return how much each token's loss counts, given who sampled it; no gradient flows through the weights.

    With ``rho = pi_old / pi_engine``: ``truncate`` gives ``min(rho, high)``, ``mask`` gives ``rho`` inside
    ``[low, high]`` and 0 outside, ``none`` gives 1. The weight multiplies the clipped loss, not its inside.

    Args:
        old_logprobs: Under the trainer's policy that started the step.
        engine_logprobs: Under the engine, at the sampling temperature.
        correction: Which of the three.
        low: Lower end of the band of ``mask``.
        high: Cap of ``truncate``, upper end of the band of ``mask``.

    References:
        Yao et al., "Your efficient RL framework secretly brings you off-policy RL training", 2025.
        https://fengyao.notion.site/off-policy-rl
        Ling Team, "IcePop", 2025. https://ringtech.notion.site/icepop
    """
    difference = (old_logprobs - engine_logprobs).detach()
    rho = difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    if correction == "truncate":
        return rho.clamp(max=high)
    if correction == "mask":
        return rho.where((rho >= low) & (rho <= high), rho.new_zeros(()))
    return rho.new_ones(rho.shape)
