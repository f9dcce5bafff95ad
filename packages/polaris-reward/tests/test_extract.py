import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_reward import BOXED, Convention, final_answer
from polaris_reward.finding import boxes
from polaris_reward.finding.boxes import last_box
from polaris_reward.finding.extract import find_answer
from polaris_reward.finding.references import reference_answer
from polaris_reward.grader import grade
from polaris_reward.records import Outcome

THINKING = Convention(name="thinking", require_think=True)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\fbox{42}", "42"),
        (r"\boxed {42}", "42"),
        (r"\boxed 7", "7"),
        (r"first \boxed{1}, no, \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1,2\}}", r"\{1,2\}"),
        (r"\boxed{\left\{ x \right\}}", r"\left\{ x \right\}"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{1}{2}", "1"),
        ("\\[ \\boxed{\n42\n} \\]", "42"),
        (r"The answer is \\boxed{42}", "42"),
        ("a backslash lost in JSON: \x08oxed{42}", "42"),
        (r"a \\ \boxed{42}", "42"),
        (r"a \\\boxed{42}", "42"),
        (r"\boxed{7 \text{ or } \boxed{8}}", r"7 \text{ or } \boxed{8}"),
        (r"\boxed{ is never closed, but \boxed{42} is", "42"),
        (r"a set {x | \boxed{42}", "42"),
        (r"} } \boxed{42} }", "42"),
        (r"write \boxed in front; \boxed{42}", "42"),
        (r"\boxed{42}. The answer is 43.", "42"),
        (r"<answer>41</answer> \boxed{42} #### 43", "42"),
    ],
)
def test_the_content_of_the_last_box_is_the_answer(response: str, answer: str) -> None:
    found = find_answer(response)
    assert found is not None
    assert (found.text, found.source) == (answer, "box")


@pytest.mark.parametrize(
    "response",
    [
        r"so we get \boxed{\frac{1}{",
        r"The answer is \boxed{1234",
        r"The answer is 1234, that is \boxed",
        r"\boxed{42\}",
        r"First \boxed{42}. Checking again: \boxed{4",
    ],
)
def test_a_last_box_that_is_cut_off_is_no_answer_whatever_else_was_said(response: str) -> None:
    assert final_answer(response) is None
    assert last_box(response) is None


@pytest.mark.parametrize("content", ["", "  ", "$$", "{}", r"\text{ }", r"\ ", r"\quad"])
def test_an_empty_box_is_no_answer_even_after_a_full_one(content: str) -> None:
    assert final_answer(rf"the truth is 42, \boxed{{42}}, so the answer is \boxed{{{content}}}") is None


@pytest.mark.parametrize(
    ("response", "joined"),
    [
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"$\boxed{1}$, $\boxed{2}$, and $\boxed{3}$", "1, 2, 3"),
        (r"\boxed{1} \quad \boxed{2}", "1, 2"),
        (r"First \boxed{1}; then we find \boxed{2} and \boxed{3}.", "2, 3"),
        (r"\boxed{7} is wrong, it is \boxed{8}", None),
        (r"x = \boxed{1}, y = \boxed{2}", "x = 1, y = 2"),
        (r"(a) \boxed{1} (b) \boxed{2}", "1, 2"),
        (r"\boxed{A}\boxed{C}", "A, C"),
        (r"\boxed{7}, that is, \boxed{8}", None),
        (r"$\boxed{7}$ and $\boxed{7}$", None),
        (r"\boxed{1}", None),
    ],
)
def test_boxes_with_nothing_but_commas_labels_and_names_between_them_may_be_a_list(
    response: str, joined: str | None
) -> None:
    found = find_answer(response)
    assert found is not None
    assert found.joined == joined


