from collections.abc import Callable

import pytest
from polaris_reward import Outcome

Verdict = Callable[[str, str], Outcome | None]


def pairs(*table: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("one", "other"), table)


@pytest.mark.parametrize(
    "spelling", ["C", "(C)", "c", "C.", "[C]", r"\text{C}", r"\textbf{(C)}", "Option C", "$C$", "**C**"]
)
@pytest.mark.parametrize("reference", ["C", "(C)", "C. The third one", "C: because it is", r"\textbf{(C)}\ 12"])
def test_a_letter_names_its_option_in_every_spelling(spelling: str, reference: str, verdict: Verdict) -> None:
    assert verdict(spelling, reference) is Outcome.CORRECT


@pairs(
    ("A", "B"),
    ("(A)", "(B)"),
    ("A", "B. The second one"),
    ("(A) or (B)", "A"),
    ("A. or B.", "A"),
    ("A or B", "A"),
    ("A, B", "A"),
    ("A and B", "B"),
    ("(A), (B), (C), (D)", "A"),
    ("A: 1, B: 2", "A"),
    ("A. 5 B. 6", "A"),
    ("Option A or option B", "A"),
    ("AB", "A"),
)
def test_another_option_or_several_are_not_the_option(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@pairs(("A. 12", "A. 13"), ("(A) red", "(A) green"))
def test_a_letter_with_another_text_is_another_answer(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@pairs(("(a)^2", "a"), ("(b)+1", "b"), ("(c)(d)", "c"), ("[a]^2", "a"), ("e", "E"), ("i", "I + 1"))
def test_a_letter_in_a_formula_is_no_option(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@pairs(
    ("yes", "Yes."),
    ("True", "Yes"),
    ("false", r"\text{No}"),
    ("Navin.", r"\text{Navin}"),
    ("The elephant", "an Elephant"),
    ("St. John's", "St John's"),
    ("does not exist", "DNE"),
    ("no real solutions", r"\text{No solution}"),
    ("no solution", r"\emptyset"),
    ("all real numbers", r"(-\infty, \infty)"),
    ("straight line", r"\text{a straight  line}"),
    ("Infinitely many solutions", "infinitely many"),
)
def test_words_are_equal_without_case_articles_and_punctuation(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("yes", "no"),
    ("True", "no"),
    ("Navin", "Nina"),
    ("increasing", "decreasing"),
    ("even", "odd"),
    ("no solution", "all real numbers"),
    ("no solution", "0"),
    ("infinitely many", r"\infty - 1"),
    ("x is even", "y is even"),
    (r"\text{HHT}", r"\text{HTH}"),
    ("HHT", "HTH"),
    (r"\text{won}", r"\text{now}"),
    ("the first", "the second"),
)
def test_other_words_are_another_answer(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("2.5 cm", "2/5 cm"),
    ("5! ways", "5 ways"),
    ("-5 degrees", "5 degrees"),
    ("x < 1 or x > 2", "x > 1 or x < 2"),
    ("x < 3 and y > 1", "x > 3 and y < 1"),
    ("x = 1 or x = 2", "x != 1 or x = 2"),
    ("sqrt(2)*3", "sqrt(2)/3"),
    ("log(2)/3", "log(2/3)"),
    ("sin(x)/2", "sin(x/2)"),
    ("(1,2) and (3,4)", "(1), (2,3) and (4)"),
    ("xy|x|", "|xyx|"),
)
def test_signs_between_words_are_no_punctuation(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is not Outcome.CORRECT


@pytest.mark.parametrize(
    ("word", "number"),
    [("zero", 0), ("one", 1), ("two", 2), ("five", 5), ("six", 6), ("ten", 10), ("twelve", 12), ("twenty", 20)],
)
def test_a_number_word_is_its_number(word: str, number: int, verdict: Verdict) -> None:
    for spelling in (word, word.capitalize(), rf"\text{{{word}}}", f"{word}."):
        assert verdict(spelling, str(number)) is Outcome.CORRECT
        assert verdict(spelling, str(number + 1)) is Outcome.INCORRECT


@pairs(
    ("3:45 pm", "3:45 P.M."),
    ("3 PM", "3:00 p.m."),
    ("15:45", "3:45 pm"),
    (r"4{:}30 \text{ p.m.}", "4:30 p.m."),
    ("12:00 am", "0:00"),
    ("1:02:03", "01:02:03"),
    ("3:45", "03:45"),
)
def test_times_are_equal_by_the_clock(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("3:45 pm", "3:45 am"), ("3:45", "3:54"), ("3:45", "15:45"), ("2:10", "1:05"), ("12:00 pm", "0:00"), ("3 pm", "3")
)
def test_another_time_is_another_answer(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs(
    ("2024-03-14", "March 14, 2024"),
    ("14 March 2024", "Mar. 14th, 2024"),
    ("2024/3/14", "14th of March 2024"),
    ("March 14", "14 March"),
)
def test_dates_are_equal_by_the_calendar(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("2024-03-14", "2024-03-15"),
    ("2024-03-14", "2007"),
    ("2024-3-14", "2024-14-3"),
    ("March 14", "April 14"),
    ("March 14, 2024", "March 14, 2023"),
)
def test_a_date_is_neither_another_date_nor_a_difference(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT
