"""Definitions by cases: which values apply where."""

from functools import reduce

from polaris_reward.equality.realset import real_set
from polaris_reward.reading.tree import Matrix, Node, Relation, Sequence, SetOperation, Symbol, Text

_OTHERWISE = frozenset({"otherwise", "else", "elsewhere", "in all other cases", "other", "others", "all other"})
_OPPOSITES = {"odd": "even", "even": "odd", "rational": "irrational", "irrational": "rational"}


def with_conditions(matrix: Matrix) -> list[tuple[Node, Node]]:
    """Return values with their conditions, "otherwise" written out if it can be."""
    rows = [(row[0], row[1]) for row in matrix.rows]
    others = [condition for _, condition in rows if not _is_otherwise(condition)]
    if len(others) + 1 != len(rows):
        return rows
    rest = _rest(others)
    return [(value, rest if rest and _is_otherwise(condition) else condition) for value, condition in rows]


def _rest(conditions: list[Node]) -> Node | None:
    """Return what none of the conditions holds for: a set of numbers, or the other parity."""
    match conditions:
        case [Sequence((name, Text(word)))] if word in _OPPOSITES:
            return Sequence((name, Text(_OPPOSITES[word])), "", "")
        case [Relation(sides, ("=",))]:
            return Relation(sides, ("!=",))
        case [Relation(sides, ("!=",))]:
            return Relation(sides, ("=",))
        case _ if all(real_set(one) is not None for one in map(_as_set, conditions)):
            taken = reduce(lambda union, one: SetOperation("union", union, one), map(_as_set, conditions))
            return SetOperation("difference", Symbol("reals"), taken)
        case _:
            return None


def _as_set(condition: Node) -> Node:
    match condition:
        case Relation((Symbol(), value), ("=",)):
            return Sequence((value,), "{", "}")
        case _:
            return condition


def _is_otherwise(condition: Node) -> bool:
    return isinstance(condition, Text) and condition.words in _OTHERWISE