@pytest.mark.parametrize(
    ("response", "lenient", "strict"),
    [
        (r"<think>\boxed{1}</think> \boxed{2}", "2", "2"),
        (r"<think></think>\boxed{2}", "2", "2"),
        (r"thinking \boxed{1}</think> \boxed{2}", "2", "2"),
        (r"<think>a</think>\boxed{1}<think>b</think>\boxed{2}", "2", "2"),
        (r"<think>\boxed{1}</think>", None, None),
        (r"<think>So it is \boxed{1}.", None, None),
        (r"</think>\boxed{1}<think> or rather \boxed{2}", "1", "1"),
        (r"\boxed{1}", "1", None),
        ("<think>The answer is 1.</think>", None, None),
        ("<think>The answer is 1", None, None),
        ("<think>It may be 1.</think>The answer is 2.", "2", "2"),
        ("The answer is 2.", "2", None),
    ],
)
def test_only_what_follows_the_thinking_counts(response: str, lenient: str | None, strict: str | None) -> None:
    assert final_answer(response) == lenient
    assert final_answer(response, convention=THINKING) == strict


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("so <answer>42</answer>", "42"),
        ("<ANSWER> 42 </ANSWER>", "42"),
        ("<answer>1</answer>, no, <answer>2</answer>", "2"),
        ("6 * 7 = 42\n#### 42", "42"),
        ("#### 1,234", "1,234"),
        ("####: 5\nThat is all, 6 sentences.", "5"),
        ('{"reasoning": "6 * 7", "answer": "42"}', "42"),
        ('{"steps": 3, "answer": 42}', "42"),
        ('{"final_answer": "42"}', "42"),
        (r'{"answer": "\\frac{1}{2}"}', r"\frac{1}{2}"),
        (r'{"answer": "\pi"}', r"\pi"),
    ],
)
def test_a_marked_answer_is_taken_as_it_stands(response: str, answer: str) -> None:
    assert final_answer(f"There were 3 tries.\n{response}") == answer


@pytest.mark.parametrize("response", ["<answer></answer> 5", "<answer> </answer>", '{"answer": ""} 5'])
def test_an_empty_mark_is_no_answer(response: str) -> None:
    assert final_answer(response) is None


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("The answer is 42.", "42"),
        ("After 3 steps, the final answer is: **42**.", "42"),
        ("**Final Answer:** 42", "42"),
        ("Final answer: x = 3", "x = 3"),
        ("The answer is\n\n42", "42"),
        ("The answer should be 17.", "17"),
        ("The answer to the 3rd question is 42.", "42"),
        (r"The answer is $\frac{1}{2}$, found in 3 steps.", r"\frac{1}{2}"),
        (r"Answer: \[ \sqrt{2} \]", r"\sqrt{2}"),
        ("The answer is $x = 2$ and $x = 3$.", "x = 2, x = 3"),
        ("The answer is 1, 2, and 3.", "1, 2, and 3"),
        ("The answer is 7 or 8.", "7 or 8"),
        ("The answer is 3.5.", "3.5"),
        ("The answer is 1,000,000.", "1,000,000"),
        ("The answer is −5.", "−5"),
        ("The answer is 2024-03-14.", "2024-03-14"),
        ("The answer is 12 apples.", "12 apples"),
        ('The answer is "blue".', "blue"),
        ("The answer is yes.", "yes"),
        ("The answer is (B).", "(B)"),
        ("Answer: C. 12 apples", "C. 12 apples"),
        ("The answer is B because 3 > 2.", "B"),
        ("The answer is 1. Wait, the answer is 2.", "2"),
        ("The answer is 5. I hope this helps with all 7 questions!", "5"),
        ("The answer is 5. Note: there were 6 tries.", "5"),
        ("La respuesta es 12.", "12"),
        ("La réponse est 12.", "12"),
        ("Die Antwort ist 12.", "12"),
        ("La risposta: 12", "12"),
        ("答案是12。", "12"),
        ("答案：12", "12"),
        ("答案是 B", "B"),
        ("答え: 12", "12"),
        ("الجواب: 12", "12"),
    ],
)
def test_what_a_phrase_announces_is_the_answer(response: str, answer: str) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("She has 5 pears and 12 apples.", "12"),
        ("He earns $1,234.56 per month.", "$1,234.56"),
        ("The ratio is 3:4.", "3:4"),
        ("They meet at 4:30 p.m.", "4:30 p.m"),
        ("The probability is 3/8.", "3/8"),
        ("The probability is 37.5%.", "37.5%"),
        ("The temperature is -12.5°C.", "-12.5"),
        ("The total is $42$ dollars.", "42"),
        (r"The set is $\{1,2\}$.", r"\{1,2\}"),
        (r"Thus \(x^2+1\) is what we want.", "x^2+1"),
        ("So the probability is 1/3 ≈ 0.333.", "1/3"),
        ("Step 1: 5. Step 2: 6. Total 11.", "11"),
        ("3 - 5 = -2", "3 - 5 = -2"),
        ("Therefore, option C is correct.", "C"),
        ("The correct choice is **D**.", "D"),
        ("Yes, it is.", "Yes"),
        ("No, 5 is not even.", "No"),
    ],
)
def test_without_a_phrase_the_last_value_of_the_text_is_the_answer(response: str, answer: str) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize("response", ["42", "1/2", "x^2+1", "(1,2)", "yes", "4:30", "12%", r"\frac{1}{2}", "(E)"])
def test_a_response_that_is_nothing_but_an_answer_is_taken_whole(response: str) -> None:
    found = find_answer(f"**{response}**.\n")
    assert found is not None
    assert (found.text, found.source) == (response, "whole text")


