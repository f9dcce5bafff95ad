"""Score the graded completions of one benchmark."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from polaris_reward import Outcome

from polaris_eval.errors import UnscorableError
from polaris_eval.records import Evaluation, ProblemResult, Score
from polaris_eval.scores.lengths import budget_curve, group_by_length, token_lengths
from polaris_eval.scores.means import bootstrap_interval, clustered_mean
from polaris_eval.scores.votes import best_of, majority_at_k, pass_at_k, weighted_vote

logger = logging.getLogger(__name__)

Metric = tuple[str, int, list[float]]
"""Name, completions that it looks at, and its value for each problem."""

_RIGHT = "right"
"""Vote of every correct completion: whatever form its answer has, it is the same answer."""


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

    A problem whose reference the grader could not read says nothing about the model: it is left out of whatever
    counts correct completions, and named in a warning. Truncation, missing answers, lengths and distinct n-grams
    are over all completions. The same records give the same evaluation, to the last bit.

    Args:
        name: Of the benchmark.
        records: Lines of ``completions.jsonl``. The keys ``vote`` (class of the answer), ``budgets`` (outcomes of the
            completion cut short) and ``score`` (of another model) of a completion may be missing.

    Raises:
        UnscorableError: If that leaves no problem.
    """
    from polaris_rollout.temperature import distinct_n  # numpy, which `--help` should not wait for

    outcomes, correct = _outcomes(records), correct_by_problem(records)
    unscored = tuple(key for key in outcomes if key not in correct)
    _report_unscored(name, unscored, len(records))
    scored = [record for record in records if record["problem_id"] in correct]
    counts = Counter(outcome for group in outcomes.values() for outcome in group)
    num_samples = min(len(record["completions"]) for record in records)
    shares = [sum(group) / len(group) for group in correct.values()]
    return Evaluation(
        benchmark=name,
        num_problems=len(records),
        num_samples=num_samples,
        scores=tuple(
            _score(name, *each)
            for each in (
                ("mean@k", num_samples, shares),
                *_subset_metrics(scored, num_samples),
                *_chosen_metrics(scored, num_samples),
                *_rates(records, num_samples),
            )
        ),
        bootstrap=bootstrap_interval(shares),
        distinct_4=math.fsum(distinct_n([_texts(record) for record in records])) / len(records),
        lengths=token_lengths(records),
        length_groups=group_by_length(scored),
        budgets=budget_curve(scored),
        outcomes={outcome.value: counts[outcome] for outcome in Outcome if counts[outcome]},
        unscored=unscored,
        problems=tuple(_to_result(record, correct.get(record["problem_id"])) for record in records),
    )


def _subset_metrics(records: Sequence[Mapping[str, Any]], num_samples: int) -> Iterator[Metric]:
    """Yield pass@k and maj@k for every power of two that the samples reach."""
    sizes = [2**power for power in range(num_samples.bit_length())]
    for k in sizes:
        yield "pass@k", k, [pass_at_k(_correct(record), k) for record in records]
    for k in sizes:
        yield "maj@k", k, [majority_at_k(_votes(record), _RIGHT, k) for record in records]


def _chosen_metrics(records: Sequence[Mapping[str, Any]], num_samples: int) -> Iterator[Metric]:
    """Yield what choosing by the completions' own scores gives, where every one has a score."""
    scores = [[completion.get("score") for completion in record["completions"]] for record in records]
    if any(score is None for group in scores for score in group):
        return
    pairs = list(zip(records, scores, strict=True))
    yield "weighted_vote", num_samples, [weighted_vote(_votes(record), group, _RIGHT) for record, group in pairs]
    yield "best_of", num_samples, [best_of(_correct(record), group) for record, group in pairs]


def _rates(records: Sequence[Mapping[str, Any]], num_samples: int) -> Iterator[Metric]:
    """Yield the shares that were truncated, where that is known of all, and that have no answer."""
    reasons = [[each["finish_reason"] for each in record["completions"]] for record in records]
    if not any(None in group for group in reasons):
        yield "truncated", num_samples, [fmean(reason == "length" for reason in group) for group in reasons]
    silent = [fmean(each["outcome"] == Outcome.NO_ANSWER for each in record["completions"]) for record in records]
    yield "no_answer", num_samples, silent


def _correct(record: Mapping[str, Any]) -> list[bool]:
    return [completion["outcome"] == Outcome.CORRECT for completion in record["completions"]]


def _votes(record: Mapping[str, Any]) -> list[str | int | None]:
    return [
        _RIGHT if completion["outcome"] == Outcome.CORRECT else completion.get("vote", completion["answer"])
        for completion in record["completions"]
    ]


def _texts(record: Mapping[str, Any]) -> list[str]:
    return [completion["text"] for completion in record["completions"]]


def _to_result(record: Mapping[str, Any], correct: Sequence[bool] | None) -> ProblemResult:
    lengths = [completion["num_tokens"] for completion in record["completions"]]
    return ProblemResult(
        problem_id=record["problem_id"],
        references=tuple(record["references"]),
        num_correct=None if correct is None else sum(correct),
        num_samples=len(lengths),
        mean_tokens=None if None in lengths else fmean(lengths),
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


def _score(name: str, metric: str, k: int, values: Sequence[float]) -> Score:
    """Make a score of one value per problem."""
    estimate = clustered_mean(values, low=0.0, high=1.0)
    return Score(
        benchmark=name,
        metric=metric,
        k=k,
        value=estimate.value,
        interval=estimate.interval,
        num_problems=len(values),
    )
