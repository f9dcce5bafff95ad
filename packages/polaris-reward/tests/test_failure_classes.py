"""What other graders are known to get wrong, a test each: answers wrongly accepted, wrongly refused, and worse."""

import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from polaris_reward import DEFAULT, Grader, Outcome

Pairs = Sequence[tuple[str, str]]


def refused(grader: Grader, pairs: Pairs) -> bool:
    """Whether no pair is accepted, and none for the reason that the reference cannot be read."""
    outcomes = {pair: grader.grade(rf"\boxed{{{pair[0]}}}", [pair[1]]).outcome for pair in pairs}
    wrong = {pair: one for pair, one in outcomes.items() if one in {Outcome.CORRECT, Outcome.REFERENCE_REJECTED}}
    assert wrong == {}
    return True


def accepted(grader: Grader, pairs: Pairs) -> bool:
    outcomes = {pair: grader.grade(rf"\boxed{{{pair[0]}}}", [pair[1]]).outcome for pair in pairs}
    assert {pair: one for pair, one in outcomes.items() if one is not Outcome.CORRECT} == {}
    return True


def accepted_both_ways(grader: Grader, pairs: Pairs) -> bool:
    return accepted(grader, pairs) and accepted(grader, [(other, one) for one, other in pairs])


# math-verify, wrong answers accepted.


def test_the_last_number_of_an_unreadable_box_is_not_the_answer(grader: Grader) -> None:
    assert refused(
        grader,
        [
            ("3 + sqrt(5), 3 - sqrt(5)", "5"),
            ("(2 + √7) / 3", "3"),
            ("7, 14, 21, 28, ...", "28"),
            (r"10^{50}(1 + @) + 13", "13"),
            ("print('x') or 4", "4"),
            ("[1..9", "9"),
            ("the answer might be 6", "6"),
        ],
    )


def test_an_empty_box_does_not_send_the_grader_into_the_prose(grader: Grader) -> None:
    for prose in ("the truth is 42", "The answer is 42.", "#### 42", "<answer>42</answer>", r"$42$, \boxed{42}"):
        assert grader.grade(rf"{prose} so \boxed{{}}", ["42"]).outcome is Outcome.NO_ANSWER


def test_tiny_numbers_are_not_all_alike(grader: Grader) -> None:
    assert refused(
        grader,
        [
            (r"\frac{1}{1999!}", r"\frac{1}{2001!}"),
            (r"\frac{1}{3^{80}}", r"\frac{1}{3^{81}}"),
            ("10^{-40}", "0"),
            (r"5.1 \times 10^{-31}", r"5.2 \times 10^{-31}"),
            ("e^{-100}", "e^{-101}"),
        ],
    )


def test_bases_count_when_both_sides_have_one(grader: Grader) -> None:
    assert refused(grader, [("1101_2", "1101_3"), ("313_4", "313_{5}"), ("AB_{12}", "AB_{16}")])


def test_letters_of_names_dates_and_equations_are_not_numbers_to_compute_with(grader: Grader) -> None:
    assert refused(
        grader,
        [
            (r"\angle PQR", r"\angle PRQ"),
            (r"\triangle ABD", r"\triangle ABC"),
            ("2023-11-05", "2007"),
            ("5, 10, 15, \\ldots", "5, 10, 15"),
            ("3", "a + b = 3"),
            ("x^2 + 4 = 0", "0 = 0"),
            ("x^2 = 9", "x = 3"),
        ],
    )


def test_a_box_within_the_thinking_does_not_count(grader: Grader) -> None:
    for response in (r"<think>\boxed{42}</think> Done.", r"<think>It is \boxed{42}", r"<think>\boxed{42}</think>"):
        assert grader.grade(response, ["42"]).reward == 0


def test_a_bare_formula_as_reference_is_not_cut_down_to_one_of_its_numbers(grader: Grader) -> None:
    assert refused(
        grader,
        [
            (r"\frac{1}{3}", r"\frac{1}{3}y"),
            ("2", "2^{n}"),
            ("5", r"5\sqrt{2}"),
            ("4", "4, 6"),
            ("1", r"(-\infty, 1]"),
            ("3", "x + 3"),
        ],
    )


# math-verify, right answers refused.