@pytest.mark.parametrize("separator", [" or ", ", or "])
@pytest.mark.parametrize("sentence", ["It is {}.", "The answer is {}.", "The answer is either {}."])
@pytest.mark.parametrize("form", ["{}", "${}$", r"\({}\)"])
def test_a_hedge_never_comes_down_to_one_of_its_values(separator: str, sentence: str, form: str) -> None:
    hedge = separator.join(form.format(value) for value in (7, 8))
    assert final_answer(sentence.format(hedge)) not in {"7", "8"}


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("42<|im_end|>", "42"),
        ("The answer is 42.<|im_end|>\n<|im_start|>user\nThe answer is 54.", "42"),
        (r"\boxed{42}<|eot_id|>\boxed{54}", "42"),
        (r"<|begin_of_solution|>\boxed{42}", "42"),
        (r"\boxed{42<|im_end|>}", "42"),
        ("42<｜end▁of▁sentence｜>", "42"),
    ],
)
def test_what_follows_the_end_of_the_turn_does_not_count(response: str, answer: str) -> None:
    assert final_answer(response) == answer


@pytest.mark.parametrize("response", ["", " \n ", "<think>", "</think>", "<|im_end|>"])
def test_an_empty_response_has_no_answer(response: str) -> None:
    assert final_answer(response) is None


@pytest.mark.parametrize(
    "response", ["42", "The answer is 42.", "<answer>42</answer>", "#### 42", '{"answer": 42}', "$$42$$"]
)
def test_a_policy_that_requires_a_box_takes_nothing_else(response: str) -> None:
    assert final_answer(response) is not None
    assert final_answer(response, convention=BOXED) is None
    assert final_answer(rf"{response} \boxed{{43}}", convention=BOXED) == "43"


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (r" \boxed{42} ", "42"),
        (r"We add 40 and 2, hence \boxed{42}.", "42"),
        (r" \frac{1}{2} ", r"\frac{1}{2}"),
        (r"Once more: \boxed{42}. We add 40 and 2, hence \boxed{42}.", "42"),
        (r"They are $\boxed{2}$ and $\boxed{3}$.", "2, 3"),
        ("It is Alina, and the answer is\n(C) Alina", "(C) Alina"),
        ("40 + 2 = <<40+2=42>>42\n#### 42", "42"),
        ("#### 42\n", "42"),
        ("### Final answer\n**42**", "42"),
        ("#### Answer: 42", "42"),
        ("The answer is 42.", "42"),
        ("40 + 2 is 42. Therefore, the answer is $42$.", "$42$"),
        ("**Answer:** 42", "42"),
        ("所以，答案是42。", "42"),
        ("5！/2", "5！/2"),
        ("。5", "。5"),
        ("The sum of both is $42$.", "$42$"),
        ("Their number is 42", "Their number is 42"),
        ("The sum is not $42$.", "The sum is not $42$."),
        ("If the answer is 42, none", "If the answer is 42, none"),
        ("No change: the result is twice as large", "No change: the result is twice as large"),
        ("1 if the triangle is isosceles, otherwise 2", "1 if the triangle is isosceles, otherwise 2"),
        ("<answer>42</answer>", "42"),
        ('["42"]', "42"),
        ('["42", "43"]', '["42", "43"]'),
    ],
)
def test_a_reference_is_an_answer_or_a_solution_that_says_where_it_is(reference: str, answer: str) -> None:
    assert reference_answer(reference) == answer


