import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data.duplicates.answers import graded_the_same, normal_answer, written_the_same
from polaris_data.duplicates.features import Rarity, hash_tokens
from polaris_data.duplicates.same_problem import (
    compare,
    cosine,
    countable,
    is_inside,
    longest_common,
    read_statement,
)
from polaris_data.duplicates.wording import read_wording

PERIMETER = (
    "In triangle $ABC$ with $AB = 5$ and $AC = 7$, find the smallest possible integer perimeter of the triangle."
)


def kind(a, b, answers=("1", "1"), **options):
    """Return how two problems are the same, once their answers were compared."""
    likeness = compare(read_statement(a, [answers[0]]), read_statement(b, [answers[1]]), **options)
    agree = written_the_same([((answers[0],), (answers[1],))])[0]
    return likeness.kind if agree or not likeness.if_answers_agree else None


@pytest.mark.parametrize(
    "other",
    [
        "Given triangle $ABC$ with $AB = 5$ and $AC = 7$, determine the minimum integer perimeter of the triangle.",
        "In triangle $PQR$ with $PQ = 5$ and $PR = 7$, find the smallest possible integer perimeter of the triangle.",
    ],
)
def test_other_words_and_other_names_are_the_same_problem(other):
    assert kind(PERIMETER, other) == "near"


@pytest.mark.parametrize(("old", "new"), [("5", "6"), ("smallest", "largest"), ("integer", "even integer")])
def test_another_number_or_word_and_another_answer_is_another_problem(old, new):
    assert kind(PERIMETER, PERIMETER.replace(old, new), ("13", "15")) is None
    if old == "5":
        assert kind(PERIMETER, PERIMETER.replace(old, new)) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (  # the words are the same, at other places
            "How many ways are there to put 5 balls in 2 boxes if the balls are distinguishable but the boxes are not?",
            "How many ways are there to put 5 balls in 2 boxes if the balls are not distinguishable but the boxes are?",
        ),
        ("求函数 $f(x)=x^2-2x+3$ 在区间 $[0,3]$ 上的最大值。", "求函数 $f(x)=x^2-2x+3$ 在区间 $[0,3]$ 上的最小值。"),
        (r"What is $88 \div (4 \div 2)$?", r"What is $88 \div 4 \div 2$?"),
        (
            "Find the sum of the rows and the product of the columns.",
            "Find the product of the rows and the sum of the columns.",
        ),
        ("What is the area? [asy] draw((0,0)--(3,0)); [/asy]", "What is the area? [asy] draw((0,0)--(4,0)); [/asy]"),
    ],
)
def test_what_differs_little_and_has_another_answer_is_another_problem_in_any_language(a, b):
    assert kind(a, b, ("44", "11")) is None
    assert kind(a, a, ("44", "11")) == "exact"


def test_another_operator_or_unknown_is_another_problem():
    question = "Real numbers $a$ and $b$ satisfy $a + 3b = 7$ and $2a - b = 4$. Find $a$."
    assert kind(question, question.replace("a + 3b", "a \\cdot 3b / 1").replace("- b", "b")) is None
    assert kind(question, question.replace("Find $a$", "Find $b$"), ("1", "2")) is None


def test_words_in_capitals_are_data():
    question = "In how many ways can the letters of the word {} be arranged?"
    assert kind(question.format("SUCCESS"), question.format("MOREMOM"), ("420", "420")) is None


def test_an_additional_condition_needs_the_same_answer():
    question = "How many positive integers at most 1000 are divisible by 7 and have no digit in common with 23?"
    note = question + " (Note that 1000 itself counts.)"
    assert kind(question, note, ("99", "99")) == "near"
    assert kind(question, note, ("99", "98")) is None


def test_the_answers_decide_about_equal_texts_with_different_figures():
    a, b = (f"What is $f(1)$? [asy] draw({place}); [/asy]" for place in ("(0,0)--(1,1)", "(0,0)--(1,2)"))
    assert kind(a, b, ("1", "2")) is None
    assert kind(a, b, ("1", "1")) == "exact"
    assert kind(a, "What is $f(1)$?", ("1", "2")) is None


def test_similar_texts_with_figures_of_other_numbers_are_different_problems():
    a, b = (
        f'Find $\\tan {name}$ in the right triangle shown below. [asy] label("{side}", (0,0)); [/asy]'
        for name, side in (("Y", 24), ("G", 15))
    )
    assert kind(a, b, ("7/24", "7/24")) is None
    assert kind(a, b.replace("15", "24"), ("7/24", "7/24")) == "near"


CHOICES = "Which curve is $r = 2$? {}A{} Line {}B{} Circle {}C{} Parabola"


