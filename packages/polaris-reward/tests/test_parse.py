from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_reward import DEFAULT, Outcome
from polaris_reward.equality.comparison import compare
from polaris_reward.reading.cursor import Reading
from polaris_reward.reading.lexer import tokenize
from polaris_reward.reading.notation import normalise
from polaris_reward.reading.parser import parse
from polaris_reward.reading.refusals import TooLarge, Unreadable, Unsupported
from polaris_reward.reading.tree import (
    BaseNumber,
    Call,
    Constant,
    Matrix,
    Number,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    Series,
    SetOperation,
    Symbol,
    Text,
)
from polaris_reward.reading.units import Unit

CENTIMETRE = Unit((("m", 1),), Fraction(1, 100))


def number(value: int | str) -> Number:
    return Number(Fraction(value))


X, Y, ONE, TWO = Symbol("x"), Symbol("y"), number(1), number(2)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("x+1", Call("add", (X, ONE))),
        ("-x^2", Call("negate", (Call("power", (X, TWO)),))),
        ("2^3^2", Call("power", (TWO, Call("power", (number(3), TWO))))),
        ("1/2x", Call("multiply", (Call("divide", (ONE, TWO)), X))),
        ("x-1-2", Call("subtract", (Call("subtract", (X, ONE)), TWO))),
        (r"\sin 2x \cos y", Call("multiply", (Call("sin", (Call("multiply", (TWO, X)),)), Call("cos", (Y,))))),
        (r"\sin^{-1} x", Call("arcsin", (X,))),
        (r"\log_2 x", Call("log base", (TWO, X))),
        ("||x|-1|", Call("abs", (Call("subtract", (Call("abs", (X,)), ONE)),))),
        ("1 1/2", Call("add", (ONE, Call("divide", (ONE, TWO))))),
        ("e", Constant("e")),
        ("x_{12}", Symbol("x_12")),
        ("f(x)", Call("f()", (X,))),
        ("1010_2", BaseNumber("1010", 2)),
        (r"5 \text{ cm}", Quantity(number(5), CENTIMETRE)),
        (r"\text{two words}", Text("two words")),
        ("1:2", Ratio((ONE, TWO))),
        (r"1 < x \le 2", Relation((ONE, X, TWO), ("<", "<="))),
        ("[1,2)", Sequence((ONE, TWO), "[", ")")),
        ("1, 2", Sequence((ONE, TWO), "", "")),
        ("1 or 2", Sequence((ONE, TWO), "", "", "or")),
        (r"\{1\} \cup \{2\}", SetOperation("union", Sequence((ONE,), "{", "}"), Sequence((TWO,), "{", "}"))),
        (r"\begin{pmatrix} 1 & 2 \\ x & y \end{pmatrix}", Matrix(((ONE, TWO), (X, Y)))),
        (r"\sum_{k=1}^{2} k", Series("sum", "k", ONE, TWO, Symbol("k"))),
    ],
)
def test_an_answer_is_read_as_a_tree(text: str, tree: object) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    "notations",
    [
        [r"\frac{1}{2}", r"\dfrac{1}{2}", r"\tfrac12", r"\frac 1 2", "½", "1/2", r"1 \div 2", "$1/2$", "(1/2)"],
        [r"\frac{a}{b}", "a/b", r"\frac ab", r"\frac{a}b"],
        [r"\sqrt{2}", r"\sqrt2", "√2", "sqrt(2)", r"\sqrt 2", r"\sqrt{\mathbf{2}}", r"\sqrt[2]{2}"],
        [r"2 \cdot x", "2x", "2*x", r"2 \times x", "2·x", "2×x", "2 x", r"2\,x", "2{x}", "(2)(x)"],
        ["x^2", "x^{2}", "x**2", "x²", r"{x}^{2}", "𝑥^2", "x^{\\text{2}}"],
        ["x_1", "x_{1}", "x₁", "x_{\\text{1}}"],
        [r"x \le 1", "x<=1", "x≤1", r"x \leq 1", r"x \leqslant 1"],
        [r"\pi", "π", "pi"],
        [r"-\infty", "-∞", "-oo", "-inf", "−∞", "-infinity"],
        [r"90^\circ", r"90^{\circ}", "90°", "90 degrees", r"90\degree"],
        [r"50\%", "50%", "50 percent", "50％"],
        ["1234", "1{,}234", r"1\,234", "1 234", "1_234", r"1,\!234"],
        ["0.5", ".5", r"\text{0.5}"],
        [r"0.\overline{3}", "0.(3)", r"0.\dot{3}", r"0.\bar{3}"],
        [r"\{1,2\}", r"\left\{1, 2\right\}", r"\lbrace 1,2 \rbrace", r"\{ 1 , 2 \}"],
        [r"\emptyset", "∅", r"\varnothing", r"\{\}", r"\{ \}"],
        [r"\binom{5}{2}", r"\dbinom52", r"{5 \choose 2}", "C(5,2)"],
        [r"\text{m and n}", r"\textbf{m and n}", r"\mbox{m and n}"],
        [r"\overline{AB}", "AB", r"\mathbf{AB}"],
    ],
)  # fmt: skip
def test_all_notations_of_a_thing_are_one_tree(notations: list[str]) -> None:
    assert {repr(parse(notation)) for notation in notations} == {repr(parse(notations[0]))}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5e3", "1500"),
        ("6.02E23", "602000000000000000000000"),
        ("1e-3", "1/1000"),
        ("1,234.5", "2469/2"),
        ("12.", "12"),
    ],
)
def test_a_numeral_is_read_exactly(text: str, value: str) -> None:
    tree = parse(text)
    assert isinstance(tree, Number)
    assert tree.value == Fraction(value)


