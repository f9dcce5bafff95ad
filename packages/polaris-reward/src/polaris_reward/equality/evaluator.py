r"""The value of an expression: exact where it is rational, else to many digits; variables take chosen values.

Two expressions without variables are equal if their values are; with variables, if their values agree at points drawn
at random, which for expressions like the answers to problems leaves no room for chance (Schwartz and Zippel).
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mpmath.libmp import NoConvergence

from polaris_reward.equality.arithmetic import ARITIES, OPERATIONS, TRIGONOMETRIC, VARIADIC, Arithmetic
from polaris_reward.equality.points import Point, chosen_value
from polaris_reward.equality.value import DIGITS, Undefined, Value, context_of
from polaris_reward.reading.refusals import TooLarge, Unreadable
from polaris_reward.reading.tree import BaseNumber, Call, Constant, Integral, Matrix, Node, Number, Series, Symbol

INTEGRAL_DIGITS = 8
"""To which integrals are known at least; enough to tell two of them apart, never to call them equal."""

_UNKNOWN_BASE = Fraction(1_000_003, 1_299_709)
"""What the natural logarithm is multiplied with where the base of a logarithm is not known: nothing else equals it."""

_MAX_TERMS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """What signs stand for that are read in several ways."""

    percent: Fraction = Fraction(1, 100)
    """What a percent sign is multiplied with; 1 where it is a unit."""

    degrees: bool = False
    """A degree sign outside a trigonometric function is pi/180, else 1."""

    log_base: Fraction | None = None
    """Base of a logarithm without one; ``None`` for a base that nothing else equals."""


USUAL_MEANING = Meaning()


def evaluate(node: Node, point: Point, *, digits: int = DIGITS, meaning: Meaning = USUAL_MEANING) -> Value:
    """Return the value of an expression.

    Args:
        node: An expression; a list, a set, a relation or a matrix has no value.
        point: A value for each free variable.
        digits: Of floating-point numbers.
        meaning: Of signs that are read in several ways.

    Raises:
        Unreadable: If the node is not an expression.
        Undefined: If it has no finite value at this point.
        TooLarge: If the value or the work passes a bound.
    """
    return _Evaluator(point, Arithmetic(context_of(digits)), meaning).value(node)


class _Evaluator:
    def __init__(self, point: Point, arithmetic: Arithmetic, meaning: Meaning) -> None:
        self._point = dict(point)
        self._arithmetic = arithmetic
        self._context = arithmetic.context
        self._meaning = meaning
        self._degrees = meaning.degrees

    def value(self, node: Node) -> Value:
        try:
            number = self._of(node)
        except (ZeroDivisionError, ValueError, OverflowError, NoConvergence) as error:
            raise Undefined(str(error)) from None
        if not isinstance(number, Fraction) and not self._context.isfinite(number):
            raise Undefined("infinite")
        scale = max(self._arithmetic.scale, abs(self._arithmetic.float(number)))
        return Value(number, scale, self._arithmetic.rounded, self._arithmetic.absorbed)

    def _of(self, node: Node) -> Any:
        self._arithmetic.work(1)
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
        takes_any_number = name in VARIADIC or name.endswith("()")
        if not arguments or (len(arguments) != ARITIES.get(name, 1) and not takes_any_number):
            raise Unreadable(f"{name} of {len(arguments)} numbers")
        if name in TRIGONOMETRIC:
            outside, self._degrees = self._degrees, True
            argument = self._of(arguments[0])
            self._degrees = outside
            return self._arithmetic.trigonometric(name, argument)
        if name == "det":
            return self._determinant(arguments[0])
        if name.endswith("()"):
            return self._unknown_function(name, [self._of(one) for one in arguments])
        if name in {"percent", "degree", "log"}:
            return self._arithmetic.kept(self._ambiguous(name, self._of(arguments[0])))
        operation = OPERATIONS.get(name)
        if operation is None:
            raise Unreadable(f"the function {name}")
        return self._arithmetic.kept(operation(self._arithmetic, *[self._of(one) for one in arguments]))

    def _ambiguous(self, name: str, number: Any) -> Any:
        if name == "percent":
            return self._arithmetic.multiply(number, self._meaning.percent)
        if name == "degree":
            return self._arithmetic.float(number) * self._context.pi / 180 if self._degrees else number
        if self._meaning.log_base is not None:
            return self._arithmetic.log_base(self._meaning.log_base, number)
        return self._arithmetic.multiply(self._arithmetic.ln(number), _UNKNOWN_BASE)

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
            term = self._arithmetic.multiply(factor, self._expanded(minor))
            total = self._arithmetic.add(total, -term if column % 2 else term)
        return total

    def _series(self, series: Series) -> Any:
        first, last = self._arithmetic.integer(self._of(series.first)), self._arithmetic.integer(self._of(series.last))
        if last - first > _MAX_TERMS:
            raise TooLarge(f"a series of more than {_MAX_TERMS} terms")
        outside = self._point.get(series.index)
        is_sum = series.name == "sum"
        total: Any = Fraction(0 if is_sum else 1)
        combine = self._arithmetic.add if is_sum else self._arithmetic.multiply
        for index in range(first, last + 1):
            self._point[series.index] = Fraction(index)
            total = self._arithmetic.kept(combine(total, self._of(series.term)))
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
            return self._arithmetic.float(self._of(integral.integrand))

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
                return self._arithmetic.float(self._of(node))
