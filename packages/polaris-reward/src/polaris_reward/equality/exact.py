r"""Decide without a computer algebra system what can be decided for certain.

Most answers of models are integers and simple fractions. Two plain numbers are compared as rationals, and
any two texts that are spelled alike are equal; everything else is left to the worker. Nothing here may ever
call two unequal things equal: ``3.14`` is not pi, ``0.333`` is not ``1/3``, ``1,2`` is not 12.
"""

import re
from functools import lru_cache

from polaris_reward.reading.wrapping import clean

MAX_NUMBER_CHARS = 400
"""A longer number is not read; Python itself refuses integers of more than 4,300 digits."""

_SIZED_DELIMITER = re.compile(r"\\(?:left|right)\s*(?=[()\[\]|]|\\[{}|])")
# The first alternative keeps a row separator `\\` whole, so that the space after it is not read as `\ `.
_SPACING = re.compile(r"(\\\\)|\\[,;:! ]|\\q?quad(?![A-Za-z])|~|\s+")
# A space stays where it separates words or digits (`1 1/2` is not `11/2`) and in `1, 234`, a pair.
_IDLE_SPACE = re.compile(r"(\\[A-Za-z]+) (?![A-Za-z])|(?<![\w.,]) | (?![\w.])|(?<=,) (?![0-9]{3}(?![0-9]))")

_SEPARATOR = r"(?:,\\!|\{,\}|\\,|,)"
_INTEGER = rf"(?:[1-9][0-9]{{0,2}}(?:{_SEPARATOR}[0-9]{{3}})+|[0-9]+)"
_FRAC_ARGUMENT = rf"\s*(?:\{{\s*([+-]?)\s*({_INTEGER})\s*\}}|([0-9]))"
_NUMBER = re.compile(
    rf"([+-]?)\s*(?:({_INTEGER}(?:\.[0-9]*)?(?!\s*/)|\.[0-9]+|{_INTEGER}(?=\s*/))(?:\s*/\s*({_INTEGER}))?"
    rf"|\\[dtc]?frac{_FRAC_ARGUMENT}{_FRAC_ARGUMENT})"
)
_DIGIT = re.compile("[0-9]")
_NOT_DIGIT = re.compile(r"[^0-9.]")


def compare_exactly(answer: str, reference: str) -> bool | None:
    r"""Compare two answers as text and as plain numbers.

    Plain numbers are integers, decimals and fractions of integers (``a/b``, ``\frac{a}{b}``), with a sign and
    thousands separators (``1,234``, ``1{,}234``); leading zeros do not count.

    Returns:
        ``True`` if they are equal, ``False`` if both are plain numbers that differ, ``None`` if this function
        cannot tell.
    """
    if answer.isdecimal() and reference.isdecimal() and len(answer) + len(reference) < MAX_NUMBER_CHARS:
        return int(answer) == int(reference)
    left, right = _ratio(answer), _ratio(reference)
    if left is not None and right is not None:
        return left[0] * right[1] == right[0] * left[1]
    if left is not None or right is not None:
        # A number is never spelled like what is no number.
        return None
    spelling = _spelling(answer)
    return True if spelling and spelling == _spelling(reference) else None


@lru_cache(maxsize=8192)
def _spelling(text: str) -> str:
    sized = _SIZED_DELIMITER.sub("", clean(text))
    spaced = _SPACING.sub(lambda found: found[1] or " ", sized)
    return _IDLE_SPACE.sub(r"\1", re.sub(" +", " ", spaced)).strip()


@lru_cache(maxsize=8192)
def _ratio(text: str) -> tuple[int, int] | None:
    """Read a plain number as a numerator and a denominator that is not 0, not reduced."""
    if len(text) > MAX_NUMBER_CHARS or not _DIGIT.search(text):
        return None
    found = _NUMBER.fullmatch(text) or _NUMBER.fullmatch(clean(text))
    if found is None:
        return None
    sign, whole, bottom, top_sign, top, top_digit, bottom_sign, low, low_digit = found.groups(default="")
    if whole:
        digits, _, decimals = _digits(whole).partition(".")
        ratio = int(digits + decimals), 10 ** len(decimals) * int(_digits(bottom) or 1)
    else:
        ratio = int(_digits(top or top_digit)), int(_digits(low or low_digit))
    is_negative = (sign + top_sign + bottom_sign).count("-") % 2
    return (-ratio[0] if is_negative else ratio[0], ratio[1]) if ratio[1] else None


def _digits(numeral: str) -> str:
    return _NOT_DIGIT.sub("", numeral)
