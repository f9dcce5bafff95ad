"""Compare an answer with a reference, in rising cost: spelling, plain numbers, words, then trees.

This is all that runs in the caller's process. It takes at most milliseconds, because everything that could take longer
is refused beforehand; what it cannot read or decide is left to the computer algebra in a worker.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from polaris_reward.convention import Convention
from polaris_reward.equality.equal import Equality
from polaris_reward.equality.exact import compare_exactly
from polaris_reward.equality.expressions import Undecided
from polaris_reward.equality.value import Undefined, one_allowance
from polaris_reward.reading.cursor import USUAL, Reading
from polaris_reward.reading.parser import parse
from polaris_reward.reading.refusals import TooLarge, Unreadable, Unsupported
from polaris_reward.reading.tree import Node, Number, Sequence, symbols, walk
from polaris_reward.reading.words import compare_words, formula, plain, without_label
from polaris_reward.reading.wrapping import clean, without_part_labels
from polaris_reward.records import Outcome

_REJECTED = {"reference": Outcome.REFERENCE_REJECTED, "answer": Outcome.ANSWER_REJECTED}
_CODE_MARKS = ("_", "()", ".(", "np.", "math.")
_PROSE = re.compile(r"(?=.*[^\W\d_]{3})[\w\s,.;:'\"!?%&()-]+")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What comparing told."""

    outcome: Outcome | None
    """``None`` if it could not be told here."""

    because: str
    """One sentence for people."""


@lru_cache(maxsize=32_768)
def compare(answer: str, reference: str, convention: Convention) -> Verdict:
    """Compare an answer with one reference."""
    if not reference.strip():
        return Verdict(Outcome.REFERENCE_REJECTED, "the reference is blank")
    exactly = compare_exactly(answer, reference)
    if exactly is not None and _is_final(answer, reference, convention, equal=exactly):
        return _verdict(exactly, "spelled alike, or plain numbers")
    words = compare_words(clean(answer), clean(reference))
    if words is not None:
        return _verdict(words, "compared as words, option letters, times or dates")
    return _compare_trees(answer, reference, convention)


def _is_final(answer: str, reference: str, convention: Convention, *, equal: bool) -> bool:
    """Whether the exact comparison is the last word under a convention."""
    if equal:
        return not (
            convention.strict_integers and ("/" in answer or r"\frac" in answer) and clean(answer) != clean(reference)
        )
    if convention.tolerance:
        return False
    longest = max(len(answer) * ("." in answer), len(reference) * ("." in reference))
    return convention.float_digits is None or longest <= convention.float_digits


def _verdict(equal: bool, because: str) -> Verdict:
    return Verdict(Outcome.CORRECT if equal else Outcome.INCORRECT, because)


def _compare_trees(answer: str, reference: str, convention: Convention) -> Verdict:
    read: list[Node] = []
    for side, text in (("reference", reference), ("answer", answer)):
        try:
            read.append(tree(text))
        except TooLarge as error:
            return Verdict(_REJECTED[side], f"the {side}: {error}")
        except Unreadable as error:
            return _unread(side, text, error)
    expected, given = read
    try:
        with one_allowance():
            return _compare_readings(_readings(answer, reference, given, expected), Equality(convention))
    except TooLarge as error:
        return Verdict(_whose_fault(expected), f"too large: {error}")
    except RecursionError:
        # The caller has used up most of the interpreter's stack.
        return Verdict(Outcome.ANSWER_REJECTED, "nested too deeply for what is left of the stack")


def _compare_readings(pairs: Iterable[tuple[Node, Node]], equality: Equality) -> Verdict:
    undecided = False
    for given, expected in pairs:
        try:
            if equality(given, expected):
                return _verdict(True, "compared by value")
        except (Undecided, Unreadable, Undefined):
            undecided = True
    return Verdict(None, "not decided here") if undecided else _verdict(False, "compared by value")


def _unread(side: str, text: str, error: Unreadable) -> Verdict:
    """Say what becomes of a text that is no formula of ours: one with unknown commands may be one of others."""
    because = f"the {side} is not read here: {error}"
    if isinstance(error, Unsupported):
        return Verdict(None, because)
    if _PROSE.fullmatch(plain(text)) and not any(mark in plain(text) for mark in _CODE_MARKS):
        return Verdict(Outcome.INCORRECT, f"the {side} is words, and the other side says something else")
    return Verdict(_REJECTED[side], because)


def _whose_fault(expected: Node) -> Outcome:
    """Tell whether a bound was passed by the reference, by comparing it with a number."""
    try:
        with one_allowance():
            Equality(Convention())(Number(Fraction(27182818284590452)), expected)
    except TooLarge:
        return Outcome.REFERENCE_REJECTED
    except (Undecided, Unreadable, Undefined):
        pass
    return Outcome.ANSWER_REJECTED


@lru_cache(maxsize=8_192)
def tree(text: str, reading: Reading = USUAL) -> Node:
    """Read an answer as a tree."""
    return parse(without_label(formula(without_part_labels(clean(text)))), reading)


def _readings(answer: str, reference: str, given: Node, expected: Node) -> Iterator[tuple[Node, Node]]:
    """Yield both trees, and again with what is ambiguous in one read in the other way, each pair once."""
    seen: list[tuple[Node, Node]] = []
    for pair in _all_readings(answer, reference, given, expected):
        if pair not in seen:
            seen.append(pair)
            yield pair


def _all_readings(answer: str, reference: str, given: Node, expected: Node) -> Iterator[tuple[Node, Node]]:
    yield given, expected
    if isinstance(given, Sequence) != isinstance(expected, Sequence) and any(
        isinstance(one, Number) and one.grouped for one in (*walk(given), *walk(expected))
    ):
        ungrouped = Reading(group_commas=False)
        yield _read_again(answer, given, ungrouped), _read_again(reference, expected, ungrouped)
    if ("_" in answer) != ("_" in reference):
        indexed = Reading(index_digits=True)
        yield _read_again(answer, given, indexed), _read_again(reference, expected, indexed)
    if "/" in answer or "/" in reference:
        tight = Reading(tight_products=True)
        yield _read_again(answer, given, tight), expected
        yield given, _read_again(reference, expected, tight)
    if bool(symbols(given)) != bool(symbols(expected)):
        # A letter on one side alone is a unit, if it is one.
        units = Reading(letter_units=True)
        yield (
            _read_again(answer, given, units) if symbols(given) else given,
            _read_again(reference, expected, units) if symbols(expected) else expected,
        )


def _read_again(text: str, usual: Node, reading: Reading) -> Node:
    try:
        return tree(text, reading)
    except (Unreadable, TooLarge):
        return usual
