"""Policy-gradient losses of single tokens; `polaris_train.aggregation` says how much each token counts.

In all of them ``ratio = pi / pi_old = exp(logprob - old)``, its logarithm held within `MAX_LOG_RATIO` so that a
stale completion cannot overflow.

How much each sequence's tokens count: one global denominator, whatever the packing and the number of ranks.

The difference between the engine that sampled and the trainer, measured and corrected.

The same weights give slightly different probabilities in two programs, so what the engine sampled is off-policy
for the trainer even before the first update.
"""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor

MAX_LOG_RATIO = 20.0
"""In nats; beyond it a ratio is constant and has no gradient."""


def clipped_loss(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> Float[Tensor, " tokens"]:
    """Return the clipped surrogate loss (GRPO, PPO) of each token.

    ``-min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A)``, and where ``A < 0`` no more than
    ``-dual_clip * A``.

    Args:
        logprobs: Of the sampled tokens under the policy being trained; gradients flow through these.
        old_logprobs: Of the same tokens under the policy that started the step.
        advantages: Of the completion that each token belongs to.
        clip_low: Ratios below ``1 - clip_low`` stop earning.
        clip_high: Ratios above ``1 + clip_high`` stop earning.
        dual_clip: Ratios above it stop costing; ``None`` leaves them.

    References:
        Yu et al., "DAPO", 2025. https://arxiv.org/abs/2503.14476
        Ye et al., "Mastering Complex Control in MOBA Games" (dual clip), 2020. https://arxiv.org/abs/1912.09729
    """
    ratio = _log_ratio(logprobs, old_logprobs).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    losses = -(ratio * advantages).minimum(clipped * advantages)
    if dual_clip is None:
        return losses
    return losses.minimum(-dual_clip * advantages).where(advantages < 0, losses)


def gspo_loss(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    sequences: Int[Tensor, " tokens"],
    *,
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, " tokens"]:
    """Return the loss of each token with one ratio for its whole sequence.

    ``s = exp(mean over the sequence of (logprob - old))`` is clipped as in `clipped_loss`; a token's gradient is
    that of ``s * pi / stop_gradient(pi)``, so that the sum over a sequence has the gradient of its length times
    ``s``. Made for ``sequence-mean`` aggregation and narrow ranges (the paper's are 3e-4 and 4e-4).

    Args:
        logprobs: Of the sampled tokens under the policy being trained.
        old_logprobs: Under the policy that started the step.
        advantages: Of the completion that each token belongs to.
        sequences: Index of the sequence of each token; a sequence must be here as a whole.
        clip_low: Ratios below ``1 - clip_low`` stop earning.
        clip_high: Ratios above ``1 + clip_high`` stop earning.

    References:
        Zheng et al., "Group Sequence Policy Optimization", 2025. https://arxiv.org/abs/2507.18071
    """
    num_sequences = int(sequences.max()) + 1 if len(sequences) else 0
    log_ratio = _log_ratio(logprobs.detach(), old_logprobs)
    totals = log_ratio.new_zeros(num_sequences).index_add_(0, sequences, log_ratio)
    lengths = log_ratio.new_zeros(num_sequences).index_add_(0, sequences, log_ratio.new_ones(len(sequences)))
    ratio = (totals / lengths.clamp(min=1)).exp()[sequences] * (logprobs - logprobs.detach()).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -(ratio * advantages).minimum(clipped * advantages)


def cispo_loss(
    logprobs: Float[Tensor, " tokens"],
    old_logprobs: Float[Tensor, " tokens"],
    advantages: Float[Tensor, " tokens"],
    *,
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, " tokens"]:
    """Return the loss of each token whose clipped ratio is a weight: no token loses its gradient.

    ``-stop_gradient(clip(ratio, 1 - clip_low, 1 + clip_high)) * A * logprob``. Both bounds are relative to 1
    (``clip_high = 4`` caps the ratio at 5); ``clip_low = 1`` has no effect.

    Args:
        logprobs: Of the sampled tokens under the policy being trained.
        old_logprobs: Under the policy that started the step.
        advantages: Of the completion that each token belongs to.
        clip_low: Smallest weight is ``1 - clip_low``.
        clip_high: Largest weight is ``1 + clip_high``.

    References:
        MiniMax, "MiniMax-M1", 2025. https://arxiv.org/abs/2506.13585
    """
    ratio = _log_ratio(logprobs.detach(), old_logprobs).exp()
    return -ratio.clamp(1 - clip_low, 1 + clip_high) * advantages * logprobs


def kl_penalty(
    logprobs: Float[Tensor, " tokens"], reference_logprobs: Float[Tensor, " tokens"]
) -> Float[Tensor, " tokens"]:
    """Return an estimate of the divergence from a reference policy at each token: never negative, zero where equal.

    ``exp(d) - d - 1`` with ``d = reference - logprob`` (the estimator called k3).

    References:
        Schulman, "Approximating KL Divergence", 2020. http://joschu.net/blog/kl-approx.html
    """
    difference = _log_ratio(reference_logprobs, logprobs)
    return difference.exp() - difference - 1


def _log_ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    return (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


Aggregation = Literal["token-mean", "sequence-mean", "constant"]


def token_weights(
    lengths: Sequence[int],
    multiplicities: Sequence[int],
    *,
    aggregation: Aggregation,
    max_tokens: int,
) -> list[float]:
    """Return the weight of each token of each sequence; the loss of a step is the weighted sum over its tokens.

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
