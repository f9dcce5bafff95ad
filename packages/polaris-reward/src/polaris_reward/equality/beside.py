"""What an answer says beside its value: names, chains of equalities, and the two signs of a plus-minus."""

import math
from fractions import Fraction
from itertools import pairwise

from polaris_reward.equality.evaluator import evaluate
from polaris_reward.equality.value import Undefined, agree
from polaris_reward.reading.refusals import TooLarge, Unreadable
from polaris_reward.reading.tree import (
    Call,
    Matrix,
    Node,
    Number,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    SetOperation,
    Symbol,
    Text,
    is_constant,
    rebuilt,
    symbols,
    walk,
)

MAX_FILLED = 100
"""Of the numbers that ``1, 2, \\ldots, 9`` leaves out."""

DOTS = Symbol("...")

_BOUNDS = frozenset("not less greater more fewer least most bound bounds wrong incorrect except under over".split())
"""Words of a label that says what the value is not."""

_NAMING = frozenset("abs det gcd lcm max min sin cos tan cot sec csc".split())
"""Functions that name a value, as in ``\\cos A = 1/2``."""


def bare(node: Node) -> Node:
    """Drop what a chain of equalities passes through, and an approximation at its end."""
    if not isinstance(node, Relation):
        return node
    sides, operators = list(node.sides), list(node.operators)
    if "approx" in operators and len(operators) > 1:
        at = operators.index("approx")
        if at and set(operators[:at]) == {"="}:
            sides, operators = sides[: at + 1], operators[:at]
    elif operators == ["approx"]:
        if is_constant(sides[0]):
            return sides[0]
        operators = ["="]
    if set(operators) == {"="}:
        numbers = [side for side in sides if is_constant(side)]
        if len(numbers) > 1 and not any(_passes_for(one, numbers[-1]) for one in numbers[:-1]):
            # It contradicts itself, and says nothing.
            return node
        if len(numbers) == len(sides):
            return sides[-1]
        if len(sides) > 2 and (is_name(sides[0]) or is_constant(sides[-1])):
            sides, operators = [sides[0], sides[-1]], ["="]
    return Relation(tuple(sides), tuple(operators))


def without_names(node: Node, other: Node, *, is_answer: bool = False) -> Node:
    """Return the value of ``x = 5`` or the set of ``x \\in S`` where the other side does not name anything.

    An answer may name its value by any expression, as ``a + b = 6`` does. In a reference such an equation may be the
    answer itself, that of a line, say.
    """
    match node, other:
        case Call("multiply", (Symbol(name), Sequence(opening="(") as point)), Sequence() if name.isupper():
            # `A(1, 2)`: a point with its name.
            return point
        case _:
            pass
    if not isinstance(node, Relation) or isinstance(other, Relation) or len(node.sides) != 2:
        return node
    first, last = node.sides
    if node.operators in {("in",), ("equiv",)} and is_name(first):
        return last
    if node.operators != ("=",) or _names_something(other):
        return node
    names_value = is_name(first) and (is_constant(last) or not (isinstance(first, Call) and first.name in _NAMING))
    if (names_value and not _shares_symbols(first, last)) or (is_answer and _says_value(first, last)):
        return last
    if is_name(last) and not _shares_symbols(first, last) and not is_name(first):
        return first
    return node


def _says_value(first: Node, last: Node) -> bool:
    """Whether an equation tells the value of its left side rather than a condition."""
    if isinstance(last, Matrix) and last.kind == "cases":
        return True
    if isinstance(first, Text) and not _BOUNDS.isdisjoint(first.words.lower().split()):
        return False
    if is_constant(first) or is_name(last) or symbols(first) & symbols(last):
        return False
    # `x^2 - 4 = 0` is a condition.
    return last != Number(Fraction(0)) or not any(isinstance(one, Number) for one in walk(first))


def spread(node: Node, other: Node) -> Node:
    """Read ``(a, b) = (1, 2)`` as ``a = 1, b = 2`` where the other side names its values one by one."""
    match node:
        case Relation((Sequence(names), Sequence(values)), ("=",)) if _names_something(other) and len(names) == len(
            values
        ):
            pairs = zip(names, values, strict=True)
            return Sequence(tuple(Relation((name, value), ("=",)) for name, value in pairs), "", "")
        case _:
            return node


def unnamed(sequence: Sequence) -> tuple[Node, ...]:
    """Return the items without the names that they are given."""
    return tuple(_unnamed(bare(item)) for item in sequence.items)


def _unnamed(item: Node) -> Node:
    if isinstance(item, Relation) and item.operators in {("=",), ("in",)} and is_name(item.sides[0]):
        return item.sides[1]
    return item


