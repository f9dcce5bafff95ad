"""Grade responses: find the answer, compare it here if that is possible, and leave the rest to worker processes."""

import math
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from polaris_reward.convention import BOXED, DEFAULT, Convention
from polaris_reward.errors import CircuitBreakerError, ReferencesError, ResponseError, SettingsError, brief
from polaris_reward.finding.boxes import Extracted
from polaris_reward.finding.extract import find_answer
from polaris_reward.finding.references import reference_answer
from polaris_reward.records import Grade, Outcome, outcome_that_stands

if TYPE_CHECKING:
    from polaris_reward.workers.pool import Judgement, Task

Item = tuple[str, str | Sequence[str]]
"""A response and its references, or its only one."""

MIN_BREAKER_ITEMS = 16
"""The circuit breaker looks at batches of this size and larger; shares of fewer items say little."""

MAX_FAILED_SHARE = 0.25
"""Of a batch, that may time out or have a rejected reference before it is refused."""

MAX_REMEMBERED = 16_384
"""Judgements of workers that a grader remembers."""

UNSTATED = "a solution or a record that does not say which its answer is; give the answer alone, or in one box"
"""What is wrong with a reference of which `reference_answer` makes nothing."""

_SEQUENCES = (list, tuple)
_FAILURES = (Outcome.ANSWER_TIMEOUT, Outcome.REFERENCE_REJECTED)


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
        convention: What counts as an answer where a call does not say otherwise.
        max_failed_share: Largest share of a batch of 16 items or more that may time out or have a rejected
            reference; ``None`` for no limit.

    Raises:
        SettingsError: If a setting is out of range.
    """

    def __init__(
        self,
        num_workers: int | None = None,
        *,
        deadline_s: float = 5.0,
        memory_gib: float = 1.0,
        convention: Convention = DEFAULT,
        max_failed_share: float | None = MAX_FAILED_SHARE,
    ) -> None:
        if num_workers is None:
            num_workers = min(4, os.cpu_count() or 1)
        if num_workers < 1:
            raise SettingsError(f"num_workers is {num_workers!r}; give 1 or more")
        if not 0 < deadline_s < math.inf:
            raise SettingsError(f"deadline_s is {deadline_s!r}; give a number of seconds above 0")
        if not 0.25 <= memory_gib < math.inf:
            raise SettingsError(f"memory_gib is {memory_gib!r}; give 0.25 or more")
        if max_failed_share is not None and not 0 <= max_failed_share <= 1:
            raise SettingsError(f"max_failed_share is {max_failed_share!r}; give a share from 0 to 1, or None")
        self._convention = convention
        self._max_failed_share = max_failed_share
        self._remembered: dict[Task, Judgement] = {}
        # Importing what runs processes would double the time that importing this package takes.
        from polaris_reward.workers.pool import WorkerPool

        self._pool = WorkerPool(num_workers=num_workers, deadline_s=deadline_s, memory_gib=memory_gib)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def worker_pids(self) -> list[int]:
        """Process id of the keeper, in a list, while it runs; its children are the workers."""
        return self._pool.pids

    def close(self) -> None:
        """Kill the workers; the grader cannot be used any more."""
        self._pool.close()

    def grade(self, response: str, references: str | Sequence[str], *, convention: Convention | None = None) -> Grade:
        """Grade one response; it is correct if its answer equals any reference.

        Args:
            response: What the model wrote, without the prompt.
            references: The accepted answer or a list of them, as bare LaTeX, within dollars, boxed, or plain; or
                solutions that say where their answer is, see `polaris_reward.finding.reference_answer`.
            convention: What counts as an answer; the grader's own convention if not given.

        Raises:
            ReferencesError: If there are no references, or they are not strings.
            ResponseError: If the response is not a string.
            WorkerStartError: If the worker process cannot start.
        """
        return self.grade_many([(response, references)], convention=convention)[0]

    def grade_many(self, items: Sequence[Item], *, convention: Convention | None = None) -> list[Grade]:
        """Grade responses, in order; those that need algebra are shared out among the workers.

        Raises:
            ReferencesError, ResponseError: As `grade`; no item is graded then.
            CircuitBreakerError: If too large a share timed out or had a rejected reference.
        """
        convention = convention or self._convention
        checked = [_checked(response, references, number) for number, (response, references) in enumerate(items)]
        drafts = [_draft(response, references, convention) for response, references in checked]
        open_drafts = [draft for draft in drafts if draft.undecided]
        judgements = self._judge([(draft.answer or "", _undecided(draft)) for draft in open_drafts])
        for draft, judgement in zip(open_drafts, judgements, strict=True):
            _apply(draft, judgement)
        grades = [
            Grade(outcome=one.outcome, answer=one.answer, reference=one.references[one.equal_to], seconds=one.seconds)
            for one in drafts
        ]
        if self._max_failed_share is not None:
            failure = next((one for one in grades if one.outcome in _FAILURES), None)
            hint = f", such as {brief(failure.answer, 80)} for {brief(failure.reference, 80)}" if failure else ""
            check_failures([one.outcome for one in grades], max_failed_share=self._max_failed_share, hint=hint)
        return grades

    async def agrade_many(self, items: Sequence[Item], *, convention: Convention | None = None) -> list[Grade]:
        """Grade as `grade_many` does, without blocking the event loop."""
        import asyncio

        return await asyncio.to_thread(self.grade_many, items, convention=convention)

    def explain(self, response: str, references: str | Sequence[str], *, convention: Convention | None = None) -> str:
        """Return lines that say what was taken for the answer, and what comparing it with each reference told."""
        from polaris_reward.equality.comparison import compare

        convention = convention or self._convention
        given = self.grade(response, references, convention=convention)
        references = [references] if isinstance(references, str) else references
        found = find_answer(response, convention=convention)
        if found is None:
            return f"outcome {given.outcome}: no answer found"
        lines = [f"outcome {given.outcome}: answer {found.text!r} from the {found.source}"]
        for reference in references if len(found.text) <= convention.max_answer_chars else ():
            expected = reference_answer(reference)
            if expected is None:
                lines.append(f"  against {brief(reference, 200)}: {Outcome.REFERENCE_REJECTED} ({UNSTATED})")
                continue
            verdict = compare(found.text, expected, convention)
            told = verdict.outcome or "left to computer algebra"
            lines.append(f"  against {reference!r}: {told} ({verdict.because})")
        return "\n".join(lines)

    def _judge(self, tasks: "Sequence[Task]") -> "list[Judgement]":
        """Let the workers judge each task once, and remember what they said; a time-out may pass next time."""
        # Without a lock, which a fork could leave held for ever: each step is atomic, and forgetting is harmless.
        known = {task: judgement for task in tasks if (judgement := self._remembered.get(task)) is not None}
        new = [task for task in dict.fromkeys(tasks) if task not in known]
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.clear()
        for task, judgement in zip(new, self._pool.judge(new), strict=True):
            known[task] = judgement
            if judgement.outcome is not Outcome.ANSWER_TIMEOUT:
                self._remembered[task] = judgement
        return [known[task] for task in tasks]


def check_failures(outcomes: Sequence[Outcome], *, max_failed_share: float, hint: str = "") -> None:
    """Refuse a batch of which too much could not be graded; rewards would be noise.

    Args:
        outcomes: Of a batch; fewer than `MIN_BREAKER_ITEMS` always pass.
        max_failed_share: Largest share that may have timed out or have a rejected reference.
        hint: An example, for the message.

    Raises:
        CircuitBreakerError: If the share is larger.
    """
    counts = Counter(outcomes)
    failed = sum(counts[outcome] for outcome in _FAILURES)
    if len(outcomes) < MIN_BREAKER_ITEMS or failed <= max_failed_share * len(outcomes):
        return
    raise CircuitBreakerError(
        f"{counts[Outcome.ANSWER_TIMEOUT]} of {len(outcomes)} answers timed out and "
        f"{counts[Outcome.REFERENCE_REJECTED]} had a reference that was rejected, more than "
        f"max_failed_share={max_failed_share!r}{hint}; repair the references (polaris-reward check lists them) "
        "or raise deadline_s"
    )


def grade(response: str, references: str | Sequence[str], *, convention: Convention = DEFAULT) -> Grade:
    """Grade one response with a `Grader` that the whole process shares; see `Grader.grade`."""
    return shared_grader().grade(response, references, convention=convention)


def boxed_grader(num_workers: int | None = None) -> Grader:
    """Return the grader of profiling, training and evaluation: an answer is in a box, and no batch is refused.

    A batch is what happens to finish together there, so a share of it says little; see `check_failures`.
    """
    return Grader(num_workers, convention=BOXED, max_failed_share=None)


@lru_cache(maxsize=1)
def shared_grader() -> Grader:
    """Return the grader of this process, whose workers start once."""
    return Grader()


def _checked(response: object, references: object, number: int) -> tuple[str, Sequence[str]]:
    """Refuse what is no response or no reference: nothing that a model writes is."""
    if not isinstance(response, str):
        raise ResponseError(f"the response of item {number} is {brief(response)}; give a string, '' if there is none")
    # A string is a sequence of strings, too: its letters would be taken for references.
    values: Any = [references] if isinstance(references, str) else references
    if not isinstance(values, _SEQUENCES):
        raise ReferencesError(
            f"the references of item {number} are {brief(references)}; give a string or a list of them"
        )
    if not values:
        raise ReferencesError(f"item {number} has no references; give at least one accepted answer")
    for reference in values:
        if not isinstance(reference, str):
            raise ReferencesError(f"item {number} has the reference {brief(reference)}; give a string")
    return response, values


def _draft(response: str, references: Sequence[str], convention: Convention) -> _Draft:
    started = time.perf_counter()
    draft = _Draft(references=references)
    if (found := find_answer(response, convention=convention)) is not None:
        draft.answer = found.text
        draft.outcome = _compare(draft, found, convention)
        if found.joined is not None and draft.outcome is not Outcome.CORRECT:
            _try_joined(draft, found.joined, convention)
    draft.seconds = time.perf_counter() - started
    return draft


def _compare(draft: _Draft, found: Extracted, convention: Convention) -> Outcome:
    """Return the outcome as far as it can be told without algebra, and note what needs it."""
    from polaris_reward.equality.comparison import compare

    outcomes = [Outcome.INCORRECT]
    for index, reference in enumerate(draft.references):
        expected = reference_answer(reference)
        if expected is None:
            outcome = Outcome.REFERENCE_REJECTED
        elif max(len(found.text), len(expected)) > convention.max_answer_chars:
            outcome = _compare_unread(found.text, expected, convention)
        else:
            outcome = compare(found.text, expected, convention).outcome
        if outcome is None:
            draft.undecided.append(index)
        else:
            outcomes.append(outcome)
        if outcome is Outcome.CORRECT:
            draft.equal_to, draft.undecided = index, []
            break
    return outcome_that_stands(outcomes)


def _compare_unread(answer: str, expected: str, convention: Convention) -> Outcome:
    """Compare texts of which one is too long to be read."""
    if answer.strip() == expected.strip():
        return Outcome.CORRECT
    return Outcome.REFERENCE_REJECTED if len(expected) > convention.max_answer_chars else Outcome.ANSWER_REJECTED


def _try_joined(draft: _Draft, joined: str, convention: Convention) -> None:
    """Take boxes in a row for one list, which only a reference that is a list can equal."""
    from polaris_reward.equality.comparison import compare

    if len(joined) > convention.max_answer_chars:
        return
    for index, reference in enumerate(draft.references):
        expected = reference_answer(reference)
        if expected is not None and compare(joined, expected, convention).outcome is Outcome.CORRECT:
            draft.answer, draft.outcome, draft.equal_to, draft.undecided = joined, Outcome.CORRECT, index, []
            return


def _undecided(draft: _Draft) -> tuple[str, ...]:
    return tuple(reference_answer(draft.references[index]) or "" for index in draft.undecided)


def _apply(draft: _Draft, judgement: "Judgement") -> None:
    draft.seconds += judgement.seconds
    if judgement.reference is not None:
        draft.equal_to = draft.undecided[judgement.reference]
    draft.outcome = outcome_that_stands([draft.outcome, judgement.outcome])
