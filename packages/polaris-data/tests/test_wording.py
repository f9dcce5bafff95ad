import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polaris_data.duplicates.wording import read_wording


@pytest.mark.parametrize(
    "same",
    [
        [r"$\dfrac{1}{2}\le x$", r"\(\frac12 \leq x\)", "½ ≤ x"],
        [r"Let $a_{1}=1{,}000$.", "Let $a_1 = 1000$.", r"Let \(a_1=1,000\)."],
        ["in triangle $ABC$", r"in $\triangle ABC$", "In triangle ABC"],
        [r"$\angle X = 90^{\circ}$", "∠X = 90°", r"\(\angle X=90^\circ\)"],
        ["a six-sided die", "a 6-sided die"],
        [r"all $x \text{ such that } x>1$", "all $x$ such that $x > 1$"],
        [r"$a \equal{} b \plus{} 1$", "$a = b + 1$"],
        ["[i]good[/i] sets", "good sets", "<b>good</b> sets"],
        [r"for $n \in \mathbb{Z}_{>0}$", r"for $n \in \mathbb{N}^*$"],
        ["Find it. (12 points)", "Find it."],
        ["Find $x$. Express your answer as a common fraction.", "Find $x$."],
        [
            "The chance is $m/n$, where $m$ and $n$ are relatively prime positive integers. Find $m+n$.",
            "The chance is $m/n$, where $p$ and $q$ are coprime integers. Find $p + q$.",
        ],
    ],
)
def test_typesetting_is_no_difference(same):
    assert len({read_wording(question) for question in same}) == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("$x+1$", "$x-1$"),
        ("$x^2$", "$2x$"),
        ("$a$", "$A$"),
        (r"$\sin x$", r"$\cos x$"),
        ("$12$", "$1, 2$"),
        ("at most 2", "at most 3"),
        ("the word RADII", "the word MADAM"),
        ("$x < 3$", r"$x \le 3$"),
    ],
)
def test_mathematics_is_a_difference(a, b):
    assert read_wording(a).tokens != read_wording(b).tokens


def test_tokens_tell_their_kind():
    assert read_wording("How many ways for SUCCESS, if $AB = 2\\pi$?").tokens == (
        *("how", "many", "ways", "for", '"success', "if", "$A", "$B", "=", "2", "$pi"),
    )


def test_figures_are_kept_apart_without_white_space_and_comments():
    wording = read_wording("What is shown? [asy] draw((0,0)--(1,1)); // a line\n [/asy]")
    assert wording.tokens == ("what", "is", "shown")
    assert wording.figure == "[asy]draw((0,0)--(1,1));[/asy]"


@given(st.text(max_size=200))
@example("\\")  # before white space it would be another command
def test_any_text_is_read_and_white_space_around_it_does_not_matter(text):
    assert all(read_wording(text).tokens)
    assert read_wording(f"  {text}\n") == read_wording(text)


def test_long_hostile_texts_are_read():
    for piece in ("where $", "(", "= a", "\\frac", "[asy]", "written as $x", "{\\it ", "1,", "where m integers "):
        read_wording(piece * 2_000)
