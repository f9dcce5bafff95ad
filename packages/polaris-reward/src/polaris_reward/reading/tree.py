"""What an answer says, as a tree: expressions at the bottom, lists, sets, relations and matrices above them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal


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
    """An expression followed by a unit or other words."""

    value: "Node"
    unit: str


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


@dataclass(frozen=True, slots=True)
class SetOperation:
    """A union, an intersection or a difference of sets."""

    name: Literal["union", "intersection", "difference"]
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of cells; ``kind`` tells a matrix from the cases of a definition."""

    rows: tuple[tuple["Node", ...], ...]
    kind: Literal["matrix", "cases"] = "matrix"


Leaf = Number | BaseNumber | Symbol | Constant | Text
Node = Leaf | Call | Series | Integral | Quantity | Sequence | Ratio | Relation | SetOperation | Matrix


def children(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below one."""
    match node:
        case Call(_, arguments):
            return arguments
        case Series(first=first, last=last, term=term):
            return (first, last, term)
        case Integral(_, integrand, bounds):
            return (integrand, *bounds)
        case Quantity(value, _):
            return (value,)
        case Sequence(items):
            return items
        case Ratio(terms):
            return terms
        case Relation(sides, _):
            return sides
        case SetOperation(_, left, right):
            return (left, right)
        case Matrix(rows, _):
            return tuple(cell for row in rows for cell in row)
        case _:
            return ()


def depth(node: Node) -> int:
    """Return how many nodes lie on the longest way down."""
    level, deepest = [node], 0
    while level:
        deepest += 1
        level = [child for one in level for child in children(one)]
    return deepest


def rebuilt(node: Node, change: Callable[[Node], Node]) -> Node:
    """Return a node with each child changed."""
    match node:
        case Call(name, arguments):
            return Call(name, tuple(map(change, arguments)))
        case Series():
            return replace(node, first=change(node.first), last=change(node.last), term=change(node.term))
        case Integral(variable, integrand, bounds):
            return Integral(variable, change(integrand), tuple(map(change, bounds)))
        case Quantity():
            return replace(node, value=change(node.value))
        case Sequence(items):
            return replace(node, items=tuple(map(change, items)))
        case Ratio(terms):
            return Ratio(tuple(map(change, terms)))
        case Relation(sides):
            return replace(node, sides=tuple(map(change, sides)))
        case SetOperation():
            return replace(node, left=change(node.left), right=change(node.right))
        case Matrix(rows):
            return replace(node, rows=tuple(tuple(map(change, row)) for row in rows))
        case _:
            return node


def walk(node: Node) -> "list[Node]":
    """Return a node and all nodes below it."""
    nodes = [node]
    for one in nodes:
        nodes.extend(children(one))
    return nodes


def symbols(node: Node) -> set[str]:
    """Return the names of the free variables of a tree."""
    if isinstance(node, Symbol):
        return {node.name}
    if isinstance(node, Integral):
        return {name for one in node.bounds for name in symbols(one)} | (symbols(node.integrand) - {node.variable})
    if isinstance(node, Series):
        return symbols(node.first) | symbols(node.last) | (symbols(node.term) - {node.index})
    return {name for child in children(node) for name in symbols(child)}


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
    """Whether a node is an expression without variables."""
    return is_expression(node) and not symbols(node)