def test_a_reference_may_be_bare_latex(grader: Grader) -> None:
    for reference in (r"\frac{3}{8}", r"$\frac{3}{8}$", r"\(\frac{3}{8}\)", r"\boxed{\frac{3}{8}}", "3/8", "0.375"):
        assert grader.grade(r"So $\boxed{\dfrac{6}{16}}$.", [reference]).outcome is Outcome.CORRECT


def test_the_notation_of_computer_algebra_is_read(grader: Grader) -> None:
    assert accepted_both_ways(
        grader,
        [
            ("5*cos(pi*t/3) - 2", r"5\cos\left(\frac{\pi t}{3}\right) - 2"),
            ("pi/3", r"\frac{\pi}{3}"),
            ("-2 + exp(9)", "e^9 - 2"),
            ("sqrt(3)/2", r"\frac{\sqrt{3}}{2}"),
            ("x**2 - 3*x", "x^2 - 3x"),
            ("log(8)/log(2)", "3"),
        ],
    )
    assert refused(grader, [("5*cos(pi*t/3) - 2", r"5\cos(\pi t) - 2"), ("sqrt(3)/2", "sqrt(3/2)")])


def test_notation_that_needs_care_is_read(grader: Grader) -> None:
    assert accepted_both_ways(
        grader,
        [
            (r"0.\overline{6}", r"\frac{2}{3}"),
            (r"0.1\dot{6}", r"\frac{1}{6}"),
            (r"e^{2i\pi}", "1"),
            ("|5+12i|", "13"),
            (r"\frac{2}{i}", "-2i"),
            (r"17 \bmod 5", "2"),
            (r"\log_e 7", r"\ln 7"),
            (r"\binom62", "15"),
            (r"\{3,4\}\cap\{4,5\}", r"\{4\}"),
            ("2<x<5", r"x>2 \text{ and } x<5"),
            ("2<x<5", "5>x>2"),
            ("2 1/3", r"\frac{7}{3}"),
            (r"12\,345", "12345"),
            ("√5", r"\sqrt{5}"),
            ("∛27", "3"),
            ("½", "0.5"),
            ("y²", "y^2"),
            ("[0,1] ∪ [2,3]", r"[0,1] \cup [2,3]"),
            ("3·4", "12"),
            (r"\bigl( 1, 2 \bigr)", "(1,2)"),
            ("1~000", "1000"),
            ("81.", "81"),
            ("9 dollars", "9"),
            ("5:30", "05:30"),
            ("Bertha.", "Bertha"),
            (
                r"\begin{cases} 1, & x > 0 \\ 0, & x \le 0 \end{cases}",
                r"\begin{cases} 1 & x > 0 \\ 0 & x \le 0 \end{cases}",
            ),
        ],
    )


def test_an_interval_may_be_given_as_an_inequality(grader: Grader) -> None:
    assert accepted_both_ways(
        grader,
        [(r"-1 < x \le 4", "(-1,4]"), (r"x \ge 7", r"[7,\infty)"), (r"x \ne 2", r"(-\infty,2)\cup(2,\infty)")],
    )
    assert refused(grader, [(r"-1 \le x \le 4", "(-1,4]"), (r"x \le 7", r"[7,\infty)"), ("x > 7", r"[7,\infty)")])


# The grader of DeepScaleR and POLARIS.


def test_words_in_a_box_do_not_cut_off_what_follows_them(grader: Grader) -> None:
    assert refused(
        grader,
        [
            (r"12 \text{ or } 13", "12"),
            (r"12 \text{ and } 13", "12"),
            (r"12 \text{ but perhaps } 13", "12"),
            (r"12 \mbox{ or } 13 \mbox{ or } 14", "12"),
            (r"12 \text{ or 13}", "12"),
        ],
    )


def test_numbers_are_not_glued_together_or_cut(grader: Grader) -> None:
    assert refused(grader, [("(2,345)", "2345"), ("21/2", "2 1/2"), (r"0.\overline{7}", "0.7"), ("1 5", "15")])


def test_braces_keep_what_they_hold_together(grader: Grader) -> None:
    assert refused(
        grader, [("a^{3b}", "a^3b"), (r"\frac{p+q}{r}", "p+q/r"), (r"\sqrt{2x}", r"\sqrt{2}x"), ("2^{n+1}", "2^n+1")]
    )


