"""Sample benchmarks and grade them while sampling goes on.

All completions of all benchmarks are one queue of work, so that the engine is never kept waiting by the last long
answer of a problem or of a benchmark. Every completion is graded and on disk by itself, so that a kill loses no more
than what is in flight. The completed files hold no times and are the same whether or not there was a kill.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from polaris_data import Journal, Problem
from polaris_reward import Grade, GradeMany
from polaris_rollout import Group, Prompt, Sampler, SamplingParams, alongside

from polaris_eval.records import Evaluation
from polaris_eval.running.budgets import Decode, cut_texts
from polaris_eval.running.wording import AS_IN_TRAINING, Wording
from polaris_eval.scores.equivalence import vote_classes
from polaris_eval.scores.summary import summarize

Track = Callable[[Iterable[Group]], Iterable[Group]]
"""Passes completions through, each a group of its own, and shows progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One benchmark to be sampled."""

    name: str
    """Of the benchmark."""

    problems: Sequence[Problem]
    """With distinct ids."""

    num_samples: int
    """Completions per problem."""

    journal: Journal
    """Where completions are written as they finish; those it already holds are not sampled again."""

    seeds: tuple[int, ...] = ()
    """Each draws an equal share of the completions; none stands for the one of the parameters."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What a prompt was sent for."""

    task: Task
    problem: Problem
    sample: int


def evaluate(
    name: str,
    problems: Sequence[Problem],
    sampler: Sampler,
    grade_many: GradeMany,
    *,
    params: SamplingParams,
    num_samples: int,
    journal: Journal,
    track: Track = iter,
) -> Evaluation:
    """Measure a model on one benchmark; `sample_missing` takes several, and token budgets.

    Args:
        name: Of the benchmark, for the record.
        problems: With distinct ids.
        sampler: Answers the prompts.
        grade_many: Grades completions; called from another thread while sampling goes on.
        params: How completions are drawn.
        num_samples: Completions per problem.
        journal: Where completions are written as they finish; those it already holds are not sampled again.
        track: Shows progress.

    Raises:
        UnscorableError: If no problem has a reference that the grader can read.
    """
    task = Task(name=name, problems=problems, num_samples=num_samples, journal=journal)
    sample_missing([task], sampler, grade_many, params=params, track=track)
    finish(task, grade_many)
    return summarize(name, journal.records)


def count_missing(task: Task) -> int:
    """Return how many completions the journal of a task does not hold yet."""
    return len(_missing(task))


def to_prompts(problems: Iterable[Problem], wording: Wording = AS_IN_TRAINING) -> list[Prompt]:
    """Return what the model is asked, problem by problem."""
    return [Prompt(problem_id=problem.problem_id, text=wording.ask(problem)) for problem in problems]


def sample_missing(
    tasks: Sequence[Task],
    sampler: Sampler,
    grade_many: GradeMany,
    *,
    params: SamplingParams,
    wording: Wording = AS_IN_TRAINING,
    budgets: Sequence[int] = (),
    decode: Decode | None = None,
    track: Track = iter,
) -> None:
    """Sample and grade what the journals do not hold yet, the completions of all tasks at once; see `evaluate`.

    Completion ``i`` of a problem and a seed depends on the seed, the benchmark's name, the problem and ``i`` alone, not
    on what else is sampled.

    Args:
        tasks: With distinct names.
        sampler: Answers the prompts.
        grade_many: Grades completions; called from another thread while sampling goes on.
        params: How completions are drawn.
        wording: What stands around every question.
        budgets: Token budgets at which longer completions are graded as well; needs ``decode``.
        decode: From tokens to text.
        track: Shows progress.
    """
    tickets: dict[int, dict[str, _Ticket]] = {}
    for task in tasks:
        for problem, sample in _missing(task):
            seed, number = _seed_of(task, sample, params.seed)
            tickets.setdefault(seed, {})[f"{task.name}/{problem.problem_id}/{number}"] = _Ticket(task, problem, sample)
    if not tickets:
        return

    def sampled() -> Iterator[Group]:
        for seed, asked in tickets.items():
            prompts = (
                Prompt(problem_id=prompt_id, text=wording.ask(ticket.problem)) for prompt_id, ticket in asked.items()
            )
            for group in sampler.sample(prompts, replace(params, seed=seed), n=1):
                seeds.append(seed)
                yield group

    seeds: deque[int] = deque()  # Of the groups on their way, which stay in order.

    def keep(groups: Sequence[Group]) -> Sequence[Group]:
        batch = [(tickets[seeds.popleft()][group.problem_id], group) for group in groups]
        _grade_and_keep(batch, grade_many, budgets if decode else (), decode)
        return groups

    for _ in alongside(track(sampled()), keep):
        pass