@pytest.mark.parametrize(
    "reference",
    [
        r"\boxed{42",
        r"\boxed{}",
        r"(a) is \boxed{42}. Then (b) is \boxed{43}.",
        "40 + 2 = <<40+2=42>>42",
        "He has 40 + 2 = 42 apples\nHe sells 10 of these, so 42 - 10 = 32",
        "We add forty and two. The sum of these is larger than forty.",
        "The answer is 42. Check: 40 + 2 = 42.",
        "是。42",
        "很大！因此42",
        "The answer is 41.\nThe answer is 42.",
        "#### Adding\n40 + 2 = 42\n#### Checking\n42 - 2 = 40",
        "<answer>42</answer> or <answer>43</answer>",
        '{"ground_truth": "42"}',
        "let us note that all of these numbers can be written as the sum of forty and some other number",
    ],
)
def test_a_solution_that_does_not_say_what_its_answer_is_is_never_matched_in_part(reference: str) -> None:
    assert reference_answer(reference) is None
    for response in (r"\boxed{42}", r"\boxed{40}", rf"\boxed{{{reference}}}"):
        assert grade(response, reference).outcome in {Outcome.REFERENCE_REJECTED, Outcome.NO_ANSWER}


HOSTILE_PIECES = [
    r"\boxed{",
    "\\",
    "{",
    "}",
    r"\boxed ",
    r"\text{",
    "<think>",
    "</think>",
    "<|a",
    "<|a|>",
    r"\boxed{1} and ",
    "$~ ",
    "The answer is ",
    "<answer>",
    "$",
    "1,234,",
    "I hope ",
    '"answer": "',
    "\n",
    " \n",
    "\t",
    "\n####",
    "\nQ: the answer is 5",
]
FRAMES = [r"\boxed{1}%s", r"\boxed{%s", r"\boxed{%s}", "%s"]


@pytest.mark.parametrize("piece", HOSTILE_PIECES)
@pytest.mark.parametrize("frame", FRAMES)
def test_hostile_text_is_read_without_an_error(piece: str, frame: str) -> None:
    answer = final_answer(frame % (piece * 8_000))
    assert answer is None or answer.strip()


@pytest.mark.slow
@pytest.mark.parametrize("piece", HOSTILE_PIECES)
@pytest.mark.parametrize("frame", FRAMES)
def test_hostile_text_takes_time_linear_in_its_length(piece: str, frame: str) -> None:
    short, long = (_best_time(frame % (piece * count)) for count in (1_000, 8_000))
    # Eight times the text: linear is 8, quadratic 64. What takes less than a millisecond is not measured well.
    assert long < 30 * max(short, 0.001)


def _best_time(text: str) -> float:
    def seconds() -> float:
        started = time.process_time()
        final_answer(text)
        return time.process_time() - started

    return min(seconds() for _ in range(2))


@given(st.text(alphabet="\\{}box e1d$f<>/thinkd\n"))
def test_any_text_is_read_without_an_error(text: str) -> None:
    answer = final_answer(text)
    assert answer is None or answer.strip()
    boxed = final_answer(text, convention=BOXED)
    assert boxed is None or boxed in text


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


@given(st.lists(st.sampled_from(["\\", "\b", "boxed", "fbox", "oxed", "b", "x", "{", " "]), max_size=12).map("".join))
def test_the_first_box_is_the_one_that_the_pattern_finds(text: str) -> None:
    found, expected = boxes.first_box(text), boxes._BOX.search(text)
    assert (found and found.span()) == (expected and expected.span())
