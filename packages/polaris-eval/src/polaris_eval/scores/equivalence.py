"""Which answers of a group are the same answer, however they are written."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from polaris_reward import Grade, GradeMany, Outcome

_COMPARABLE = (Outcome.INCORRECT.value, Outcome.REFERENCE_REJECTED.value)
"""Answers that were rejected or timed out are not given to the grader again."""


def vote_classes(groups: Sequence[Sequence[Mapping[str, Any]]], grade_many: GradeMany) -> list[list[int | None]]:
    """Number the answers of each group so that equivalent answers have the same number.

    All correct completions are in one class. The other answers are the same if their texts are, white space aside, or
    if the grader takes one for the other, an earlier one of the group being the reference.

    Args:
        groups: Graded completions (``outcome`` and ``answer``) by problem.
        grade_many: Decides whether two answers are equal; called once at most.

    Returns:
        For each completion its class, counted from 0 in the order of first appearance; ``None`` without an answer.
    """
    asked = [_distinct_wrong_answers(group) for group in groups]
    items = [
        (rf"\boxed{{{answer}}}", answers[:number])
        for answers in asked
        for number, answer in enumerate(answers)
        if number > 0
    ]
    grades = iter(grade_many(items) if items else ())
    return [_classes(group, _first_equals(answers, grades)) for group, answers in zip(groups, asked, strict=True)]


def _distinct_wrong_answers(group: Sequence[Mapping[str, Any]]) -> list[str]:
    answers: dict[str, str] = {}
    for completion in group:
        if completion["answer"] is not None and completion["outcome"] in _COMPARABLE:
            answers.setdefault(_without_space(completion["answer"]), completion["answer"])
    return list(answers.values())


def _first_equals(answers: Sequence[str], grades: Iterator[Grade]) -> dict[str, str]:
    """Return for each answer's text that of the first one it is equal to, itself if there is none."""
    first: dict[str, str] = {}
    for number, answer in enumerate(answers):
        same = answer
        if number > 0 and (grade := next(grades)).outcome is Outcome.CORRECT and grade.reference is not None:
            same = grade.reference
        key = _without_space(answer)
        first[key] = first.get(_without_space(same), key)
    return first


def _classes(group: Sequence[Mapping[str, Any]], first: Mapping[str, str]) -> list[int | None]:
    numbers: dict[str | None, int] = {}
    classes: list[int | None] = []
    for completion in group:
        if completion["answer"] is None:
            classes.append(None)
            continue
        text = _without_space(completion["answer"])
        key = None if completion["outcome"] == Outcome.CORRECT.value else first.get(text, text)
        classes.append(numbers.setdefault(key, len(numbers)))
    return classes


def _without_space(answer: str) -> str:
    return "".join(answer.split())
