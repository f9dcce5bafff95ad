"""What an answer says, as a tree: expressions at the bottom, lists, sets, relations and matrices above them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from typing import Any, Literal

from polaris_reward.reading.units import Unit


@dataclass(frozen=True, slots=True)
class Number:
    """A literal, exactly as it is written: ``0.1`` is a tenth."""

    value: Fraction
    significant_digits: int | None = None
    """Of a decimal without an exponent; ``None`` for integers."""
    grouped: bool = False
    """Commas were read as thousands separators: ``1,234``."""


@dataclass(frozen=True, slots=True)
class BaseNumber:
    """A numeral with its base, such as ``1010_2``."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A variable, a named point or segment, or a macro without a meaning here."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """A number with a name."""

    name: Literal["pi", "e", "i", "infinity"]


@dataclass(frozen=True, slots=True)
class Call:
    """An operation or a function applied to expressions."""

    name: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Series:
    """A finite sum or product over an integer index."""

    name: Literal["sum", "product"]
    index: str
    first: "Node"
    last: "Node"
    term: "Node"


@dataclass(frozen=True, slots=True)
class Integral:
    """An integral that was not worked out; without bounds if it is indefinite."""

    variable: str
    integrand: "Node"
    bounds: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Words."""

    words: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """An expression followed by a unit, or by words that are none."""

    value: "Node"
    unit: Unit


@dataclass(frozen=True, slots=True)
class Sequence:
    """Things in brackets; ``opening`` and ``closing`` are empty for a bare list."""

    items: tuple["Node", ...]
    opening: Literal["", "(", "[", "{"]
    closing: Literal["", ")", "]", "}"]
    connective: Literal["", "and", "or"] = ""
    """The word between the last two items, if there is one."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """``a : b : c``."""

    terms: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain such as ``1 < x <= 2``: one operator fewer than there are sides."""

    sides: tuple["Node", ...]
    operators: tuple[str, ...]


SetOperator = Literal["union", "intersection", "difference"]


@dataclass(frozen=True, slots=True)
class SetOperation:
    """A union, an intersection or a difference of sets."""

    name: SetOperator
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of cells; ``kind`` tells a matrix from the cases of a definition."""

    rows: tuple[tuple["Node", ...], ...]
    kind: Literal["matrix", "cases"] = "matrix"


Leaf = Number | BaseNumber | Symbol | Constant | Text
Node = Leaf | Call | Series | Integral | Quantity | Sequence | Ratio | Relation | SetOperation | Matrix

_PARTS: dict[type, tuple[str, ...]] = {
    Call: ("arguments",), Series: ("first", "last", "term"), Integral: ("integrand", "bounds"), Quantity: ("value",),
    Sequence: ("items",), Ratio: ("terms",), Relation: ("sides",), SetOperation: ("left", "right"), Matrix: ("rows",),
}  # fmt: skip
"""Where a node has its children: a node, a tuple of nodes, or the rows of a matrix."""


def steps(relation: Relation) -> list[Relation]:
    """Return the relations of each two neighbouring sides."""
    return [Relation(relation.sides[at : at + 2], (operator,)) for at, operator in enumerate(relation.operators)]


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below one."""
    if isinstance(node, Call):
        return node.arguments
    if not (names := _PARTS.get(type(node))):
        return ()
    found: list[Node] = []
    for name in names:
        part = getattr(node, name)
        found.extend((part,) if not isinstance(part, tuple) else chain(*part) if name == "rows" else part)
    return tuple(found)


def depth(node: Node) -> int:
    """Return how many nodes lie on the longest way down."""
    level, deepest = [node], 0
    while level:
        deepest += 1
        level = [child for one in level for child in children(one)]
    return deepest


def rebuilt(node: Node, change: Callable[[Node], Node]) -> Node:
    """Return a node with each child changed."""

    def changed(part: Any) -> Any:
        return tuple(map(changed, part)) if isinstance(part, tuple) else change(part)

    parts = {name: changed(getattr(node, name)) for name in _PARTS.get(type(node), ())}
    return replace(node, **parts) if parts else node


def walk(node: Node) -> "list[Node]":
    """Return a node and all nodes below it."""
    nodes = [node]
    for one in nodes:
        nodes.extend(children(one))
    return nodes


def symbols(node: Node) -> set[str]:
    """Return the names of the free variables of a tree."""
    found: set[str] = set()
    nodes = [node]
    for one in nodes:
        if isinstance(one, Symbol):
            found.add(one.name)
        elif isinstance(one, Integral):
            nodes.extend(one.bounds)
            found |= symbols(one.integrand) - {one.variable}
        elif isinstance(one, Series):
            nodes.extend((one.first, one.last))
            found |= symbols(one.term) - {one.index}
        else:
            nodes.extend(children(one))
    return found


def substitute(node: Node, name: str, replacement: Node) -> Node:
    """Return a node with a variable replaced."""
    if isinstance(node, Symbol):
        return replacement if node.name == name else node
    return rebuilt(node, lambda child: substitute(child, name, replacement))


def is_expression(node: Node) -> bool:
    """Whether a node has a value: no list, no relation, no words; a matrix only within a determinant."""
    if isinstance(node, Call) and node.name == "det":
        return all(is_expression(cell) for matrix in node.arguments for cell in children(matrix))
    return isinstance(node, Number | Symbol | Constant | Call | Series) and all(map(is_expression, children(node)))


def is_constant(node: Node) -> bool:
    """Whether a node is an expression without variables and unknown functions."""
    calls_unknown = any(isinstance(one, Call) and one.name.endswith("()") for one in walk(node))
    return is_expression(node) and not symbols(node) and not calls_unknown
