"""Wrong answers in the style of those that graders accept: none may be accepted, in either direction."""

from collections.abc import Callable

import pytest
from polaris_reward import DEFAULT, Outcome, grade
from polaris_reward.equality import compare

Verdict = Callable[[str, str], Outcome | None]

probes = pytest.mark.parametrize


@probes(
    ("one", "other"),
    [
        (r"\bar{x}", "x"),
        (r"\overline{w}", "w"),
        (r"\hat{\theta}", r"\theta"),
        (r"\tilde{y}", "y"),
        (r"\vec{a}", "a"),
        (r"\vec{a}", r"\hat{a}"),
        (r"\widehat{p}", "p"),
        (r"\widetilde{f}", "f"),
        (r"\dot{x}", "x"),
        (r"\ddot{x}", r"\dot{x}"),
        (r"\bar{x} + 1", "x + 1"),
        (r"\bar{z}w", "zw"),
        (r"|z|\bar z", "|z| z"),
        (r"\overrightarrow{AB}", "AB"),
        (r"\overrightarrow{AB}", r"\overrightarrow{BA}"),
        (r"\overline{A}", "A"),
        (r"\overline{A \cap B}", r"\overline{A \cup B}"),
        (r"\overline{A \cap B}", r"A \cap B"),
        (r"\overline{z+w}", "z+w"),
        (r"\overline{abc}", "abc"),
        (r"\hat{i}+\hat{j}", "i+j"),
        (r"\mathring{A}", "A"),
    ],
)
def test_an_accent_is_part_of_the_symbol(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        (r"5\text{ hundred}", "5"),
        (r"5\text{ score}", "5"),
        (r"5\text{ halves}", "5"),
        (r"5\text{ tenths}", "5"),
        (r"5\text{ quarters}", "5"),
        (r"5\text{ squared}", "5"),
        (r"5\text{ cubed}", "5"),
        (r"5\text{ percentiles}", "5"),
        (r"4\text{ factorial}", "4"),
        (r"4\text{ choose two}", "4"),
        (r"4\text{ times two}", "4"),
        (r"7\text{ plus three}", "7"),
        (r"7\text{ less}", "7"),
        (r"7\text{ more}", "7"),
        (r"7\text{ or so}", "7"),
        (r"7\text{ at most}", "7"),
        (r"7\text{ and a half}", "7"),
        (r"6\text{ negative}", "6"),
        (r"5\text{ west}", r"5\text{ east}"),
        (r"5\text{ up}", r"5 \text{ down}"),
        (r"5\text{ even}", "5"),
        (r"5\text{ modulo nine}", "5"),
        (r"5\text{ billion}", r"5\text{ million}"),
        (r"5\text{ thousand}", r"5\text{ million}"),
        (r"5\text{ dozen}", "5"),
        (r"5\text{ dozen}", "50"),
        (r"5\text{ gross}", "5"),
    ],
)
def test_a_word_that_is_no_unit_never_vanishes(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        (r"10 \text{ hours}", r"10 \text{ days}"),
        (r"10 \text{ weeks}", r"10 \text{ months}"),
        (r"3 \text{ years}", r"3 \text{ days}"),
        (r"5 \text{ km}", r"5 \text{ miles}"),
        (r"5 \text{ kg}", r"5 \text{ pounds}"),
        (r"5 \text{ watts}", r"5 \text{ volts}"),
        (r"5 \text{ N}", r"5 \text{ J}"),
        (r"5 \text{ J}", r"5 \text{ W}"),
        (r"5 \text{ kJ}", r"5 \text{ J}"),
        (r"5 \text{ mA}", r"5 \text{ A}"),
        (r"5 \text{ MW}", r"5 \text{ mW}"),
        (r"5 \text{ Mg}", r"5 \text{ mg}"),
        (r"5\ \mu\text{m}", r"5 \text{ mm}"),
        (r"5 \text{ m/s}", r"5 \text{ m/s}^2"),
        (r"5 \text{ m/s}", r"5 \text{ km/h}"),
        (r"5 \text{ N/m}", r"5 \text{ N}\cdot\text{m}"),
        (r"5 \text{ C}", r"5 ^\circ\text{C}"),
        (r"25^\circ\text{C}", r"25^\circ\text{F}"),
        (r"25^\circ\text{C}", r"25 \text{ K}"),
        (r"25^\circ\text{C}", r"25 \text{ rad}"),
        (r"5 \text{ rad}", r"5^\circ"),
        (r"5 \text{ liters}", r"5 \text{ quarts}"),
        (r"5 \text{ acres}", r"5 \text{ hectares}"),
        (r"5 \text{ apples}", r"5 \text{ oranges}"),
        (r"5 \text{ boys}", r"5 \text{ girls}"),
        (r"\$5", "€5"),
        ("£5", r"\$5"),
        (r"5 \text{ cents}", r"\$5"),
        (r"5 \text{ bits}", r"5 \text{ bytes}"),
        (r"5 \text{ square feet}", r"5 \text{ feet}"),
        (r"5 \text{ cm}^2", r"5 \text{ m}^2"),
        (r"5 \text{ hours and } 30 \text{ minutes}", r"5.3 \text{ hours}"),
        ("5 ft 3 in", "5.3 ft"),
    ],
)
def test_different_units_are_different_answers(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        ("1,1", "1"),
        ("3,3,4", "3,4"),
        ("3,4", "3,4,4"),
        ("1,2,2,3", "1,2,3,3"),
        (r"\pm 1, 1", r"\pm 1"),
        ("x=1,x=1", "x=1"),
        ("2,2", "2"),
    ],
)
def test_a_repeated_member_counts(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        ("10=11", "11"),
        ("99=100", "100"),
        (r"3.14=\pi", r"\pi"),
        (r"\pi=3.14", r"\pi"),
        (r"\frac{1}{3}=0.34", "0.34"),
        ("200 = 201 = 202", "202"),
        ("x = 41 = 42", "42"),
        ("2+2=5", "5"),
        (r"\frac{2}{3} = 0.66 = 0.67", "0.66"),
        ("1.005=1.01", "1.01"),
        ("a+b=5=6", "6"),
    ],
)
def test_a_chain_that_contradicts_itself_says_nothing(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        ("a+b+1+C", "a+b+C"),
        ("A+C+2", "A+C"),
        ("p+C+1", "p+C"),
        ("m+k+1", "m+k"),
        ("bC+3", "bC"),
        ("C+1", "C"),
        ("C+1", "C+2"),
        ("x+C", "x"),
        ("x", "x+C"),
        ("x^2+C", "x^2+x+C"),
        ("x^2+xC", "x^2+C"),
        ("x^2+2C+1", "x^2 + C x"),
        ("y=C_1e^x+C_1e^{-x}", "y=C_1e^x+C_2e^{-x}"),
        ("y=C_1e^{x}", "y=C_1e^{-x}"),
        ("y=C_1e^x+C_2", "y=C_1e^x+C_2x"),
    ],
)
def test_a_constant_absorbs_only_in_an_integral(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        (r"\max(x,-10^6)", "x"),
        (r"\min(x,10^9)", "x"),
        (r"\max(x, -12345)", "x"),
        ("|x+99999|", "x+99999"),
        ("|x-7777|", "7777-x"),
        ("|3x-60000|", "60000-3x"),
        (r"\sqrt{(x-4000)^2}", "4000-x"),
        (r"\sqrt{(x+9000)^2}", "x+9000"),
        (r"\frac{|x+20000|}{x+20000}", "1"),
        (r"\lfloor \frac{n}{10^7} \rfloor", "0"),
        (r"\lceil \frac{n}{10^8} \rceil", "1"),
        (r"n \bmod 99991", "n"),
        (r"\lfloor x/10^4 \rfloor", r"\lfloor x/10^5 \rfloor"),
        (r"\gcd(n, 9973)", "1"),
        (r"\gcd(n, 10^6)", r"\gcd(n, 10^5)"),
        (r"\min(n, 10^{12})", "n"),
        ("|x|^3", "x^3"),
        (r"\max(x,y)", "x"),
        (r"\max(x, x+1-10^{8}) + 0|x-10^8|", r"\max(x, 10^8)"),
    ],
)
def test_expressions_that_differ_far_out_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        ("1+10^{-500}", "1"),
        ("1+e^{-1500}", "1"),
        (r"\pi+e^{-1200}", r"\pi"),
        ("2-10^{-600}", "2"),
        (r"\sqrt{2}+10^{-450}", r"\sqrt{2}"),
        ("10^{-500}", "0"),
    ],
)
def test_numbers_that_differ_after_hundreds_of_digits_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        ("2x+1", "y-2x=1"),
        ("x=3", "y=3"),
        (r"\sin x=\frac12", r"\cos x=\frac12"),
        ("P(A)=0.3", "P(B)=0.3"),
        ("P(A|B)=0.3", "P(B|A)=0.3"),
        ("f(2)=5", "f(3)=5"),
        ("y=2x+1", "y=2x-1"),
        ("a+b=6", "a-b=6"),
        ("S_{ABC}=12", "S_{ABD}=12"),
        ("x^2-4=0", "0"),
        ("x^2=9", "x=3"),
        ("y=2x+1", "x=2y+1"),
        ("a=2,b=3", "a=3,b=2"),
        ("(2,3)", "a=3,b=2"),
        ("E[X]=3", "E[Y]=3"),
    ],
)
def test_values_of_other_names_are_other_answers(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        (r"\begin{cases}1 & x>0\\0 & x\le 0\end{cases}", r"\begin{cases}0 & x>0\\1 & x\le 0\end{cases}"),
        (r"\begin{cases}x & x\ge 0\\-x & x<0\end{cases}", r"\begin{cases}x & x> 1\\-x & x\le 1\end{cases}"),
        (
            r"\begin{cases}1 & n\text{ odd}\\0 & n\text{ even}\end{cases}",
            r"\begin{cases}0 & n\text{ odd}\\1 & n\text{ even}\end{cases}",
        ),
        (
            r"\begin{cases}1 & x=0\\0 & \text{otherwise}\end{cases}",
            r"\begin{cases}1 & x=1\\0 & \text{otherwise}\end{cases}",
        ),
        (r"\begin{cases}x=1\\y=2\end{cases}", "(2,1)"),
        (r"\frac{\pi}{4}+k\pi,k\in\mathbb{Z}", r"\frac{\pi}{4}+2k\pi,k\in\mathbb{Z}"),
        (r"\frac{\pi}{4}+k\pi,k\in\mathbb{Z}", r"\frac{\pi}{3}+n\pi,n\in\mathbb{Z}"),
        (r"\frac{\pi}{4}+\pi", r"\frac{\pi}{4}+k\pi,k\in\mathbb{Z}"),
        (r"\{k^2 : k \in \mathbb{Z}\}", r"\{2k : k \in \mathbb{Z}\}"),
        (r"1,2,\ldots,10", r"1,2,\ldots,9"),
        (r"1,3,\ldots,9", r"1,2,\ldots,9"),
        (r"1,2,\ldots", "1,2"),
    ],
)
def test_cases_families_and_lists_that_differ_are_not_equal(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        ("AC", "AD"),
        ("ACD", "AC"),
        ("A,C", "A,B,C"),
        ("ABCD", "DCBA"),
        ("5 (B)", "C"),
        ("5 (B)", "6"),
        ("①②", "①③"),
        ("5 (B)", "5 (C)"),
    ],
)
def test_other_options_are_other_answers(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        ("1,5", "1.5"),
        ("1,23", "1.23"),
        ("1{,}5", "15"),
        ("1.234", "1234"),
        ("1'23", "123"),
        ("1.2.3", "123"),
        (r"\operatorname{tg} x", r"\cot x"),
        (r"\operatorname{arsinh} 1", r"\operatorname{arcosh} 1"),
        (r"1010_{\text{two}}", "1010_3"),
        ("(a) 2 (b) 3", "3, 2, 1"),
        (r"12\text{元}", r"12\text{米}"),
        ("三", "4"),
        ("2或3", "2"),
        ("选B", "C"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}+\begin{pmatrix}1\\1\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^T", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
        (r"\mathbb{R}-\{1\}", r"\mathbb{R}"),
        (r"x\ne 0,1", r"x\ne 0"),
        ("The series diverges", "converges"),
        ("The function is not odd", "odd"),
        ("3rd", "4"),
        (r"\text{not } 42", "42"),
        (r"\text{greater than } 42", "42"),
        (r"\ge 42", "42"),
        ("> 42", "42"),
        (r"42 \pm 1", "42"),
        (r"\text{no answer}", "0"),
        (r"\text{approximately } 3.1", "3.14"),
        (r"\sim 42\text{ or }43", "42"),
        (r"42^\circ", r"42\%"),
    ],
)
def test_notation_is_not_stretched(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("one", "other"),
    [
        (r"\not= 5", "5"),
        (r"x \not= 5", "5"),
        (r"\operatorname{tr}(A)", "A"),
        (r"\sin (A)", "A"),
        ("P (A)", "A"),
        ("P (A)", "P"),
        ("f (B)", "B"),
        (r"\neg A", "A"),
        (r"\not\in A", "A"),
        ("z^*", "z"),
        (r"5 \text{ J/g}", r"5 \text{ J/kg}"),
        (r"10 \text{ m}^3", r"10 \text{ L}"),
        (r"5 \text{ N}", r"5 \text{ kN}"),
        (r"5 \text{ mol/L}", r"5 \text{ mol}"),
        (r"2 \text{ hours}", r"2 \text{ minutes}"),
        (r"1 \text{ hour } 30 \text{ minutes}", r"1.3 \text{ hours}"),
        ("3 pm", "3 am"),
        ("A(1,2)", "B(1,2)"),
        ("A(1,2)", "(2,1)"),
        ("(f+g)(x) = 3x", "3x+1"),
        ("(f+g)(x)=3x", "(f-g)(x)=3x"),
        ("]0,1[", "[0,1]"),
        ("[0,1[", "(0,1]"),
        ("至少为5", "5"),
        ("x不等于3", "3"),
        ("大于3", "3"),
        ("十二", "20"),
        ("三分之一", "3"),
        ("二分之三", r"\frac23"),
        (r"1,2,4,\ldots,64", "1,2,4,8,16,32,63"),
        (r"1,2,4,\ldots,64", "1,2,4,64"),
        (r"\begin{aligned} x&=2\\ y&=3 \end{aligned}", "(3,2)"),
        ("domain: x>2", "x<2"),
        ("not domain: 5", "5"),
        (r"x \equiv 3 \pmod 7", r"3 \pmod 5"),
        ("y''", "y'"),
        (r"\frac{d^2y}{dx^2}=6x", r"\frac{dy}{dx}=6x"),
        (r"|x| = \begin{cases} x & x\ge0\\ -x & x<0 \end{cases}", r"\begin{cases} x & x<0\\ -x & x\ge0 \end{cases}"),
        ("y=c_1x+c_2", "y=c_1x^2+c_2"),
        ("y=Ae^{x}", "y=Be^{2x}"),
        (r"\text{The limit does not exist}", r"\text{The limit exists}"),
        (r"\text{It is not a parabola}", r"\text{parabola}"),
        (r"\text{wrong: } 5", "5"),
        (r"\text{less than: } 5", "5"),
        ("upper bound: 5", "5"),
        ("at least: 5", "5"),
        (r"\text{approximately } 42", "43"),
        ("12 or 13 apples", "12"),
        ("12 apples and 3 oranges", "12"),
        ("12 apples and 3 oranges", "15"),
        (r"\frac{1}{2} \text{ of } 10", r"\frac12"),
        (r"5 \text{ out of } 6", "5"),
        (r"5 \text{ in } 6", "5"),
        (r"3 \text{ to } 1", "3"),
        ("5 of 6", "5"),
        (r"2 \text{ times } 3", "2"),
        ("half of 10", "10"),
        ("5 + 5 apples", "5"),
        (r"3 \text{ of the } 5", "3"),
        (r"7 \text{ mod } 5", "7"),
        (r"2^{3} \text{ rd}", "3"),
        (r"5 \text{ per } 10", "5"),
        (r"\text{max} = 5, \text{min} = 3", "5"),
        ("x=5, y=7", "5"),
        (r"x = 5 \text{ or } 6", "5"),
        ("a=1, b=2, c=3", "1,3,2"),
        (r"\sum_{k=1}^{n} k", "n"),
        (r"\bar{x} = 5", "x = 5"),
        (r"\hat{y} = 2x+1", "y = 2x+1"),
        (r"1 \text{ kΩ}", r"1 \text{ Ω}"),
        (r"100 \text{ cm}", r"100 \text{ mm}"),
        (r"\sqrt{2} (B)", "A"),
        ("5 (B) or 6 (C)", "B"),
        ("B or C", "B"),
        ("B, C", "B"),
        ("not B", "B"),
        ("B (not C)", "C"),
        (r"\text{less than} = 5", "5"),
        (r"\text{lower bound} = 5", "5"),
        (r"\text{not the answer} = 5", "5"),
        ("不是：5", "5"),
        ("至少：5", "5"),
    ],
)
def test_near_misses_of_all_kinds_are_refused(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@probes(
    ("answer", "reference"),
    [
        ("25", "x^2+y^2=25"),
        ("7", "2x+y=7"),
        ("0", "x+y=0"),
        ("6", "xy=6"),
        ("1", r"\frac{x^2}{4}+\frac{y^2}{9}=1"),
        (r"x^2+C", r"\ln y = x^2+C"),
        ("3", "a+b=3"),
        ("9", "x^2 = 9"),
    ],
)
def test_one_side_of_an_equation_is_not_the_equation(answer: str, reference: str) -> None:
    assert compare(answer, reference, DEFAULT).outcome is not Outcome.CORRECT


@probes(
    "response",
    [
        "It cannot be 42",
        "It can't be 42.",
        "The answer is not 42",
        "The answer isn't 42.",
        "The answer is never 42",
        "The answer is greater than 42",
        "The answer is less than 42.",
        "The answer must be at least 42",
        "The answer is at most $42$",
        "The answer is between 41 and 42",
        "It is between $41$ and $42$",
        "It lies somewhere between 41 and 42.",
        "I don't think the answer is 42",
        "I doubt that the answer is 42",
        "If the answer is 42, then we are done",
        "There are no more than 42 of them",
        "There are fewer than 42 of them",
        "The result can never equal 42",
        "The total exceeds 42",
        "anything other than 42",
        "It is impossible to reach 42",
        "All numbers up to 42",
        "Neither 41 nor 42",
        "It is wrong to say that the answer is 42",
        "The answer is 41 or 42",
        "<think>The answer is 42",
        "<|channel|>analysis<|message|>The answer is 42",
        "[THINK]The answer is 42",
        "<thinking>so it is 42",
    ],
)
def test_a_number_that_is_denied_or_bounds_the_answer_is_not_the_answer(response: str) -> None:
    assert grade(response, ["42"]).outcome is not Outcome.CORRECT
