import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import mpmath
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polaris_reward import DEFAULT, Outcome
from polaris_reward.equality.comparison import compare
from polaris_reward.equality.evaluator import evaluate
from polaris_reward.equality.value import DIGITS, MORE_DIGITS, Undefined, Value, agree
from polaris_reward.reading.parser import parse
from polaris_reward.reading.refusals import TooLarge, Unreadable


def value(text: str, *, digits: int = DIGITS, **point: Fraction) -> Value:
    return evaluate(parse(text), point, digits=digits)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1+0.2", Fraction(3, 10)),
        (r"0.\overline{3}", Fraction(1, 3)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        (r"\frac{1}{3} - \frac{1}{7}", Fraction(4, 21)),
        ("10^{100} + 1 - 10^{100}", Fraction(1)),
        (r"\frac{100!}{98!}", Fraction(9900)),
        ("1000!/999!", Fraction(1000)),
        (r"\binom{10}{3}", Fraction(120)),
        (r"\sqrt{\frac{49}{64}}", Fraction(7, 8)),
        (r"8^{-\frac{2}{3}}", Fraction(1, 4)),
        (r"\sum_{k=1}^{100} k", Fraction(5050)),
        (r"\prod_{k=1}^{5} \frac{k}{k+1}", Fraction(1, 6)),
        (r"\sum_{k=1}^{0} k", Fraction(0)),
        ("5!!", Fraction(15)),
        (r"-7 \bmod 3", Fraction(2)),
        (r"\gcd(12, 18)", Fraction(6)),
        ("2^3^2", Fraction(512)),
        ("-2^2", Fraction(-4)),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        (r"12.5\%", Fraction(1, 8)),
        (r"6.02 \times 10^{23}", Fraction(602 * 10**21)),
        (r"\det\begin{pmatrix}1&2\\3&4\end{pmatrix}", Fraction(-2)),
    ],
)
def test_what_is_rational_is_evaluated_exactly(text: str, expected: Fraction) -> None:
    number = value(text).number
    assert isinstance(number, Fraction)
    assert number == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\sqrt[3]{-8}", -2),
        ("(-8)^{1/3}", -2),
        (r"(-8)^{\frac{2}{3}}", 4),
        (r"\sqrt[5]{-32}", -2),
        ("(-2)^{3}", -8),
        (r"(-\sqrt{8})^{2/3}", 2),
    ],
)
def test_a_negative_number_has_a_real_root_of_an_odd_degree(text: str, expected: int) -> None:
    root = value(text)
    assert root.is_real
    assert agree(root, Value(Fraction(expected), 0, False))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{-4}", "2i"),
        ("i^2", "-1"),
        (r"e^{i\pi}", "-1"),
        (r"\frac{1+i}{1-i}", "i"),
        ("|3+4i|", "5"),
        (r"\ln(-1)", r"i\pi"),
        (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"),
        (r"\sqrt[3]{2+\sqrt{5}} + \sqrt[3]{2-\sqrt{5}}", "1"),
        (r"\cos\frac{\pi}{5}", r"\frac{1+\sqrt{5}}{4}"),
        (r"4\arctan\frac{1}{5} - \arctan\frac{1}{239}", r"\frac{\pi}{4}"),
        (r"\tan^{-1} 1", r"\frac{\pi}{4}"),
        (r"\log_2 8", "3"),
        (r"\cosh(\ln 2)", r"\frac{5}{4}"),
    ],
)
def test_irrational_and_complex_numbers_are_equal_to_all_digits(one: str, other: str) -> None:
    for digits in (DIGITS, MORE_DIGITS):
        assert agree(value(one, digits=digits), value(other, digits=digits), digits=digits)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\sqrt{10^{200} + 1}", "10^{100}"),
        (r"\sqrt{2} + 10^{-30}", r"\sqrt{2}"),
        (r"\sqrt{2} + 10^{-80}", r"\sqrt{2}"),
        (r"\sqrt{2} + 10^{-300}", r"\sqrt{2}"),
        (r"e^{\pi \sqrt{163}}", "262537412640768744"),
        (r"\tanh 70", "1"),
        (r"\cos(10^{-40})", "1"),
        ("2^{1000} + 1", "2^{1000}"),
        (r"\sum_{n=1}^{100} \frac{1}{2^n}", "1"),
        (r"\frac{1}{3} + 10^{-1000}", r"\frac{1}{3}"),
        ("10^{-200}", "10^{-201}"),
        ("e^{-1000}", "0"),
        (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    ],
)
def test_numbers_that_differ_after_many_digits_are_not_equal(one: str, other: str) -> None:
    assert compare(one, other, DEFAULT).outcome is Outcome.INCORRECT
    assert compare(other, one, DEFAULT).outcome is Outcome.INCORRECT


