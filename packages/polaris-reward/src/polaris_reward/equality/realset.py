"""Sets of real numbers, compared by who belongs to them.

Every set here is made of intervals by unions, intersections and differences. Two such sets are equal if they agree at
each end of an interval and between any two neighbouring ends, so that no normal form is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Literal

from polaris_reward.equality.evaluator import evaluate
from polaris_reward.equality.value import Undefined, Value, agree, is_zero
from polaris_reward.reading.refusals import TooLarge, Unreadable
from polaris_reward.reading.tree import (
    Call,
    Constant,
    Node,
    Number,
    Relation,
    Sequence,
    SetOperation,
    SetOperator,
    Symbol,
    steps,
    substitute,
    symbols,
)

End = Value | Literal["-infinity", "+infinity"]


@dataclass(frozen=True, slots=True)
class Interval:
    """The numbers between two ends."""

    low: End
    high: End
    has_low: bool
    has_high: bool


@dataclass(frozen=True, slots=True)
class Combination:
    """Two sets and what to do with them."""

    name: SetOperator
    left: "RealSet"
    right: "RealSet"


RealSet = Interval | Combination

MAX_ENDS = 40
"""Of all intervals of two sets."""

_ELSEWHERE = (Fraction(2), Fraction(-7, 3), Fraction(1009, 7), Fraction(-1013))
"""Places at which a linear function must go on as between 0 and 1."""

EVERYTHING = Interval("-infinity", "+infinity", has_low=False, has_high=False)
NOTHING = Combination("difference", EVERYTHING, EVERYTHING)


def real_set(node: Node) -> RealSet | None:
    """Read a set of real numbers from intervals, listed numbers, and linear inequalities in one variable.

    Returns:
        ``None`` if the node is not such a set.
    """
    try:
        return _read(node)
    except (Unreadable, Undefined):
        return None


def is_set_notation(node: Node) -> bool:
    """Whether a node can only be meant as a set of numbers; a pair in brackets can also be a point."""
    match node:
        case SetOperation() | Symbol("reals"):
            return True
        case Relation(_, operators):
            return operators != ("=",) and not {"approx", "equiv"} & set(operators)
        case Sequence(items, opening, closing):
            if opening == "" and items and all(isinstance(item, Relation) for item in items):
                return all(is_set_notation(item) for item in items)
            return len(items) == 2 and (opening, closing) in {("(", "]"), ("[", ")")}
        case _:
            return False


def variable(node: Node) -> str | None:
    """Return the variable that an inequality or a membership is about."""
    match node:
        case Relation(sides, _):
            names = {name for side in sides if not isinstance(side, Sequence) for name in symbols(_named(side))}
            return names.pop() if len(names) == 1 else None
        case Sequence(items) if items:
            names = {variable(item) for item in items}
            return names.pop() if len(names) == 1 else None
        case _:
            return None


def equal_sets(left: RealSet, right: RealSet) -> bool:
    """Whether two sets have the same members."""
    all_ends = [*_ends(left), *_ends(right)]
    if len(all_ends) > 2 * MAX_ENDS:
        raise TooLarge(f"a set of more than {MAX_ENDS} ends")
    ends: list[Value] = []
    for end in all_ends:
        if not any(agree(end, known) for known in ends):
            ends.append(end)
    ends.sort(key=lambda end: end.real)
    # Ends stand at odd places, the numbers between them at even ones.
    places: dict[int, int] = {
        id(end): 2 * next(index for index, known in enumerate(ends) if agree(end, known)) + 1 for end in all_ends
    }
    last = 2 * len(ends) + 1
    return all(_contains(left, at, places, last) == _contains(right, at, places, last) for at in range(last))


def _contains(members: RealSet, at: int, places: Mapping[int, int], last: int) -> bool:
    if isinstance(members, Interval):
        low = -1 if isinstance(members.low, str) else places[id(members.low)]
        high = last if isinstance(members.high, str) else places[id(members.high)]
        return (
            low < at < high
            or (at == low and members.has_low and at <= high)
            or (at == high and members.has_high and at >= low)
        )
    left, right = _contains(members.left, at, places, last), _contains(members.right, at, places, last)
    match members.name:
        case "union":
            return left or right
        case "intersection":
            return left and right
        case "difference":
            return left and not right


def _ends(members: RealSet) -> list[Value]:
    if isinstance(members, Combination):
        return _ends(members.left) + _ends(members.right)
    return [end for end in (members.low, members.high) if not isinstance(end, str)]


def _read(node: Node) -> RealSet | None:
    match node:
        case Symbol("reals"):
            return EVERYTHING
        case SetOperation(name, left, right):
            one, other = _read(left), _read(right)
            return None if one is None or other is None else Combination(name, one, other)
        case Sequence(items, "{", "}"):
            points = [_point(_end(item)) for item in items]
            return reduce(lambda united, one: Combination("union", united, one), points, NOTHING)
        case Sequence((low, high), "(" | "[", ")" | "]"):
            return Interval(_end(low), _end(high), node.opening == "[", node.closing == "]")
        case Sequence(items, "", "") if items and all(isinstance(item, Relation) for item in items):
            both = None if node.connective == "or" else _combined(items, "intersection")
            # A list of conditions that contradict one another is a list of cases.
            return _combined(items, "union") if both is None or equal_sets(both, NOTHING) else both
        case Relation((_, members), ("in",)):
            return _read(members)
        case Relation():
            return _inequality(node) if len(node.operators) == 1 else _combined(steps(node), "intersection")
        case _:
            return None


def _combined(nodes: "tuple[Node, ...] | list[Relation]", name: SetOperator) -> RealSet | None:
    combined: RealSet | None = None
    for node in nodes:
        one = _read(node)
        if one is None:
            return None
        combined = one if combined is None else Combination(name, combined, one)
    return combined


def _point(end: End) -> Interval:
    return Interval(end, end, has_low=True, has_high=True)


def _end(node: Node) -> End:
    match node:
        case Constant("infinity"):
            return "+infinity"
        case Call("negate", (Constant("infinity"),)):
            return "-infinity"
        case _:
            value = evaluate(node, {})
            if not value.is_real:
                raise Undefined("a complex end")
            return value if isinstance(value.number, Fraction) else Value(value.real, value.scale, value.rounded)


def _named(node: Node) -> Node:
    """Treat an unknown function of something, such as ``f(2)``, as a variable of its own."""
    return Symbol(str(node)) if isinstance(node, Call) and node.name.endswith("()") else node


def _inequality(relation: Relation) -> RealSet | None:
    """Solve a linear inequality in one unknown."""
    (left, right), (operator,) = relation.sides, relation.operators
    if operator not in {"<", ">", "<=", ">=", "!="}:
        return None
    sides = [_named(left), _named(right)]
    names = symbols(sides[0]) | symbols(sides[1])
    if len(names) != 1:
        return None
    infinity = Constant("infinity")
    if any(side in (infinity, Call("negate", (infinity,))) for side in sides):
        return EVERYTHING
    (name,) = names
    difference = Call("subtract", (sides[0], sides[1]))
    at_0, at_1 = (substitute(difference, name, Number(Fraction(place))) for place in range(2))
    rise = Call("subtract", (at_1, at_0))
    slope = evaluate(rise, {})
    if is_zero(slope) or not slope.is_real:
        return None
    for place in _ELSEWHERE:
        line = Call("add", (at_0, Call("multiply", (rise, Number(place)))))
        if not agree(evaluate(line, {}), evaluate(difference, {name: place})):
            return None
    bound = _end(Call("negate", (Call("divide", (at_0, rise)),)))
    if operator == "!=":
        return Combination("difference", EVERYTHING, _point(bound))
    below = operator.startswith("<") == (slope.real > 0)
    closed = operator.endswith("=")
    if below:
        return Interval("-infinity", bound, has_low=False, has_high=closed)
    return Interval(bound, "+infinity", has_low=closed, has_high=False)
