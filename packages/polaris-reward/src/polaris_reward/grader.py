"""Grade responses: find the answer, compare exactly, and leave the rest to worker processes."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Self

from polaris_reward.errors import ReferencesError, SettingsError
from polaris_reward.exact import compare_exactly
from polaris_reward.extract import final_answer, unbox
from polaris_reward.policy import DEFAULT, Policy
from polaris_reward.records import Grade, Outcome

if TYPE_CHECKING:
    from polaris_reward.pool import Verdict

Item = tuple[str, Sequence[str]]
"""A response and its references."""


@dataclass(slots=True, kw_only=True)
class _Draft:
    """A grade in the making."""

    references: Sequence[str]
    answer: str | None = None
    outcome: Outcome = Outcome.NO_ANSWER
    equal_to: int = 0
    """Index of the reference that the grade names."""
    undecided: list[int] = field(default_factory=list[int])
    """Indices of the references that need algebra."""
    seconds: float = 0.0


class Grader:
    """Grades responses, with worker processes for what needs algebra; usable from any thread.

    Workers start when the first answer needs them, and are killed by `close`, at the end of a ``with`` block,
    or with the interpreter. A forked child uses its own.

    Args:
        num_workers: Most worker processes; ``None`` for one per CPU, four at most.
        deadline_s: Longest wall-clock time for one answer; then its worker is killed and replaced.
        memory_gib: Ceiling of a worker's address space; an idle worker takes about 0.1.

    Raises:
        SettingsError: If a setting is out of range.
    """

    def __init__(self, num_workers: int | None = None, *, deadline_s: float = 5.0, memory_gib: float = 1.0) -> None:
        if num_workers is None:
            num_workers = min(4, os.cpu_count() or 1)
        if num_workers < 1:
            raise SettingsError(f"num_workers is {num_workers!r}; give 1 or more")
        if not 0 < deadline_s < math.inf:
            raise SettingsError(f"deadline_s is {deadline_s!r}; give a number of seconds above 0")
        if not 0.25 <= memory_gib < math.inf:
            raise SettingsError(f"memory_gib is {memory_gib!r}; give 0.25 or more")
        # Importing what runs processes would double the time that importing this package takes.
        from polaris_reward.pool import WorkerPool

        self._pool = WorkerPool(num_workers=num_workers, deadline_s=deadline_s, memory_gib=memory_gib)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the workers that run now; each has one child, which does the work."""
        return self._pool.pids

    def close(self) -> None:
        """Kill the workers; the grader cannot be used any more."""
        self._pool.close()

    def grade(self, response: str, references: Sequence[str], *, policy: Policy = DEFAULT) -> Grade:
        """Grade one response; it is correct if its answer equals any reference.

        Args:
            response: What the model wrote, without the prompt.
            references: Accepted answers, as bare LaTeX, within dollars, boxed, or plain.
            policy: What counts as an answer.

        Raises:
            ReferencesError: If there are no references, or they are not strings.
            WorkerStartError: If the worker process cannot start.
        """
        return self.grade_many([(response, references)], policy=policy)[0]

    def grade_many(self, items: Sequence[Item], *, policy: Policy = DEFAULT) -> list[Grade]:
        """Grade responses, in order; those that need algebra are shared out among the workers.

        Raises:
            ReferencesError: As `grade`; no item is graded then.
        """
        for number, (_, references) in enumerate(items):
            _check_references(references, number)
        drafts = [_draft(response, references, policy) for response, references in items]
        open_drafts = [draft for draft in drafts if draft.undecided]
        verdicts = self._pool.judge([(draft.answer or "", _undecided(draft)) for draft in open_drafts])
        for draft, verdict in zip(open_drafts, verdicts, strict=True):
            _apply(draft, verdict)
        return [_to_grade(draft) for draft in drafts]

    async def agrade_many(self, items: Sequence[Item], *, policy: Policy = DEFAULT) -> list[Grade]:
        """Grade as `grade_many` does, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.grade_many, items, policy=policy)


def grade(response: str, references: Sequence[str], *, policy: Policy = DEFAULT) -> Grade:
    """Grade one response with a `Grader` that the whole process shares; see `Grader.grade`."""
    return _shared_grader().grade(response, references, policy=policy)


@lru_cache(maxsize=1)
def _shared_grader() -> Grader:
    return Grader()


def _check_references(references: Sequence[str], number: int) -> None:
    # A string is a sequence of strings, too: its letters would be taken for references.
    if isinstance(references, str):
        raise ReferencesError(f"the references of item {number} are the string {references!r}; give a list of strings")
    if not references:
        raise ReferencesError(f"item {number} has no references; give at least one accepted answer")
    for reference in references:
        if not isinstance(reference, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ReferencesError(f"item {number} has the reference {reference!r}; give a string")


def _draft(response: str, references: Sequence[str], policy: Policy) -> _Draft:
    started = time.perf_counter()
    draft = _Draft(references=references, answer=final_answer(response, policy=policy))
    if draft.answer is not None:
        draft.outcome = _compare(draft, draft.answer, policy)
    draft.seconds = time.perf_counter() - started
    return draft


def _compare(draft: _Draft, answer: str, policy: Policy) -> Outcome:
    """Return the outcome as far as it can be told without algebra, and note what needs it."""
    if len(answer) > policy.max_answer_chars:
        return Outcome.ANSWER_REJECTED
    outcome = Outcome.INCORRECT
    for index, reference in enumerate(draft.references):
        expected = unbox(reference)
        if not expected or len(expected) > policy.max_answer_chars:
            outcome = Outcome.REFERENCE_REJECTED
            continue
        equal = compare_exactly(answer, expected)
        if equal:
            draft.equal_to, draft.undecided = index, []
            return Outcome.CORRECT
        if equal is None:
            draft.undecided.append(index)
    return outcome


def _undecided(draft: _Draft) -> list[str]:
    return [unbox(draft.references[index]) for index in draft.undecided]


def _apply(draft: _Draft, verdict: "Verdict") -> None:
    draft.seconds += verdict.seconds
    if verdict.reference is not None:
        draft.equal_to = draft.undecided[verdict.reference]
    # A reference that was rejected before keeps its word unless another one was equal.
    if verdict.outcome is Outcome.CORRECT or draft.outcome is not Outcome.REFERENCE_REJECTED:
        draft.outcome = verdict.outcome


def _to_grade(draft: _Draft) -> Grade:
    return Grade(
        outcome=draft.outcome,
        answer=draft.answer,
        reference=draft.references[draft.equal_to],
        seconds=draft.seconds,
    )
