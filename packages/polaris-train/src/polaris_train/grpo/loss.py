"""The policy-gradient loss of each token.

In all losses ``ratio = pi / pi_old = exp(logprob - old)``, its logarithm held within `MAX_LOG_RATIO` so that a stale
completion cannot overflow. Their arguments are, token by token:

- ``logprobs``: of the sampled tokens under the policy being trained; gradients flow through these.
- ``old_logprobs``: of the same tokens under the policy that started the step.
- ``advantages``: of the token or of its completion.
- ``clip_low``, ``clip_high``: the ratio is clipped to ``[1 - clip_low, 1 + clip_high]``.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from polaris_train.model.packing import MicroBatch, PerToken
from polaris_train.model.step import TokenLosses

MAX_LOG_RATIO = 20.0
"""In nats; beyond it a ratio is constant and has no gradient."""

MAX_DPPO_RATIO = 20.0
"""Largest weight of a token in `dppo_loss`, that of the authors' own program."""

GEOMETRIC_CAP = 2.0
"""Largest weight of a token of a sequence that ``geometric`` keeps: a long one may hide a single huge ratio."""

Loss = Literal["grpo", "gspo", "cispo", "dppo"]
Correction = Literal["truncate", "mask", "geometric", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """Which loss; the defaults are DAPO's, with truncated importance sampling between engine and trainer."""

    loss: Loss = "grpo"
    """`clipped_loss`, `gspo_loss`, `cispo_loss` or `dppo_loss`."""

    clip_low: float = 0.2
    """Ratios are clipped to at least ``1 - clip_low``; of ``dppo``, the most by which a probability may fall."""

    clip_high: float = 0.28
    """Ratios are clipped to at most ``1 + clip_high`` ("clip-higher"); of ``dppo``, the most by which it may rise."""

    dual_clip: float | None = 3.0
    """Ratios above it stop costing where the advantage is negative (grpo only)."""

    mismatch_correction: Correction = "truncate"
    """What is done about tokens that trainer and engine give different probabilities; see `mismatch_weights`. Not with
    ``dppo``, whose ratios are to the engine's."""

    mismatch_low: float = 0.5
    """Lower end of the band of ``mask`` and ``geometric``."""

    mismatch_high: float = 2.0
    """Largest weight of ``truncate``, upper end of the band of ``mask`` and ``geometric``."""

    kl_coef: float = 0.0
    """Weight of `kl_penalty`, where there is a reference policy."""

    teacher_weight: float = 0.0
    """Of `teacher_advantages`, where there is a teacher."""

    max_lag: int = 0
    """Largest lag that a token may have (`polaris_train.grpo.lag`); above 0, each lag is measured by itself."""


def token_losses(
    logprobs: PerToken,
    entropies: PerToken,
    batch: MicroBatch,
    settings: LossSettings,
    *,
    reference_logprobs: PerToken | None = None,
) -> TokenLosses:
    """Return the loss of each token and what a step reports of it.

    Ratios are taken to the batch's old log-probabilities, and how far the engine that sampled is from those is a
    weight. What an earlier policy sampled should have the engine's as its old ones, and so needs no weight.

    With lag this is the decoupled objective, token by token: ``min(rho, C) * clipped(pi / pi_old)`` with
    ``rho = pi_old / mu``. The proximal policy ``pi_old`` is the one that the step begins with: clipping is centred on
    it. The behaviour policy ``mu`` is what drew the token, of whichever version and in whichever engine: one weight
    corrects lag and mismatch together. Where a completion spans versions, each token has the ``mu`` of its own.

    Args:
        logprobs: Under the policy being trained.
        entropies: Of its distributions.
        batch: That they are of.
        settings: Which loss.
        reference_logprobs: Under the policy to stay close to.

    References:
        Hilton et al., "Batch size-invariance for policy optimization" (decoupled objective), 2021.
        https://arxiv.org/abs/2110.00641
        Fu et al., "AReaL" (completions that span versions), 2025. https://arxiv.org/abs/2505.24298
    """
    old = batch.old_logprobs.where(batch.has_old_logprobs, logprobs.detach())
    advantages = batch.advantages
    if settings.teacher_weight:
        advantages = advantages + teacher_advantages(batch.teacher_logprobs, old, weight=settings.teacher_weight)
    low, high = settings.clip_low, settings.clip_high
    if settings.loss == "gspo":
        losses = gspo_loss(logprobs, old, advantages, batch.sequences, clip_low=low, clip_high=high)
    elif settings.loss == "cispo":
        losses = cispo_loss(logprobs, old, advantages, clip_low=low, clip_high=high)
    elif settings.loss == "dppo":
        losses = dppo_loss(logprobs, batch.engine_logprobs, advantages, clip_low=low, clip_high=high)
    else:
        losses = clipped_loss(logprobs, old, advantages, clip_low=low, clip_high=high, dual_clip=settings.dual_clip)
    correction: Correction = "none" if settings.loss == "dppo" else settings.mismatch_correction
    band = {"low": settings.mismatch_low, "high": settings.mismatch_high}
    mismatch = mismatch_weights(old, batch.engine_logprobs, batch.sequences, correction=correction, **band)
    losses = losses * mismatch
    kl = torch.zeros_like(old)
    if reference_logprobs is not None:
        kl = kl_penalty(logprobs, reference_logprobs)
        losses = losses + settings.kl_coef * kl
    with torch.no_grad():
        on_policy = ~batch.off_policy
        fresh = on_policy & (batch.lags == 0)
        of_sequences = settings.loss == "gspo"
        ratio = sequence_ratios(logprobs, old, batch.sequences) if of_sequences else (logprobs - old).exp()
        rho = _log_ratio(old, batch.engine_logprobs).exp()
        cut = ~torch.isclose(mismatch, rho) & (correction != "none")
        clipped = (ratio < 1 - low) | (ratio > 1 + high)
        if settings.loss == "dppo":
            clipped = _outside(logprobs, batch.engine_logprobs, advantages, low=low, high=high)
        pull = (batch.weights * advantages).abs()
        prob_gap = (old.exp() - batch.engine_logprobs.exp()).abs()
        sums = {
            "entropy": entropies,
            "prob_gap": prob_gap * fresh,
            "fresh": fresh,
            "on_policy": on_policy,
            "mismatch": on_policy & cut,
            "mismatch_kl": kl_penalty(batch.engine_logprobs, old) * on_policy,
            "rho": rho * on_policy,
            "rho_squared": rho**2 * on_policy,
            "clipped": clipped,
            "kl": kl.detach(),
            "gradient": pull,
            "rescue": pull * batch.off_policy,
        }
        if settings.teacher_weight:
            sums["reverse_kl"] = (old - batch.teacher_logprobs) * on_policy
        for lag in range(settings.max_lag + 1 if settings.max_lag else 0):
            here = on_policy & (batch.lags == lag)
            sums |= {f"lag {lag}": here, f"prob_gap {lag}": prob_gap * here, f"mismatch {lag}": here & cut}
        gaps = (old - batch.engine_logprobs)[fresh].abs()
    return TokenLosses(losses=losses, sums=sums, maxima={"logprob_gap": gaps})


def teacher_advantages(teacher_logprobs: PerToken, old_logprobs: PerToken, *, weight: float) -> PerToken:
    """Return the advantage of each sampled token by a teacher: ``weight * (teacher - old)``.

    Its mean over what the policy samples is ``-weight`` times the divergence ``KL(policy || teacher)``, so a step along
    it descends that. Tokens count by themselves, with no sum over what follows: what is likely where it stands is good.

    References:
        Thinking Machines, "On-Policy Distillation", 2025. https://thinkingmachines.ai/blog/on-policy-distillation
        Gu et al., "MiniLLM" (the gradient with what follows), 2023. https://arxiv.org/abs/2306.08543
    """
    return weight * _log_ratio(teacher_logprobs, old_logprobs)


def clipped_loss(
    logprobs: PerToken,
    old_logprobs: PerToken,
    advantages: PerToken,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> PerToken:
    """Return the clipped surrogate loss (GRPO, PPO) of each token.

    ``-min(ratio * A, clip(ratio) * A)``, and where ``A < 0`` no more than ``-dual_clip * A``, if that is given.

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
    logprobs: PerToken,
    old_logprobs: PerToken,
    advantages: PerToken,
    sequences: Int[Tensor, " tokens"],
    *,
    clip_low: float,
    clip_high: float,
) -> PerToken:
    """Return the loss of each token with one ratio for its whole sequence.

    ``s = exp(mean over the sequence of (logprob - old))`` is clipped as in `clipped_loss`; a token's gradient is
    that of ``s * pi / stop_gradient(pi)``, so that the sum over a sequence has the gradient of its length times
    ``s``. Made for ``sequence-mean`` aggregation and narrow ranges (the paper's are 3e-4 and 4e-4). ``sequences`` is
    the index of the sequence of each token; a sequence must be here as a whole.

    References:
        Zheng et al., "Group Sequence Policy Optimization", 2025. https://arxiv.org/abs/2507.18071
    """
    ratio = sequence_ratios(logprobs, old_logprobs, sequences) * (logprobs - logprobs.detach()).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -(ratio * advantages).minimum(clipped * advantages)


def sequence_ratios(logprobs: PerToken, old_logprobs: PerToken, sequences: Int[Tensor, " tokens"]) -> PerToken:
    """Return the ratio of each token's sequence, as in `gspo_loss`; without a gradient."""
    num_sequences = int(sequences.max()) + 1 if len(sequences) else 0
    log_ratio = _log_ratio(logprobs.detach(), old_logprobs)
    totals = log_ratio.new_zeros(num_sequences).index_add_(0, sequences, log_ratio)
    lengths = log_ratio.new_zeros(num_sequences).index_add_(0, sequences, log_ratio.new_ones(len(sequences)))
    return (totals / lengths.clamp(min=1)).exp()[sequences]


def cispo_loss(
    logprobs: PerToken, old_logprobs: PerToken, advantages: PerToken, *, clip_low: float, clip_high: float
) -> PerToken:
    """Return the loss of each token whose clipped ratio is a weight: no token loses its gradient.

    ``-stop_gradient(clip(ratio)) * A * logprob``. Both bounds are relative to 1 (``clip_high = 4`` caps the ratio
    at 5); ``clip_low = 1`` has no effect.

    References:
        MiniMax, "MiniMax-M1", 2025. https://arxiv.org/abs/2506.13585
    """
    ratio = _log_ratio(logprobs.detach(), old_logprobs).exp()
    return -ratio.clamp(1 - clip_low, 1 + clip_high) * advantages * logprobs


def dppo_loss(
    logprobs: PerToken, drawn_logprobs: PerToken, advantages: PerToken, *, clip_low: float, clip_high: float
) -> PerToken:
    """Return the loss of each token, none where the probability itself has moved too far from what drew it (DPPO-TV).

    ``-stop_gradient(min(pi / mu, 20)) * A * logprob``, and 0 where ``A > 0`` and ``pi - mu > clip_high`` or ``A < 0``
    and ``pi - mu < -clip_low``. ``|pi - mu|`` is the total variation between the policies as far as this token tells
    it. A bound on the ratio holds rare tokens back that move next to nothing, and lets frequent ones move far; this
    one does neither. ``drawn_logprobs`` are those of ``mu``, which drew the token: the bound, and the weight that
    corrects the mismatch, are both relative to it. The authors take 0.2 for both bounds.

    References:
        Qi et al., "Rethinking the Trust Region in LLM Reinforcement Learning", 2026. https://arxiv.org/abs/2602.04879
    """
    weight = _log_ratio(logprobs.detach(), drawn_logprobs).exp().clamp(max=MAX_DPPO_RATIO)
    outside = _outside(logprobs.detach(), drawn_logprobs, advantages, low=clip_low, high=clip_high)
    return (-weight * advantages * logprobs).where(~outside, logprobs.new_zeros(()))


def kl_penalty(logprobs: PerToken, reference_logprobs: PerToken) -> PerToken:
    """Return an estimate of the divergence from a reference policy at each token: never negative, zero where equal.

    ``exp(d) - 1 - d`` with ``d = reference - logprob`` (the estimator called k3), so about ``d * d / 2`` where the two
    are close, which is most of the time: there `expm1` keeps the digits that ``exp(d) - 1`` would lose. What rounding
    still turns below zero is cut off.

    References:
        Schulman, "Approximating KL Divergence", 2020. http://joschu.net/blog/kl-approx.html
    """
    difference = _log_ratio(reference_logprobs, logprobs)
    return (difference.expm1() - difference).clamp(min=0)


def mismatch_weights(
    old_logprobs: PerToken,
    engine_logprobs: PerToken,
    sequences: Int[Tensor, " tokens"],
    *,
    correction: Correction,
    low: float,
    high: float,
) -> PerToken:
    """Return how much each token's loss counts, given who sampled it; no gradient flows through the weights.

    The same model gives slightly different probabilities in two programs, so what the engine sampled is off-policy
    for the trainer even before the first update. With ``rho = pi_old / pi_engine``, at the sampling temperature:
    ``truncate`` gives ``min(rho, high)``, ``mask`` gives ``rho`` inside ``[low, high]`` and 0 outside, ``none`` gives
    1. ``geometric`` gives ``min(rho, 2)`` to the tokens of a sequence whose geometric mean of ``rho`` is inside
    ``[low, high]``, and 0 to those of any other: that mean does not grow with the length as the product does, so a band
    of a hundredth around 1 finds the sequences on which the two programs drift apart. The weight multiplies the clipped
    loss, not its inside. ``sequences`` is the index of the sequence of each token; a sequence must be here as a whole.

    References:
        Yao et al., "Your efficient RL framework secretly brings you off-policy RL training", 2025.
        https://fengyao.notion.site/off-policy-rl
        Ling Team, "IcePop", 2025. https://ringtech.notion.site/icepop
        Liu et al., "When Speed Kills Stability" (the geometric mean), 2025. https://richardli.xyz/rl-collapse
    """
    rho = _log_ratio(old_logprobs, engine_logprobs).detach().exp()
    if correction == "truncate":
        return rho.clamp(max=high)
    if correction == "mask":
        return rho.where((rho >= low) & (rho <= high), rho.new_zeros(()))
    if correction == "geometric":
        mean = sequence_ratios(old_logprobs, engine_logprobs, sequences)
        return rho.clamp(max=GEOMETRIC_CAP).where((mean >= low) & (mean <= high), rho.new_zeros(()))
    return rho.new_ones(rho.shape)


def _log_ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    return (logprobs - old_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _outside(
    logprobs: PerToken, drawn_logprobs: PerToken, advantages: PerToken, *, low: float, high: float
) -> Bool[Tensor, " tokens"]:
    """Return which probabilities have moved further than they may in the direction that the advantage asks for."""
    moved = logprobs.exp() - drawn_logprobs.exp()
    return ((advantages > 0) & (moved > high)) | ((advantages < 0) & (moved < -low))
