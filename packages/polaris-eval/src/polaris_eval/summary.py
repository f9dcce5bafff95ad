"""Score the graded completions of one benchmark."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from polaris_reward.records import Outcome

from polaris_eval.errors import UnscorableError
from polaris_eval.metrics import mean_at_k
from polaris_eval.records import Evaluation, Score

logger = logging.getLogger(__name__)


def correct_by_problem(records: Iterable[Mapping[str, Any]]) -> dict[str, list[bool]]:
    """Return what was correct in each graded group; problems with an unreadable reference are left out.

    Two of these, in the same order of problems, are what `polaris_eval.paired_difference` compares.
    """
    return {
        key: [outcome is Outcome.CORRECT for outcome in group]
        for key, group in _outcomes(records).items()
        if Outcome.REFERENCE_REJECTED not in group
    }


def summarize(name: str, records: Sequence[Mapping[str, Any]]) -> Evaluation:
    """Score the graded groups of one benchmark.

    A problem whose reference the grader could not read says nothing about the model: it is left out of
    ``mean@k``, counted apart, and named in a warning. Truncation, missing answers and lengths are over all
    completions.

    Args:
        name: Of the benchmark.
        records: Lines of ``completions.jsonl``, each with the same number of completions.

    Raises:
        UnscorableError: If that leaves no problem.
    """
    outcomes, correct = _outcomes(records), correct_by_problem(records)
    unscored = tuple(key for key in outcomes if key not in correct)
    _report_unscored(name, unscored, len(records))
    completions = [completion for record in records for completion in record["completions"]]
    flags = {
        "mean@k": list(correct.values()),
        "truncated": [
            [completion["finish_reason"] == "length" for completion in record["completions"]] for record in records
        ],
        "no_answer": [[outcome is Outcome.NO_ANSWER for outcome in group] for group in outcomes.values()],
    }
    counts = Counter(outcome for group in outcomes.values() for outcome in group)
    return Evaluation(
        benchmark=name,
        num_problems=len(records),
        num_samples=len(records[0]["completions"]),
        scores=tuple(_score(name, metric, groups) for metric, groups in flags.items()),
        mean_tokens=sum(completion["num_tokens"] for completion in completions) / len(completions),
        outcomes={outcome.value: counts[outcome] for outcome in Outcome if counts[outcome]},
        unscored=unscored,
    )


def _outcomes(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Outcome]]:
    return {
        record["problem_id"]: [Outcome(completion["outcome"]) for completion in record["completions"]]
        for record in records
    }


def _report_unscored(name: str, unscored: Sequence[str], num_problems: int) -> None:
    if not unscored:
        return
    shown = ", ".join(repr(key) for key in unscored[:5]) + (", ..." if len(unscored) > 5 else "")
    share = f"{len(unscored)} of {num_problems} problems"
    text = f"{name}: the grader cannot read the references of {share} ({shown})"
    if len(unscored) == num_problems:
        raise UnscorableError(f"{text}; check the answers with `polaris-reward check`")
    logger.warning("%s; they are left out of the score", text)


def _score(name: str, metric: str, groups: Sequence[Sequence[bool]]) -> Score:
    estimate = mean_at_k(groups)
    return Score(
        benchmark=name,
        metric=metric,
        k=len(groups[0]),
        value=estimate.value,
        interval=estimate.interval,
        num_problems=len(groups),
    )
