"""Score the graded completions of one benchmark."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from statistics import fmean
from typing import Any

from polaris_reward import Outcome

from polaris_eval.errors import UnscorableError
from polaris_eval.records import Evaluation, ProblemResult, Score
from polaris_eval.scores.lengths import budget_curve, group_by_length, token_lengths
from polaris_eval.scores.means import bootstrap_interval
from polaris_eval.scores.proportions import mean_share
from polaris_eval.scores.votes import (
    best_of,
    g_pass_at_k,
    majority_at_k,
    mean_g_pass_at_k,
    pass_at_k,
    weighted_vote,
)

logger = logging.getLogger(__name__)

Metric = tuple[str, int, list[float], list[float]]
"""Name, completions that it looks at, its value for each problem, and the number of looks that each is the mean of."""

STABLE_SHARES = {f"g-pass@k {share}": share for share in (0.5, 0.75, 1.0)}
"""Metric of each share of ``k`` completions that must be correct for the problem to count as solved in a stable way."""

_STABLE_FROM = 4
"""Least ``k`` at which these shares ask for different numbers of completions."""

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
        scores=_consistent(
            [
                _score(name, *each)
                for each in (
                    ("mean@k", num_samples, shares, _looks(scored)),
                    *_subset_metrics(scored, num_samples),
                    *_chosen_metrics(scored, num_samples),
                    *_rates(records, num_samples),
                )
            ]
        ),
        bootstrap=bootstrap_interval(shares),
        distinct_4=math.fsum(distinct_n([_texts(record) for record in records])) / len(records),
        lengths=token_lengths(records),
        length_groups=group_by_length(scored),
        budgets=budget_curve(scored),
        outcomes={outcome.value: counts[outcome] for outcome in Outcome if counts[outcome]},
        unscored=unscored,
        problems=tuple(_to_result(record, correct.get(record["problem_id"])) for record in records),
        by_seed=_by_seed(scored),
    )


def _subset_metrics(records: Sequence[Mapping[str, Any]], num_samples: int) -> Iterator[Metric]:
    """Yield pass@k, maj@k and G-Pass@k for every power of two that the samples reach."""
    sizes = [2**power for power in range(num_samples.bit_length())]
    for k in sizes:
        yield "pass@k", k, [pass_at_k(_correct(record), k) for record in records], _looks(records, k)
    for k in sizes:
        yield "maj@k", k, [majority_at_k(_votes(record), _RIGHT, k) for record in records], _looks(records, k)
    for k in [size for size in sizes if size >= _STABLE_FROM]:
        for metric, share in STABLE_SHARES.items():
            yield metric, k, [g_pass_at_k(_correct(record), k, share) for record in records], _looks(records, k)
        yield "mg-pass@k", k, [mean_g_pass_at_k(_correct(record), k) for record in records], _looks(records, k)


def _chosen_metrics(records: Sequence[Mapping[str, Any]], num_samples: int) -> Iterator[Metric]:
    """Yield what choosing by the completions' own scores gives, where every one has a score.

    Where some are negative they are taken for logits, and votes are weighted by ``1 / (1 + exp(-score))``: a sum of
    negative weights would count against an answer that many agree on.
    """
    scores = [[completion.get("score") for completion in record["completions"]] for record in records]
    if any(score is None for group in scores for score in group):
        return
    pairs = list(zip(records, scores, strict=True))
    is_logit = any(score < 0 for group in scores for score in group)
    weights = [[_sigmoid(score) if is_logit else score for score in group] for group in scores]
    voting = list(zip(records, weights, strict=True))
    once = [1.0] * len(records)
    yield "weighted_vote", num_samples, [weighted_vote(_votes(record), group, _RIGHT) for record, group in voting], once
    yield "best_of", num_samples, [best_of(_correct(record), group) for record, group in pairs], once


def _sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score)) if score >= 0 else math.exp(score) / (1 + math.exp(score))


def _rates(records: Sequence[Mapping[str, Any]], num_samples: int) -> Iterator[Metric]:
    """Yield the shares that were truncated, where that is known of all, and that have no answer."""
    reasons = [[each["finish_reason"] for each in record["completions"]] for record in records]
    if not any(None in group for group in reasons):
        truncated = [fmean(reason == "length" for reason in group) for group in reasons]
        yield "truncated", num_samples, truncated, _looks(records)
    silent = [fmean(each["outcome"] == Outcome.NO_ANSWER for each in record["completions"]) for record in records]
    yield "no_answer", num_samples, silent, _looks(records)


def _by_seed(records: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, float], ...]:
    """Return each seed with the mean over problems of what its completions got right."""
    seeds = dict.fromkeys(each["seed"] for record in records for each in record["completions"] if "seed" in each)
    return tuple(
        (
            seed,
            fmean(
                fmean(each["outcome"] == Outcome.CORRECT for each in record["completions"] if each["seed"] == seed)
                for record in records
            ),
        )
        for seed in seeds
    )


def _looks(records: Sequence[Mapping[str, Any]], k: int = 1) -> list[float]:
    """Return how many sets of ``k`` completions each problem has."""
    return [len(record["completions"]) / k for record in records]


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


def _consistent(scores: Sequence[Score]) -> tuple[Score, ...]:
    """Let no interval of pass@k contradict another: it grows with k, so what bounds one from below bounds the next."""
    passes = [score for score in scores if score.metric == "pass@k"]
    lows = list(accumulate((score.interval[0] for score in passes), max))
    highs = list(accumulate((score.interval[1] for score in reversed(passes)), min))[::-1]
    mended = {
        score.k: replace(score, interval=(min(low, score.value), max(high, score.value)))
        for score, low, high in zip(passes, lows, highs, strict=True)
    }
    return tuple(mended[score.k] if score.metric == "pass@k" else score for score in scores)


def _score(name: str, metric: str, k: int, values: Sequence[float], trials: Sequence[float]) -> Score:
    """Make a score of one value per problem."""
    estimate = mean_share(values, trials)
    return Score(
        benchmark=name,
        metric=metric,
        k=k,
        value=estimate.value,
        interval=estimate.interval,
        num_problems=len(values),
    )