def expanded(items: tuple[Node, ...]) -> list[Node]:
    """Return the items with each plus-minus and each ``1, 2, \\ldots, 9`` written out."""
    expanded: list[Node] = []
    for item in _with_dots_filled(items):
        both = plus_minus(item)
        expanded.extend(both.items if both is not item and isinstance(both, Sequence) else [item])
    return expanded


def _with_dots_filled(items: tuple[Node, ...]) -> tuple[Node, ...]:
    if items.count(DOTS) != 1 or items[-1] == DOTS or items[0] == DOTS:
        return items
    at = items.index(DOTS)
    before, after = ([one.value for one in part if isinstance(one, Number)] for part in (items[:at], items[at + 1 :]))
    if len(before) + len(after) + 1 < len(items):
        return items
    steps = {two - one for one, two in pairwise(before)} or {Fraction(1)}
    ratios = {two / one for one, two in pairwise(before) if one}
    if len(steps) > 1 and len(ratios) == 1 and (filled := _powers(before[-1], after[0], ratios.pop())):
        return (*items[:at], *filled, *items[at + 1 :])
    step = steps.pop()
    distance = after[0] - before[-1]
    if steps or not step or (distance / step).denominator != 1 or not 1 <= distance / step <= MAX_FILLED:
        return items
    filled = [Number(before[-1] + step * count) for count in range(1, int(distance / step))]
    return (*items[:at], *filled, *items[at + 1 :])


def _powers(first: Fraction, last: Fraction, ratio: Fraction) -> list[Node]:
    """Return what lies between two members of a geometric sequence; nothing if the last is not one."""
    between: list[Node] = []
    while len(between) < MAX_FILLED and abs(ratio) > 1 and abs(first * ratio) < abs(last):
        first *= ratio
        between.append(Number(first))
    return between if first * ratio == last else []


def plus_minus(node: Node) -> Node:
    """Return the two values of an expression with a plus-minus sign as a list."""
    if isinstance(node, Sequence | SetOperation | Matrix):
        return node
    if not any(isinstance(one, Call) and one.name in {"pm", "mp"} for one in walk(node)):
        return node
    return Sequence((_signed(node, upper=True), _signed(node, upper=False)), "", "")


def assignments(items: tuple[Node, ...]) -> list[dict[Node, Node]] | None:
    """Read ``p=5, q=2; p=7, q=2`` as records, a new one wherever a name comes again; ``None`` if not all are named."""
    records: list[dict[Node, Node]] = [{}]
    for item in items:
        item = bare(item)
        if not isinstance(item, Relation) or item.operators != ("=",) or not is_name(item.sides[0]):
            return None
        for value in expanded((item.sides[1],)):
            if item.sides[0] in records[-1]:
                records.append({})
            records[-1][item.sides[0]] = value
    return records


def is_name(node: Node) -> bool:
    """Whether a node names something rather than says a value: ``x``, ``f(x)``, ``(a, b)``, words."""
    match node:
        case Symbol():
            return True
        case Text(words):
            # `xy` is a product.
            is_bound = not _BOUNDS.isdisjoint(words.lower().split())
            return not is_bound and (len(words) != 2 or not words.islower())
        case Call("multiply", (Call(_, (Symbol("f" | "g" | "h"), Symbol("f" | "g" | "h"))), Symbol())):
            # `(f + g)(x)`
            return True
        case Call(name, arguments):
            return name.endswith("()") or (name in _NAMING and all(map(is_name, arguments)))
        case Sequence(items) | Ratio(items):
            return bool(items) and all(is_name(item) for item in items)
        case Quantity(Symbol(), _):
            return True
        case _:
            return False


def _names_something(node: Node) -> bool:
    return isinstance(node, Sequence) and any(isinstance(item, Relation) for item in node.items)


def _shares_symbols(name: Node, value: Node) -> bool:
    return not isinstance(name, Call | Text) and bool(symbols(name) & symbols(value))


def _signed(node: Node, *, upper: bool) -> Node:
    if isinstance(node, Call) and node.name in {"pm", "mp"}:
        node = Call("add" if (node.name == "pm") == upper else "subtract", node.arguments)
    return rebuilt(node, lambda child: _signed(child, upper=upper))


def _passes_for(number: Node, last: Node) -> bool:
    """Whether a number is the last of a chain, or what that was rounded from: a literal is not rounded again."""
    try:
        one, other = evaluate(number, {}), evaluate(last, {})
    except (Undefined, Unreadable, TooLarge):
        return False
    if agree(one, other):
        return True
    digits = last.significant_digits if isinstance(last, Number) else None
    if isinstance(number, Number) or digits is None or digits < 2 or not one.is_real:
        return False
    last_place = 10.0 ** (math.floor(math.log10(abs(other.real))) + 1 - digits)
    return abs(one.real - other.real) <= last_place / 2