def test_an_answer_without_a_box_counts_unless_a_box_is_required(grader: Grader) -> None:
    assert grader.grade("Therefore, the answer is 42.", ["42"]).outcome is Outcome.CORRECT


def test_fractions_need_not_be_reduced(grader: Grader) -> None:
    assert accepted_both_ways(grader, [(r"\frac{6}{8}", r"\frac{3}{4}"), ("10/4", "2.5"), (r"\frac{9}{3}", "3")])


# prime_math of verl.


def test_a_factor_of_a_hundred_is_not_forgiven(grader: Grader) -> None:
    assert refused(grader, [("0.25", "25"), ("25", "0.25"), ("2", "200"), ("200", "2"), (r"25\%", "2500")])


def test_numbers_near_each_other_are_not_equal(grader: Grader) -> None:
    assert refused(
        grader,
        [
            ("300000000000", "300000000001"),
            (r"4\pi", "12.56"),
            ("3.14", r"\pi"),
            ("0.667", r"\frac{2}{3}"),
            ("1.0001", "1"),
        ],
    )


def test_brackets_of_intervals_count(grader: Grader) -> None:
    assert refused(
        grader, [("[2,5)", "[2,5]"), ("(2,5)", "[2,5]"), ("(2,5]", "[2,5)"), (r"(-\infty,5)", r"(-\infty,5]")]
    )


# Qwen's math_equal.


def test_the_direction_of_an_inequality_counts(grader: Grader) -> None:
    assert refused(grader, [("y<9", "y>9"), (r"y \le 9", "y<9"), ("1<y<9", "1<y<8"), ("9", "y<9")])


def test_what_is_undefined_equals_nothing(grader: Grader) -> None:
    assert refused(grader, [("0/0", "0"), (r"\frac{0}{0}", "1"), (r"\frac{1}{0}", "0"), (r"\frac{1}{0}", r"\infty")])


def test_a_box_that_never_closes_is_no_answer(grader: Grader) -> None:
    for response in (r"\boxed{42", r"The answer is 42, \boxed{42", r"\boxed{42\}", r"\boxed{41} \boxed{4"):
        assert grader.grade(response, ["42"]).outcome is Outcome.NO_ANSWER


def test_long_integers_are_not_compared_as_floats(grader: Grader) -> None:
    number = "7" * 1_500
    assert refused(
        grader, [(f"{number}1", f"{number}2"), ("9007199254740993", "9007199254740992"), ("10^{400}+1", "10^{400}")]
    )
    assert accepted(grader, [(number, number), (f"{number}.0", number)])


# verl's dapo, and hangs.


def test_a_very_long_response_is_graded_at_once(grader: Grader) -> None:
    started = time.process_time()
    for piece in ("7", "7,", " ", "7 is ", "$", r"\frac{", "=7", "answer is "):
        grader.grade(piece * 100_000, ["7"])
        grader.grade(rf"\boxed{{{piece * 100_000}}}", ["7"])
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("9^{9^{9}}", "1"),
        ("10^{10^{10^{10}}}", "7"),
        ("(((9!)!)!)!", "7"),
        ("2^{2^{100}} - 2^{2^{100}}", "0"),
        (r"\sum_{k=1}^{5000} \binom{5999}{k}", "1"),
        (r"\sum_{k=1}^{5000} 7^{20000} k", "1"),
        (r"\sum_{k=1}^{5000} \sqrt{k}", "1"),
        (r"\sum_{k=1}^{4900} e^{kx}", "x"),
        (r"\sum_{i=1}^{9999} \sum_{j=1}^{9999} \sum_{k=1}^{9999} ijk", "1"),
        ("(x+1)^{1000000}", "x"),
        ("(x+y+z+1)^{300}", "(1+z+y+x)^{300}"),
        (" or ".join(rf"x<\sin{k}" for k in range(60)), "x<1"),
        (r" \cup ".join(rf"(\sin{k}, 9)" for k in range(100)), "[0,1]"),
        (r"\{" + ",".join(map(str, range(300))) + r"\}", "[0,1]"),
        (", ".join(rf"\sin({k}x)" for k in range(90)), ", ".join(rf"\sin({k}x) + 0" for k in range(89, -1, -1))),
        ("1" + "+1" * 900, "901"),
        ("-" * 1_900 + "1", "1"),
        ("^".join("2" * 900), "2"),
        (r"\sqrt" * 380 + "2", "2"),
        ("." * 1_900, "2"),
    ],
    ids=lambda text: text[:16],
)
def test_no_answer_keeps_the_callers_process_busy(grader: Grader, answer: str, reference: str) -> None:
    assert len(answer) <= DEFAULT.max_answer_chars
    started = time.process_time()
    assert grader.grade(rf"\boxed{{{answer}}}", [reference]).outcome in Outcome
    # What takes longer than this belongs to a worker, which is stopped at the deadline.
    assert time.process_time() - started < 3


