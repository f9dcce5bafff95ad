"""The learning rate as a function of the step alone, so that a stage that is continued goes on as if nothing was."""

import math
from typing import Literal

import torch

Schedule = Literal["constant", "linear", "cosine"]


def learning_rate_share(
    step: int, *, schedule: Schedule, warmup_steps: int = 0, decay_steps: int | None = None, min_ratio: float = 0.0
) -> float:
    """Return which share of its highest value the learning rate has in a step.

    It rises along a line in the first ``warmup_steps`` (step 1 of 3 has a quarter, step 4 all of it). Then it falls,
    along a line or along half a cosine, to ``min_ratio`` after step ``decay_steps``, and stays there.

    Args:
        step: Counted from 1.
        schedule: How it falls.
        warmup_steps: Steps in which it rises.
        decay_steps: Last step in which it falls, more than ``warmup_steps``; not needed where it is constant.
        min_ratio: Share that is left in the end.

    References:
        Loshchilov and Hutter, "SGDR" (the cosine), 2016. https://arxiv.org/abs/1608.03983
    """
    if step <= warmup_steps:
        return step / (warmup_steps + 1)
    if schedule == "constant" or decay_steps is None:
        return 1.0
    fallen = min((step - 1 - warmup_steps) / (decay_steps - warmup_steps), 1.0)
    left = (1 + math.cos(math.pi * fallen)) / 2 if schedule == "cosine" else 1 - fallen
    return min_ratio + (1 - min_ratio) * left


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Let the next steps of an optimizer be taken at this rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
