"""The grader that polaris-rollout finds by the name ``polaris``."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from polaris_reward.grader import boxed_grader
from polaris_reward.records import Outcome

Judge = Callable[[Sequence[tuple[str, Sequence[str]]]], list[tuple[bool, str | None]]]


@contextmanager
def open_grader() -> Generator[Judge]:
    """Give a function from responses with their references to whether each is correct, and its final answer."""
    with boxed_grader() as grader:

        def judge(items: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[bool, str | None]]:
            return [(grade.outcome is Outcome.CORRECT, grade.answer) for grade in grader.grade_many(items)]

        yield judge
