r"""Equality of mathematical expressions, by math-verify on sympy. Only the worker imports this.

Both sides are put into ``\boxed{}`` and read as LaTeX from there alone: math-verify misreads bare LaTeX, and
its other readings take the last number out of a text that does not parse. Its own time-outs are off, because
they need SIGALRM and the main thread; whoever calls this must be killable.

sympy turns strings into numbers by evaluating code that it generates from them. Here nothing is evaluated: the strings
that math-verify hands to sympy are numerals and names, which `plain_expression` reads.
"""

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import latex2sympy2_extended.latex2sympy2 as latex2sympy2
import math_verify.parser
import sympy
import sympy.parsing.sympy_parser
from math_verify import LatexExtractionConfig, parse, verify

from polaris_reward.reading.wrapping import clean
from polaris_reward.records import Outcome

_WITHOUT_UNITS = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
_AS_WRITTEN = replace(_WITHOUT_UNITS, normalization_config=replace(_WITHOUT_UNITS.normalization_config, units=False))

_RATIO = re.compile(r"[+-]?\d+(?:/\d+)?")

FLOAT_DIGITS = 12
"""Decimals to which floating-point numbers must agree: noise passes, a rounded answer does not."""


def compare_symbolically(answer: str, reference: str) -> Outcome:
    """Say whether two answers mean the same.

    Returns:
        ``CORRECT``, ``INCORRECT``, or which side cannot be read: ``REFERENCE_REJECTED``, ``ANSWER_REJECTED``.

    Raises:
        Exception: Anything, as math-verify and sympy do on expressions of different kinds.
    """
    expected, given = _parse(reference), _parse(answer)
    if not expected:
        return Outcome.REFERENCE_REJECTED
    if not given:
        return Outcome.ANSWER_REJECTED
    equal = verify(expected, given, float_rounding=FLOAT_DIGITS, timeout_seconds=0, raise_on_error=True)
    return Outcome.CORRECT if equal else Outcome.INCORRECT


@lru_cache(maxsize=512)
def _parse(text: str) -> list[Any]:
    """Return the expression in a list, as math-verify does; the list is empty if the text cannot be read."""
    boxed = rf"\boxed{{{clean(text)}}}"
    # Removing units takes the last letter of `a + b + c` for one and leaves half a sum.
    for reading in (_WITHOUT_UNITS, _AS_WRITTEN):
        if expressions := parse(boxed, [reading], fallback_mode="no_fallback", parsing_timeout=0):
            return expressions
    return []


def plain_expression(text: str, *_: Any, **__: Any) -> Any:
    """Read a numeral or a name, in place of sympy's ``parse_expr``, which evaluates what it is given.

    Raises:
        ValueError: If the text is anything else.
    """
    text = text.strip()
    if _RATIO.fullmatch(text):
        ratio = Fraction(text)
        return sympy.Rational(ratio.numerator, ratio.denominator)
    if text.isidentifier():
        return sympy.Symbol(text)
    return sympy.Float(float(text)) if len(text) < 16 else sympy.Float(text)


for module in (sympy.parsing.sympy_parser, math_verify.parser, latex2sympy2):
    vars(module)["parse_expr"] = plain_expression
