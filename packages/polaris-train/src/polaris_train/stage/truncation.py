"""A stage whose first answers do not fit its context is not begun: it would learn to be short before anything else."""

import math
import sys
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from polaris_train.errors import RecipeError
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage

FITTING_SHARE = 0.1
"""Of the answers may be cut short where a length is said to fit: the level at which a step's alarm rings."""

_FEWEST = 16
"""Answers that ended by themselves, from which a longer length is told."""

_FURTHEST = 8
"""Times the budget: further out a tail of normal logarithms says nothing."""

_ROUNDS, _STILL = 1000, 1e-9
"""Until the mean of the logarithms stands still, at most."""


def refuse_truncated_start(groups: Sequence[GradedGroup], config: ResolvedStage) -> None:
    """Refuse to train on a first step of which too many answers were cut short.

    Args:
        groups: Of the first step.
        config: The stage.

    Raises:
        RecipeError: With the length that would fit.
    """
    completions = [each for group in groups for each in group.group.completions]
    ended = [len(each.token_ids) for each in completions if each.finish_reason != "length"]
    share = (len(completions) - len(ended)) / len(completions)
    if share <= config.first_step_truncation:
        return
    length = fitting_length(ended, len(completions), budget=config.max_answer_tokens)
    longest_prompt = max(len(group.group.prompt_token_ids) for group in groups)
    advice = "give a much longer one: too few answers ended to tell how long"
    if length is not None:
        advice = (
            f"by their lengths {1 - FITTING_SHARE:.0%} would end within {length:,} tokens: give a context of "
            f"{config.max_prompt_tokens + length:,} (the longest prompt has {longest_prompt:,} tokens)"
        )
    raise RecipeError(
        f"{share:.0%} of the first step's {len(completions):,} answers were cut short by a context of "
        f"{config.context:,}, more than first_step_truncation = {config.first_step_truncation:g}; {advice}, or go on "
        "all the same with --set stages.N.first_step_truncation=1"
    )


def fitting_length(ended: Sequence[int], num_answers: int, *, budget: int) -> int | None:
    """Return the length that `FITTING_SHARE` of all answers would exceed, ``None`` if too little is known.

    The logarithms of lengths are taken to be normal, with the likeliest mean and deviation given that some are only
    known to be longer than the budget: each of these counts with what is expected of it, again and again until nothing
    moves (Dempster, Laird and Rubin, 1977).

    Args:
        ended: Lengths of the answers that ended by themselves.
        num_answers: Of all, those that were cut short included.
        budget: Tokens after which they were.
    """
    if len(set(ended)) < 2 or len(ended) < _FEWEST:
        return None
    known, limit, standard = [math.log(each) for each in ended], math.log(budget), NormalDist()
    cut = num_answers - len(known)
    mean, deviation = fmean(known), stdev(known)
    for _ in range(_ROUNDS):
        place = (limit - mean) / deviation
        hazard = standard.pdf(place) / max(standard.cdf(-place), sys.float_info.min)
        first = mean + deviation * hazard
        second = mean**2 + deviation**2 + deviation * (limit + mean) * hazard
        mean, before = (sum(known) + cut * first) / num_answers, mean
        deviation = math.sqrt((math.fsum(each**2 for each in known) + cut * second) / num_answers - mean**2)
        if abs(mean - before) < _STILL:
            break
    length = math.exp(mean + deviation * standard.inv_cdf(1 - FITTING_SHARE))
    return math.ceil(length) if budget < length <= _FURTHEST * budget else None
