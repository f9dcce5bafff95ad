"""Numbers, what is known of their accuracy, and when two of them are equal.

Numbers are rationals as long as they stay rational and of moderate size, else floating-point numbers of `DIGITS`
digits, which agree if they differ by less than `AGREEMENT` of the largest number that took part in sums.
"""

import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath

DIGITS = 60
"""Of a floating-point value at first, and `MORE_DIGITS` for a second look at values that agree."""

MORE_DIGITS = 400

MOST_DIGITS = 4_000
"""For values with terms so small that `MORE_DIGITS` do not show them."""

AGREEMENT = 10
"""Digits at the end of a floating-point value that do not count."""

MAX_STEPS = 60_000
"""Operations, weighed by what they cost, of one evaluation or of all within `one_allowance`."""


class Undefined(Exception):
    """The expression has no finite value here, as ``1/0``."""


@dataclass(frozen=True, slots=True)
class Value:
    """A number, and what is known of its accuracy."""

    number: Any
    """`Fraction`, or a floating-point number of mpmath, real or complex."""

    scale: Any
    """The largest magnitude that took part in sums, which bounds the rounding errors."""

    rounded: bool
    """A rational number, too large to be kept exactly, was rounded on the way."""

    absorbed: int = 0
    """Bits by which a term was smaller than what it was added to: with fewer digits it is lost, as in 1 + e^-1000."""

    @property
    def is_exact(self) -> bool:
        """Whether the number is rational and exact."""
        return isinstance(self.number, Fraction)

    @property
    def real(self) -> Any:
        """The real part, as a floating-point number that can be ordered."""
        return to_float(context_of(DIGITS), self.number).real

    @property
    def is_real(self) -> bool:
        """Whether the imaginary part is nothing but rounding."""
        if isinstance(self.number, Fraction):
            return True
        imaginary = getattr(self.number, "imag", 0)
        return not imaginary or abs(imaginary) <= self.scale * mpmath.mpf(10) ** (AGREEMENT - DIGITS)


@dataclass(slots=True)
class Allowance:
    """What a computation has spent of `MAX_STEPS`."""

    spent: int = 0


@contextmanager
def one_allowance() -> Generator[None]:
    """Let all that this thread evaluates in the block share one allowance of `MAX_STEPS`."""
    outer = getattr(_local, "allowance", None)
    _local.allowance = Allowance()
    try:
        yield
    finally:
        _local.allowance = outer


def agree(left: Value, right: Value, *, digits: int = DIGITS) -> bool:
    """Whether two values are equal, as far as their accuracy tells."""
    if isinstance(left.number, Fraction) and isinstance(right.number, Fraction):
        return left.number == right.number
    context = context_of(digits)
    one, other = to_float(context, left.number), to_float(context, right.number)
    scale = max(to_float(context, left.scale), to_float(context, right.scale), abs(one), abs(other))
    return abs(one - other) <= scale * context.mpf(10) ** (AGREEMENT - digits)


def is_zero(value: Value, *, digits: int = DIGITS) -> bool:
    """Whether a value is nothing but rounding errors."""
    return agree(value, Value(Fraction(0), Fraction(0), False), digits=digits)


def current_allowance() -> Allowance:
    """Return the allowance that this thread shares, or a fresh one."""
    return getattr(_local, "allowance", None) or Allowance()


def context_of(digits: int) -> Any:
    """Return this thread's context: mpmath keeps the precision in it, and changes it while it computes."""
    contexts: dict[int, Any] = _local.__dict__.setdefault("contexts", {})
    if digits not in contexts:
        contexts[digits] = mpmath.MPContext()
        contexts[digits].dps = digits
    return contexts[digits]


def to_float(context: Any, number: Any) -> Any:
    """Turn a rational number into a floating-point number of a context."""
    if isinstance(number, Fraction):
        return context.mpf(number.numerator) / number.denominator
    return number


_local = threading.local()
