import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_reward import Policy, final_answer
from polaris_reward.extract import last_box, unbox

STRICT = Policy(name="strict", require_think=True)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\fbox{42}", "42"),
        (r"\boxed {42}", "42"),
        (r"first \boxed{1}, no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \right\}}", r"\left\{ x \right\}"),
        ("\\[ \\boxed{\n42\n} \\]", "42"),
        (r"The answer is \\boxed{42}", "42"),
        (r"a \\ \boxed{42}", "42"),
        (r"a \\\boxed{42}", "42"),
        (r"\boxed{7 \text{ or } \boxed{8}}", r"7 \text{ or } \boxed{8}"),
        (r"\boxed{ is never closed, but \boxed{42} is", "42"),
        (r"a set {x | \boxed{42}", "42"),
        (r"} } \boxed{42} }", "42"),
        (r"write \boxed in front; \boxed{42}", "42"),
    ],
)
def test_the_content_of_the_last_box_is_the_answer(response: str, answer: str) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    "response",
    [
        "",
        "42",
        r"so we get \boxed{\frac{1}{",
        r"The answer is \boxed{1234",
        r"The answer is \boxed",
        r"\boxed{42\}",
        r"First \boxed{42}. Checking again: \boxed{4",
    ],
)
def test_a_response_without_a_whole_last_box_has_no_answer(response: str) -> None:
    assert final_answer(response) is None


@pytest.mark.parametrize("content", ["", "  ", "$$", "{}", r"\text{ }", r"\ ", r"\quad"])
def test_an_empty_box_is_no_answer_even_after_a_full_one(content: str) -> None:
    assert final_answer(rf"the truth is 42, \boxed{{42}}, so \boxed{{{content}}}") is None


@pytest.mark.parametrize(
    ("response", "lenient", "strict"),
    [
        (r"<think>\boxed{1}</think> \boxed{2}", "2", "2"),
        (r"<think></think>\boxed{2}", "2", "2"),
        (r"thinking \boxed{1}</think> \boxed{2}", "2", "2"),
        (r"<think>a</think>\boxed{1}<think>b</think>\boxed{2}", "2", "2"),
        (r"<think>\boxed{1}</think> that is all", None, None),
        (r"<think>So it is \boxed{1}.", None, None),
        (r"</think>\boxed{1}<think> or rather \boxed{2}", "1", "1"),
        (r"\boxed{1}", "1", None),
    ],
)
def test_only_what_follows_the_thinking_counts(response: str, lenient: str | None, strict: str | None) -> None:
    assert final_answer(response) == lenient
    assert final_answer(response, policy=STRICT) == strict


@pytest.mark.parametrize(
    "hostile",
    [
        r"\boxed{" * 100_000,
        r"\boxed{" * 100_000 + "}" * 100_000,
        r"\boxed{" + "{" * 100_000 + "}" * 100_000,
        r"\boxed" + " " * 100_000,
        r"\boxed{1}" + "\\" * 100_000,
        r"\boxed{" + r"\text{" * 100_000,
        "<think>" * 100_000 + "</think>" * 100_000,
        r"\boxed{" + " $~{}" * 20_000 + "x",
    ],
)
def test_hostile_input_takes_time_linear_in_its_length(hostile: str) -> None:
    started = time.process_time()
    final_answer(hostile)
    # A quadratic scan of 100,000 tokens takes minutes; a linear one takes tenths of a second.
    assert time.process_time() - started < 5


def test_a_reference_may_be_given_within_a_box() -> None:
    assert unbox(r" \boxed{42} ") == "42"
    assert unbox(r" \frac{1}{2} ") == r"\frac{1}{2}"
    assert unbox(r"\boxed{42") == r"\boxed{42"


@given(st.text(alphabet="\\{}box e1d$f<>/thinkd\n"))
def test_any_text_is_read_without_an_error(text: str) -> None:
    answer = final_answer(text)
    assert answer is None or (answer in text and answer.strip())


@given(st.text(alphabet="ab1{}\\,$ "))
def test_a_box_gives_back_balanced_content(content: str) -> None:
    extracted = last_box(rf"\boxed{{{content}}}")
    if "\\" not in content and _balanced(content):
        assert extracted == content.strip()


def _balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0
