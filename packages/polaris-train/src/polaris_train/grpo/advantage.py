"""How good each completion is compared with its siblings, and what becomes of groups that teach nothing."""

import math
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


def max_likelihood_advantages(
    rewards: Float[Tensor, "prompts samples"], *, eps: float = 1e-6
) -> Float[Tensor, "prompts samples"]:
    """Score each completion against its siblings, in units of how often the problem is solved (MaxRL).

    ``A[p, g] = (r[p, g] - mean_g r[p]) / (mean_g r[p] + eps)``. With rewards of 0 and 1 this is the gradient of the
    log of the pass rate, as far as so many samples tell it, where `group_advantages` without its standard deviation
    has that of the pass rate itself: one right answer of eight counts 7, seven of eight count 1/7 each.

    Args:
        rewards: Reward of completion ``g`` of problem ``p``, none below 0.
        eps: Keeps the division finite when nothing is right.

    Returns:
        Zero-mean advantages; a row of equal rewards gives a row of zeros.

    Raises:
        ValueError: If a group has fewer than two samples.

    References:
        Tajwar et al., "Maximum Likelihood Reinforcement Learning", 2026. https://arxiv.org/abs/2602.02710
    """
    return group_advantages(rewards, normalize_std=False) / (rewards.mean(dim=1, keepdim=True) + eps)


def max_entropy_weight(pass_rate: float, *, sharpness: float) -> float:
    """Return how much a group counts by how undecided its outcome is (MGPO): 1 where half of it is right.

    ``exp(-sharpness * KL(pass_rate || 1/2))``, the divergence being ``log 2`` less the entropy of one answer's outcome,
    in nats. A group that is all right or all wrong counts ``2 ** -sharpness``; with ``sharpness = 0`` all count 1.

    Args:
        pass_rate: Share of the group's completions that are correct.
        sharpness: The paper's lambda.

    References:
        Xu et al., "Tiny Model, Big Logic" (VibeThinker-1.5B), 2025. https://arxiv.org/abs/2511.06221
    """
    entropy = -sum(share * math.log(share) for share in (pass_rate, 1 - pass_rate) if share > 0)
    return math.exp(-sharpness * (math.log(2) - entropy))


def shorter_is_better(rewards: Sequence[float], lengths: Sequence[int], *, weight: float) -> list[float]:
    """Return the rewards with some of it moved from long correct answers of a group to its short ones (Long2Short).

    ``r + weight * (1 / T - m) / M`` for each correct answer of ``T`` tokens, ``m`` being the mean of ``1 / T`` over the
    group's correct answers and ``M`` the largest distance from it. What they gain and lose adds up to 0, so a correct
    answer is worth as much as before on average, and no less than ``1 - weight``.

    Args:
        rewards: Of each completion, 1 where it is correct and else 0.
        lengths: Of each completion, in tokens.
        weight: Most that a reward changes.

    References:
        "VibeThinker-3B" (0.2 in its last stage of mathematics), 2026. https://arxiv.org/abs/2606.16140
    """
    inverse = {index: 1 / max(lengths[index], 1) for index, reward in enumerate(rewards) if reward > 0}
    if len(set(inverse.values())) < 2:  # of equal ones the mean may be another number, by rounding
        return list(rewards)
    mean = math.fsum(inverse.values()) / len(inverse)
    largest = max(abs(each - mean) for each in inverse.values())
    return [
        reward + weight * (inverse[index] - mean) / largest if index in inverse else reward
        for index, reward in enumerate(rewards)
    ]


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
    normalize_mean: bool = False,
    mgpo_lambda: float = 0.0,
    long2short: float = 0.0,
) -> list[float]:
    """Return the advantage of each completion of one group.

    Args:
        rewards: Of each completion: 1 where it is correct and else 0, or with CORE up to a half.
        lengths: Of each completion, in tokens.
        normalize_std: As in `group_advantages`.
        max_tokens: Longest possible answer.
        overlong_cache: Tokens before that at which `soft_overlong_penalty` begins; ``None`` for no penalty.
        normalize_mean: Those of `max_likelihood_advantages` instead.
        mgpo_lambda: Sharpness of `max_entropy_weight`, which they are multiplied by.
        long2short: Weight of `shorter_is_better`, where some are wrong: groups without signal are left out anyway.
    """
    scores = list(rewards)
    if long2short and len(set(rewards)) > 1:
        scores = shorter_is_better(rewards, lengths, weight=long2short)
    if overlong_cache is not None:
        penalties = [
            soft_overlong_penalty(length, max_tokens=max_tokens, cache_tokens=overlong_cache) for length in lengths
        ]
        scores = [score + penalty for score, penalty in zip(scores, penalties, strict=True)]
    group = torch.tensor([scores])
    compared = (
        max_likelihood_advantages(group) if normalize_mean else group_advantages(group, normalize_std=normalize_std)
    )
    if mgpo_lambda:
        compared = compared * max_entropy_weight(sum(rewards) / len(rewards), sharpness=mgpo_lambda)
    return compared[0].tolist()


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