@pytest.mark.parametrize("number", [2, 3, 5, 7, 10, 24, 99])
def test_a_whole_number_that_is_only_computed_to_many_digits_has_itself_as_its_whole_part(number: int) -> None:
    for text in (rf"\sqrt{{{number}}}\sqrt{{{number}}}", rf"e^{{\ln {number}}}", rf"\log_2 2^{{{number}}}"):
        assert agree(value(rf"\lfloor {text} \rfloor"), value(str(number))), text
        assert agree(value(rf"\lceil {text} \rceil"), value(str(number))), text
        assert agree(value(rf"\lfloor {text} - 10^{{-20}} \rfloor"), value(str(number - 1))), text


@pytest.mark.parametrize(
    "text",
    [
        "0/0",
        "1/0",
        r"\frac{1}{\sqrt{2}-\sqrt{2}}",
        r"\frac{1}{\sin \pi}",
        r"\ln 0",
        r"\log_1 5",
        "0^{-1}",
        "(-1)!",
        r"\infty",
        r"\infty - \infty",
        r"\cot 0",
        r"\gcd(\frac{1}{2}, 3)",
    ],
)
def test_what_has_no_finite_value_is_undefined(text: str) -> None:
    with pytest.raises(Undefined):
        value(text)


@pytest.mark.parametrize("text", ["0/0", "1/0", r"\ln 0"])
def test_what_is_undefined_equals_no_number(text: str) -> None:
    for other in ("0", "1", "2/0", r"\infty"):
        assert compare(text, other, DEFAULT).outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9^9}}",
        "10^{10^{13}}",
        r"2^{2^{2^{2^{2^2}}}}",
        "((5!)!)!",
        "5000!!",
        r"\binom{10^9}{10^8}",
        r"\sum_{k=1}^{10^9} k",
        r"\prod_{k=1}^{10^6} k",
        r"\sum_{i=1}^{5000} \sum_{j=1}^{5000} ij",
        "e^{e^{e^{e^e}}}",
        r"\sin(10^{10^6})",
        r"\lfloor e^{10^6} \rfloor",
        r"\cosh(10^{20})",
        r"\sum_{k=1}^{5000} \sqrt{k}",
        r"\sum_{k=1}^{2000} \sin k \cos k",
    ],
)
def test_what_would_take_long_is_refused_at_once(text: str) -> None:
    tree, started = parse(text), time.process_time()
    with pytest.raises(TooLarge):
        evaluate(tree, {})
    # Computing any of these takes minutes or more memory than there is.
    assert time.process_time() - started < 4


@pytest.mark.parametrize("text", ["7^{100000}", "3000!", r"\sqrt{10^{5000}}", r"10^{10^{10}}", r"\ln(10^{4000})"])
def test_what_is_merely_large_is_evaluated(text: str) -> None:
    assert agree(value(text), value(text))
    assert not agree(value(text), value(f"({text}) \\cdot 1.000001"))


def test_a_variable_takes_the_value_at_the_point() -> None:
    point = {"x": Fraction(2), "y": Fraction(1, 3)}
    assert value(r"\frac{x^2 - 1}{y}", **point).number == 9
    assert value(r"\sum_{k=1}^{x} k y", **point).number == 1
    with pytest.raises(Unreadable):
        value("x + z", **point)


@pytest.mark.parametrize("text", ["(1,2)", "x=5", r"\{1\}", r"\begin{pmatrix}1\\2\end{pmatrix}", "1010_2"])
def test_what_is_no_expression_has_no_value(text: str) -> None:
    with pytest.raises(Unreadable):
        value(text, x=Fraction(1))


