from collections.abc import Callable
from fractions import Fraction

import pytest
from polaris_reward import Outcome
from polaris_reward.reading.units import ONE, Unit, ratio_of_units, unit_named

Verdict = Callable[[str, str], Outcome | None]


def unit(name: str) -> Unit:
    found = unit_named(name)
    assert found is not None
    return found


def pairs(*table: tuple[str, str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("one", "other"), table)


@pairs(
    (r"5 \text{ cm}", "5"),
    ("5 cm", "5"),
    ("5cm", "5"),
    (r"5\,\mathrm{m}", "5"),
    (r"5 \text{ m/s}^2", "5"),
    (r"20 \text{ square inches}", "20"),
    (r"\$5", "5"),
    ("€5.00", "5"),
    ("5 dollars", "5"),
    (r"\frac{1}{2} \text{ hour}", "0.5"),
    ("12 apples", "12"),
    (r"x = 5 \text{ cm}", "5"),
    (r"3 \text{ cm}, 4 \text{ cm}", "4, 3"),
    (r"2\pi \text{ rad}", r"2\pi"),
)
def test_a_unit_on_one_side_alone_does_not_matter(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    (r"5 \text{ cm}", "5 centimeters"),
    ("5 cm", "50 mm"),
    (r"0.12 \text{ m}", "12 cm"),
    ("10 km", r"10{,}000 \text{ m}"),
    ("12 inches", "1 foot"),
    ("3 ft", "1 yard"),
    ("1 mile", "5280 feet"),
    ("2 kg", r"2000 \text{ g}"),
    ("300 minutes", "5 hours"),
    ("1 week", "7 days"),
    ("100 cents", "1 dollar"),
    ("1 liter", "1000 ml"),
    (r"1 \text{ m}^2", r"10000 \text{ cm}^2"),
    (r"1 \text{ square meter}", r"10000 \text{ cm}^2"),
    (r"1 \text{ m}^3", r"1 \text{ cubic meter}"),
    ("60 mph", "60 mph"),
)
def test_units_of_one_dimension_are_converted(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(
    ("5 cm", "6"),
    ("5 cm", "5 mm"),
    ("5 cm", r"5 \text{ m}"),
    ("5 cm", "5 cm^2"),
    (r"5 \text{ cm}^2", r"5 \text{ cm}^3"),
    (r"5 \text{ m}", r"5 \text{ s}"),
    ("5 kg", "5 km"),
    ("5 hours", "5 minutes"),
    ("12 inches", "2 feet"),
    (r"100 \text{ m}^2", r"1 \text{ cm}^2"),
    ("1 dollar", "1 cent"),
    ("60 mph", "60 km/h"),
    (r"60 \text{ km/h}", r"60 \text{ m/s}"),
    (r"3 \pmod 7", r"3 \pmod 5"),
    (r"3 \pmod 7", "10"),
)
def test_different_units_on_both_sides_make_another_answer(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


@pairs((r"3 \pmod 7", "3"), (r"x \equiv 3 \pmod{7}", r"x \equiv 3 \pmod 7"), (r"3 (\bmod 7)", r"3 \pmod 7"))
def test_a_modulus_is_read_like_a_unit(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.CORRECT


@pairs(("5x", "5"), ("5m", "5"), ("5h", "5"), ("5ab", "5"))
def test_a_letter_right_after_a_number_is_a_factor(one: str, other: str, verdict: Verdict) -> None:
    assert verdict(one, other) is Outcome.INCORRECT


def test_the_ratio_of_units_is_exact() -> None:
    inch, foot, centimetre = unit("inches"), unit("foot"), unit("cm")
    assert ratio_of_units(inch, centimetre) == Fraction(254, 100)
    assert ratio_of_units(ONE.times(foot, 2), ONE.times(inch, 2)) == 144
    assert ratio_of_units(unit("kWh"), unit("MJ")) == Fraction(36, 10)
    assert ratio_of_units(unit("kg"), unit("seconds")) is None
    assert ratio_of_units(unit("m"), ONE.times(unit("m"), 2)) is None


@pytest.mark.parametrize(
    "name", ["million", "thirds", "factorial", "north", "squared", "pm", "as", "of", "x", "ab", "AB"]
)
def test_a_word_that_is_not_in_the_list_is_no_unit(name: str) -> None:
    assert unit_named(name) is None


@pytest.mark.parametrize(
    "name", ["N", "kN", "Newtons", "µA", "kΩ", "mmHg", "KM", "Kg", "hours", "people", "boxes", "babies"]
)
def test_symbols_and_names_in_singular_and_plural_are_units(name: str) -> None:
    assert unit_named(name) is not None


def test_a_prefix_in_capitals_is_another_prefix() -> None:
    assert ratio_of_units(unit("MW"), unit("mW")) == 10**9
