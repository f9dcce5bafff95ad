r"""The value of an expression: exact where it is rational, else to many digits; variables take chosen values.

Two expressions without variables are equal if their values are; with variables, if their values agree at points drawn
at random, which for expressions like the answers to problems leaves no room for chance (Schwartz and Zippel). Numbers
are rationals as long as they stay rational and of moderate size, else floating-point numbers of `DIGITS` digits, which
agree if they differ by less than `AGREEMENT` of the largest number that took part in sums.

Nothing in here takes long: powers, factorials and series that would are refused with `TooLarge`.
"""

import math
import threading
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath
from mpmath.libmp import NoConvergence

from polaris_reward.reading.lexer import TooLarge, TooMuchWork, Unreadable
from polaris_reward.reading.tree import BaseNumber, Call, Constant, Integral, Matrix, Node, Number, Series, Symbol

DIGITS = 60
"""Of a floating-point value at first, and `MORE_DIGITS` for a second look at values that agree."""

MORE_DIGITS = 400

AGREEMENT = 10
"""Digits at the end of a floating-point value that do not count."""

MAX_BITS = 1 << 16
"""Of a rational number; a larger one becomes a floating-point number."""

MAX_STEPS = 30_000
"""Operations, weighed by what they cost, of one evaluation or of all within `one_allowance`."""

_UNKNOWN_BASE = Fraction(1_000_003, 1_299_709)
"""What the natural logarithm is multiplied with where the base of a logarithm is not known: nothing else equals it."""

INTEGRAL_DIGITS = 8
"""To which integrals are known at least; enough to tell two of them apart, never to call them equal."""

_MAX_EXPONENT = 1 << 40
_MAX_FACTORIAL = 3_000
_MAX_TERMS = 5_000


@dataclass(slots=True)
class _Allowance:
    spent: int = 0


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

    @property
    def is_exact(self) -> bool:
        """Whether the number is rational and exact."""
        return isinstance(self.number, Fraction)

    @property
    def real(self) -> Any:
        """The real part, as a floating-point number that can be ordered."""
        return _float(_context(DIGITS), self.number).real

    @property
    def is_real(self) -> bool:
        """Whether the imaginary part is nothing but rounding."""
        if isinstance(self.number, Fraction):
            return True
        imaginary = getattr(self.number, "imag", 0)
        return not imaginary or abs(imaginary) <= self.scale * mpmath.mpf(10) ** (AGREEMENT - DIGITS)


def evaluate(node: Node, point: Mapping[str, Fraction], *, digits: int = DIGITS, degrees: bool = False) -> Value:
    """Return the value of an expression.

    Args:
        node: An expression; a list, a set, a relation or a matrix has no value.
        point: A value for each free variable.
        digits: Of floating-point numbers.
        degrees: Read a degree sign outside a trigonometric function as pi/180, else as 1.

    Raises:
        Unreadable: If the node is not an expression.
        Undefined: If it has no finite value at this point.
        TooLarge: If the value or the work passes a bound.
    """
    return _Evaluator(point, _context(digits), degrees=degrees).value(node)


@contextmanager
def one_allowance() -> Generator[None]:
    """Let all that this thread evaluates in the block share one allowance of `MAX_STEPS`."""
    outer = getattr(_local, "allowance", None)
    _local.allowance = _Allowance()
    try:
        yield
    finally:
        _local.allowance = outer


def agree(left: Value, right: Value, *, digits: int = DIGITS) -> bool:
    """Whether two values are equal, as far as their accuracy tells."""
    if isinstance(left.number, Fraction) and isinstance(right.number, Fraction):
        return left.number == right.number
    context = _context(digits)
    one, other = _float(context, left.number), _float(context, right.number)
    scale = max(_float(context, left.scale), _float(context, right.scale), abs(one), abs(other))
    return abs(one - other) <= scale * context.mpf(10) ** (AGREEMENT - digits)


def is_zero(value: Value, *, digits: int = DIGITS) -> bool:
    """Whether a value is nothing but rounding errors."""
    return agree(value, Value(Fraction(0), Fraction(0), False), digits=digits)


_local = threading.local()


def _context(digits: int) -> Any:
    """Return this thread's context: mpmath keeps the precision in it, and changes it while it computes."""
    contexts: dict[int, Any] = _local.__dict__.setdefault("contexts", {})
    if digits not in contexts:
        contexts[digits] = mpmath.MPContext()
        contexts[digits].dps = digits
    return contexts[digits]


def _float(context: Any, number: Any) -> Any:
    if isinstance(number, Fraction):
        return context.mpf(number.numerator) / number.denominator
    return number


