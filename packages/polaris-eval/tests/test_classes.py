"""Classes of answers, as the real grader tells them apart."""

from polaris_eval.classes import vote_classes
from polaris_reward import BOXED, Grader, Outcome

RIGHT, WRONG, NONE = Outcome.CORRECT, Outcome.INCORRECT, Outcome.NO_ANSWER


def test_equivalent_answers_share_a_class_and_no_answer_has_none():
    answers = ["0.5", "7", r"\frac{1}{2}", None, "7.0", r"\frac12", "14/2", "x"]
    outcomes = [RIGHT, WRONG, RIGHT, NONE, WRONG, RIGHT, WRONG, WRONG]
    with Grader(num_workers=1, policy=BOXED, max_failed_share=None) as grader:
        assert vote_classes(answers, outcomes, grader.grade_many) == (0, 1, 0, None, 1, 0, 1, 2)
        assert vote_classes([None, None], [NONE, NONE], grader.grade_many) == (None, None)


def test_answers_that_nobody_can_read_are_equal_only_when_their_texts_are():
    answers = ["}{", "} {", r"\frac{", "", "y" * 5000, "y" * 5000, "1"]
    with Grader(num_workers=1, policy=BOXED, max_failed_share=None) as grader:
        classes = vote_classes(answers, [WRONG] * 6 + [RIGHT], grader.grade_many)
    assert classes[0] == classes[1] != classes[2]
    assert classes[4] == classes[5]
    assert len(set(classes)) == 5