@pytest.mark.parametrize(
    "text",
    [
        r"\ln()", r"\ln(1,2)", r"\sin()", r"\sin(1,2)", r"\log_2(8,4)", r"\log(1,2)", "abs(1,2)", "exp(1,2)",
        "floor(1,2)", "C(5,)", "C(5,2,1)", r"\det()", r"\det(1,2)", r"\gcd()", r"\max()",
    ],
)  # fmt: skip
def test_a_function_with_the_wrong_number_of_arguments_has_no_value_and_equals_nothing(text: str) -> None:
    with pytest.raises((Unreadable, Undefined)):
        value(text)
    for other in ("1", "x", r"\sin 1", "(1,2)"):
        assert compare(text, other, DEFAULT).outcome is not Outcome.CORRECT
        assert compare(other, text, DEFAULT).outcome is not Outcome.CORRECT


def test_threads_with_different_precisions_do_not_disturb_each_other() -> None:
    texts = [rf"\sqrt{{{number}}} + \sin {number} - e^{{1/{number}}}" for number in range(2, 42)]
    jobs = [(text, digits) for text in texts for digits in (DIGITS, MORE_DIGITS)] * 4
    expected = {job: str(value(job[0], digits=job[1]).number) for job in jobs}
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda job: str(value(job[0], digits=job[1]).number), jobs))
    assert found == [expected[job] for job in jobs]
    assert {len(text) > MORE_DIGITS for text in expected.values()} == {True, False}


Expression = tuple[Any, ...]
"""An operation and its operands, which are expressions or whole numbers."""

FORMS = {
    "+": "({}) + ({})",
    "-": "({}) - ({})",
    "*": r"({}) \cdot ({})",
    "/": r"\frac{{{}}}{{{}}}",
    "sqrt": r"\sqrt{{{}}}",
    "sin": r"\sin({})",
    "arctan": r"\arctan({})",
    "exp": "e^{{{}}}",
    "ln": r"\ln({})",
    "abs": r"\left| {} \right|",
    "square": "({})^2",
    "cube": "({})^{{-3}}",
}


def spelled(expression: Expression | int) -> str:
    if isinstance(expression, int):
        return str(expression)
    return FORMS[expression[0]].format(*map(spelled, expression[1:]))


def computed(expression: Expression | int, context: Any) -> Any:
    """Return the value by the plainest way there is."""
    if isinstance(expression, int):
        return context.mpf(expression)
    name, *operands = expression
    values = [computed(operand, context) for operand in operands]
    functions = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
        "square": lambda a: a * a,
        "cube": lambda a: 1 / (a * a * a),
        "abs": abs,
        "sqrt": context.sqrt,
        "sin": context.sin,
        "arctan": context.atan,
        "exp": context.exp,
        "ln": context.ln,
    }
    return functions[name](*values)


def longer(shorter: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    binary = st.tuples(st.sampled_from("+-*/"), shorter, shorter)
    unary = st.tuples(st.sampled_from(["sqrt", "sin", "arctan", "exp", "ln", "abs", "square", "cube"]), shorter)
    return binary | unary


expressions = st.recursive(st.integers(-9, 12), longer, max_leaves=6)


@given(expressions)
def test_values_are_those_of_a_plain_computation_with_many_more_digits(expression: Expression | int) -> None:
    context: Any = mpmath.MPContext()
    context.dps = 300
    try:
        expected = computed(expression, context)
    except (ZeroDivisionError, ValueError, OverflowError):
        assume(False)
        raise
    # Beyond, digits are lost by cancellation, as they are known to be.
    assume(context.mpf("1e-8") < abs(expected) < context.mpf("1e100"))
    try:
        found = value(spelled(expression))
    except (TooLarge, Undefined):
        assume(False)
        raise
    number = found.number
    if isinstance(number, Fraction):
        number = context.mpf(number.numerator) / number.denominator
    assert abs(number - expected) <= context.mpf(10) ** -40 * max(abs(expected), context.mpf(found.scale), 1)
