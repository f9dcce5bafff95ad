"""Sample a benchmark, grade it, and say how well it went.

Every group is graded and on disk before the next one is waited for, so that a kill loses at most the groups
in flight; the completed file and the scores hold no times and are the same whether or not there was a kill.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from polaris_data.journal import Journal
from polaris_data.prompt import PROMPT_SUFFIX, to_prompt
from polaris_data.records import Problem
from polaris_reward.records import Grade, Outcome
from polaris_rollout.records import Group, Prompt, Sampler, SamplingParams

from polaris_eval.errors import UnscorableError
from polaris_eval.metrics import mean_at_k
from polaris_eval.records import Evaluation, Score

logger = logging.getLogger(__name__)

GradeMany = Callable[[Sequence[tuple[str, Sequence[str]]]], Sequence[Grade]]
"""Grades responses against their references, in order: `polaris_reward.Grader.grade_many` is one."""

Track = Callable[[Iterable[Group]], Iterable[Group]]
"""Passes groups through and shows progress."""


def evaluate(
    name: str,
    problems: Sequence[Problem],
    sampler: Sampler,
    grade_many: GradeMany,
    *,
    params: SamplingParams,
    num_samples: int,
    journal: Journal,
    suffix: str = PROMPT_SUFFIX,
    track: Track = iter,
) -> Evaluation:
    """Measure a model on a benchmark.

    Args:
        name: Of the benchmark, for the record.
        problems: With distinct ids.
        sampler: Answers the prompts.
        grade_many: Grades the completions of a group.
        params: How completions are drawn.
        num_samples: Completions per problem.
        journal: Where groups are written as they finish; those it already holds are not sampled again.
        suffix: Appended to every question.
        track: Shows progress.

    Raises:
        UnscorableError: If no problem has a reference that the grader can read.
    """
    sample_missing(
        problems,
        sampler,
        grade_many,
        params=params,
        num_samples=num_samples,
        journal=journal,
        suffix=suffix,
        track=track,
    )
    finish(problems, journal)
    return summarize(name, journal.records)


def missing_problems(problems: Sequence[Problem], journal: Journal) -> list[Problem]:
    """Return the problems whose group is not in the journal yet."""
    done = {record["problem_id"] for record in journal.records}
    return [problem for problem in problems if problem.problem_id not in done]


def to_prompts(problems: Iterable[Problem], *, suffix: str = PROMPT_SUFFIX) -> list[Prompt]:
    """Return what the model is asked, problem by problem."""
    return [Prompt(problem_id=problem.problem_id, text=to_prompt(problem, suffix=suffix)) for problem in problems]


def sample_missing(
    problems: Sequence[Problem],
    sampler: Sampler,
    grade_many: GradeMany,
    *,
    params: SamplingParams,
    num_samples: int,
    journal: Journal,
    suffix: str = PROMPT_SUFFIX,
    track: Track = iter,
) -> None:
    """Sample and grade what the journal does not hold yet, all problems at once; see `evaluate`."""
    by_id = {problem.problem_id: problem for problem in problems}
    prompts = to_prompts(missing_problems(problems, journal), suffix=suffix)
    for group in track(_sample(sampler, prompts, params, num_samples)):
        problem = by_id[group.problem_id]
        responses = [(completion.text, problem.references) for completion in group.completions]
        journal.append(_to_record(problem, group, grade_many(responses)))


def finish(problems: Sequence[Problem], journal: Journal) -> None:
    """Complete the journal of a fully sampled benchmark, in the order of its problems."""
    order = {problem.problem_id: index for index, problem in enumerate(problems)}
    journal.finish(lambda record: order[record["problem_id"]])


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


def _sample(sampler: Sampler, prompts: Sequence[Prompt], params: SamplingParams, num_samples: int) -> Iterator[Group]:
    return sampler.sample(prompts, params, n=num_samples) if prompts else iter(())


def _to_record(problem: Problem, group: Group, grades: Sequence[Grade]) -> dict[str, Any]:
    return {
        "problem_id": problem.problem_id,
        "references": list(problem.references),
        "completions": [
            {
                "text": completion.text,
                "num_tokens": len(completion.token_ids),
                "finish_reason": completion.finish_reason,
                "outcome": grade.outcome.value,
                "answer": grade.answer,
            }
            for completion, grade in zip(group.completions, grades, strict=True)
        ],
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
