"""What smaller token budgets would have scored, from completions that were cut and graded again."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from polaris_reward.records import Outcome

from polaris_eval.metrics import clustered_mean
from polaris_eval.records import BudgetPoint


def budget_curve(records: Sequence[Mapping[str, Any]]) -> tuple[BudgetPoint, ...]:
    """Return ``mean@k`` at every budget that completions were graded at.

    A completion that is not longer than a budget has its own outcome there. A budget at which a longer completion
    has no outcome is left out.

    Args:
        records: Lines of ``completions.jsonl`` whose references can be read; a completion's ``budgets`` holds its
            outcome for each budget shorter than itself.

    Returns:
        The points from the smallest budget on.
    """
    budgets = {
        int(budget)
        for record in records
        for completion in record["completions"]
        for budget in completion.get("budgets") or ()
    }
    points = (_point(records, budget) for budget in sorted(budgets))
    return tuple(point for point in points if point is not None)


def _point(records: Sequence[Mapping[str, Any]], max_tokens: int) -> BudgetPoint | None:
    outcomes = [[_outcome(completion, max_tokens) for completion in record["completions"]] for record in records]
    if any(outcome is None for group in outcomes for outcome in group):
        return None
    shares = [fmean(outcome == Outcome.CORRECT for outcome in group) for group in outcomes]
    lengths = [completion["num_tokens"] for record in records for completion in record["completions"]]
    return BudgetPoint(
        max_tokens=max_tokens,
        accuracy=clustered_mean(shares, low=0.0, high=1.0),
        cut=fmean(length > max_tokens for length in lengths),
    )


def _outcome(completion: Mapping[str, Any], max_tokens: int) -> str | None:
    at_budget = (completion.get("budgets") or {}).get(str(max_tokens))
    if at_budget is not None:
        return at_budget
    num_tokens = completion["num_tokens"]
    return completion["outcome"] if num_tokens is not None and num_tokens <= max_tokens else None
