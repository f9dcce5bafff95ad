r"""Equality of mathematical expressions, by math-verify on sympy. Only the worker imports this.

Both sides are put into ``\boxed{}`` and read as LaTeX from there alone: math-verify misreads bare LaTeX, and
its other readings take the last number out of a text that does not parse. Its own time-outs are off, because
they need SIGALRM and the main thread; whoever calls this must be killable.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from polaris_reward.exact import clean
from polaris_reward.records import Outcome

_WITHOUT_UNITS = LatexExtractionConfig(boxed_match_priority=0, try_extract_without_anchor=False)
_AS_WRITTEN = replace(_WITHOUT_UNITS, normalization_config=replace(_WITHOUT_UNITS.normalization_config, units=False))

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