def test_only_decimals_as_they_stand_have_significant_digits() -> None:
    texts = ("0.00120", "12.50", "12", "1.5e3", r"0.\overline{3}")
    trees = [parse(text) for text in texts]
    assert [tree.significant_digits for tree in trees if isinstance(tree, Number)] == [3, 4, None, None, None]


@pytest.mark.parametrize(
    ("text", "reading", "tree"),
    [
        ("1,234", Reading(), Number(Fraction(1234), grouped=True)),
        ("1,234", Reading(group_commas=False), Sequence((ONE, number(234)), "", "")),
        ("(1,234)", Reading(), Sequence((ONE, number(234)), "(", ")")),
        ("x1", Reading(), Call("multiply", (X, ONE))),
        ("x1", Reading(index_digits=True), Symbol("x_1")),
        ("1/2x", Reading(tight_products=True), Call("divide", (ONE, Call("multiply", (TWO, X))))),
    ],
)
def test_what_can_be_read_in_two_ways_is_read_as_it_is_asked_for(text: str, reading: Reading, tree: object) -> None:
    assert parse(text, reading) == tree


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "?", "#5", "(1,2", "1,2)", "{{", r"\frac{1}{", r"\sqrt{", "x =", "= 5", "5 +", "*", "1 2",
        "x^", "x_", r"\begin{pmatrix} 1 & 2", r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}", "1/", "((x)", "|x",
        r"\left(", r"\text{a", "7 | 8", "7 & 8", "x!!!",
    ],
)  # fmt: skip
def test_what_is_broken_is_unreadable(text: str) -> None:
    with pytest.raises(Unreadable):
        parse(text)


@pytest.mark.parametrize("text", [r"\int_0^1 x", r"\lim_{x \to 0} x", r"\oint", r"\somemacro{3}"])
def test_a_command_without_a_meaning_here_is_told_from_broken_text(text: str) -> None:
    with pytest.raises(Unsupported):
        parse(text)


@pytest.mark.parametrize(
    "text", ["(" * 50 + "x" + ")" * 50, "1" * 5_000, "1e99999", "1e-99999", "{" * 50 + "1" + "}" * 50]
)
def test_what_passes_a_bound_is_too_large(text: str) -> None:
    with pytest.raises(TooLarge):
        parse(text)


DEEP = [
    "-" * 1_900 + "1",
    "+".join(["1"] * 950),
    "x" + "-x" * 900,
    "*".join(["2"] * 950),
    "/".join(["x"] * 950),
    "x " * 950,
    "^".join(["2"] * 900),
    r"\sqrt" * 390 + "2",
    r"\sin" * 450 + "x",
    r"\sin -" * 300 + "x",
    r"\frac" * 300 + "1" * 300,
    "5" + "%" * 1_900,
    "|" * 1_900,
    "." * 1_900,
    r"\cup".join([r"\{1\}"] * 150),
    "<".join(["x"] * 950),
    "[" * 40 + "]" * 40,
]


@pytest.mark.parametrize("text", DEEP, ids=lambda text: text[:12])
@pytest.mark.parametrize("num_frames", [0, 300])
def test_no_answer_is_so_deep_that_the_interpreter_gives_up(text: str, num_frames: int) -> None:
    def compare_from(num_frames: int, other: str) -> None:
        if num_frames:
            return compare_from(num_frames - 1, other)
        assert compare(text, other, DEFAULT).outcome is not Outcome.CORRECT
        assert compare(other, text, DEFAULT).outcome is not Outcome.CORRECT
        return None

    # Other tests may have left the same comparisons in the cache.
    compare.cache_clear()
    for other in ("7", "y/z", f"{text}+z"):
        compare_from(num_frames, other)


pieces = st.sampled_from([
    "{", "}", "(", ")", "[", "]", r"\{", r"\}", r"\frac", r"\sqrt", r"\left", r"\right", r"\text{", r"\pi", r"\cup",
    r"\in", r"\begin{cases}", r"\end{cases}", r"\\", "&", "^", "_", "!", "=", "<", r"\le", ",", ";", ":", "+", "-", "*",
    "/", "|", "%", "$", " ", ".", "0", "1", "12", "1,234", "x", "n", "e", "i", "or", "cm", r"\sum_{k=1}^", r"\sin",
    r"\log_", "°", "½", "²", "\n", "f(", "'",
])  # fmt: skip


@given(st.lists(pieces, max_size=20).map("".join) | st.text(max_size=40))
@settings(max_examples=400)
def test_any_text_is_a_tree_or_unreadable_or_too_large(text: str) -> None:
    for reading in (Reading(), Reading(group_commas=False, index_digits=True, tight_products=True)):
        try:
            tree = parse(text, reading)
        except (Unreadable, TooLarge):
            continue
        assert hash(tree) == hash(parse(text, reading))


@given(st.text(alphabet="0123456789+-*/^()x .,", max_size=30))
def test_white_space_at_the_ends_and_dollars_around_change_nothing(text: str) -> None:
    def read(text: str) -> object:
        try:
            return parse(text)
        except (Unreadable, TooLarge) as error:
            return type(error)

    assert read(f" ${text}$ ") == read(text)


def test_every_list_of_tokens_has_an_end() -> None:
    kinds = [token.kind for token in tokenize(normalise(r"2x \le \text{cm}"))]
    assert kinds == ["number", "letter", "<=", "text", "end"]
