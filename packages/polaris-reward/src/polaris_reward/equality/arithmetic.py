"""Arithmetic that stays exact as long as it can and never takes long: what would is refused with `TooLarge`."""
# ruff: noqa: D102 - an operation is what its name says.

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from polaris_reward.equality.value import AGREEMENT, DIGITS, MAX_STEPS, Undefined, current_allowance, to_float
from polaris_reward.reading.refusals import TooLarge, TooMuchWork

MAX_BITS = 1 << 16
"""Of a rational number; a larger one becomes a floating-point number."""

_MAX_EXPONENT = 1 << 40
_MAX_FACTORIAL = 3_000


class Arithmetic:
    """Computes with rational numbers, and with floating-point numbers of one context of mpmath.

    Attributes:
        context: Of mpmath.
        scale: The largest magnitude that took part in sums.
        rounded: Whether a rational number has become too large and was rounded.
        absorbed: Bits by which a term was smaller than what it was added to, at most.
    """

    def __init__(self, context: Any) -> None:
        self.context = context
        self.scale: Any = context.mpf(0)
        self.rounded = False
        self.absorbed = 0
        self._allowance = current_allowance()
        # As measured: an exponential of 60 digits takes as long as some 30 small operations, one of 400 as 350.
        self._function_steps = int(30 * (context.dps / DIGITS) ** 1.3)
        self._gamma_steps = int(15 * (context.dps / DIGITS) ** 2.5)

    def work(self, steps: int) -> None:
        self._allowance.spent += steps
        if self._allowance.spent > MAX_STEPS:
            raise TooMuchWork(f"more than {MAX_STEPS} operations")

    def kept(self, number: Any) -> Any:
        """Turn a rational number that has grown too large into a floating-point number."""
        if not isinstance(number, Fraction):
            # A floating-point operation costs as much as several small rational ones.
            self.work(2 * self.context.dps // DIGITS)
            return number
        bits = number.numerator.bit_length() + number.denominator.bit_length()
        self.work(bits >> 8)
        if bits > MAX_BITS:
            self.rounded = True
            return self.float(number)
        return number

    def float(self, number: Any) -> Any:
        return to_float(self.context, number)

    def both(self, left: Any, right: Any) -> tuple[Any, Any]:
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return left, right
        return self.float(left), self.float(right)

    def add(self, left: Any, right: Any) -> Any:
        left, right = self.both(left, right)
        if not isinstance(left, Fraction):
            self.scale = max(self.scale, abs(left), abs(right))
            if left and right:
                self.absorbed = max(self.absorbed, abs(int(self.context.mag(left) - self.context.mag(right))))
        return left + right

    def subtract(self, left: Any, right: Any) -> Any:
        return self.add(left, -right)

    def multiply(self, left: Any, right: Any) -> Any:
        left, right = self.both(left, right)
        return left * right

    def divide(self, left: Any, right: Any) -> Any:
        left, right = self.both(left, right)
        if not isinstance(right, Fraction) and abs(right) <= self.scale * self.context.mpf(10) ** (
            AGREEMENT - self.context.dps
        ):
            raise Undefined("a division by zero")
        return left / right

    def power(self, base: Any, exponent: Any) -> Any:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return self._integer_power(base, int(exponent))
        is_negative = not isinstance(base, self.context.mpc) and base < 0
        if isinstance(exponent, Fraction) and exponent.denominator % 2 and is_negative:
            # The real root, as school means it: (-8)^(1/3) is -2.
            sign = -1 if exponent.numerator % 2 else 1
            return sign * self.power(-base, exponent)
        if isinstance(base, Fraction) and isinstance(exponent, Fraction) and (root := _exact_root(base, exponent)):
            return self._integer_power(root, exponent.numerator)
        if not base:
            if self.float(exponent).real <= 0:
                raise Undefined("a power of zero")
            return Fraction(0)
        self.work(self._function_steps)
        base, exponent = self.float(base), self.float(exponent)
        return self.context.exp(self.bounded(exponent * self.context.log(base)))

    def _integer_power(self, base: Any, exponent: int) -> Any:
        if isinstance(base, Fraction):
            if exponent < 0 and not base:
                raise Undefined("a power of zero")
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(base) in (0, 1) or bits * abs(exponent) <= MAX_BITS:
                return base**exponent
            self.rounded = True
            base = self.float(base)
        if not base:
            return self.context.mpf(0 if exponent else 1)
        if abs(exponent) * (abs(self.context.mag(base)) + 1) > _MAX_EXPONENT:
            raise TooLarge(f"a power with an exponent of {len(str(exponent))} digits")
        return base**exponent

    def root(self, radicand: Any, degree: Any) -> Any:
        if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 1:
            return self.power(radicand, self.divide(Fraction(1), degree))
        return self.power(radicand, Fraction(1, int(degree)))

    def negate(self, number: Any) -> Any:
        return -number

    def abs(self, number: Any) -> Any:
        return abs(number)

    def exp(self, number: Any) -> Any:
        if not number:
            return Fraction(1)
        self.work(self._function_steps)
        return self.context.exp(self.bounded(self.float(number)))

    def ln(self, number: Any) -> Any:
        if number == 1:
            return Fraction(0)
        if not number:
            raise Undefined("the logarithm of zero")
        self.work(self._function_steps)
        return self.context.log(self.float(number))

    def log_base(self, base: Any, number: Any) -> Any:
        return self.divide(self.ln(number), self.ln(base))

    def log10(self, number: Any) -> Any:
        return self.log_base(Fraction(10), number)

    def factorial(self, number: Any) -> Any:
        if isinstance(number, Fraction) and number.denominator == 1:
            if number < 0:
                raise Undefined("the factorial of a negative number")
            if number <= _MAX_FACTORIAL:
                return Fraction(math.factorial(int(number)))
            self.rounded = True
        number = self.float(number)
        if abs(number) > _MAX_EXPONENT:
            raise TooLarge("a factorial of an enormous number")
        self.work(self._gamma_steps)
        return self.context.gamma(number + 1)

    def double_factorial(self, number: Any) -> Any:
        whole = self.integer(number)
        if not 0 <= whole <= _MAX_FACTORIAL:
            raise TooLarge("a double factorial of a large number")
        return Fraction(math.prod(range(whole, 0, -2)))

    def binomial(self, top: Any, bottom: Any) -> Any:
        if all(isinstance(one, Fraction) and one.denominator == 1 for one in (top, bottom)) and top >= 0:
            if bottom < 0:
                return Fraction(0)
            if top > 2 * _MAX_FACTORIAL:
                raise TooLarge("a binomial coefficient of a large number")
            return Fraction(math.comb(int(top), int(bottom)))
        ratio = self.divide(self.factorial(top), self.factorial(bottom))
        return self.divide(ratio, self.factorial(self.subtract(top, bottom)))

    def real(self, number: Any) -> Any:
        """Refuse a complex number where only a real one makes sense."""
        if isinstance(number, self.context.mpc):
            if abs(number.imag) > abs(number) * self.context.mpf(10) ** (AGREEMENT - self.context.dps):
                raise Undefined("a complex number that would have to be real")
            return number.real
        return number

    def floor(self, number: Any) -> Any:
        number = self.real(number)
        if isinstance(number, Fraction):
            return Fraction(math.floor(number))
        if self.context.mag(number) > MAX_BITS:
            raise TooLarge("an enormous whole part")
        nearest = self.context.nint(number)
        noise = max(abs(number), self.scale) * self.context.mpf(10) ** (AGREEMENT - self.context.dps)
        if abs(number - nearest) <= noise:
            return Fraction(int(nearest))
        return Fraction(int(self.context.floor(number)))

    def ceil(self, number: Any) -> Any:
        return -self.floor(-number)

    def mod(self, number: Any, modulus: Any) -> Any:
        number, modulus = self.both(self.real(number), self.real(modulus))
        return number % modulus

    def trigonometric(self, name: str, number: Any) -> Any:
        number = self.float(number)
        if self.context.mag(number) > 4 * DIGITS:
            raise TooLarge("a trigonometric function of an enormous number")
        if name.endswith("h") and not name.startswith("a"):
            self.bounded(number)
        self.work(self._function_steps)
        value = getattr(self.context, TRIGONOMETRIC[name])(number)
        if self.context.mag(value) > 3 * (self.context.dps - AGREEMENT):
            raise Undefined("a pole")
        # The function is accurate relative to 1, as far as its argument is.
        self.scale = max(self.scale, self.context.mpf(1))
        return value

    def bounded(self, exponent: Any) -> Any:
        if abs(exponent) > _MAX_EXPONENT:
            raise TooLarge("an exponential of an enormous number")
        return exponent

    def integer(self, number: Any) -> int:
        if not isinstance(number, Fraction) or number.denominator != 1:
            raise Undefined("not a whole number")
        return int(number)

    def gcd(self, *numbers: Any) -> Fraction:
        return Fraction(math.gcd(*[self.integer(one) for one in numbers]))

    def lcm(self, *numbers: Any) -> Fraction:
        return Fraction(math.lcm(*[self.integer(one) for one in numbers]))

    def min(self, *numbers: Any) -> Any:
        return min(map(self.real, numbers), key=self.float)

    def max(self, *numbers: Any) -> Any:
        return max(map(self.real, numbers), key=self.float)


ARITIES = dict.fromkeys("add subtract multiply divide power root binomial mod".split(), 2) | {"log base": 2}
VARIADIC = frozenset({"gcd", "lcm", "min", "max"})

TRIGONOMETRIC = {
    name: {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot"}.get(name, name)
    for name in "sin cos tan cot sec csc "
    " arcsin arccos arctan arccot sinh cosh tanh coth sech csch asinh acosh "
    "atanh".split()
}

_NAMES = (
    "add subtract multiply divide negate power root abs exp ln log10 log_base factorial double_factorial binomial "
    "floor ceil mod gcd lcm min max"
).split()
OPERATIONS: dict[str, Callable[..., Any]] = {name.replace("_", " "): getattr(Arithmetic, name) for name in _NAMES}


def _exact_root(base: Fraction, exponent: Fraction) -> Fraction | None:
    """Return the root of a positive rational number if it is rational."""
    degree = exponent.denominator
    if base <= 0 or degree > 64 or base.numerator.bit_length() + base.denominator.bit_length() > 2_000:
        return None
    top, bottom = _integer_root(base.numerator, degree), _integer_root(base.denominator, degree)
    return None if top is None or bottom is None else Fraction(top, bottom)


def _integer_root(number: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(number)
    else:
        low, high = 0, 1 << (number.bit_length() // degree + 1)
        while low < high:
            middle = (low + high + 1) // 2
            if middle**degree <= number:
                low = middle
            else:
                high = middle - 1
        root = low
    return root if root**degree == number else None
