"""What becomes of groups that teach nothing, because all their completions are right or all are wrong."""

import random
from collections.abc import Sequence
from typing import Literal

Substitution = Literal["reweight", "copy"]


def group_multiplicities(informative: Sequence[bool], *, substitution: Substitution, seed: int) -> list[int]:
    """Return how often each group counts in the update; groups that teach nothing count 0.

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
