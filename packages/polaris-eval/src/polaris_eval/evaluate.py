"""Sample a benchmark, grade it, and say how well it went.

Every group is graded and on disk before the next one is waited for, so that a kill loses at most the groups
in flight; the completed file and the scores hold no times and are the same whether or not there was a kill.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from polaris_data.journal import Journal
from polaris_data.prompt import PROMPT_SUFFIX, to_prompt
from polaris_data.records import Problem
from polaris_reward.records import Grade
from polaris_rollout.records import Group, Prompt, Sampler, SamplingParams

from polaris_eval.records import Evaluation
from polaris_eval.summary import summarize

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
