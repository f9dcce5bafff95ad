r"""CORE on responses written by hand: rewards worked out by hand, growth, and what does not pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_reward import Outcome, SettingsError
from polaris_reward.core import (
    MAX_RESULTS,
    Consensus,
    CoreReward,
    intermediate_results,
    overlap,
    process_reward,
    underlined,
)

QUESTION = "A triangle has sides 13, 14 and 15. What is its inradius?"
REFERENCES = ["4"]
RIGHT = Outcome.CORRECT
WRONG = Outcome.INCORRECT


def response(*results, answer="5"):
    return " so ".join(rf"$\underline{{{each}}}$" for each in results) + rf" and \boxed{{{answer}}}"


def rewards(core, *graded):
    """Reward responses to the triangle; each is an outcome and what it underlines."""
    return core(
        [response(*results) for _, *results in graded],
        [outcome for outcome, *_ in graded],
        problem_id="triangle",
        question=QUESTION,
        references=REFERENCES,
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\underline{21} then \underline{ 84 }", ["21", "84"]),
        (r"\underline{\frac{84}{21}} and \boxed{4}", [r"\frac{84}{21}"]),
        (r"\underline{a \underline{b} c}", [r"a \underline{b} c"]),
        (r"\underline{cut off", []),
        (r"} \underline{\{1, 2\}} {", [r"\{1, 2\}"]),
        (r"{\underline {x^2}} \underlined{no} \underline y", ["x^2"]),
        ("", []),
    ],
)
def test_what_is_underlined(text, found):
    assert underlined(text) == found


@given(st.text(alphabet="\\underline{} a1=", max_size=60))
def test_no_text_raises(text):
    assert all(each in text for each in underlined(text))
    intermediate_results(text, question="1 + 2", references=["3"])


def test_rewards_by_hand():
    """Both right ones have 21 and 84; only one has 168, only one 7056: the consensus is {21, 84}."""
    found = rewards(
        CoreReward(),
        (RIGHT, "21", "84", "168"),
        (RIGHT, "84", r"\frac{42}{2}", "7056"),
        (WRONG, "21", "90"),  # one of two
        (WRONG, "84.0", "21", "17"),  # two, of three that it names: 2/3, and a half is the most
        (WRONG, "168", "7056"),  # nothing that two agree on
        (WRONG,),
        (Outcome.NO_ANSWER, "21", "84"),  # never says what it takes for the answer
        (RIGHT,),
    )
    assert found == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0, 0.0, 1.0]
    assert [process_reward(each) for each in (None, 0.2, 0.5, 1.0)] == [0.0, 0.2, 0.5, 0.5]


def test_a_consensus_grows_with_every_right_response_and_by_no_other():
    core = CoreReward()
    assert rewards(core, (WRONG, "21"), (WRONG, "21"), (RIGHT, "84")) == [0.0, 0.0, 1.0]
    assert core.known["triangle"] == Consensus((("84", 1),))
    assert rewards(core, (RIGHT, "84", "21"), (WRONG, "84")) == [1.0, 0.5]
    assert rewards(core, (RIGHT, r"\frac{84}{4}"), (WRONG, "84", "3", "5", "6")) == [1.0, 0.25]
    assert core.known["triangle"] == Consensus((("84", 2), ("21", 2)))
    assert CoreReward(core.known)([response("21")], [WRONG], problem_id="triangle", question="", references=["4"]) == [
        0.5
    ]
    assert CoreReward(core.known)([response("21")], [WRONG], problem_id="other", question="", references=["4"]) == [0.0]


def test_an_underlined_result_counts_once_however_often_and_in_whatever_form():
    known = {"triangle": Consensus((("21", 2), ("84", 2), ("42", 2), ("10.5", 2)))}
    assert rewards(CoreReward(known), (WRONG, "21", "21.0", r"\frac{42}{2}", "21")) == [0.25]
    assert intermediate_results(response("21", "21.0", "21"), question="", references=["4"]) == ["21"]


def test_copies_of_the_question_and_of_the_answer_are_worth_nothing():
    """Even where right ones underline them too: they are in no consensus."""
    copied = ("13", "14", "15.0", "15=15", "sides 13,  14")
    core = CoreReward(min_count=1)
    assert rewards(core, (RIGHT, *copied, "4", "r=4", "84"), (WRONG, *copied), (WRONG, "84")) == [1.0, 0.0, 0.5]
    assert core.known["triangle"] == Consensus((("84", 1),))
    assert intermediate_results(response("3", "1", "13+14=27"), question=QUESTION, references=["4"]) == [
        "3",
        "1",
        "13+14=27",
    ]


def test_underlines_that_no_right_response_has_are_worth_nothing_however_many_copy_them():
    core = CoreReward()
    wrong = [(WRONG, "99", "98")] * 6
    assert rewards(core, *wrong, (RIGHT, "21"), (RIGHT, "21")) == [0.0] * 6 + [1.0, 1.0]
    assert rewards(core, *wrong) == [0.0] * 6


def test_guessing_everything_pays_the_less_the_more_is_guessed():
    agreed = {"triangle": Consensus((("21", 2), ("84", 2)))}
    guesses = [str(number) for number in range(20, 100)]
    assert rewards(CoreReward(agreed), (WRONG, *guesses[:2])) == [0.5]
    assert rewards(CoreReward(agreed), (WRONG, *guesses[:8])) == [1 / 8]
    # The first 64 results are read, 84 not being among them without 85 and later.
    assert rewards(CoreReward(agreed), (WRONG, *reversed(guesses))) == [1 / MAX_RESULTS]
    assert rewards(CoreReward(agreed), (WRONG, *guesses)) == [1 / MAX_RESULTS]


def test_without_a_consensus_there_is_no_share():
    assert overlap(["21"], []) is None
    assert overlap([], ["21"]) == 0.0
    with pytest.raises(SettingsError, match="min_count is 0; give 1 or more"):
        CoreReward(min_count=0)
