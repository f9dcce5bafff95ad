"""The policy-gradient loss."""

from jaxtyping import Float
from torch import Tensor


def clipped_loss(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    *,
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, " tokens"]:
    """Return the clipped surrogate loss of each token.

    ``-min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A)`` with ``ratio = exp(logprob - old)``.
    The sum over all tokens of a step, divided by their number on all ranks together, is the loss: one global
    denominator, so neither packing nor the number of ranks changes it.

    Args:
        logprobs: Of the sampled tokens under the policy being trained; gradients flow through these.
        old_logprobs: Of the same tokens under the policy that started the step.
        advantages: Of the completion that each token belongs to.
        clip_low: Ratios below ``1 - clip_low`` stop earning.
        clip_high: Ratios above ``1 + clip_high`` stop earning.

    References:
        Yu et al., "DAPO", 2025. https://arxiv.org/abs/2503.14476
    """
    ratio = (logprobs - old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -(ratio * advantages).minimum(clipped * advantages)
