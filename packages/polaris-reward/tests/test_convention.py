import json
from pathlib import Path
from typing import Any

import pytest
from polaris_reward import (
    BOXED,
    CONVENTIONS,
    DEFAULT,
    POLARIS_V1,
    Convention,
    Grader,
    Outcome,
    SettingsError,
    final_answer,
)
from polaris_reward.equality.comparison import compare


def accepts(convention: Convention, answer: str, reference: str) -> bool:
    return compare(answer, reference, convention).outcome is Outcome.CORRECT


def test_the_named_policies_are_found_by_their_names() -> None:
    assert CONVENTIONS == {"default": DEFAULT, "boxed": BOXED, "polaris-v1": POLARIS_V1}
    assert Convention() == DEFAULT


@pytest.mark.parametrize(
    ("response", "default", "boxed", "polaris"),
    [
        ("The answer is 7.", "7", None, None),
        ("<think>7?</think>The answer is 7.", "7", None, None),
        (r"It is \boxed{7}.", "7", "7", None),
        (r"<think>8?</think>It is \boxed{7}.", "7", "7", "7"),
        (r"<think>\boxed{7}</think>It is 8.", "8", None, None),
        (r"<think>\boxed{7}", None, None, None),
        (r"</think>\boxed{8} \boxed{7}", "7", "7", "7"),
        (r"</think>\boxed{}", None, None, None),
    ],
)
def test_policies_differ_in_where_an_answer_may_stand(
    response: str, default: str | None, boxed: str | None, polaris: str | None
) -> None:
    assert [final_answer(response, convention=convention) for convention in CONVENTIONS.values()] == [
        default,
        boxed,
        polaris,
    ]


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("2^{10}", "1024"),
        ("6/2", "3"),
        (r"\frac{6}{2}", "3"),
        ("5!", "120"),
        ("10-3", "7"),
        (r"\sqrt{49}", "7"),
        ("2i^4", "2"),
    ],
)
def test_strict_integers_are_wanted_as_numerals(answer: str, reference: str) -> None:
    assert accepts(DEFAULT, answer, reference)
    assert not accepts(POLARIS_V1, answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("1,024", "1024"),
        ("1024.0", "1024"),
        ("-7", "-7"),
        ("x = 7", "7"),
        (r"7 \text{ cm}", "7"),
        ("3 + 4 = 7", "7"),
        (r"7^\circ", "7"),
        ("1e3", "1000"),
        ("1024", "2^{10}"),
        (r"\frac{2}{4}", r"\frac{1}{2}"),
        (r"\sqrt{8}", r"2\sqrt{2}"),
        ("(x+1)^2", "x^2+2x+1"),
        ("2^{10}", "2^{10}"),
    ],
)
def test_strict_integers_ask_nothing_of_other_answers(answer: str, reference: str) -> None:
    assert accepts(POLARIS_V1, answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference", "tolerance"),
    [
        ("3.14", r"\pi", 1e-3),
        ("0.333", "1/3", 2e-3),
        ("1.01", "1", 0.02),
        ("99", "100", 0.01),
        ("(3.14, 1)", r"(\pi, 1)", 1e-3),
    ],
)
def test_a_rounded_answer_is_right_only_under_a_policy_with_a_tolerance(
    answer: str, reference: str, tolerance: float
) -> None:
    assert not any(accepts(convention, answer, reference) for convention in CONVENTIONS.values())
    assert accepts(Convention(tolerance=tolerance), answer, reference)
    assert not accepts(Convention(tolerance=tolerance / 100), answer, reference)


def test_a_tolerance_is_relative_and_leaves_structure_and_variables_alone() -> None:
    tolerant = Convention(tolerance=0.01)
    assert not accepts(tolerant, "0.001", "0")
    assert not accepts(tolerant, r"\frac{1}{2004!}", r"\frac{1}{2006!}")
    assert not accepts(tolerant, "(1.001, 2)", "(2, 1)")
    assert not accepts(tolerant, "1.001x", "x")


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("0.333333333333333", r"\frac{1}{3}"),
        ("3.14159265358979", r"\pi"),
        ("1.4142135623730951", r"\sqrt{2}"),
        ("-1.7320508075688772", r"-\sqrt{3}"),
        ("22026.465794806718", "e^{10}"),
    ],
)
def test_a_decimal_of_fifteen_digits_stands_for_the_number_it_was_printed_from(answer: str, reference: str) -> None:
    assert accepts(DEFAULT, answer, reference)
    assert accepts(DEFAULT, reference, answer)
    assert not accepts(POLARIS_V1, answer, reference)
    assert not accepts(Convention(float_digits=None), answer, reference)


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("0.33333333333333", r"\frac{1}{3}"),
        ("3.1415926535", r"\pi"),
        ("0.333333333333343", r"\frac{1}{3}"),
        ("3.14159265358970", r"\pi"),
        ("0.333333333333334999999999", r"\frac{1}{3}"),
        ("100000000000000.5", "100000000000000"),
        ("1234567890123.45", "1234567890123.46"),
    ],
)
def test_a_decimal_with_fewer_or_other_digits_does_not(answer: str, reference: str) -> None:
    assert not accepts(DEFAULT, answer, reference)
    assert not accepts(DEFAULT, reference, answer)


