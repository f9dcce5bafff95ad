"""What a prompt, or the responses themselves, tell of a thinking section that the response does not open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_reward import BOXED, Outcome, ThinkEvidence, final_answer, grade, prefilled_think

BOX = r"so \boxed{7}"


@pytest.mark.parametrize(
    ("prompt", "tag"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<｜Assistant｜><think>", "<think>"),
        ([{"role": "user", "content": "7?"}, {"role": "assistant", "content": "<think>"}], "<think>"),
        ({"prompt": "7?", "arguments": [["7? [THINK]", {}]]}, "[THINK]"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("Think between <think> and </think>.", ""),
        ("<|im_start|>assistant\n", ""),
        ("", ""),
        (None, ""),
        ([1, 2], ""),
    ],
)
def test_the_tag_that_a_prompt_ends_with_is_found_wherever_the_prompt_stands(prompt: object, tag: str) -> None:
    assert prefilled_think(prompt) == tag


def test_a_thought_that_was_cut_is_no_answer_and_a_closed_one_changes_nothing() -> None:
    tag = prefilled_think("7?<think>\n")
    assert grade(BOX, "7").outcome is Outcome.CORRECT
    assert grade(tag + BOX, "7").outcome is Outcome.NO_ANSWER
    assert grade(tag + f"{BOX}</think> none", "7", convention=BOXED).outcome is Outcome.NO_ANSWER
    assert grade(tag + rf"\boxed{{8}}</think>{BOX}", "7").outcome is Outcome.CORRECT


@given(st.text(max_size=40))
def test_a_tag_in_front_of_a_response_that_opens_the_thought_itself_changes_nothing(text: str) -> None:
    for response in (f"<think>{text}</think>{BOX}", f"<think>{text}{BOX}"):
        assert final_answer(f"<think>\n{response}", convention=BOXED) == final_answer(response, convention=BOXED)


def opening_tag(*responses: str, template: str = "", finish_reason: str | None = None) -> tuple[str, int]:
    evidence = ThinkEvidence()
    for response in responses:
        evidence.add(response, finish_reason)
    return evidence.opening_tag(template), evidence.num_unclosed


def test_responses_that_close_what_they_did_not_open_show_the_tag() -> None:
    assert opening_tag(f"hm</think>{BOX}", BOX, f"<think>hm</think>{BOX}") == ("<think>", 1)
    assert opening_tag(f"hm[/THINK]{BOX}", BOX) == ("[THINK]", 1)
    assert opening_tag(f"<think>hm</think>{BOX}", BOX) == ("", 1)
    assert opening_tag() == ("", 0)


def test_one_stray_tag_among_many_answers_shows_nothing_unless_they_were_cut() -> None:
    stray = f"</think>{BOX}"
    assert opening_tag(stray, *[BOX] * 21) == ("", 21)
    assert opening_tag(stray, *[BOX] * 21, finish_reason="length") == ("<think>", 21)
    assert opening_tag(stray, *[BOX] * 20) == ("<think>", 20)


def test_a_template_is_believed_unless_answers_that_ended_show_no_thought() -> None:
    assert opening_tag(*[BOX] * 9, template="<think>\n") == ("<think>\n", 9)
    assert opening_tag(*[BOX] * 9, template="<think>\n", finish_reason="length") == ("<think>\n", 9)
    assert opening_tag(*[BOX] * 9, template="<think>\n", finish_reason="stop") == ("", 9)
