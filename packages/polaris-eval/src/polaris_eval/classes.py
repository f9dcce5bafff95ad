"""Which answers of a group are the same: the classes that a majority vote counts."""

from collections.abc import Callable, Sequence

from polaris_reward.records import Grade, Outcome

GradeMany = Callable[[Sequence[tuple[str, Sequence[str]]]], Sequence[Grade]]
"""Grades responses against their references, in order: `polaris_reward.Grader.grade_many` is one."""

_CORRECT = " "
"""Key of every correct answer; no answer without its spaces is the same."""


def vote_classes(
    answers: Sequence[str | None], outcomes: Sequence[Outcome], grade_many: GradeMany
) -> tuple[int | None, ...]:
    """Number the answers of one problem so that equivalent ones have the same number.

    Every correct answer is in one class. The others are compared as the grader compares an answer with a
    reference, each text once; the class of an answer is that of the first one it is equal to.

    Args:
        answers: Of each completion; ``None`` where there is none.
        outcomes: Of each completion.
        grade_many: Compares; it is asked once.

    Returns:
        For each completion the class of its answer, counted from 0 in order of appearance; ``None`` without one.
    """
    keys = [
        None if answer is None else _CORRECT if outcome is Outcome.CORRECT else "".join(answer.split())
        for answer, outcome in zip(answers, outcomes, strict=True)
    ]
    texts = {
        key: answer.strip() for key, answer in zip(keys, answers, strict=True) if answer and key and key != _CORRECT
    }
    same_as = _merge(texts, grade_many)
    numbers: dict[str, int] = {}
    return tuple(None if key is None else numbers.setdefault(same_as.get(key, key), len(numbers)) for key in keys)


def _merge(texts: dict[str, str], grade_many: GradeMany) -> dict[str, str]:
    """Return, for each key, that of the first text which it is equal to."""
    keys = list(texts)
    earlier = [[texts[other] for other in keys[:index]] for index in range(len(keys))]
    items = [(rf"\boxed{{{texts[key]}}}", others) for key, others in zip(keys, earlier, strict=True) if others]
    grades = grade_many(items) if items else []
    same_as = {keys[0]: keys[0]} if keys else {}
    for key, others, grade in zip(keys[1:], earlier[1:], grades, strict=True):
        is_same = grade.outcome is Outcome.CORRECT and grade.reference in others
        same_as[key] = same_as[keys[others.index(grade.reference or "")]] if is_same else key
    return same_as
