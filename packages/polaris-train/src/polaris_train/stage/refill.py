"""Refill: further problems within a step of which too few groups can teach anything.

A group of which every answer is right, or every one wrong, has no advantage. Where most are such, a step learns from
few answers; sampling more of it until enough groups are informative is DAPO's dynamic sampling (Yu et al., 2025,
https://arxiv.org/abs/2503.14476), here with an end.
"""

import random
from collections.abc import Callable, Sequence
from math import ceil

from polaris_data import Problem

from polaris_train.records import GradedGroup
from polaris_train.stage.passes import Seen

_ROUNDING = 1e-9
"""0.07 of 100 groups are 7, not 7.000000000000001."""

Draw = Callable[[Sequence[Problem]], list[GradedGroup]]
"""Samples and grades problems of a step; returns their groups in their order, the same on all ranks."""


def refilled(groups: Sequence[GradedGroup], pool: Sequence[Problem], draw: Draw, *, share: float) -> list[GradedGroup]:
    """Return the groups of a step, followed by further ones as long as too few are informative.

    So many are drawn as would be enough if they were as informative as those before, and again, until enough are or the
    step has twice its problems.

    Args:
        groups: Of the step's own problems.
        pool: Other problems, in the order in which they are taken.
        draw: Gives their groups.
        share: Of the number of ``groups``: so many are to be informative.
    """
    wanted, found, left = ceil(share * len(groups) - _ROUNDING), list(groups), list(pool[: len(groups)])
    while left and (missing := wanted - (num := sum(each.informative for each in found))) > 0:
        more = -(-missing * len(found) // num) if num else len(left)
        found += draw(left[:more])
        left = left[more:]
    return found


def refill_order(problems: Sequence[Problem], seen: Seen, *, seed: int) -> list[Problem]:
    """Return problems in the order in which a step is refilled from them.

    Shuffled; those of which every group so far was all right or all wrong at last come last.

    Args:
        problems: That the step does not have.
        seen: What the steps before saw.
        seed: Of the step.
    """
    latest = {name: counts for step in sorted(seen) for name, counts in seen[step].items()}
    order = list(problems)
    random.Random(seed).shuffle(order)
    return sorted(order, key=lambda each: _taught_nothing(latest.get(each.problem_id)))


def _taught_nothing(counts: tuple[int, int] | None) -> bool:
    return counts is not None and counts[0] in (0, counts[1])
