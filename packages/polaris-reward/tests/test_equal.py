"""Pairs of answers that mean the same, and near misses; each is compared in both directions."""

from collections.abc import Callable

import pytest
from polaris_reward import Outcome

Verdict = Callable[[str, str], Outcome | None]


def pairs(*table: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("one", "other"), table)


@pairs(
    ("(1,2)", r"\left( 1 , 2 \right)"),
    (r"(1, \frac{1}{2})", "(1.0, 0.5)"),
    (r"\langle 1,2,3 \rangle", "(1,2,3)"),
    ("1,2", "(1,2)"),
    ("(x,y)=(1,2)", "(1,2)"),
    ("(1,2)", "x=1, y=2"),
    (r"x = 1 \text{ and } y = 2", "(1,2)"),
    ("(1,2),(3,4)", "(3,4),(1,2)"),
    (r"(2,3) \text{ and } (3,2)", r"\{(3,2),(2,3)\}"),
)
def test_tuples_are_equal_entry_by_entry(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("(1,2)", "(2,1)"),
    ("2,1", "(1,2)"),
    ("(1,2)", "(1,2,3)"),
    ("(1,2)", "12"),
    ("(1,2)", "1"),
    ("(1,2)", r"\{1,2\}"),
    ("(1,2)", "[1,2]"),
    ("(1,2),(3,4)", "(1,3),(2,4)"),
    ("(1,2),(3,4)", "(1,2)"),
    (r"\{(1,2)\}", r"\{(2,1)\}"),
    ("(1,2)", "x=2, y=1"),
    ("(x,y)=(1,2)", "x=2, y=1"),
)
def test_tuples_that_differ_in_order_length_or_kind_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("1,2,3", "3,1,2"),
    ("1; 2", "2, 1"),
    (r"\{1,2,3\}", r"\left\{ 3, 2, 1 \right\}"),
    (r"\{1,2\}", "2,1"),
    (r"1 \text{ and } 2", "2, 1"),
    ("2 or 3", "3, 2"),
    (r"x=2 \text{ or } x=3", "3, 2"),
    ("x=1, 2", "1, 2"),
    (r"x \in \{1,2\}", "1, 2"),
    (r"\{0.5, \sqrt{4}\}", r"\{2, \frac{1}{2}\}"),
    (r"\emptyset", r"\{\}"),
    (r"\varnothing", "∅"),
)
def test_lists_and_sets_have_no_order(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("1,2,3", "1,2"),
    ("1,2", "1,3"),
    ("1,2,2", "1,2,3"),
    (r"\{1,2\}", r"\{1,2,3\}"),
    (r"\{1,2\}", "[1,2]"),
    (r"\{7\}", "7"),
    ("2 or 3", "2"),
    (r"x=2 \text{ or } x=3", "x=3"),
    (r"\emptyset", "0"),
    (r"\emptyset", r"\{0\}"),
    ("9, 18, 27, 36, ...", "36"),
)
def test_a_list_with_a_member_more_or_less_is_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    (r"\pm 2", "2, -2"),
    (r"\pm 2", r"\mp 2"),
    (r"1 \pm \sqrt{2}", r"1-\sqrt{2}, 1+\sqrt{2}"),
    (r"x = \frac{-1 \pm \sqrt{5}}{2}", r"\left\{\frac{-1-\sqrt{5}}{2}, \frac{-1+\sqrt{5}}{2}\right\}"),
    (r"x = \pm 2", "2, -2"),
    (r"x = \pm 2", "x = 2, x = -2"),
    (r"x = \pm 2", r"x = 2 \text{ or } x = -2"),
)
def test_a_plus_minus_sign_stands_for_both_values(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs((r"\pm 2", "2"), (r"\pm 2", r"\pm 3"), (r"1 \pm \sqrt{2}", r"1 + \sqrt{2}"), (r"x = \pm 2", "x = -2"))
def test_one_value_of_a_plus_minus_sign_is_not_enough(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{bmatrix}1 & 2 \\ 3 & 4\end{bmatrix}"),
    (r"\begin{pmatrix}\frac12&0\\0&1\end{pmatrix}", r"\begin{pmatrix}0.5&0\\0&\sin^2 x+\cos^2 x\end{pmatrix}"),
    ("[[1,2],[3,4]]", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)"),
    (r"\begin{bmatrix}1&2&3\end{bmatrix}", "(1,2,3)"),
    (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"),
    (r"\det\begin{pmatrix}a&b\\c&d\end{pmatrix}", "ad-bc"),
    (
        r"\begin{cases} x, & x > 0 \\ -x, & x \le 0 \end{cases}",
        r"\begin{cases} x & x > 0 \\ -x & 0 \ge x \end{cases}",
    ),
)
def test_matrices_are_equal_cell_by_cell(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&3\\2&4\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", r"\begin{pmatrix}1&2&3\\4&5&6\end{pmatrix}"),
    (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "-2"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "(2,1)"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", "2"),
    ("[[1,2],[3,4]]", r"\begin{pmatrix}1&2\\3&5\end{pmatrix}"),
    (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "2"),
    (r"\begin{cases} x, & x > 0 \\ -x, & x \le 0 \end{cases}", r"\begin{cases} x, & x > 0 \\ x, & x \le 0 \end{cases}"),
)
def test_a_matrix_with_another_cell_or_shape_is_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("x=5", "5"),
    ("5=x", "5"),
    ("k = 5", "5"),
    ("f(x) = x^2", r"x \cdot x"),
    (r"f^{-1}(x) = \frac{x-1}{2}", r"\frac{x-1}{2}"),
    ("y=2x+1", "1+2x"),
    ("AB = 5", "5"),
    (r"\angle ABC = 30^\circ", "30"),
    (r"\text{Area} = 5", "5"),
    ("3+4=7", "7"),
    ("x=3+4=7", "7"),
    (r"\frac{\sqrt{3}}{3} \approx 0.577", r"\frac{1}{\sqrt{3}}"),
    (r"x = \frac{1}{3} \approx 0.33", r"\frac{1}{3}"),
)
def test_a_name_or_a_chain_before_the_value_does_not_matter(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("x=5", "6"),
    ("x=5", "x=-5"),
    ("x=5", "y=5"),
    ("3+4=7", "3"),
    ("3+4=7", "4"),
    ("x=7=8", "7"),
    ("f(x)=x^2", "f(x)=x^3"),
    (r"f^{-1}(x) = \frac{x-1}{2}", r"\frac{x+1}{2}"),
    (r"7 \ne 8", "7"),
    ("7 < 8", "7"),
    ("y=2x+1", "2x"),
)
def test_only_the_value_at_the_end_of_a_chain_counts(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("y=2x+1", "2x-y+1=0"),
    ("x+y=1", "2x+2y=2"),
    ("2x=y", "y=2x"),
    ("x^2+y^2=4", "4=y^2+x^2"),
    ("3x-2y=6", r"y=\frac{3}{2}x-3"),
    (r"\frac{x^2}{4}+\frac{y^2}{9}=1", "9x^2+4y^2=36"),
    ("2x+3y<6", "6>3y+2x"),
    ("x-y<1", "y-x>-1"),
)
def test_equations_are_equal_up_to_a_factor(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("y=2x+1", "y=2x-1"),
    ("x+y=1", "x+y=2"),
    ("x^2+1=0", "0=0"),
    ("x^2=4", "x=2"),
    ("(x-1)(x-2)=0", "x=1"),
    ("x^2+1=0", "x=i"),
    ("|x|=1", "x=1"),
    ("|x|+|y|=1", "x+y=1"),
    (r"|x|+|y| \le 1", r"x+y \le 1"),
    ("x-y<1", "y-x<-1"),
    ("x-y<1", r"x-y \le 1"),
)
def test_equations_with_other_solutions_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("2:3", "4:6"),
    ("2 : 3", r"\frac{2}{3}"),
    ("1:2:3", "2:4:6"),
    (r"\sqrt{2}:1", r"2:\sqrt{2}"),
    ("a:b", "2a:2b"),
)
def test_ratios_are_equal_in_proportion(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("2:3", "3:2"),
    ("2:3", r"\frac{3}{2}"),
    ("1:2:3", "1:3:2"),
    ("2:3", "2:3:1"),
    ("a:b", "b:a"),
    (r"1 \pm 2 : 3", "1:3"),
)
def test_ratios_of_other_proportions_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("p=5, q=2; p=7, q=3", "p=7, q=3; p=5, q=2"),
    ("a=1, b=2, c=3", "c=3, a=1, b=2"),
    ("y=2, x=1", "x=1, y=2"),
    ("(x,y)=(1,2)", "y=2, x=1"),
)
def test_named_values_are_equal_in_any_order(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("p=5, q=2; p=7, q=3", "p=5, q=3; p=7, q=2"),
    ("p=5, q=2; p=7, q=3", "p=5, q=2"),
    ("a=1, b=2", "a=2, b=1"),
    ("a=1, b=2", "a=1, c=2"),
    ("x=1, y=2", "x=1"),
)
def test_named_values_that_belong_together_otherwise_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    (r"90^\circ", "90"),
    (r"90^\circ", r"\frac{\pi}{2}"),
    ("90 degrees", "90°"),
    (r"30^\circ, 60^\circ", "60, 30"),
    (r"\sin 30^\circ", r"\frac{1}{2}"),
    (r"\tan 45^{\circ} + 1", "2"),
    (r"50\%", "50"),
    (r"50\%", r"\frac{1}{2}"),
    (r"50\%", "50%"),
    ("12.5 percent", r"12.5\%"),
)
def test_a_sign_on_one_side_alone_may_be_a_unit(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    (r"90^\circ", "91"),
    (r"90^\circ", r"\pi"),
    ("90", r"\frac{\pi}{2}"),
    (r"\sin 30^\circ", r"\sin 30"),
    (r"50\%", "5"),
    (r"50\%", r"0.5\%"),
    (r"50\%", "5000"),
    ("0.5", "50"),
    ("1", "100"),
)
def test_without_a_sign_a_factor_makes_another_number(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(("1010_2", "1010_{2}"), ("1A_{16}", r"1a_{16}"), ("12_{10}", "12"), (r"(1010)_2", r"1010_{\text{2}}"))
def test_numerals_are_equal_with_their_base(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(("1010_2", "1010_3"), ("204_5", "204_6"), ("1010_2", "1010"), ("1010_2", "10"), ("1010_2", "1011_2"))
def test_a_base_is_part_of_the_answer(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    (r"\log 2 + \log 3", r"\log 6"),
    (r"\frac{\log 8}{\log 2}", "3"),
    (r"\log_2 3", r"\frac{\log 3}{\log 2}"),
    (r"\log_2 3", r"\frac{\ln 3}{\ln 2}"),
    (r"\log 100", "2"),
    (r"\log_{10} 100", r"\lg 100"),
    (r"\log_e 5", r"\ln 5"),
    (r"\ln x^2", r"2 \ln x"),
)
def test_a_logarithm_without_a_base_keeps_the_laws_of_logarithms(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    (r"\log 2", r"\ln 2"),
    (r"\log x", r"\ln x"),
    (r"\log_2 8", r"\log_3 8"),
    (r"\log 2 + \log 3", r"\log 5"),
    (r"\log 100", "10"),
    (r"\log_2 3", r"\log_3 2"),
)
def test_logarithms_to_other_bases_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("x^2+C", "C+x^2"),
    ("x^2+C", "x^2+c"),
    ("x^2+C", "x^2+5+C"),
    (r"\ln|x|+C", r"K + \ln|x|"),
    (r"\frac{(x+1)^2}{2}+C", r"\frac{(x+1)^2 - 1}{2} + \frac{1}{2} + C"),
)
def test_constants_of_integration_absorb_numbers(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(("x^2+C", "x^2"), ("x^2+C", "x^3+C"), ("x^2+C", "x^2+x+C"), ("Cx^2", "x^2"), ("Cx^2", "2Cx^2"))
def test_a_constant_of_integration_is_neither_optional_nor_a_wildcard(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("(x-1)(x+1)", "x^2-1"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    (r"\sin^2 x + \cos^2 x", "1"),
    (r"\cos 2x", r"1 - 2\sin^2 x"),
    (r"\sqrt{x^2}", "|x|"),
    (r"\sqrt{x^2y^2}", "|xy|"),
    (r"\frac{n(n+1)}{2}", r"\sum_{k=1}^{n} k"),
    ("n!", r"\prod_{k=1}^{n} k"),
    ("(-1)^n", r"\cos(\pi n)"),
    ("2^{n+1}", r"2 \cdot 2^n"),
    ("x^ny^n", "(xy)^n"),
    (r"\frac ab", "a/b"),
    (r"\sqrt ab", r"b\sqrt{a}"),
    (r"\frac{1}{2}h(a+b)", r"\frac{(a+b)h}{2}"),
    ("n(n-1)", "n^2-n"),
    ("a_1 + a_2", "a2 + a1"),
    ("1/2x", r"\frac{x}{2}"),
    ("1/2x", r"\frac{1}{2x}"),
)
def test_expressions_are_equal_if_their_values_are_everywhere(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("(x+1)^2", "x^2+1"),
    ("|x|", "x"),
    (r"\sqrt{x^2}", "x"),
    ("|xy|", "xy"),
    (r"\sqrt{x^2y^2}", "xy"),
    ("|x-10|", "10-x"),
    ("|x+5|", "x+5"),
    (r"\max(x,5)", "5"),
    (r"\min(x,100)", "x"),
    (r"\lfloor x \rfloor + \lfloor y \rfloor", r"\lfloor x+y \rfloor"),
    ("x^{2y}", "x^2y"),
    ("x^ny^n", "x^{ny^n}"),
    ("2^{n+1}", "2^n+1"),
    ("2^{x+y}", "2^x+2^y"),
    (r"\sin 2x", r"2 \sin x"),
    (r"\frac{a+b}{c}", "a+b/c"),
    (r"n \bmod 3", r"n \bmod 6"),
    ("x+1", "t+1"),
    ("x_1", "x_2"),
    ("x_1", "x"),
    ("AB", "BA + 1"),
    (r"\angle ABC", r"\angle ACB"),
    ("f(x)", "f(y)"),
    ("x + 10^{-80}", "x"),
)
def test_expressions_that_differ_somewhere_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pytest.mark.parametrize("name", "abcdfghjklmnopqrstuvwxyzABCDKMNT")
def test_the_sign_of_a_power_of_minus_one_is_seen_whatever_the_exponent_is_called(name: str, verdict: Verdict) -> None:
    for constant in ("1", "-1", f"{name} - {name} + 1"):
        assert verdict(f"(-1)^{name}", constant) is Outcome.INCORRECT
    assert verdict(rf"{name} \bmod 2", rf"\frac{{1 - (-1)^{name}}}{{2}}") is Outcome.CORRECT


@pairs(
    (r"7 \text{ or } 8", "7"),
    ("7 or 8", "8"),
    (r"7 \text{ or 8}", "7"),
    (r"7 \text{ (or 8)}", "7"),
    (r"7 \text{, possibly 8}", "7"),
    ("7, 8", "8"),
    ("7; 8", "7"),
    ("7 and 8", "7"),
    ("x=7, x=8", "7"),
    (r"7 \pm 1", "8"),
    ("[6,8]", "7"),
    ("7/8", "7"),
    ("7-8", "7"),
)
def test_a_hedge_equals_none_of_its_values(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) in {Outcome.INCORRECT, Outcome.ANSWER_REJECTED}


@pairs(
    (r"\int x^2 \, dx", r"\int t^2 \, dt"),
    (r"\int_0^a \sin(x^2) dx", r"\int_0^a \sin(u^2) du"),
)
def test_integrals_are_equal_if_what_they_integrate_is(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    (r"\int x^2 \, dx", r"\int x^3 \, dx"),
    (r"\int_0^1 x \, dx", r"\frac{1}{3}"),
    (r"\int_0^1 \sin(x^x) dx", r"\int_0^1 \cos(x^x) dx"),
    (r"\int_0^2 e^{-x} dx", "1"),
)
def test_integrals_that_differ_are_told_apart_without_computer_algebra(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


def test_a_definite_integral_is_left_to_computer_algebra_where_it_seems_equal(verdict: Verdict) -> None:
    assert verdict(r"\int_0^1 x \, dx", r"\frac{1}{2}") is None