@pytest.mark.parametrize("answer", ["Circle", "(B)", r"\text{(B)}", "B", r"\textbf{(B)}\ Circle"])
@pytest.mark.parametrize("marks", ["()", " .", r" )", "（）"])
def test_a_problem_with_and_without_its_choices_is_one(marks, answer):
    question = CHOICES.format(*(mark.strip() for mark in marks * 3))
    likeness = compare(read_statement(question, [answer]), read_statement("Which curve is $r=2$?", ["circle"]))
    assert likeness.kind == "exact" and likeness.if_answers_agree
    assert read_statement(question, [answer]).answers == {("circle",)}


def test_other_choices_are_another_question_when_the_answer_is_another():
    a, b = (f"Which of these is prime? (A) {n} (B) {n + 1} (C) {n + 2} (D) {n + 3}" for n in (8, 14))
    assert kind(a, b, ("(D)", "(D)")) == "exact"  # as they are written; the statements know what (D) is
    assert read_statement(a, ["(D)"]).answers == {("11",)} != read_statement(b, ["(D)"]).answers


def rarity_of(*problems):
    """Count what occurs in problems, each a question and an answer."""
    rarity = Rarity()
    wordings = [read_wording(question) for question, _ in problems]
    rarity.add(countable(hash_tokens(wordings), wordings, [[answer] for _, answer in problems]), len(problems))
    return rarity


def test_a_rare_word_weighs_more_than_a_common_one_and_a_common_answer_tells_less():
    many = [(f"The frog hops {number} times.", "2") for number in range(4000)] + [("A fragrant set.", "77")]
    rarity = rarity_of(*many)

    def read(question, answer="77"):
        return read_statement(question, [answer], rarity)

    assert cosine(read("the fragrant frog"), read("fragrant")) > cosine(read("the fragrant frog"), read("the frog"))
    assert read("?", "77").has_telling_answer and not read("?", "2").has_telling_answer
    assert not read("Is it 77?", "77").has_telling_answer  # which the question offers


STORY = (
    "A frog sits on a lily pad in a pond with 2006 lily pads arranged around the shore. Every minute the frog hops "
    "clockwise past an odd number of lily pads. After how many minutes can the frog first return to its pad?"
)
RETOLD = (
    "Around the shore of a pond there are 2006 lily pads. Starting on one pad, a frog hops once a minute, always "
    "clockwise, passing an odd number of pads. When does the frog reach its starting lily pad again for the first time?"
)


def test_a_paraphrase_is_found_by_what_it_says_and_its_answer():
    retold = RETOLD + " (With 12 frogs in the pond, it is the 3rd problem of 2011.)"
    assert kind(STORY, retold, ("1003", "1003"), paraphrases=True) == "paraphrase"
    assert kind(STORY, retold, ("1003", "1004"), paraphrases=True) is None
    assert kind(STORY, retold.replace("2006", "2008"), ("1003", "1003"), paraphrases=True) is None
    assert kind(STORY, retold, ("1003", "1003")) is None


def test_a_problem_inside_another_one_is_found_whatever_its_answer():
    asked = (
        "Find the perimeter of triangle $ABC$ with $AB = AC$, altitude $AM = 11$, and $\\angle BDC = 3 \\angle BAC$."
    )
    a = read_statement(
        asked.replace(".", ", which is $a + \\sqrt{b}$. Now compute $a + b$ and take half of it."), ["616"]
    )
    b = read_statement(asked, [r"11 + 11\sqrt5"])
    rarity = rarity_of((asked, "0"))
    assert is_inside(a, b, rarity)
    assert not is_inside(b, a, rarity)
    assert not is_inside(read_statement(asked.replace("3", "4"), ["1"]), b, rarity)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_longest_common_subsequence_is_that_of_the_table(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    assert longest_common(a, b) == table[-1][-1]


@pytest.mark.parametrize(
    "same", [["063", "63", "$63$"], [r"\frac{1}{2}", r"\dfrac12", "1/2"], ["k=3", "3"], [r"60^\circ", "60"]]
)
def test_answers_are_equal_in_any_typesetting(same):
    assert len(set(map(normal_answer, same))) == 1


def test_answers_that_are_written_differently_are_graded():
    pairs = [(("0.5",), (r"\frac{1}{2}",)), ((r"\frac{9}{16\sqrt{2}}",), (r"\frac{9\sqrt{2}}{32}",)), (("5",), ("6",))]
    assert written_the_same(pairs) == [False, False, False]
    assert graded_the_same(pairs) == [True, True, False]


WORDS = st.sampled_from("find the number of red 3 4 $x$ $y$ + - largest smallest integer frog pond circle".split())


@settings(deadline=None)
@given(st.lists(WORDS, max_size=12), st.lists(WORDS, max_size=12), st.booleans())
def test_the_order_does_not_matter_and_a_problem_equals_itself(a, b, same):
    answers = ("1", "1" if same else "2")
    x, y = (read_statement(" ".join(words), [answer]) for words, answer in zip((a, b), answers, strict=True))
    one, other = compare(x, y, paraphrases=True), compare(y, x, paraphrases=True)
    assert (one.kind, one.score) == (other.kind, pytest.approx(other.score, abs=1e-6))
    assert compare(x, x).kind == "exact"
