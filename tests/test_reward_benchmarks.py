"""The references of real benchmarks, respelled and slightly changed: the grader must tell one from the other."""

import re
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest
from polaris_data import read_problems
from polaris_reward import Grader, Outcome

FILES = ("aime24", "aime25", "amc22_23", "minerva", "olympiadbench", "math500", "gsm8k_test")

Change = Callable[[str], str | None]
"""Another text for a reference; ``None`` where the change does not apply."""

NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)")
FRACTION = re.compile(r"(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}")
# Roots, fractions and multiples of pi: an expression whose negative is another value.
CONSTANT = re.compile(r"(?:\\(?:[dt]?frac|sqrt|pi|cdot)(?![a-zA-Z])|[0-9.+\- {}])+")
TUPLE = re.compile(r"\(([^()\[\]]+)\)")
THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+")
SCIENTIFIC = re.compile(r"\d[eE][+-]?\d")
OPENING = re.compile(r"(?<![\\t])[(\[]")
CLOSING = re.compile(r"(?<!\\)[)\]]")


def unchanged(reference: str) -> str:
    return reference


def with_thousands_separators(reference: str) -> str | None:
    return f"{int(reference):,}" if is_long_integer(reference) else None


def with_braced_separators(reference: str) -> str | None:
    return f"{int(reference):,}".replace(",", "{,}") if is_long_integer(reference) else None


def with_displayed_fractions(reference: str) -> str | None:
    return reference.replace(r"\frac", r"\dfrac") if r"\frac" in reference else None


def with_spaces(reference: str) -> str | None:
    # In a number, a space would part digits from their exponent or their thousands.
    if SCIENTIFIC.search(reference) or re.search(r",(?:\\!)?\s*\d{3}", reference):
        return None
    spaced = re.sub(r"(?<!\\)([-+=,/])", r" \1 ", reference)
    return spaced if spaced != reference else None


def as_equation(reference: str) -> str | None:
    return f"x = {reference}" if is_plain(reference) else None


def with_unit(reference: str) -> str | None:
    return rf"{reference} \text{{ cm}}" if is_plain(reference) else None


def with_bare_unit(reference: str) -> str | None:
    return f"{reference} units" if is_plain(reference) else None


def within_dollars(reference: str) -> str | None:
    return None if "$" in reference else f"${reference}$"


def with_sized_delimiters(reference: str) -> str | None:
    num_open, num_closed = len(OPENING.findall(reference)), len(CLOSING.findall(reference))
    if not num_open or num_open != num_closed or r"\left" in reference:
        return None
    return CLOSING.sub(r"\\right\g<0>", OPENING.sub(r"\\left\g<0>", reference))


def with_a_full_stop(reference: str) -> str | None:
    return None if reference.rstrip("$").endswith(".") else f"{reference}."


def one_more(reference: str) -> str | None:
    if found := FRACTION.fullmatch(reference):
        sign, top, bottom = found.groups()
        return rf"\frac{{{int(sign + top) + 1}}}{{{bottom}}}"
    return str(int(reference) + 1) if is_integer(reference) else None


def one_less(reference: str) -> str | None:
    return str(int(reference) - 1) if is_integer(reference) else None


def with_the_other_sign(reference: str) -> str | None:
    plain = reference.strip("$")
    if not CONSTANT.fullmatch(plain) or not re.search(r"[1-9]|\\pi", plain):
        return None
    return f"-({plain})"


def with_entries_swapped(reference: str) -> str | None:
    found = TUPLE.fullmatch(reference.strip("$"))
    entries = [entry.strip() for entry in found[1].split(",")] if found else []
    if len(entries) < 2 or entries[0] == entries[-1]:
        return None
    return f"({', '.join((entries[-1], *entries[1:-1], entries[0]))})"


def without_last_digit(reference: str) -> str | None:
    return _without_digit(reference, slice(0, -1))


def without_first_digit(reference: str) -> str | None:
    return _without_digit(reference, slice(1, None))


def without_an_element(reference: str) -> str | None:
    elements = reference.strip("$").split(",")
    numbers = [element.strip() for element in elements if NUMBER.fullmatch(element.strip())]
    if len(numbers) < 2 or len(set(numbers)) < len(elements) or THOUSANDS.fullmatch(reference):
        return None
    return ",".join(elements[:-1])


def _without_digit(reference: str, kept: slice) -> str | None:
    shorter = reference[kept]
    if not NUMBER.fullmatch(reference) or not NUMBER.fullmatch(shorter) or Decimal(shorter) == Decimal(reference):
        return None
    return shorter


def is_integer(reference: str) -> bool:
    return bool(re.fullmatch(r"-?\d+", reference))


def is_long_integer(reference: str) -> bool:
    return is_integer(reference) and abs(int(reference)) >= 1000


def is_plain(reference: str) -> bool:
    return bool(NUMBER.fullmatch(reference) or FRACTION.fullmatch(reference))


RESPELLINGS: tuple[Change, ...] = (
    unchanged,
    with_thousands_separators,
    with_braced_separators,
    with_displayed_fractions,
    with_spaces,
    as_equation,
    with_unit,
    with_bare_unit,
    within_dollars,
    with_sized_delimiters,
    with_a_full_stop,
)
NEAR_MISSES: tuple[Change, ...] = (
    one_more,
    one_less,
    with_the_other_sign,
    with_entries_swapped,
    without_last_digit,
    without_first_digit,
    without_an_element,
)


@pytest.fixture(scope="module")
def references(shared_data):
    """Every distinct reference of the benchmarks."""
    found = {
        reference
        for name in FILES
        for problem in read_problems(shared_data / f"{name}.jsonl")
        for reference in problem.references
    }
    return sorted(found)


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(2) as grader:
        yield grader


@pytest.mark.parametrize("respell", RESPELLINGS, ids=lambda change: change.__name__)
def test_a_reference_is_accepted(grader, references, respell):
    compared, outcomes = grade_changed(grader, references, respell)
    refused = [
        (*pair, outcome.value)
        for pair, outcome in zip(compared, outcomes, strict=True)
        if outcome is not Outcome.CORRECT
    ]
    assert compared
    assert not refused, f"{len(refused)} of {len(compared)} are refused: {refused[:30]}"


@pytest.mark.parametrize("change", NEAR_MISSES, ids=lambda change: change.__name__)
def test_a_near_miss_is_refused(grader, references, change):
    compared, outcomes = grade_changed(grader, references, change)
    assert compared
    not_refused = [
        (*pair, outcome.value)
        for pair, outcome in zip(compared, outcomes, strict=True)
        if outcome is not Outcome.INCORRECT
    ]
    assert not not_refused, f"{len(not_refused)} of {len(compared)} are not refused: {not_refused[:30]}"


def grade_changed(grader, references, change):
    """Return the changed references with the references they came from, and what became of each."""
    compared = [(changed, reference) for reference in references if (changed := change(reference)) is not None]
    grades = grader.grade_many([(rf"\boxed{{{changed}}}", [reference]) for changed, reference in compared])
    print(f"{change.__name__}: {len(compared)} of {len(references)} references")
    return compared, [grade.outcome for grade in grades]
