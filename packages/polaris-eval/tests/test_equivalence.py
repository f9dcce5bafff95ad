"""Classes of answers, as the real grader tells them apart."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from polaris_eval.scores.equivalence import vote_classes
from polaris_reward import BOXED, Grader, Outcome
from polaris_reward.records import Grade


def completions(*pairs: tuple[str | None, Outcome]) -> list[dict[str, Any]]:
    return [{"answer": answer, "outcome": outcome.value} for answer, outcome in pairs]


RIGHT, WRONG, NONE, LATE = Outcome.CORRECT, Outcome.INCORRECT, Outcome.NO_ANSWER, Outcome.ANSWER_TIMEOUT


def test_equivalent_answers_share_a_class_and_no_answer_has_none():
    mixed = completions(
        ("0.5", RIGHT), ("7", WRONG), (r"\frac{1}{2}", RIGHT), (None, NONE), ("7.0", WRONG), (r"\frac12", RIGHT),
        ("14/2", WRONG), ("x", WRONG), ("x y", WRONG), ("xy", WRONG),
    )  # fmt: skip
    with Grader(num_workers=1, convention=BOXED, max_failed_share=None) as grader:
        found = vote_classes([mixed, completions((None, NONE), ("7", WRONG))], grader.grade_many)
    assert found == [[0, 1, 0, None, 1, 0, 1, 2, 3, 3], [None, 0]]


def test_answers_that_nobody_can_read_are_equal_only_when_their_texts_are():
    broken = completions(
        ("}{", WRONG), ("} {", WRONG), (r"\frac{", WRONG), ("y" * 5000, WRONG), ("y" * 5000, WRONG), ("1", RIGHT)
    )
    with Grader(num_workers=1, convention=BOXED, max_failed_share=None) as grader:
        ((first, second, third, *long, right),) = vote_classes([broken], grader.grade_many)
    assert first == second
    assert long[0] == long[1]
    assert len({first, third, long[0], right}) == 4


def test_an_answer_that_timed_out_is_not_given_to_the_grader_again():
    asked: list[str] = []

    def grade_many(items):
        asked.extend(response for response, _ in items)
        return [Grade(outcome=WRONG, answer=None, reference=None, seconds=0.0) for _ in items]

    found = vote_classes([completions(("a", LATE), ("b", WRONG), ("c", WRONG), ("a", LATE))], grade_many)
    assert found == [[0, 1, 2, 0]]
    assert asked == [r"\boxed{c}"]


def by_last_digit(items):
    """Take numbers for equal when their last digits are."""
    grades: list[Grade] = []
    for response, references in items:
        digit = response.removesuffix("}")[-1]
        same = next((reference for reference in references if reference[-1] == digit), None)
        grades.append(Grade(outcome=WRONG if same is None else RIGHT, answer=None, reference=same, seconds=0.0))
    return grades


@given(st.lists(st.none() | st.integers(1, 60), max_size=12), st.integers(0, 9))
def test_classes_are_those_of_the_relation_that_the_grader_decides(answers, right):
    group = [
        {"answer": None if each is None else str(each),
         "outcome": (NONE if each is None else RIGHT if each % 10 == right else WRONG).value}
        for each in answers
    ]  # fmt: skip
    (found,) = vote_classes([group], by_last_digit)
    numbers: dict[int, int] = {}
    expected = [None if each is None else numbers.setdefault(each % 10, len(numbers)) for each in answers]
    assert found == expected