# Code in answers.

PAYLOADS = (
    "__import__('os').system('touch marker')",
    "__import__('pathlib').Path('marker').touch()",
    "open('marker','w')",
    "open('marker','w') or 0",
    "[open('marker','w'), 1]",
    "(open('marker','w'), 2)",
    r"\{open('marker','w')\}",
    "{open('marker','w'): 1}",
    r"\pi + open('marker','w').close()",
    r"\pi.\func(open('marker','w'))",
    'eval(\'open("marker","w")\')',
    "exec(\"open('marker','w')\")",
    "(lambda: open('marker','w'))()",
    "[x for x in [open('marker','w')]]",
    'f\'{open("marker","w")}\'',
    "''.join([str(open('marker','w'))])",
    'sympify(\'open("marker","w")\')',
    "Symbol('x').subs(open('marker','w'), 1)",
    r"\text{open('marker','w')}",
    r"\operatorname{open}('marker','w')",
    r"\begin{pmatrix} open('marker','w') & 1 \end{pmatrix}",
    r"\sqrt{open('marker','w')}",
    r"\frac{open('marker','w')}{2}",
    r"\int open('marker','w') \, dx",
    r"\lim_{x \to open('marker','w')} x",
    r"\input{|touch marker}",
    r"\write18{touch marker}",
    "$(touch marker)",
    "`touch marker`",
    "; touch marker",
    "1; import os; os.system('touch marker')",
    "%s%n" + "{0.__class__}",
)


def test_code_in_an_answer_or_a_reference_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Here, the workers start in a folder of their own.
    monkeypatch.chdir(tmp_path)
    with Grader(1, deadline_s=2.0) as grader:
        for payload in PAYLOADS:
            for answer, reference in ((payload, "0"), ("0", payload), (payload, rf"{payload} + \int x \, dx")):
                assert not grader.grade(rf"\boxed{{{answer}}}", [reference]).reward
        grader.grade(r"\boxed{\int_0^1 x \, dx}", [r"\frac{1}{2}"])
        assert grader.worker_pids
    assert list(tmp_path.iterdir()) == []


# Signals and threads.

LEFT_TO_WORKERS = (r"\boxed{\int_0^1 3x^2 \, dx}", ["1"])
STUCK = (r"\boxed{\int_0^a e^{-x^4} \sin(x^5) \, dx}", [r"\int_0^a e^{-x^5} \sin(x^4) \, dx"])


def test_no_alarm_of_the_caller_is_used_or_cancelled() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with Grader(1, deadline_s=4.0) as grader:
            handler = signal.getsignal(signal.SIGALRM)
            assert grader.grade(*LEFT_TO_WORKERS).outcome is Outcome.CORRECT
            assert grader.grade(*STUCK).outcome is Outcome.ANSWER_TIMEOUT
            assert signal.getsignal(signal.SIGALRM) is handler
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_grading_works_in_threads(grader: Grader) -> None:
    cases = [
        (r"\boxed{\frac{2}{4}}", ["0.5"], Outcome.CORRECT),
        (r"\boxed{\sqrt{8}}", [r"2\sqrt{2}"], Outcome.CORRECT),
        (r"\boxed{[0,1)}", ["[0,1]"], Outcome.INCORRECT),
        (*LEFT_TO_WORKERS, Outcome.CORRECT),
        (r"\boxed{", ["1"], Outcome.NO_ANSWER),
    ]
    found: list[list[Outcome]] = []

    def grade_all() -> None:
        found.append([grader.grade(response, references).outcome for response, references, _ in cases])

    threads = [threading.Thread(target=grade_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[outcome for _, _, outcome in cases]] * 4