def finish(task: Task, grade_many: GradeMany) -> None:
    """Complete the journal of a fully sampled task: a line for each problem, in their order, with votes."""
    if task.journal.finished:
        return
    completions = {(record["problem_id"], record["sample"]): record["completion"] for record in task.journal.records}
    groups = [
        [completions[problem.problem_id, sample] for sample in range(task.num_samples)] for problem in task.problems
    ]
    classes = vote_classes(groups, grade_many)
    task.journal.records = [
        {
            "problem_id": problem.problem_id,
            "question": problem.question,
            "references": list(problem.references),
            "completions": [completion | {"vote": vote} for completion, vote in zip(group, votes, strict=True)],
        }
        for problem, group, votes in zip(task.problems, groups, classes, strict=True)
    ]
    order = {problem.problem_id: index for index, problem in enumerate(task.problems)}
    task.journal.finish(lambda record: order[record["problem_id"]])


def _seed_of(task: Task, sample: int, seed: int) -> tuple[int, int]:
    """Return the seed that draws a completion, and its number among that seed's."""
    if not task.seeds:
        return seed, sample
    place, number = divmod(sample, task.num_samples // len(task.seeds))
    return task.seeds[place], number


def _missing(task: Task) -> list[tuple[Problem, int]]:
    if task.journal.finished:
        return []
    done = {(record["problem_id"], record["sample"]) for record in task.journal.records}
    return [
        (problem, sample)
        for problem in task.problems
        for sample in range(task.num_samples)
        if (problem.problem_id, sample) not in done
    ]


def _grade_and_keep(
    batch: Sequence[tuple[_Ticket, Group]], grade_many: GradeMany, budgets: Sequence[int], decode: Decode | None
) -> None:
    """Grade completions, whole and cut to the budgets, and write each to the journal of its task."""
    cuts = [cut_texts(group.completions[0].token_ids, budgets, decode) if decode else {} for _, group in batch]
    grades = iter(
        grade_many(
            [
                (group.prefilled + text, ticket.problem.references)
                for (ticket, group), texts in zip(batch, cuts, strict=True)
                for text in (group.completions[0].text, *texts.values())
            ]
        )
    )
    kept: dict[str, list[dict[str, Any]]] = {}
    for (ticket, group), texts in zip(batch, cuts, strict=True):
        grade = next(grades)
        at_budgets = {budget: next(grades).outcome.value for budget in texts}
        kept.setdefault(ticket.task.name, []).append(
            {
                "problem_id": ticket.problem.problem_id,
                "sample": ticket.sample,
                "completion": _to_record(group, grade, at_budgets)
                | ({"seed": _seed_of(ticket.task, ticket.sample, 0)[0]} if ticket.task.seeds else {}),
            }
        )
    for task in {ticket.task.name: ticket.task for ticket, _ in batch}.values():
        task.journal.extend(kept[task.name])


def _to_record(group: Group, grade: Grade, at_budgets: Mapping[str, str]) -> dict[str, Any]:
    (completion,) = group.completions
    return {
        "text": completion.text,
        "num_tokens": completion.num_tokens,
        "finish_reason": completion.finish_reason,
        "outcome": grade.outcome.value,
        "answer": grade.answer,
        "budgets": dict(at_budgets),
        **({"prefilled": group.prefilled} if group.prefilled else {}),
    }
