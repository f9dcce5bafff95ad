"""How good a verifier is: how it ranks, and how much of the gap between the vote and the best answer it closes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polaris_eval import Estimate
from polaris_eval.scores import (
    best_of,
    majority_at_k,
    mean_at_k,
    mean_difference,
    mean_share,
    pass_at_k,
    weighted_vote,
)

from polaris_train.verifier.head import area_under_curve

RIGHT = "correct"
"""Vote of a right answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What scores do for problems that the verifier was not trained on."""

    num_problems: int

    num_completions: int

    auc: float | None
    """Probability that a right completion scores higher than a wrong one; ``None`` if there are no pairs."""

    mean: Estimate
    """Share of right completions."""

    majority: Estimate
    """Share of problems that the most frequent answer solves."""

    weighted: Estimate
    """As ``majority``, each vote counting its score."""

    best: Estimate
    """Share of problems that the completion with the highest score solves."""

    any_right: Estimate
    """Share of problems with a right completion: pass@k."""

    weighted_gain: Estimate
    """Of ``weighted`` over ``majority``, paired by problem."""

    best_gain: Estimate
    """Of ``best`` over ``majority``, paired by problem."""

    def closed(self, gain: Estimate) -> float | None:
        """Return how much of the gap between the majority and pass@k a gain closes; ``None`` without a gap."""
        gap = self.any_right.value - self.majority.value
        return gain.value / gap if gap > 0 else None


def report_on(groups: Sequence[Mapping[str, Any]], scores: Sequence[Sequence[float]]) -> Report:
    """Return what scores do for graded groups.

    Args:
        groups: As `polaris_eval.running.grade_groups` returns them.
        scores: One for each completion of each group.
    """
    correct = [[each["outcome"] == RIGHT for each in group["completions"]] for group in groups]
    votes = [[_vote(each) for each in group["completions"]] for group in groups]
    flat = [score for group in scores for score in group]
    majority = [majority_at_k(group, RIGHT, len(group)) for group in votes]
    weighted = [weighted_vote(*each, RIGHT) for each in zip(votes, scores, strict=True)]
    best = [best_of(*each) for each in zip(correct, scores, strict=True)]
    once = [1.0] * len(groups)

    def gain(chosen: Sequence[float]) -> Estimate:
        return mean_difference([new - old for new, old in zip(chosen, majority, strict=True)], [(1, 1)] * len(groups))

    return Report(
        num_problems=len(groups),
        num_completions=len(flat),
        auc=area_under_curve(flat, [right for group in correct for right in group]),
        mean=mean_at_k(correct),
        majority=mean_share(majority, once),
        weighted=mean_share(weighted, once),
        best=mean_share(best, once),
        any_right=mean_share([pass_at_k(group, len(group)) for group in correct], once),
        weighted_gain=gain(weighted),
        best_gain=gain(best),
    )


def _vote(completion: Mapping[str, Any]) -> str | None:
    """Return the class of an answer: all right answers have one."""
    if completion["outcome"] == RIGHT:
        return RIGHT
    return None if completion.get("vote") is None else str(completion["vote"])