class _Evaluator:
    def __init__(self, point: Mapping[str, Fraction], context: Any, *, degrees: bool) -> None:
        self._point = dict(point)
        self._context = context
        self._degree = degrees
        self._allowance: _Allowance = getattr(_local, "allowance", None) or _Allowance()
        self._scale: Any = context.mpf(0)
        self._rounded = False

    def value(self, node: Node) -> Value:
        try:
            number = self._of(node)
        except (ZeroDivisionError, ValueError, OverflowError, NoConvergence) as error:
            raise Undefined(str(error)) from None
        if not isinstance(number, Fraction) and not self._context.isfinite(number):
            raise Undefined("infinite")
        return Value(number, max(self._scale, abs(self.float(number))), self._rounded)

    def _of(self, node: Node) -> Any:
        self._work(1)
        match node:
            case Number(value):
                return value
            case Symbol(name):
                if name not in self._point:
                    raise Unreadable(f"{name} has no value")
                return self._point[name]
            case Constant(name):
                return self._constant(name)
            case Call(name, arguments):
                return self._call(name, arguments)
            case Series():
                return self._series(node)
            case Integral():
                return self._integral(node)
            case BaseNumber(digits, base):
                raise Unreadable(f"{digits}_{base} is a numeral, not a number")
            case _:
                raise Unreadable(f"{type(node).__name__} is not an expression")

    def _work(self, steps: int) -> None:
        self._allowance.spent += steps
        if self._allowance.spent > MAX_STEPS:
            raise TooMuchWork(f"more than {MAX_STEPS} operations")

    def _constant(self, name: str) -> Any:
        match name:
            case "pi":
                return +self._context.pi
            case "e":
                return +self._context.e
            case "i":
                return self._context.mpc(0, 1)
            case _:
                raise Undefined("infinity")

    def _call(self, name: str, arguments: tuple[Node, ...]) -> Any:
        takes_any_number = name in _VARIADIC or name.endswith("()")
        if not arguments or (len(arguments) != _ARITIES.get(name, 1) and not takes_any_number):
            raise Unreadable(f"{name} of {len(arguments)} numbers")
        if name in _TRIGONOMETRIC:
            outside, self._degree = self._degree, True
            argument = self._of(arguments[0])
            self._degree = outside
            return self._trigonometric(name, argument)
        if name == "det":
            return self._determinant(arguments[0])
        if name.endswith("()"):
            return self._unknown_function(name, [self._of(one) for one in arguments])
        operation = _OPERATIONS.get(name)
        if operation is None:
            raise Unreadable(f"the function {name}")
        return self._kept(operation(self, *[self._of(one) for one in arguments]))

    def _kept(self, number: Any) -> Any:
        """Turn a rational number that has grown too large into a floating-point number."""
        if not isinstance(number, Fraction):
            # A floating-point operation costs as much as several small rational ones.
            self._work(2 * self._context.dps // DIGITS)
            return number
        bits = number.numerator.bit_length() + number.denominator.bit_length()
        self._work(bits >> 8)
        if bits > MAX_BITS:
            self._rounded = True
            return self.float(number)
        return number

    def float(self, number: Any) -> Any:
        return _float(self._context, number)

    def both(self, left: Any, right: Any) -> tuple[Any, Any]:
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return left, right
        return self.float(left), self.float(right)

    def add(self, left: Any, right: Any) -> Any:
        left, right = self.both(left, right)
        if not isinstance(left, Fraction):
            self._scale = max(self._scale, abs(left), abs(right))
        return left + right

    def subtract(self, left: Any, right: Any) -> Any:
        return self.add(left, -right)

    def multiply(self, left: Any, right: Any) -> Any:
        left, right = self.both(left, right)
        return left * right

    def divide(self, left: Any, right: Any) -> Any:
        left, right = self.both(left, right)
        if not isinstance(right, Fraction) and abs(right) <= self._scale * self._context.mpf(10) ** (
            AGREEMENT - self._context.dps
        ):
            raise Undefined("a division by zero")
        return left / right

    def power(self, base: Any, exponent: Any) -> Any:
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return self._integer_power(base, int(exponent))
        if isinstance(exponent, Fraction) and exponent.denominator % 2 and self._is_negative(base):
            # The real root, as school means it: (-8)^(1/3) is -2.
            sign = -1 if exponent.numerator % 2 else 1
            return sign * self.power(-base, exponent)
        if isinstance(base, Fraction) and isinstance(exponent, Fraction) and (root := _exact_root(base, exponent)):
            return self._integer_power(root, exponent.numerator)
        if not base:
            if self.float(exponent).real <= 0:
                raise Undefined("a power of zero")
            return Fraction(0)
        base, exponent = self.float(base), self.float(exponent)
        return self._context.exp(self._bounded(exponent * self._context.log(base)))

    def _integer_power(self, base: Any, exponent: int) -> Any:
        if isinstance(base, Fraction):
            if exponent < 0 and not base:
                raise Undefined("a power of zero")
            bits = max(base.numerator.bit_length(), base.denominator.bit_length())
            if abs(base) in (0, 1) or bits * abs(exponent) <= MAX_BITS:
                return base**exponent
            self._rounded = True
            base = self.float(base)
        if not base:
            return self._context.mpf(0 if exponent else 1)
        if abs(exponent) * (abs(self._context.mag(base)) + 1) > _MAX_EXPONENT:
            raise TooLarge(f"a power with an exponent of {len(str(exponent))} digits")
        return base**exponent

    def _bounded(self, exponent: Any) -> Any:
        if abs(exponent) > _MAX_EXPONENT:
            raise TooLarge("an exponential of an enormous number")
        return exponent

    def _is_negative(self, number: Any) -> bool:
        return not isinstance(number, self._context.mpc) and number < 0

    def root(self, radicand: Any, degree: Any) -> Any:
        if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 1:
            return self.power(radicand, self.divide(Fraction(1), degree))
        return self.power(radicand, Fraction(1, int(degree)))

    def absolute(self, number: Any) -> Any:
        return abs(number)

    def negate(self, number: Any) -> Any:
        return -number

    def exp(self, number: Any) -> Any:
        if not number:
            return Fraction(1)
        return self._context.exp(self._bounded(self.float(number)))

    def ln(self, number: Any) -> Any:
        if number == 1:
            return Fraction(0)
        if not number:
            raise Undefined("the logarithm of zero")
        return self._context.log(self.float(number))

    def log(self, number: Any) -> Any:
        if (base := self._point.get("base of log")) is not None:
            return self.log_base(base, number)
        return self.multiply(self.ln(number), _UNKNOWN_BASE)

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
            self._rounded = True
        number = self.float(number)
        if abs(number) > _MAX_EXPONENT:
            raise TooLarge("a factorial of an enormous number")
        self._work(100)
        return self._context.gamma(number + 1)

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
        if isinstance(number, self._context.mpc):
            if abs(number.imag) > abs(number) * self._context.mpf(10) ** (AGREEMENT - self._context.dps):
                raise Undefined("a complex number that would have to be real")
            return number.real
        return number

    def floor(self, number: Any) -> Any:
        number = self.real(number)
        if isinstance(number, Fraction):
            return Fraction(math.floor(number))
        if self._context.mag(number) > MAX_BITS:
            raise TooLarge("an enormous whole part")
        nearest = self._context.nint(number)
        noise = max(abs(number), self._scale) * self._context.mpf(10) ** (AGREEMENT - self._context.dps)
        if abs(number - nearest) <= noise:
            return Fraction(int(nearest))
        return Fraction(int(self._context.floor(number)))

    def ceil(self, number: Any) -> Any:
        return -self.floor(-number)

    def mod(self, number: Any, modulus: Any) -> Any:
        number, modulus = self.both(self.real(number), self.real(modulus))
        return number % modulus

    def integer(self, number: Any) -> int:
        if not isinstance(number, Fraction) or number.denominator != 1:
            raise Undefined("not a whole number")
        return int(number)

    def percent(self, number: Any) -> Any:
        return self.multiply(number, self._point.get("unit of percent", Fraction(1, 100)))

    def degree(self, number: Any) -> Any:
        if not self._degree:
            return number
        return self.float(number) * self._context.pi / 180

    def _trigonometric(self, name: str, number: Any) -> Any:
        number = self.float(number)
        if self._context.mag(number) > 4 * DIGITS:
            raise TooLarge("a trigonometric function of an enormous number")
        if name.endswith("h"):
            self._bounded(number)
        self._work(4)
        value = getattr(self._context, _TRIGONOMETRIC[name])(number)
        if self._context.mag(value) > 3 * (self._context.dps - AGREEMENT):
            raise Undefined("a pole")
        # The function is accurate relative to 1, as far as its argument is.
        self._scale = max(self._scale, self._context.mpf(1))
        return value

    def _unknown_function(self, name: str, arguments: list[Any]) -> Fraction:
        """Give an unnamed function values of its own: the same for the same arguments."""
        shown = [str(one) if isinstance(one, Fraction) else self._context.nstr(one, 30) for one in arguments]
        return chosen_value(f"{name}{shown}", self._point.get("draw", Fraction(0)))

    def _determinant(self, matrix: Node) -> Any:
        if not isinstance(matrix, Matrix) or len(matrix.rows) != len(matrix.rows[0]) or len(matrix.rows) > 4:
            raise Unreadable("a determinant of a matrix that is not square, or large")
        return self._expanded([[self._of(cell) for cell in row] for row in matrix.rows])

    def _expanded(self, rows: list[list[Any]]) -> Any:
        if len(rows) == 1:
            return rows[0][0]
        total: Any = Fraction(0)
        for column, factor in enumerate(rows[0]):
            minor = [row[:column] + row[column + 1 :] for row in rows[1:]]
            term = self.multiply(factor, self._expanded(minor))
            total = self.add(total, -term if column % 2 else term)
        return total

    def _series(self, series: Series) -> Any:
        first, last = self.integer(self._of(series.first)), self.integer(self._of(series.last))
        if last - first > _MAX_TERMS:
            raise TooLarge(f"a series of more than {_MAX_TERMS} terms")
        outside = self._point.get(series.index)
        total: Any = Fraction(0 if series.name == "sum" else 1)
        for index in range(first, last + 1):
            self._point[series.index] = Fraction(index)
            term = self._of(series.term)
            total = self._kept(self.add(total, term) if series.name == "sum" else self.multiply(total, term))
        if outside is None:
            self._point.pop(series.index, None)
        else:
            self._point[series.index] = outside
        return total

    def _integral(self, integral: Integral) -> Any:
        """Integrate numerically, to a few digits."""
        if not integral.bounds:
            raise Unreadable("an indefinite integral has no value")
        outside = dict(self._point)

        def integrand(at: Any) -> Any:
            self._point[integral.variable] = at
            return self.float(self._of(integral.integrand))

        bounds = [self._bound(one) for one in integral.bounds]
        value, error = self._context.quad(integrand, bounds, error=True)
        self._point = outside
        if not self._context.isfinite(value) or error > abs(value) * self._context.mpf(10) ** -INTEGRAL_DIGITS:
            raise Undefined("an integral that does not settle")
        return value

    def _bound(self, node: Node) -> Any:
        match node:
            case Constant("infinity"):
                return self._context.inf
            case Call("negate", (Constant("infinity"),)):
                return -self._context.inf
            case _:
                return self.float(self._of(node))

    def gcd(self, *numbers: Any) -> Fraction:
        return Fraction(math.gcd(*[self.integer(one) for one in numbers]))

    def lcm(self, *numbers: Any) -> Fraction:
        return Fraction(math.lcm(*[self.integer(one) for one in numbers]))

    def minimum(self, *numbers: Any) -> Any:
        return min(map(self.real, numbers), key=self.float)

    def maximum(self, *numbers: Any) -> Any:
        return max(map(self.real, numbers), key=self.float)


_ARITIES = dict.fromkeys("add subtract multiply divide power root binomial mod".split(), 2) | {"log base": 2}
_VARIADIC = frozenset({"gcd", "lcm", "min", "max"})

_TRIGONOMETRIC = {
    name: {"arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot"}.get(name, name)
    for name in "sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth".split()
}

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _Evaluator.add,
    "subtract": _Evaluator.subtract,
    "multiply": _Evaluator.multiply,
    "divide": _Evaluator.divide,
    "negate": _Evaluator.negate,
    "power": _Evaluator.power,
    "root": _Evaluator.root,
    "abs": _Evaluator.absolute,
    "exp": _Evaluator.exp,
    "ln": _Evaluator.ln,
    "log": _Evaluator.log,
    "log10": _Evaluator.log10,
    "log base": _Evaluator.log_base,
    "factorial": _Evaluator.factorial,
    "double factorial": _Evaluator.double_factorial,
    "binomial": _Evaluator.binomial,
    "floor": _Evaluator.floor,
    "ceil": _Evaluator.ceil,
    "mod": _Evaluator.mod,
    "percent": _Evaluator.percent,
    "degree": _Evaluator.degree,
    "gcd": _Evaluator.gcd,
    "lcm": _Evaluator.lcm,
    "min": _Evaluator.minimum,
    "max": _Evaluator.maximum,
}


def chosen_value(name: str, draw: Fraction) -> Fraction:
    """Return a value between 1/3 and 3 for a name: always the same for a draw, unrelated between draws."""
    noise = zlib.crc32(f"{name}/{draw}".encode())
    return (
        Fraction(noise % 1009 + 1, 1013)
        + (2 if noise >> 20 & 1 else 0) * Fraction(noise >> 12 & 1023, 1031)
        + Fraction(1, 3)
    )


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
