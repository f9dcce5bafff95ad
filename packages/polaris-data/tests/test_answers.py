import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from polaris_data.problems.answers import Reason, stated_answer, strip_wrapping, to_references
from polaris_data.problems.parts import join_parts, refusal


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
        ("['1/2']", ("1/2",)),
        ('"8"', ("8",)),
        ({"ground_truth": "8"}, ("8",)),
        ('{"ground_truth": "8"}', ("8",)),
        ("9 (apples)", ("9",)),
        ("The answer is 7.", ("7",)),
        ("It has 3+5=<<3+5=8>>8 beads.\n#### 1,008", ("1008",)),
        ("We add. So the total is \\boxed{8}.", ("8",)),
        ("The pair that we want is \\boxed{1}, \\boxed{2}.", ("1, 2",)),
        ("<think>It may be \\boxed{1}.</think>So we get \\boxed{2}.", ("2",)),
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
        "\\text{(C)}",
        "x is even",
        "all real numbers",
        "5 (mod 7)",
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
        ({"a": 1}, Reason.NOT_AN_ANSWER),
        ("proof", Reason.PROOF),
        ("notfound", Reason.NO_ANSWER),
        ("The answer is not 7.", Reason.SENTENCE),
        ("It lies between 41 and 42.", Reason.SENTENCE),
        ("x=\\boxed{1} or x=\\boxed{2}, so there are two.", Reason.SENTENCE),
        ("We find \\boxed{1", Reason.SENTENCE),
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


@pytest.mark.parametrize(
    ("solution", "stated"),
    [
        ("so \\boxed{1}, no: $\\boxed{\\frac{1}{2}}$.", "\\frac{1}{2}"),
        ("\\fbox{a\\}b}", "a\\}b"),
        ("\\boxed{1} then \\boxed{2", None),
        ("\\boxed{x=\\boxed{3}}", "x=\\boxed{3}"),
        ("**Answer:** 12", "12"),
        ("The answer is 7. But 8 is possible too.", None),
        ("答案是 7。", "7"),
        ("so <answer>8</answer>", "8"),
        ("no box", None),
    ],
)
def test_what_a_solution_states_is_found_or_nothing_is(solution, stated):
    assert stated_answer(solution) == stated


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


@pytest.mark.parametrize(
    ("question", "references", "joined"),
    [
        ("(1) Find $a$; (2) Find $b$.", ("(1) 5, (2) 6",), ("(5, 6)",)),
        ("(1) Find $a$; (2) Find $b$.", ("5", "6"), ("(5, 6)",)),
        ("(1) Find $a$; (2) Find $b$.", ("5", "6", "7"), Reason.SEVERAL_PARTS),
        ("(1) Find $a$; (2) Find $b$.", ("5",), Reason.SEVERAL_PARTS),
        ("(1) Find $a$; (2) Find $b$.", ("(1) 5 or 6, (2) 7",), Reason.SEVERAL_PARTS),
        ("Find both.", ("(a) (1,2), (b) 3",), ("((1,2), 3)",)),
        ("Find one.", ("5", "6"), ("5", "6")),
        ("Prove it.", ("5",), Reason.PROOF),
    ],
)
def test_parts_are_joined_only_where_each_has_an_answer(question, references, joined):
    assert join_parts(question, references) == joined
