"""Whether two expressions have the same value, and two equations the same solutions.

Numbers are compared by value, expressions with variables at points drawn at random; see
`polaris_reward.equality.evaluator`.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import mpmath

from polaris_reward.convention import Convention
from polaris_reward.equality.constants import with_constants_renamed
from polaris_reward.equality.evaluator import INTEGRAL_DIGITS, USUAL_MEANING, Meaning, evaluate
from polaris_reward.equality.points import Point, draws
from polaris_reward.equality.value import (
    AGREEMENT,
    DIGITS,
    MORE_DIGITS,
    MOST_DIGITS,
    Undefined,
    Value,
    agree,
    is_zero,
    one_allowance,
)
from polaris_reward.reading.refusals import TooLarge, TooMuchWork, Unreadable
from polaris_reward.reading.tree import (
    Call,
    Constant,
    Integral,
    Node,
    Number,
    Relation,
    is_expression,
    symbols,
    walk,
)


class Undecided(Exception):
    """The rules here do not tell whether the two are equal."""


def same_value(left: Node, right: Node, convention: Convention) -> bool:
    """Whether two expressions have the same value, for all values of their variables.

    Raises:
        Undecided: If a node is no expression, or this cannot be told.
        TooLarge: If a number or the work passes a bound.
    """
    if not is_expression(left) or not is_expression(right):
        holds_integral = any(isinstance(one, Integral) for one in (*walk(left), *walk(right)))
        if holds_integral and _surely_differ(left, right):
            return False
        if (is_expression(left) or is_expression(right)) and not holds_integral:
            return False
        raise Undecided
    if convention.strict_integers and _is_integer(right) and not _is_literal(left):
        return False
    signs = (_sign_of_infinity(left), _sign_of_infinity(right))
    if any(signs):
        return signs[0] == signs[1]
    return any(_agree(one, other, meaning, convention) for one, other, meaning in _meanings(left, right))


def _surely_differ(left: Node, right: Node) -> bool:
    """Whether two values with integrals in them are different numbers; that they look equal proves nothing."""
    if symbols(left) | symbols(right):
        return False
    try:
        with one_allowance():
            one, other = evaluate(left, {}, digits=20), evaluate(right, {}, digits=20)
    except (Undefined, TooLarge, Unreadable):
        return False
    return abs(one.real - other.real) > (abs(one.real) + abs(other.real)) * mpmath.mpf(10) ** (2 - INTEGRAL_DIGITS)


def _agree(left: Node, right: Node, meaning: Meaning, convention: Convention) -> bool:
    names = symbols(left) | symbols(right)
    if not names:
        return _constants(left, right, meaning, convention)
    compared, too_large = 0, None
    points = draws(names, left, right)
    for point, all_positive in points:
        try:
            verdict = _agree_at(left, right, point, meaning, all_positive=all_positive)
        except TooMuchWork:
            raise
        except TooLarge as error:
            # Far out, where values grow; the other points tell.
            too_large = error
            continue
        if verdict is False:
            return False
        compared += bool(verdict)
    if compared < 2:
        raise too_large or Undecided
    point, _ = points[0]
    return _agree_at(left, right, point, meaning, digits=MORE_DIGITS) is not False


def _constants(left: Node, right: Node, meaning: Meaning, convention: Convention) -> bool:
    digits = DIGITS
    while True:
        try:
            one, other = (evaluate(side, {}, digits=digits, meaning=meaning) for side in (left, right))
        except Undefined:
            return False
        if not agree(one, other, digits=digits):
            return _near(left, right, one, other, convention)
        if one.is_exact and other.is_exact:
            return True
        needed = max(MORE_DIGITS, 2 * AGREEMENT + int(max(one.absorbed, other.absorbed) * 0.302))
        if digits >= needed:
            break
        if needed > MOST_DIGITS:
            # What was added may be too small to be seen.
            raise Undecided
        digits = needed
    if one.rounded or other.rounded:
        # Rational numbers that agree to so many digits may still differ.
        raise Undecided
    return True


def _near(left: Node, right: Node, one: Value, other: Value, convention: Convention) -> bool:
    """Whether the convention lets two different numbers pass for the same."""
    if not one.is_real or not other.is_real:
        return False
    difference = abs(one.real - other.real)
    if convention.tolerance and difference <= convention.tolerance * abs(other.real):
        return True
    return convention.float_digits is not None and any(
        _is_printed(side, convention.float_digits) and difference <= _printing_error(side, value, against)
        for side, value, against in ((left, one, right), (right, other, left))
    )


def _is_printed(node: Node, digits: int) -> bool:
    """Whether a node is a decimal with the digits of a floating-point number."""
    inner = _unsigned(node)
    return isinstance(inner, Number) and (inner.significant_digits or 0) >= digits


def _printing_error(node: Node, value: Value, against: Node) -> Any:
    """Return how far a printed number may be from what it was printed from: its last digit, and a double's last bit."""
    inner = _unsigned(node)
    assert isinstance(inner, Number)
    written = inner.significant_digits or 0
    first_place = int(mpmath.floor(mpmath.log10(abs(value.real)))) if value.number else 0
    last_digit = mpmath.mpf(10) ** (first_place + 1 - written)
    last_bit = abs(value.real) * mpmath.mpf(2) ** -51 if written <= 17 else 0
    # Two decimals are compared as they are written.
    return last_bit if isinstance(_unsigned(against), Number) else max(last_digit, last_bit)


