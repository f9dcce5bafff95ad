import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data.duplicates.same_problem import compare, normal_answer, read_statement

PERIMETER = (
    "In triangle $ABC$ with $AB = 5$ and $AC = 7$, find the smallest possible integer perimeter of the triangle."
)


def kind(a, b, answers=("1", "1"), **options):
    match = compare(read_statement(a, [answers[0]]), read_statement(b, [answers[1]]), **options)
    return match and match.kind


@pytest.mark.parametrize(
    "other",
    [
        "Given triangle $ABC$ with $AB = 5$ and $AC = 7$, determine the minimum integer perimeter of the triangle.",
        "In triangle $PQR$ with $PQ = 5$ and $PR = 7$, find the smallest possible integer perimeter of the triangle.",
    ],
)
def test_other_words_and_other_names_are_the_same_problem(other):
    assert kind(PERIMETER, other) == "near"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("5", "6"),
        ("smallest", "largest"),
        ("integer perimeter", "even integer perimeter"),
        ("possible", "possible odd"),
    ],
)
def test_another_number_or_sense_is_another_problem_whatever_the_answers(old, new):
    assert kind(PERIMETER, PERIMETER.replace(old, new), ("13", "15")) is None
    if old == "5":
        assert kind(PERIMETER, PERIMETER.replace(old, new)) is None


def test_another_operator_or_unknown_is_another_problem():
    question = "Real numbers $a$ and $b$ satisfy $a + 3b = 7$ and $2a - b = 4$. Find $a$."
    assert kind(question, question.replace("a + 3b", "a \\cdot 3b - 0")) is None
    assert kind(question, question.replace("Find $a$", "Find $b$"), ("1", "2")) is None


def test_words_in_capitals_are_data():
    question = "In how many ways can the letters of the word {} be arranged?"
    assert kind(question.format("SUCCESS"), question.format("MOREMOM"), ("420", "420")) is None


def test_an_additional_condition_needs_the_same_answer():
    question = "How many positive integers at most 100 are divisible by 7 and have no digit in common with 23?"
    longer = question.replace("?", ", if 1 is not counted?")
    assert kind(question, longer, ("9", "8")) is None
    note = question + " (Note that 100 itself counts.)"
    assert kind(question, note, ("9", "9")) == "near"
    assert kind(question, note, ("9", "8")) is None


def test_copies_with_different_answers_are_the_same_problem():
    assert kind(PERIMETER, PERIMETER.replace("$", "$ "), ("13", "15")) == "exact"


def test_the_answers_decide_about_equal_texts_with_different_figures():
    a, b = (f"What is $f(1)$? [asy] draw({place}); [/asy]" for place in ("(0,0)--(1,1)", "(0,0)--(1,2)"))
    assert kind(a, b, ("1", "2")) is None
    assert kind(a, b, ("1", "1")) == "exact"
    assert kind(a, "What is $f(1)$?", ("1", "2")) == "exact"


STORY = (
    "A frog sits on a lily pad in a pond with 2006 lily pads arranged around the shore. Every minute the frog hops "
    "clockwise past an odd number of lily pads. After how many minutes can the frog first return to its pad?"
)
RETOLD = (
    "Around the shore of a pond there are 2006 lily pads. Starting on one pad, a frog hops once a minute, always "
    "clockwise, passing an odd number of pads. When does the frog reach its starting lily pad again for the first time?"
)


def test_a_paraphrase_is_found_by_its_content_and_answer():
    assert kind(STORY, RETOLD, ("1003", "1003"), paraphrases=True) == "paraphrase"
    assert kind(STORY, RETOLD, ("1003", "1004"), paraphrases=True) is None
    assert kind(STORY, RETOLD.replace("2006", "2008"), ("1003", "1003"), paraphrases=True) is None
    assert kind(STORY, RETOLD, ("(C)", "(C)"), paraphrases=True) is None
    assert kind(STORY, RETOLD, ("1003", "1003")) is None


@pytest.mark.parametrize(
    "same", [["063", "63", "$63$"], [r"\frac{1}{2}", r"\dfrac12", "1/2"], ["k=3", "3"], [r"60^\circ", "60"]]
)
def test_answers_are_equal_in_any_typesetting(same):
    assert len(set(map(normal_answer, same))) == 1


WORDS = st.sampled_from("find the number of red 3 4 $x$ $y$ + - largest smallest integer frog pond circle".split())


@given(st.lists(WORDS, max_size=12), st.lists(WORDS, max_size=12), st.booleans())
def test_the_order_does_not_matter_and_a_problem_equals_itself(a, b, same):
    answers = ("1", "1" if same else "2")
    x, y = (read_statement(" ".join(words), [answer]) for words, answer in zip((a, b), answers, strict=True))
    assert compare(x, y, paraphrases=True) == compare(y, x, paraphrases=True)
    match = compare(x, x)
    assert match and match.kind == "exact"
