"""Names that are free to choose: of constants of integration, and of the integer in a general solution."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from itertools import permutations

from polaris_reward.reading.tree import Call, Node, Number, Relation, Sequence, Symbol, substitute, symbols

_CONSTANT = re.compile(r"[cCkK](?:_\w)?")
_CAPITAL = re.compile(r"[A-DK](?:_\w)?")
_VARIABLES = frozenset("x y z t u v w r s theta phi".split())
"""What one integrates over. Without one of them `C` is a name like any other: ``a + C + 1`` is not ``a + C``."""

MAX_CONSTANTS = 3
_INTEGERS = frozenset({"set Z", "Z", "set N", "N", "integers"})
_INTEGER = Symbol("an integer")
_SHIFTS = tuple(range(-3, 4))


def with_constants_renamed(left: Node, right: Node) -> Iterator[tuple[Node, Node]]:
    """Yield both sides with the constants of integration of one named like those of the other.

    One constant that is added at the end absorbs the numbers that are added, too.
    """
    names = [symbols(side) for side in (left, right)]
    if not (names[0] & _VARIABLES and names[1] & _VARIABLES):
        return
    one, other = (sorted(filter(_CONSTANT.fullmatch, side)) for side in names)
    if not other and not one:
        return
    if (kept := _without_constant(left, right)) is not None:
        yield kept
    # `A e^x + B e^{-x}` names its constants otherwise.
    one = one or sorted(name for name in names[0] - names[1] if _CAPITAL.fullmatch(name))
    other = other or sorted(name for name in names[1] - names[0] if _CAPITAL.fullmatch(name))
    if len(one) != len(other) or len(one) > MAX_CONSTANTS:
        return
    for order in permutations(other):
        if list(order) != one:
            yield _renamed(left, one), _renamed(right, list(order))


def _renamed(node: Node, names: list[str]) -> Node:
    for at, name in enumerate(names):
        node = substitute(node, name, Symbol(f"constant {at}"))
    return node


def _without_constant(left: Node, right: Node) -> tuple[Node, Node] | None:
    """Return both sides without the constant they end with, and without the numbers that it absorbs."""
    kept: list[Node] = []
    for terms in map(_terms, (left, right)):
        constants = [term for term in terms if isinstance(term, Symbol) and _CONSTANT.fullmatch(term.name)]
        rest = [term for term in terms if term not in constants and symbols(term)]
        names = {name for term in rest for name in symbols(term)}
        if len(constants) != 1 or not names & _VARIABLES or any(map(_CONSTANT.fullmatch, names)):
            return None
        kept.append(reduce(lambda total, term: Call("add", (total, term)), rest))
    return kept[0], kept[1]


def _terms(node: Node) -> list[Node]:
    match node:
        case Call("add", (left, right)):
            return [*_terms(left), *_terms(right)]
        case Call("subtract", (left, right)):
            return [*_terms(left), *(Call("negate", (term,)) for term in _terms(right))]
        case _:
            return [node]


def same_general_solution(left: Node, right: Node, same: Callable[[Node, Node], bool]) -> bool | None:
    """Compare solutions for all integers, whatever the integer is called and where it begins.

    Returns:
        ``None`` if neither side says that a name of its stands for any integer.
    """
    (one, name), (other, other_name) = _without_condition(left), _without_condition(right)
    if name is None and other_name is None:
        return None
    unknown = symbols(one) ^ symbols(other)
    name = name or next((free for free in sorted(unknown & symbols(one)) if free in "nmkl"), None)
    other_name = other_name or next((free for free in sorted(unknown & symbols(other)) if free in "nmkl"), None)
    if name is None or other_name is None:
        return same(one, other)
    one, other = substitute(one, name, _INTEGER), substitute(other, other_name, _INTEGER)
    return any(
        same(one, substitute(other, _INTEGER.name, index))
        for sign in (1, -1)
        for shift in (0, *_SHIFTS)
        if (index := _shifted(sign, shift))
    )


def _shifted(sign: int, shift: int) -> Node:
    index: Node = _INTEGER if sign == 1 else Call("negate", (_INTEGER,))
    return Call("add", (index, Number(Fraction(shift)))) if shift else index


def _without_condition(node: Node) -> tuple[Node, str | None]:
    """Drop ``k \\in \\mathbb{Z}`` from the end of a list, and return the name."""
    match node:
        case Sequence((*items, Relation((Symbol(name), Symbol(members)), ("in",))), "", "") if (
            items and members in _INTEGERS
        ):
            return items[0] if len(items) == 1 else Sequence(tuple(items), "", "", node.connective), name
        case _:
            return node, None