def proportional(left: Relation, right: Relation, *, positive: bool) -> bool:
    """Whether two equations or inequalities say the same: their differences of sides have a constant ratio.

    Args:
        left: A relation of two expressions.
        right: Another one, with the same operator.
        positive: Whether the ratio must be, as for inequalities.
    """
    one, other = (Call("subtract", (relation.sides[0], relation.sides[1])) for relation in (left, right))
    names = symbols(one) | symbols(other)
    if not names:
        raise Undecided
    ratios: list[Value] = []
    for point, all_positive in draws(names, one, other):
        try:
            ratio = evaluate(Call("divide", (one, other)), point)
        except TooMuchWork:
            raise
        except (Undefined, TooLarge):
            continue
        if all_positive or ratio.is_real:
            ratios.append(ratio)
    if len(ratios) < 3 or any(not agree(ratio, ratios[0]) for ratio in ratios) or is_zero(ratios[0]):
        return False
    return not positive or (ratios[0].is_real and ratios[0].real > 0)


def _agree_at(
    left: Node, right: Node, point: Point, meaning: Meaning, *, all_positive: bool = True, digits: int = DIGITS
) -> bool | None:
    """Compare two expressions at one point; ``None`` if it tells nothing."""
    try:
        one, other = (evaluate(side, point, digits=digits, meaning=meaning) for side in (left, right))
    except Undefined:
        return None
    if not all_positive and not (one.is_real and other.is_real):
        return None
    return agree(one, other, digits=digits)


def _meanings(left: Node, right: Node) -> Iterator[tuple[Node, Node, Meaning]]:
    """Yield the ways to take both sides, the usual one first.

    A percent sign or a degree sign on one side alone may also be a unit, and a logarithm without a base is of an
    unknown base unless that leaves the question open.
    """
    names = [{node.name for node in walk(side) if isinstance(node, Call)} for side in (left, right)]
    yield left, right, USUAL_MEANING
    if ("percent" in names[0] and "degree" in names[1]) or ("degree" in names[0] and "percent" in names[1]):
        # Two different units.
        return
    if ("percent" in names[0]) != ("percent" in names[1]):
        yield left, right, Meaning(percent=Fraction(1))
    if ("degree" in names[0]) != ("degree" in names[1]):
        yield left, right, Meaning(degrees=True)
    if "log" in names[0] | names[1] and "ln" not in names[0] | names[1]:
        yield left, right, Meaning(log_base=Fraction(10))
    for renamed in with_constants_renamed(left, right):
        yield *renamed, USUAL_MEANING


def _is_integer(node: Node) -> bool:
    inner = _unsigned(node)
    return isinstance(inner, Number) and inner.value.denominator == 1


def _is_literal(node: Node) -> bool:
    while isinstance(node, Call) and node.name in {"negate", "percent", "degree"}:
        node = node.arguments[0]
    return isinstance(node, Number)


def _unsigned(node: Node) -> Node:
    return node.arguments[0] if isinstance(node, Call) and node.name == "negate" else node


def _sign_of_infinity(node: Node) -> int:
    """Return 1 or -1 for an infinite expression such as ``-\\infty`` or ``\\infty + 1``, else 0."""
    match node:
        case Constant("infinity"):
            return 1
        case Call("negate", (inner,)):
            return -_sign_of_infinity(inner)
        case Call("add" | "subtract", (left, right)):
            one, other = _sign_of_infinity(left), _sign_of_infinity(right) * (-1 if node.name == "subtract" else 1)
            return one + other if not one or not other else 0
        case _:
            return 0
