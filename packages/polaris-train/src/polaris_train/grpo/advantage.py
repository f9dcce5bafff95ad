"""How good each completion is compared with its siblings, and what becomes of groups that teach nothing."""

import random
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Substitution = Literal["reweight", "copy"]


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


def soft_overlong_penalty(num_tokens: int, *, max_tokens: int, cache_tokens: int) -> float:
    """Return DAPO's soft punishment of long answers, added to the reward.

    0 up to ``max_tokens - cache_tokens``, then linear down to -1 at ``max_tokens``, the longest possible answer.

    References:
        Yu et al., "DAPO", 2025. https://arxiv.org/abs/2503.14476
    """
    return max(-1.0, min(0.0, (max_tokens - cache_tokens - num_tokens) / cache_tokens))


def completion_advantages(
    rewards: Sequence[float],
    lengths: Sequence[int],
    *,
    normalize_std: bool,
    max_tokens: int,
    overlong_cache: int | None,
) -> list[float]:
    """Return the advantage of each completion of one group.

    Args:
        rewards: Of each completion.
        lengths: Of each completion, in tokens.
        normalize_std: As in `group_advantages`.
        max_tokens: Longest possible answer.
        overlong_cache: Tokens before that at which `soft_overlong_penalty` begins; ``None`` for no penalty.
    """
    scores = list(rewards)
    if overlong_cache is not None:
        penalties = [
            soft_overlong_penalty(length, max_tokens=max_tokens, cache_tokens=overlong_cache) for length in lengths
        ]
        scores = [score + penalty for score, penalty in zip(scores, penalties, strict=True)]
    return group_advantages(torch.tensor([scores]), normalize_std=normalize_std)[0].tolist()


def group_multiplicities(informative: Sequence[bool], *, substitution: Substitution, seed: int) -> list[int]:
    """Return how often each group counts in the update; groups whose rewards are all equal count 0.

    ``reweight`` lets each informative group count once: the loss is an average over them, so together they have
    the weight of the whole batch. ``copy`` is the published in-batch substitution: every other group's place is
    taken by a copy of an informative one, each copied at most once if there are enough, else drawn with
    replacement. A copy is exactly another count of the same completions, rewards and masks, so nothing is computed
    or graded twice. Over the draws, the expected weight of every informative group is the same, so (with
    ``sequence-mean`` or ``constant`` aggregation, or groups of equal length) the expected gradient is that of
    ``reweight`` and only its variance is larger.

    Args:
        informative: For each group of the step, whether its rewards differ.
        substitution: Which of the two. ``copy`` with no more than a third of the groups informative (where the
            published code gives up the step) falls back to ``reweight``.
        seed: Of the draw.

    References:
        An et al., "POLARIS", 2025. https://hkunlp.github.io/blog/2025/Polaris
    """
    multiplicities = [int(each) for each in informative]
    good = [index for index, each in enumerate(informative) if each]
    num_bad = len(informative) - len(good)
    if substitution == "reweight" or len(good) <= len(informative) // 3:
        return multiplicities
    draw = random.Random(seed)
    copied = draw.sample(good, num_bad) if len(good) >= num_bad else draw.choices(good, k=num_bad)
    for index in copied:
        multiplicities[index] += 1
    return multiplicities