def test_a_policy_may_ask_for_fewer_digits() -> None:
    assert accepts(Convention(float_digits=6), "3.14159", r"\pi")
    assert not accepts(Convention(float_digits=6), "3.1416", r"\pi")


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_answer_chars", 0), ("tolerance", -0.1), ("tolerance", 1.0), ("float_digits", 5), ("float_digits", 0)],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{field} is {value!r}; give"):
        Convention(**{field: value})  # pyright: ignore[reportArgumentType]


# Where `POLARIS_V1` differs from the recorded verdicts of the released grader, and why.

PAIRS = {
    (r"\frac{2}{4}", r"\frac{1}{2}"): "unreduced fractions are equal",
    ("2/4", "1/2"): "unreduced fractions are equal",
    ("1024", "2^{10}"): "equal numbers; only a whole reference asks for a numeral",
    (r"\frac{1}{2(n+1)}", r"\frac{1}{2 n+2}"): "equal for all n",
    ("0.5", r"50\%"): "equal numbers",
    ("abc=5", "5"): "a name before the value does not matter, however long it is",
    ("3,2", "2,3"): "a list without brackets has no order",
    (r"\{1,2\}", r"\{2,1\}"): "a set has no order",
    ("8.7e8", r"8.7 \times 10^{8}"): "equal numbers",
    ("870000000", r"8.7 \times 10^{8}"): "equal numbers",
    ("5 million", "5000000"): "equal numbers",
}
REWARDS = {
    r"<think>a</think> \boxed{4} </think> \boxed{5}": "the answer is what follows the last </think>, not the first",
    r"<think>a</think> \boxed{5} </think> \boxed{4}": "the answer is what follows the last </think>, not the first",
}
EXTRACTED = {
    r"\boxed 5": "a box without braces is one in LaTeX",
    r"x \boxed {5}": "a space before the brace is none in LaTeX",
    r"\fbox{5}": "a frame is a box",
    r"\boxed{a\}b}": "an escaped brace closes nothing",
    r"\boxed{}": "an empty box is no answer",
}


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    path = Path(__file__).resolve().parents[4] / "shared" / "facts" / "golden_grader.json"
    if not path.is_file():
        pytest.skip("needs the verdicts of the released grader beside the repository")
    return json.loads(path.read_text(encoding="utf-8"))


def test_verdicts_on_pairs_differ_from_the_released_grader_only_for_a_reason(
    grader: Grader, golden: dict[str, Any]
) -> None:
    def accepted(answer: str, reference: str) -> bool:
        response = rf"<think>x</think> \boxed{{{answer}}}"
        return grader.grade(response, [reference], convention=POLARIS_V1).reward == 1

    rows = {(row["boxed"], row["truth"]): row["grade"] for row in golden["pairs"]}
    assert {pair for pair, verdict in rows.items() if accepted(*pair) is not verdict} == PAIRS.keys()


def test_rewards_differ_from_the_released_grader_only_for_a_reason(grader: Grader, golden: dict[str, Any]) -> None:
    def reward(row: dict[str, Any]) -> float:
        truths = row["truth"] if isinstance(row["truth"], list) else [row["truth"]]
        return grader.grade(row["sequence"], [str(truth) for truth in truths], convention=POLARIS_V1).reward

    assert {row["sequence"] for row in golden["reward"] if reward(row) != row["reward"]} == REWARDS.keys()


def test_extracted_answers_differ_from_the_released_grader_only_for_a_reason(golden: dict[str, Any]) -> None:
    def extracted(row: dict[str, Any]) -> str | None:
        return final_answer(f"</think>{row['text']}", convention=POLARIS_V1)

    assert {row["text"] for row in golden["extract"] if extracted(row) != row["extracted"]} == EXTRACTED.keys()
