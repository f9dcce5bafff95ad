"""What an answer says beside its value: names, chains of equalities, and the two signs of a plus-minus."""

from polaris_reward.equality.evaluator import evaluate
from polaris_reward.equality.value import Undefined
from polaris_reward.reading.refusals import TooLarge, Unreadable
from polaris_reward.reading.tree import (
    Call,
    Matrix,
    Node,
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
        if not is_name(sides[0]):
            return sides[0]
        operators = ["="]
    if len(operators) > 1 and set(operators) == {"="} and (is_name(sides[0]) or is_constant(sides[-1])):
        sides, operators = [sides[0], sides[-1]], ["="]
    if operators == ["="] and is_constant(sides[0]) and is_constant(sides[1]) and _agree_roughly(*sides):
        return sides[1]
    return Relation(tuple(sides), tuple(operators))


def without_names(node: Node, other: Node) -> Node:
    """Return the value of ``x = 5`` or the set of ``x \\in S`` where the other side does not name anything."""
    if not isinstance(node, Relation) or isinstance(other, Relation) or len(node.sides) != 2:
        return node
    first, last = node.sides
    if node.operators == ("in",) and is_name(first):
        return last
    if node.operators != ("=",) or _names_something(other):
        return node
    if is_name(first) and not _shares_symbols(first, last):
        return last
    if is_name(last) and not _shares_symbols(first, last) and not is_name(first):
        return first
    return node


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
    items: list[Node] = []
    for item in sequence.items:
        item = bare(item)
        if isinstance(item, Relation) and item.operators in {("=",), ("in",)} and is_name(item.sides[0]):
            item = item.sides[1]
        items.append(item)
    return tuple(items)


def expanded(items: tuple[Node, ...]) -> list[Node]:
    """Return the items with each plus-minus written out."""
    expanded: list[Node] = []
    for item in items:
        both = plus_minus(item)
        expanded.extend(both.items if both is not item and isinstance(both, Sequence) else [item])
    return expanded


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
        case Symbol() | Text():
            return True
        case Call(name):
            return name.endswith("()") or (name == "abs" and all(isinstance(one, Symbol) for one in node.arguments))
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


def _agree_roughly(first: Node, last: Node) -> bool:
    """Whether the ends of a chain of equalities are within a percent, as rounded steps are."""
    try:
        one, other = evaluate(first, {}), evaluate(last, {})
    except (Undefined, Unreadable, TooLarge):
        return False
    return abs(one.real - other.real) <= abs(other.real) / 100
