import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polaris_data.problems.answers import Reason, strip_wrapping, to_references
from polaris_data.problems.parts import refusal


@pytest.mark.parametrize(
    ("value", "references"),
    [
        ("$\\frac{4}{5}$", ("\\frac{4}{5}",)),
        ("\\(\\boxed{337}\\)", ("337",)),
        ("\\[\n\\boxed{\\frac{n+1}{4n-2}}\n\\]", ("\\frac{n+1}{4n-2}",)),
        ("#### 18", ("18",)),
        (142.0, ("142",)),
        ("142.0", ("142",)),
        ("$-3.0$", ("-3",)),
        (7, ("7",)),
        (0.5, ("0.5",)),
        (["\\boxed{1}", 2.0, "$1$"], ("1", "2")),
        ('["\\\\boxed{\\\\frac{1}{2}}", "0.5"]', ("\\frac{1}{2}", "0.5")),
    ],
)
def test_what_is_only_around_an_answer_is_taken_off(value, references):
    assert to_references(value) == references


@pytest.mark.parametrize(
    "text",
    [
        "$69$,$84$",
        "\\$18.90",
        "$87.50",
        "073",
        "1.50",
        "n=\\boxed{1,3}",
        "\\boxed{1} and \\boxed{2}",
        "\\boxed{1",
        "[1, 2]",
        "(1,2)",
        "none",
        "222,222",
        "5\\%",
        "The answer is 5",
        "\\text{(C)}",
        "$",
        "$$",
    ],
)
def test_an_answer_keeps_whatever_may_mean_something(text):
    assert to_references(text) == (text,)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, Reason.NO_ANSWER),
        ("", Reason.NO_ANSWER),
        ("  ", Reason.NO_ANSWER),
        ("\\boxed{}", Reason.NO_ANSWER),
        ("NaN", Reason.NO_ANSWER),
        (float("nan"), Reason.NO_ANSWER),
        ([], Reason.NO_ANSWER),
        (["1", None], Reason.NO_ANSWER),
        (True, Reason.NOT_AN_ANSWER),
        ({"value": 1}, Reason.NOT_AN_ANSWER),
        ([["1"]], Reason.NOT_AN_ANSWER),
    ],
)
def test_what_is_no_answer_says_why(value, reason):
    assert to_references(value) is reason


@given(st.text(alphabet="$\\boxed{}()[]# .0123a\"',\n") | st.text())
@example("$$$")
@example("\\(\\)")
@example("####")
def test_taking_off_twice_is_taking_off_once(text):
    bare = strip_wrapping(text)
    assert strip_wrapping(bare) == bare
    references = to_references(text)
    assert isinstance(references, Reason) or to_references(list(references)) == references


@given(st.text(alphabet="0123x+^ ").map(str.strip).filter(bool))
def test_no_wrapping_changes_what_is_inside(inner):
    bare = to_references(inner)
    for wrapped in (f"${inner}$", f"\\boxed{{{inner}}}", f"\\[\\boxed{{{inner}}}\\]", f"#### {inner}"):
        assert to_references(wrapped) == bare


def test_the_last_box_is_found_with_its_braces():
    assert last_box("so \\boxed{1}, no: $\\boxed{\\frac{1}{2}}$.") == "\\frac{1}{2}"
    assert last_box("\\fbox{a\\}b}") == "a\\}b"
    assert last_box("\\boxed{1} then \\boxed{2") is None
    assert last_box("no box") is None


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Prove that $4 \\mid n$.", Reason.PROOF),
        ("Show that $MS = MF$.", Reason.PROOF),
        ("Prove that $x>0$ and find the smallest such $x$.", None),
        ("Given the proven bound, what is $x$?", None),
        ("(1) Find $a$; (2) Find $b$.", Reason.SEVERAL_PARTS),
        ("Let $f(x)=x$.\n\n1. Solve $f(x)=1$.\n2. If $a>0$, find $f(a)$.", Reason.SEVERAL_PARTS),
        ("a) How many are even?\n\nb) How many are odd?", Reason.SEVERAL_PARTS),
        ("$(1)$ If $a=1$, calculate $f(a)$;<br/>$(2)$ Determine $a$.", Reason.SEVERAL_PARTS),
        ("Find $n$ such that (a) $n>1$, (b) $n$ is prime. What is the least?", None),
        ("What is $(1) + (2)$?", None),
        ("Which is it? (A) 1 (B) 2 (C) 3", None),
        ("Rules:\n1. We can find out what is written.\n2. If we write them in order, A wins.\n\nHow many ways?", None),
    ],
)
def test_proofs_and_questions_of_several_parts_are_told_from_others(question, reason):
    assert refusal(question, ("5",)) is reason


def test_an_answer_that_names_parts_is_several():
    assert refusal("Find both.", ("(a) 5, (b) 6",)) is Reason.SEVERAL_PARTS
    assert refusal("Find all.", ("(1,8,19), (2,7,13)",)) is None
