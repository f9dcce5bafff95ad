"""Laws of grading that hold for every answer."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_reward import Grade, Grader, Outcome

Answer = tuple[str, str]
"""One value in two spellings."""

# An outcome is due in any case; how soon is measured elsewhere.
unhurried = settings(deadline=None, max_examples=150)

integers = st.integers(-50, 2000)
fractions = st.builds(
    lambda top, bottom: (rf"\frac{{{top}}}{{{bottom}}}", f"{top}/{bottom}"), st.integers(-20, 20), st.integers(2, 12)
)
roots = st.builds(
    lambda factor, radicand: (rf"{factor}\sqrt{{{radicand}}}", rf"\sqrt{{{radicand}}} \cdot {factor}"),
    st.integers(2, 9),
    st.integers(2, 30),
)
multiples_of_pi = st.integers(2, 9).map(lambda factor: (rf"{factor}\pi", rf"\pi \cdot {factor}"))
powers = st.builds(
    lambda name, exponent: (f"{name}^{exponent}", f"{name}^{{{exponent}}}"), st.sampled_from("xyn"), st.integers(2, 5)
)
terms = st.one_of(integers.map(lambda number: (str(number), str(number))), fractions, roots, multiples_of_pi, powers)


@st.composite
def sums(draw: st.DrawFn) -> Answer:
    (first, first_again), (second, second_again) = draw(terms), draw(terms)
    return f"({first}) + ({second})", f"({second_again}) + ({first_again})"


scalars = st.one_of(terms, sums())


@st.composite
def tuples(draw: st.DrawFn) -> Answer:
    entries = draw(st.lists(scalars, min_size=2, max_size=3))
    left, right = zip(*entries, strict=True)
    return f"({', '.join(left)})", rf"\left( {' , '.join(right)} \right)"


@st.composite
def sets(draw: st.DrawFn) -> Answer:
    elements = draw(st.lists(scalars, min_size=2, max_size=3))
    left, right = zip(*elements, strict=True)
    return rf"\{{{', '.join(left)}\}}", rf"\left\{{ {', '.join(reversed(right))} \right\}}"


answers = st.one_of(scalars, tuples(), sets())
lookalikes = st.sampled_from([
    "1/2", "0.5", ".50", "2/4", r"\frac12", r"\dfrac{1}{2}", "0.333", "1/3", "0.3333333333", "1", "1.0", "-1", "0",
    "-0", "1000", "1,000", "10^3", "1e3", r"\pi", "3.14", "22/7", r"2\pi", "6.28", r"\sqrt{2}", "1.414", r"\sqrt{8}",
    r"2\sqrt{2}", "2^{3/2}", "x", "2x", "x*2", "x + 1", "1 + x", "(x+1)^2", "x^2+2x+1", "x^{2y}", "x^2y", "i", "e",
    r"e^{i\pi}", "(1,2)", "(2,1)", "(1,2,1)", "[1,2]", "[1,2)", r"\{1,2\}", r"\{2,1\}", r"\{1,2,2\}", "1,2", "2,1",
    "12", r"\infty", r"-\infty", "3!", "6", "3", r"\emptyset",
])  # fmt: skip
# Text that looks like an answer, and text that looks like nothing.
texts = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from([
            "{", "}", "(", ")", "[", "]", r"\{", r"\}", r"\frac", r"\sqrt", r"\left", r"\right", r"\text", r"\pi",
            r"\infty", r"\boxed", r"\begin{pmatrix}", r"\end{pmatrix}", r"\\", "&", "^", "_", "!", "=", "<", r"\le",
            r"\cup", r"\in", ",", "+", "-", "*", "/", "|", "%", "$", " ", ".", "0", "1", "2", "12", "999", "x", "y",
            "n", "e", "i", "<think>", "</think>", "or", "and",
        ]),
        max_size=25,
    ).map("".join),
)  # fmt: skip


@pytest.fixture(scope="module")
def accepts() -> Iterator[Callable[[str, str], bool]]:
    """Whether an answer is accepted for a reference, as the policy of a boxed answer sees it."""
    with Grader(1, deadline_s=5.0) as grader:
        yield lambda answer, reference: grader.grade(rf"\boxed{{{answer}}}", [reference]).outcome is Outcome.CORRECT


@given(response=texts, reference=texts)
@unhurried
def test_no_text_raises(grader: Grader, response: str, reference: str) -> None:
    for text in (response, rf"\boxed{{{response}}}"):
        grade = grader.grade(text, [reference])
        assert type(grade) is Grade
        assert type(grade.outcome) is Outcome


@given(answer=answers)
@unhurried
def test_an_answer_equals_itself(accepts: Callable[[str, str], bool], answer: Answer) -> None:
    assert accepts(answer[0], answer[0])
    assert accepts(answer[1], answer[1])


@given(answer=answers)
@unhurried
def test_two_spellings_of_a_value_are_equal_whichever_is_the_reference(
    accepts: Callable[[str, str], bool], answer: Answer
) -> None:
    assert accepts(*answer)
    assert accepts(*reversed(answer))


@given(left=lookalikes, right=lookalikes)
@settings(unhurried, max_examples=500)
def test_equality_does_not_depend_on_which_side_is_the_reference(
    accepts: Callable[[str, str], bool], left: str, right: str
) -> None:
    assert accepts(left, right) == accepts(right, left)


@given(left=answers, right=answers)
@unhurried
def test_a_box_within_the_box_changes_nothing(accepts: Callable[[str, str], bool], left: Answer, right: Answer) -> None:
    for answer, reference in (left, (left[0], right[1])):
        again = accepts(rf"\boxed{{{answer}}}", reference)
        assert again == accepts(answer, reference)
        assert again == accepts(answer, rf"\boxed{{{reference}}}")
