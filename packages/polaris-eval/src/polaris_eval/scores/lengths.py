"""Completions by length: how many of about the same length are correct, and would be under a smaller token budget."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from polaris_reward import Outcome

from polaris_eval.records import BudgetPoint, LengthGroup, Lengths
from polaris_eval.scores.proportions import mean_share

BOUNDS = (16 * 1024, 32 * 1024)
"""Tokens at which the published groups begin: below 16K, 16K to 32K, above."""

_NUM_GROUPS = 3


def token_lengths(records: Sequence[Mapping[str, Any]]) -> Lengths | None:
    """Return the mean, median and 95th percentile over all completions; ``None`` if a length is not known."""
    lengths = _lengths(records)
    if lengths is None:
        return None
    in_order = sorted(lengths)
    return Lengths(mean=fmean(in_order), median=median(in_order), p95=in_order[-(-95 * len(in_order) // 100) - 1])


def inner_bounds(records: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """Return the lengths at which groups begin, but for the first.

    These are `BOUNDS` where a completion is longer than the last of them, else those that make three groups of about
    the same size; none if a length is not known.
    """
    in_order = sorted(_lengths(records) or ())
    if not in_order or in_order[-1] >= BOUNDS[-1]:
        return BOUNDS if in_order else ()
    return tuple(sorted({in_order[len(in_order) * part // _NUM_GROUPS] for part in range(1, _NUM_GROUPS)}))


def group_by_length(
    records: Sequence[Mapping[str, Any]], bounds: Sequence[int] | None = None
) -> tuple[LengthGroup, ...]:
    """Count completions and correct ones by length.

    Accuracy is over completions, not over problems: hard problems have most of the long ones. Empty groups are left
    out.

    Args:
        records: Lines of ``completions.jsonl`` whose references can be read.
        bounds: Lengths at which groups begin, but for the first; `inner_bounds` by default.

    Returns:
        The groups from the shortest on; none if a length is not known.
    """
    if _lengths(records) is None:
        return ()
    edges = [0, *(inner_bounds(records) if bounds is None else bounds), None]
    groups = [_group(records, low or 0, high) for low, high in pairwise(edges)]
    return tuple(group for group in groups if group is not None)


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


def _lengths(records: Sequence[Mapping[str, Any]]) -> list[int] | None:
    lengths = [completion["num_tokens"] for record in records for completion in record["completions"]]
    return None if None in lengths else lengths


def _group(records: Sequence[Mapping[str, Any]], low: int, high: int | None) -> LengthGroup | None:
    inside = [
        (record["problem_id"], completion["outcome"] == Outcome.CORRECT)
        for record in records
        for completion in record["completions"]
        if low <= completion["num_tokens"] and (high is None or completion["num_tokens"] < high)
    ]
    if not inside:
        return None
    return LengthGroup(
        low=low,
        high=high,
        num_completions=len(inside),
        num_problems=len({problem_id for problem_id, _ in inside}),
        accuracy=fmean(correct for _, correct in inside),
    )


def _point(records: Sequence[Mapping[str, Any]], max_tokens: int) -> BudgetPoint | None:
    outcomes = [[_outcome(completion, max_tokens) for completion in record["completions"]] for record in records]
    if any(outcome is None for group in outcomes for outcome in group):
        return None
    shares = [fmean(outcome == Outcome.CORRECT for outcome in group) for group in outcomes]
    lengths = [completion["num_tokens"] for record in records for completion in record["completions"]]
    return BudgetPoint(
        max_tokens=max_tokens,
        accuracy=mean_share(shares, [len(group) for group in outcomes]),
        cut=fmean(length > max_tokens for length in lengths),
    )


def _outcome(completion: Mapping[str, Any], max_tokens: int) -> str | None:
    at_budget = (completion.get("budgets") or {}).get(str(max_tokens))
    if at_budget is not None:
        return at_budget
    num_tokens = completion["num_tokens"]
    return completion["outcome"] if num_tokens is not None and num_tokens <= max_tokens else None
