from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_reward.equality.exact import MAX_NUMBER_CHARS, compare_exactly

EQUAL = [
    ("42", "42"),
    ("42.", "42"),
    ("$42$", "42"),
    ("$$42$$", "42"),
    (r"\(42\)", "42"),
    (r"\text{42}", "42"),
    ("{17}.", "17"),
    ("+5", "5"),
    ("−5", "-5"),
    ("073", "73"),
    ("-0", "0"),
    ("1,234", "1234"),
    ("1{,}234", "1234"),
    (r"10,\!080", "10080"),
    (r"1\,234", "1234"),
    ("1,234,567.50", "1234567.5"),
    (".5", "0.5"),
    ("0.5", r"\frac{1}{2}"),
    ("1/2", r"\dfrac{1}{2}"),
    (r"\tfrac12", "0.50"),
    (r"\frac{2}{4}", "1/2"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"\frac{6}{2}", "3"),
    ("142.0", "142"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    (r"\dfrac{\sqrt{3}}{2}", r"\frac{\sqrt{3}}{2}"),
    (r"x = 5", "x=5"),
    (r"\text{Navin}", "Navin"),
    (r"2 \cdot 3", r"2\cdot3"),
    ("$10^{100}$,$10^{1 / 100}$", "10^{100}, 10^{1/100}"),
]

NOT_EQUAL = [
    ("42", "43"),
    ("42", "-42"),
    ("3.14", r"\pi"),
    ("3.14159265358979", r"\pi"),
    ("0.333", "1/3"),
    ("0.33333333333333333", "1/3"),
    ("1,2", "12"),
    ("(1,234)", "1234"),
    ("{1,234}", "1234"),
    ("1, 234", "1234"),
    ("1, 234", "1,234"),
    ("0,123", "123"),
    ("1,23", "123"),
    ("1234,567", "1234567"),
    ("1 234", "1234"),
    ("1 2", "12"),
    ("1 1/2", "11/2"),
    (r"1\frac{1}{2}", r"\frac{11}{2}"),
    (r"\$1$ $2$", "12"),
    ("$1$2", "12"),
    ("1/0", "2/0"),
    (r"\frac{1}{0}", r"\frac{2}{0}"),
    ("1/2/3", "1/6"),
    ("50", r"50\%"),
    ("7 or 8", "7"),
    ("1010_2", "1010_3"),
    ("100000000000", "100000000001"),
    ("A", "a"),
    ("[0,1)", "[0,1]"),
    (r"\left.5", r"\left5"),
    ("1,2,...", "1,2"),
    (r"a \\ b", r"a \ b"),
    ("", ""),
    ("$$", ""),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_answers_are_recognised_in_both_orders(left: str, right: str) -> None:
    assert compare_exactly(left, right) is True
    assert compare_exactly(right, left) is True


@pytest.mark.parametrize(("left", "right"), NOT_EQUAL)
def test_unequal_answers_are_never_called_equal(left: str, right: str) -> None:
    assert compare_exactly(left, right) is not True
    assert compare_exactly(right, left) is not True


@pytest.mark.parametrize(
    ("left", "right", "verdict"),
    [
        ("41", "42", False),
        ("0.333", "1/3", False),
        (r"\frac{1}{2}", "0.51", False),
        ("1,234", "1235", False),
        ("42", "x", None),
        ("x", "y", None),
        (r"\sqrt{4}", "3", None),
        (r"3 \text{ cm}", "4", None),
        ("2^{10}", "1025", None),
        ("1e3", "1001", None),
        ("1" * (MAX_NUMBER_CHARS + 1), "2", None),
    ],
)
def test_only_two_plain_numbers_are_called_unequal(left: str, right: str, verdict: bool | None) -> None:
    assert compare_exactly(left, right) is verdict


@given(st.fractions(), st.fractions())
def test_fractions_are_compared_by_value(left: Fraction, right: Fraction) -> None:
    written = rf"\frac{{{left.numerator}}}{{{left.denominator}}}"
    assert compare_exactly(written, f"{right.numerator}/{right.denominator}") is (left == right)
    assert compare_exactly(f"{left.numerator * 3}/{left.denominator * 3}", written) is True


@given(st.integers(), st.integers(min_value=1, max_value=9))
def test_thousands_separators_change_nothing_and_a_digit_changes_everything(number: int, step: int) -> None:
    grouped = f"{number:,}"
    assert compare_exactly(grouped, str(number)) is True
    assert compare_exactly(grouped.replace(",", "{,}"), f"{number}.0") is True
    assert compare_exactly(grouped, str(number + step)) is False


@given(st.text(alphabet="0123456789,./-+ \\{}$frac!textpi_^"), st.text(alphabet="0123456789,./- "))
def test_comparison_never_fails_and_is_symmetric(left: str, right: str) -> None:
    assert compare_exactly(left, right) is compare_exactly(right, left)
