"""What a grader says about a response; standard library only."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one response; only ``CORRECT`` earns a reward.

    The last three tell whose fault a failure is: a rejected reference must never pass for a wrong answer,
    because silently scoring zero would teach a model that nothing is right.
    """

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_ANSWER = "no_answer"
    ANSWER_REJECTED = "answer_rejected"
    ANSWER_TIMEOUT = "answer_timeout"
    REFERENCE_REJECTED = "reference_rejected"


_PRECEDENCE = (
    Outcome.CORRECT,
    Outcome.REFERENCE_REJECTED,
    Outcome.ANSWER_TIMEOUT,
    Outcome.ANSWER_REJECTED,
    Outcome.INCORRECT,
)


def outcome_that_stands(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcome of an answer whose references disagree: one that is unreadable does not make it wrong."""
    return min(outcomes, key=_PRECEDENCE.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The verdict on one response."""

    outcome: Outcome
    """What became of the response."""

    answer: str | None
    """The final answer found in the response; ``None`` when there is none."""

    reference: str | None
    """The reference it was equal to, else the first one."""

    seconds: float
    """Wall-clock time that grading took."""

    @property
    def reward(self) -> float:
        """1.0 for a correct answer, else 0.0."""
        return float(self.outcome is Outcome.CORRECT)


GradeMany = Callable[[Sequence[tuple[str, Sequence[str]]]], Sequence[Grade]]
"""Grades responses against their references, in order: ``polaris_reward.Grader.grade_many`` is one."""
