"""Right answers as people and models write them, beside references that look otherwise."""

from collections.abc import Callable

import pytest
from polaris_reward import DEFAULT, Outcome, grade
from polaris_reward.equality import compare

Verdict = Callable[[str, str], Outcome | None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("5 元", "5"),
        ("30 岁", "30"),
        ("答案是42", "42"),
        (r"8\text{小时}", "8"),
        ("15 厘米", "15"),
        (r"\text{选C}", "C"),
        ("C选项", "C"),
        ("x=2 或 x=3", "2,3"),
        ("(1，2)", "(1,2)"),
        ("（1，2）", "(1,2)"),
        ("7和9", "9,7"),
        ("五", "5"),
        ("3：4", "3:4"),
        ("25％", r"25\%"),
        ("无解", r"\text{no solution}"),
    ],
)
def test_chinese_answers_are_read(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"5 \text{ kJ}", "5"),
        (r"5 \mathrm{\ kJ}", "5"),
        (r"2.5 \mathrm{~kPa}", "2.5"),
        (r"3.0\times 10^8 \text{ m/s}", "3e8"),
        (r"3.0\times 10^{8}\ \mathrm{m\,s^{-1}}", "3e8"),
        (r"6.67\times10^{-11} \text{ N}\cdot\text{m}^2/\text{kg}^2", "6.67e-11"),
        (r"6.63 \times 10^{-34} \mathrm{~J} \cdot \mathrm{s}", "6.63e-34"),
        (r"1.6\times 10^{-19}\text{ C}", "1.6e-19"),
        (r"12 \text{ V}", "12"),
        ("12 V", "12"),
        ("0.5 A", "0.5"),
        ("60 W", "60"),
        ("100 Pa", "100"),
        (r"220\ \mathrm{V}", "220"),
        (r"50 \text{ Hz}", "50"),
        (r"300 \text{ K}", "300"),
        ("98.6 °F", "98.6"),
        (r"98.6^\circ\text{F}", "98.6"),
        (r"-40^{\circ}\mathrm{C}", "-40"),
        (r"20 ^\circ C", "20"),
        (r"45^\circ", r"45 \text{ degrees}"),
        (r"7.5 \text{ g/cm}^3", "7.5"),
        (r"7.5 \frac{\text{g}}{\text{cm}^3}", "7.5"),
        (r"7.5 \text{ g cm}^{-3}", "7.5"),
        (r"9.8\,\mathrm{m/s^2}", "9.8"),
        (r"9.8 \text{ m s}^{-2}", "9.8"),
        (r"5 \text{ ly}", "5"),
        (r"2 \text{ M}_{\odot}", "2"),
        (r"3 M_\odot", "3"),
        (r"10 \text{ AU}", "10"),
        (r"0.1 \text{ mol/L}", "0.1"),
        (r"0.1 \text{ M}", "0.1"),
        (r"5 \text{ eV}", "5"),
        ("13.6 eV", "13.6"),
        (r"500 \text{ nm}", "500"),
        ("500 nm", "500"),
        (r"1.54 \text{ Å}", "1.54"),
        (r"1.54 \AA", "1.54"),
        (r"5 \text{ } \mu\text{m}", "5"),
        (r"5\ \mu\mathrm{F}", "5"),
        (r"10\ \text{k}\Omega", "10"),
        (r"10 k\Omega", "10"),
        (r"2 \text{ N/m}", "2"),
        (r"4 \text{ rad/s}", "4"),
        (r"3 \text{ hours}", r"180 \text{ minutes}"),
        (r"1.5 \text{ kg}", r"1500 \text{ g}"),
        (r"12 \text{ square feet}", "12"),
        (r"12 \text{ ft}^2", r"12 \text{ square feet}"),
        ("12 sq. ft.", "12"),
        (r"100 \text{ cubic centimeters}", r"100 \text{ cm}^3"),
        (r"60 \text{ miles per hour}", "60"),
        ("1 hour 30 minutes", "90 minutes"),
        (r"2 \text{ h } 15 \text{ min}", r"2.25 \text{ h}"),
        ("6 feet 2 inches", "74 inches"),
        (r"\$20", "20"),
        (r"20\$", "20"),
        ("USD 20", "20"),
        (r"20 \text{ USD}", r"\$20"),
        ("Rs. 500", "500"),
        ("£30", "30"),
        ("30€", "30"),
        (r"\$1.5 \text{ million}", "1500000"),
        ("1.5 million dollars", "1500000"),
        (r"3 \text{ thousand}", "3000"),
        (r"2 \text{ dozen}", "24"),
        (r"3 \times 10^6", r"3 \text{ million}"),
        ("5 people", "5"),
        (r"7 \text{ students}", "7"),
        (r"10 \text{ different ways}", "10"),
        (r"8 \text{ distinct integers}", "8"),
        (r"4 \text{ solutions}", "4"),
        ("15 years old", "15"),
        (r"3 \text{ meters long}", "3"),
        (r"20 \text{ cents}", "20"),
    ],
)
def test_a_unit_vanishes_beside_a_number_and_is_converted_beside_another(
    one: str, other: str, verdict: Verdict
) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("x + y = 10", "10"),
        ("a_1 + a_2 = 5", "5"),
        ("ab = 12", "12"),
        (r"\frac{x}{y} = \frac{2}{3}", r"\frac{2}{3}"),
        ("x^2 + y^2 = 13", "13"),
        (r"\tan\theta = 2", "2"),
        (r"\sin 2\theta = \frac{24}{25}", r"\frac{24}{25}"),
        (r"\log_2 x = 3", "3"),
        ("|AB| = 5", "5"),
        ("|z| = 5", "5"),
        (r"\angle ABC = 60^\circ", r"60^\circ"),
        (r"\overline{AB} = 7", "7"),
        ("S_n = n^2", "n^2"),
        ("a_n = 2n+1", "2n+1"),
        ("a_{10} = 19", "19"),
        ("f(3) = 9", "9"),
        ("f'(x) = 2x", "2x"),
        (r"f^{-1}(x) = \frac{x-1}{2}", r"\frac{x-1}{2}"),
        (r"\frac{dy}{dx} = 2x", "2x"),
        (r"P(X=2) = \frac{1}{4}", r"\frac{1}{4}"),
        (r"P(A \cup B) = 0.7", "0.7"),
        ("P(X > 3) = 0.2", "0.2"),
        ("E(X) = 3.5", "3.5"),
        (r"\mathbb{E}[X] = 3.5", "3.5"),
        (r"\operatorname{Var}(X) = 2", "2"),
        (r"\text{Var}(X) = 2", "2"),
        (r"\text{Area} = 24", "24"),
        (r"\text{Perimeter} = 24 \text{ cm}", "24"),
        (r"\text{Area of } \triangle ABC = 24", "24"),
        ("[ABC] = 24", "24"),
        (r"V = \frac{4}{3}\pi r^3", r"\frac{4}{3}\pi r^3"),
        (r"n(A \cap B) = 5", "5"),
        (r"\max f = 7", "7"),
        (r"f_{\max} = 7", "7"),
        (r"\max\{a,b\} = 7", "7"),
        (r"\lim_{n\to\infty} a_n = 2", "2"),
        (r"\sum_{n=1}^{\infty} a_n = 2", "2"),
        (r"\int_0^1 f(x)\,dx = 2", "2"),
        (r"\vec{a}\cdot\vec{b} = 5", "5"),
        (r"\det A = 5", "5"),
        (r"\operatorname{rank}(A) = 2", "2"),
        (r"A \cap B = \{1,2\}", r"\{1,2\}"),
        (r"A \times B = 5", "5"),
        ("x_1 + x_2 = 3", "3"),
        ("x = y = 3", "3"),
        ("a+b+c = 1+2+3 = 6", "6"),
        (r"k = \frac{1}{2} = 0.5", "0.5"),
        ("x = 1, y = 2", "y = 2, x = 1"),
        (r"m = 3 \text{ and } n = 4", "m=3, n=4"),
        ("a+b=7, ab=12", "7, 12"),
    ],
)
def test_the_left_side_names_the_value(answer: str, reference: str) -> None:
    assert compare(answer, reference, DEFAULT).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"x \approx 3.14", "3.14"),
        (r"\approx 0.5", "0.5"),
        ("about 42", "42"),
        ("approximately 3.5", "3.5"),
        ("≈ 3.5", "3.5"),
        ("3.5", r"\approx 3.5 \text{ cm}"),
        (r"\text{approximately } 3.5", "3.5"),
    ],
)
def test_about_is_no_part_of_the_value(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("B. 5", "B"),
        ("(B) 5", "5"),
        (r"\text{B. } 5", "5"),
        (r"5 \text{ (B)}", "B"),
        (r"5 \quad \text{(B)}", "B"),
        (r"5 \implies B", "B"),
        (r"\textbf{(B)}", "B"),
        (r"\mathrm{(B)}", "B"),
        ("A、C", "AC"),
        ("(A), (C)", "A, C"),
        ("A and C", "A, C"),
    ],
)
def test_an_option_may_stand_with_its_value(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("diverges", "The integral diverges"),
        ("It is even", "even"),
        ("5th", "5"),
        ("5^{th}", "5"),
        (r"1^{\text{st}}", "1"),
    ],
)
def test_words_are_compared_without_their_subject(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\{\frac{k\pi}{2} : k \in \mathbb{Z}\}", r"\{\frac{n\pi}{2} : n \in \mathbb{Z}\}"),
        (r"x = 2k\pi, k \in \mathbb{Z}", r"x = 2n\pi, n \in \mathbb{Z}"),
        (r"2k\pi \pm \frac{\pi}{3}, k\in\mathbb{Z}", r"2n\pi \pm \frac{\pi}{3}, n\in\mathbb{Z}"),
        (r"\frac{\pi}{6}+2\pi n, n \in \mathbb{Z}", r"\frac{\pi}{6}+2k\pi (k \in \mathbb{Z})"),
        (r"2,4,6,\ldots,20", "2,4,6,8,10,12,14,16,18,20"),
        (r"\{1,2,\dots,5\}", r"\{1,2,3,4,5\}"),
        (r"1, 2, 3, \cdots, 6", "1,2,3,4,5,6"),
        (r"\frac{x^3}{3}+C", r"\frac{x^3}{3}+c"),
        ("e^x+C", "e^x+C_1"),
        (r"\ln|x|+K", r"\ln|x|+C"),
        (r"y=C_1\cos x+C_2\sin x", r"y=A\cos x+B\sin x"),
        ("y = Ce^{2x}", "y = ke^{2x}"),
        ("y = C e^{2x}", "y = C_1e^{2x}"),
    ],
)
def test_integers_and_constants_may_have_other_names(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            r"\begin{cases} 0 & x<0\\ x & x\geq 0\end{cases}",
            r"\begin{cases} x, & \text{if } x\ge 0 \\ 0, & \text{if } x<0 \end{cases}",
        ),
        (
            r"\begin{cases} 1 & \text{for } x>0\\ 0 & x=0 \\ -1 & x<0\end{cases}",
            r"\begin{cases} -1, & x<0\\ 0, & x=0 \\ 1, & \text{otherwise}\end{cases}",
        ),
        (
            r"f(x)=\begin{cases} 2x+1 & x \le 1\\ 3 & x > 1\end{cases}",
            r"\left\{\begin{array}{ll} 3, & x>1 \\ 2x+1, & x\leq 1\end{array}\right.",
        ),
        (r"\left\{\begin{array}{l} x = 3 \\ y = -1 \end{array}\right.", "(3,-1)"),
    ],
)
def test_cases_may_come_in_any_order(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\color{blue}{42}", "42"),
        (r"\textbf{42}", "42"),
        (r"\boldsymbol{42}", "42"),
        (r"\mathbf{x=42}", "42"),
        (r"\underline{42}", "42"),
        (r"\displaystyle 42", "42"),
        (r"{\large 42}", "42"),
        (r"\huge 42", "42"),
        ("42,", "42"),
        (r"42\,", "42"),
        ("42.", "42"),
        (": 42", "42"),
        (r"= \frac{1}{2}", "0.5"),
        ("“42”", "42"),
        ("``42''", "42"),
        (r"\text{'42'}", "42"),
        ("answer: 42", "42"),
        (r"\text{Answer: } 42", "42"),
        ("Final answer: 42", "42"),
        (r"\text{The answer is } \frac{1}{2}", r"\frac12"),
        (r"\therefore 42", "42"),
        (r"\Rightarrow x = 42", "42"),
        ("(a) 1 (b) 2", "1, 2"),
        (r"\text{(i) } 1, \text{(ii) } 2", "(i) 1 (ii) 2"),
        ("(1) 3; (2) 4", "(1) 3, (2) 4"),
        ("a) 3, b) 4", "3, 4"),
        ("\u200f42", "42"),
    ],
)
def test_what_stands_around_an_answer_is_taken_off(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1 234", "1234"),
        ("1.234.567", "1234567"),
        ("1’234", "1234"),
        ("12{,}5", "12.5"),
        (r"\operatorname{arctg} 1", r"\frac{\pi}{4}"),
        (r"\operatorname{ctg} x", r"\cot x"),
        (r"\operatorname{cosec} x", r"\csc x"),
        (r"\sinh^{-1}(1)", r"\ln(1+\sqrt2)"),
    ],
)
def test_numbers_and_functions_of_other_countries_are_read(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\begin{pmatrix}1\\2\end{pmatrix}+\begin{pmatrix}3\\4\end{pmatrix}", r"\begin{pmatrix}4\\6\end{pmatrix}"),
        (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}\begin{bmatrix}1\\1\end{bmatrix}", r"\begin{bmatrix}3\\7\end{bmatrix}"),
        (r"(1,2,3)^\top", r"\begin{pmatrix}1\\2\\3\end{pmatrix}"),
        (r"(1,2)^{\mathsf T}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (r"\mathbb{R} \setminus \{0,1\}", r"x \ne 0, 1"),
        (r"\mathbb{R}-\{0\}", r"(-\infty,0)\cup(0,\infty)"),
        (r"101_{\text{two}}", "101_2"),
        ("(101)_2", "101_2"),
        (r"\{x : x > 3\}", r"(3,\infty)"),
        (r"\{x \in \mathbb{R} \mid x \ge 2\}", r"x \ge 2"),
    ],
)
def test_matrices_sets_and_bases_are_computed_with(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        (r"\frac{1}{2} \text{ mole}", "0.5"),
        (r"2.0 \times 10^{-3} \text{ M}", "0.002"),
        (r"3.5 \text{ hours}", "3.5"),
        (r"-3.2 \text{ V}", "-3.2"),
        (r"4.18 \text{ J/g}^\circ\text{C}", "4.18"),
        (r"4.18 \text{ J g}^{-1}\text{K}^{-1}", "4.18"),
        (r"8.85 \times 10^{-12} \text{ F/m}", "8.85e-12"),
        (r"1.67\times10^{-27}\text{ kg}", "1.67e-27"),
        (r"0.5 \text{ rev/s}", "0.5"),
        (r"340 \text{ m/sec}", "340"),
        ("6371 km", "6371"),
        (r"5.97 \times 10^{24} kg", r"5.97 \times 10^{24}"),
        ("1.989e30 kg", "1.989e30"),
        (r"10^{-3} \text{ cm}", "0.001"),
        (r"\frac{\pi}{3} \text{ radians}", r"\frac{\pi}{3}"),
        (r"120 \text{ square units}", "120"),
        (r"24\pi \text{ cm}^3", r"24\pi"),
        (r"24\pi\ \text{cubic inches}", r"24\pi"),
        (r"16\sqrt{3} \text{ cm}^2", r"16\sqrt{3}"),
        (r"16\sqrt{3}\ cm^2", r"16\sqrt3"),
        (r"50 \text{ mi/h}", "50"),
        (r"\$12.50", "12.5"),
        (r"12.50 \text{ dollars}", "12.5"),
        (r"\text{\$}12.50", "12.5"),
        (r"\text{Rs } 1200", "1200"),
        (r"1200 \text{ rupees}", "1200"),
        (r"3 \text{ hours } 20 \text{ minutes}", r"200 \text{ minutes}"),
        (r"2 \text{ years and } 6 \text{ months}", r"30 \text{ months}"),
        (r"72^{\circ}", "72"),
        (r"72 \text{ deg}", "72"),
        (r"0.25 \text{ or } 25\%", "0.25, 0.25"),
        ("x+y+z = 6", "6"),
        ("2a + 3b = 12", "12"),
        ("a^2+b^2+c^2=14", "14"),
        (r"\frac{a+b}{c} = 3", "3"),
        ("abc = 6", "6"),
        (r"\sqrt{a+b} = 3", "3"),
        ("|a-b| = 3", "3"),
        (r"\log_{10} x = 2", "2"),
        (r"\cos\angle BAC = \frac{1}{3}", r"\frac13"),
        (r"\sin B = \frac{\sqrt{3}}{2}", r"\frac{\sqrt3}{2}"),
        (r"\tan(\alpha+\beta) = 1", "1"),
        (r"[\triangle ABC] = 10", "10"),
        (r"\text{Area}(ABC) = 10", "10"),
        (r"A_{\text{shaded}} = 10\pi", r"10\pi"),
        ("V_{max} = 7", "7"),
        (r"x_{\max} = 7", "7"),
        ("R^2 = 0.95", "0.95"),
        (r"\chi^2 = 3.84", "3.84"),
        (r"\mu = 5", "5"),
        (r"\sigma^2 = 4", "4"),
        (r"P(\text{red}) = \frac{1}{3}", r"\frac13"),
        (r"P(X \le 3) = 0.7", "0.7"),
        (r"\mathbb{P}(A) = 0.7", "0.7"),
        (r"\Pr(A) = 0.7", "0.7"),
        (r"\binom{n}{k} = 10", "10"),
        ("n! = 120", "120"),
        ("f(g(2)) = 7", "7"),
        ("(f+g)(x) = 3x", "3x"),
        ("f''(0) = 2", "2"),
        ("y' = 3x^2", "3x^2"),
        (r"\frac{d^2y}{dx^2} = 6x", "6x"),
        (r"\frac{\partial f}{\partial x} = 2xy", "2xy"),
        (r"\oint F\cdot dr = 2\pi", r"2\pi"),
        (r"\nabla f = (2x, 2y)", "(2x,2y)"),
        (r"\text{gcd}(12, 18) = 6", "6"),
        (r"\operatorname{lcm}(4,6) = 12", "12"),
        (r"\lfloor x \rfloor = 3", "3"),
        (r"x \equiv 3 \pmod{7}", r"3 \pmod 7"),
        (r"D = \{1,2,3\}", r"\{1,2,3\}"),
        (r"\text{Range} = [0,\infty)", r"[0,\infty)"),
        (r"\text{domain: } x \ge 2", r"x \ge 2"),
        (r"\lambda_1 = 2, \lambda_2 = 3", "2, 3"),
        ("(x,y,z) = (1,2,3)", "(1,2,3)"),
        ("x = 1, y = 2, z = 3", "(1,2,3)"),
        ("A(1,2)", "(1,2)"),
        ("P = (3,4)", "(3,4)"),
        ("a=b=c=1", "1"),
        ("z = 3+4i", "3+4i"),
        (r"\overline{z} = 3-4i", "3-4i"),
        (r"k \ge 2", r"[2,\infty)"),
        ("{42}", "42"),
        (r"\mathbf{42}", "42"),
        (r"\text{(C) } 42", "42"),
        (r"\text{(C) } 42", "C"),
        (r"\textbf{(C) } 42", "C"),
        ("C. 42", "42"),
        (r"\text{C: } 42", "C"),
        (r"42 (\text{C})", "C"),
        ("42~(C)", "C"),
        (r"(D)\ \frac{1}{2}", r"\frac12"),
        ("B, D", "D, B"),
        (r"\text{B and D}", "B,D"),
        (r"\text{A, B, and C}", "A,B,C"),
        ("ABD", "A,B,D"),
        ("I, III", "I and III"),
        (r"\text{I and III}", "I, III"),
        (r"\text{converges absolutely}", r"\text{The series converges absolutely}"),
        (r"\text{increasing}", r"\text{The function is increasing}"),
        (r"\text{It is a parabola}", r"\text{parabola}"),
        (r"\begin{cases} x=2, \\ y=3. \end{cases}", "(2,3)"),
        (r"\begin{aligned} x&=2\\ y&=3 \end{aligned}", "(2,3)"),
        (r"\left\{ \begin{aligned} x &= 2 \\ y &= 3 \end{aligned} \right.", "x=2, y=3"),
        (r"|x| = \begin{cases} x & x\ge0\\ -x & x<0 \end{cases}", r"\begin{cases} -x & x<0\\ x & x\ge0 \end{cases}"),
        (
            r"\begin{cases} 2^n & \text{if } n \text{ is even} \\ 0 & \text{if } n \text{ is odd} \end{cases}",
            r"\begin{cases} 0, & n \text{ odd} \\ 2^n, & n \text{ even} \end{cases}",
        ),
        (
            r"\begin{cases} \frac{1}{x}, & x \neq 0 \\ 0, & x = 0 \end{cases}",
            r"\begin{cases} 0 & \text{if } x=0 \\ 1/x & \text{otherwise} \end{cases}",
        ),
        (r"x = n\pi, n \in \mathbb{Z}", r"k\pi, k \in \mathbb{Z}"),
        (r"x = (-1)^n \frac{\pi}{6} + n\pi, n\in\mathbb{Z}", r"x = k\pi + (-1)^k\frac{\pi}{6}, k\in\mathbb{Z}"),
        (r"x = \frac{\pi}{2} + 2\pi k \text{, where } k \in \mathbb{Z}", r"\frac{\pi}{2}+2\pi n, n \in \mathbb{Z}"),
        (r"\frac{\pi}{4}+\frac{n\pi}{2} \ (n\in\mathbb{Z})", r"\frac{\pi}{4}+\frac{k\pi}{2}, k \in Z"),
        (r"\{x \mid x = 2k, k\in\mathbb{Z}\}", r"\{x \mid x = 2n, n \in \mathbb{Z}\}"),
        (r"5, 10, 15, \ldots, 50", "5,10,15,20,25,30,35,40,45,50"),
        (r"\{1,3,5,\ldots,9\}", r"\{1,3,5,7,9\}"),
        (r"1,2,4,\ldots,64", "1,2,4,8,16,32,64"),
        (r"\sin x + C", r"\sin x + c"),
        (r"-\cos x + C", r"C - \cos x"),
        (r"\frac{1}{2}e^{2x}+C_1", r"\frac{e^{2x}}{2}+C"),
        ("y = C_1 + C_2 x", "y = A + Bx"),
        (r"y = e^x(C_1\cos x + C_2 \sin x)", r"y = e^x(c_1 \cos x + c_2 \sin x)"),
        (r"y = c_1 x + \frac{c_2}{x}", r"y = \frac{C_1}{x} + C_2 x"),
        (r"x = A\cos t + B\sin t", r"x = C_1\cos t + C_2 \sin t"),
        ("2.500", "2.5"),
        ("1.000.000", "1000000"),
        ("10'000", "10000"),
        (r"\operatorname{ch} x", r"\cosh x"),
        (r"\operatorname{sh} x", r"\sinh x"),
        (r"\tg x", r"\tan x"),
        (r"\ctg x", r"\cot x"),
        (r"\arcsh 1", r"\ln(1+\sqrt2)"),
        (r"\text{arcsinh}(1)", r"\ln(1+\sqrt{2})"),
        (r"\lg 100", "2"),
        ("]0,1[", "(0,1)"),
        ("[0;1]", "[0,1]"),
        ("(1;2)", "(1,2)"),
        (r"x \in ]0, 1]", "(0,1]"),
        ("12 人", "12"),
        ("答：42", "42"),
        ("42个", "42"),
        ("根号2", r"\sqrt{2}"),
        ("二十", "20"),
        ("十二", "12"),
        ("三分之一", r"\frac13"),
        ("A或B", "A,B"),
        ("约3.14", "3.14"),
        ("最大值为5", "5"),
        ("最小值是-2", "-2"),
        ("x等于3", "3"),
        ("正确答案：B", "B"),
        ("选择B", "B"),
        ("B选项", "B"),
    ],
)
def test_variants_of_all_kinds_are_read(answer: str, reference: str) -> None:
    assert compare(answer, reference, DEFAULT).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        (r"$x = \boxed{2}$ and $y = \boxed{3}$", "x=2, y=3"),
        ("1. $\\boxed{2}$\n2. $\\boxed{3}$", "2, 3"),
        (r"a) \boxed{2} b) \boxed{3}", "2, 3"),
        (r"(a) $\boxed{2}$, (b) $\boxed{3}$", "2, 3"),
        (r"Part (a): \boxed{2}. Part (b): \boxed{3}.", "2, 3"),
        (r"\boxed{A}\boxed{C}", "A,C"),
        (r"$\boxed{2}$ for part (a) and $\boxed{3}$", "2, 3"),
    ],
)
def test_boxes_that_answer_parts_of_one_question_are_a_list(response: str, reference: str) -> None:
    assert grade(response, [reference]).outcome is Outcome.CORRECT
    assert grade(response, ["2"]).outcome is not Outcome.CORRECT


@pytest.mark.parametrize(
    ("response", "reference"),
    [
        (r"\boxed{\frac13}", "The mode is $1/3$."),
        (r"\boxed{x=2-4t, y=4t, z=t}", "The solution is $z=t, y=4 t, x=2-4 t$."),
        (r"\boxed{No change: the result is 2 times it}", "No change: the result is 2 times it"),
    ],
)
def test_a_reference_may_be_a_sentence(response: str, reference: str) -> None:
    assert grade(response, [reference]).outcome is Outcome.CORRECT
