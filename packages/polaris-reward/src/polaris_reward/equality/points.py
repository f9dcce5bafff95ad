"""Points at which expressions are compared."""

import zlib
from collections.abc import Mapping
from fractions import Fraction

from polaris_reward.reading.tree import Call, Node, Number, Series, symbols, walk

Point = Mapping[str, Fraction]
"""Values of variables, and under ``draw`` what the values of unknown functions are drawn by."""

FAR = 1_009
"""What some points are scaled with: `|x - 100|` is `100 - x` near 0."""

_WHOLE_NAMES = frozenset("n m k p q i j N M K".split())
"""Variables that stand for whole numbers where something is rounded."""


def draws(names: set[str], *nodes: Node) -> list[tuple[Point, bool]]:
    """Return points to compare expressions at, and whether all their coordinates are positive."""
    parts = [part for node in nodes for part in walk(node)]
    has_steps = any(isinstance(part, Call) and part.name in {"floor", "ceil", "mod", "gcd", "lcm"} for part in parts)
    if any(map(_needs_whole_numbers, parts)) or (has_steps and names <= _WHOLE_NAMES):
        # Steps are only told apart far out.
        return [(_whole_point(names, draw, reach=5_003 if has_steps and draw % 2 else 7), True) for draw in range(8)]
    positive = [_point(names, 0), _point(names, 1), _point(names, 2, scale=FAR)]
    mixed = [_point(names, 3, signs=1), _point(names, 4, signs=3), _point(names, 5, signs=2, scale=FAR)]
    return [*((point, True) for point in positive), *((point, False) for point in mixed)]


def _point(names: set[str], draw: int, *, scale: int = 1, signs: int = 0) -> dict[str, Fraction]:
    """Draw a value for each name: positive ones, all negative ones (``signs=1``), or every other one negative."""
    point: dict[str, Fraction] = {"draw": Fraction(draw)}
    for index, name in enumerate(sorted(names)):
        negative = signs == 1 or (signs > 1 and index % 2 == signs % 2)
        point[name] = scale * chosen_value(name, Fraction(draw)) * (-1 if negative else 1)
    return point


def _whole_point(names: set[str], draw: int, *, reach: int) -> dict[str, Fraction]:
    """Draw whole numbers; over eight draws any three names are odd and even in all combinations."""
    point: dict[str, Fraction] = {"draw": Fraction(draw)}
    for index, name in enumerate(sorted(names)):
        even = 2 * (zlib.crc32(f"{name}{draw}".encode()) % reach) + 4
        point[name] = Fraction(even + (draw >> index % 3 & 1))
    return point


def _needs_whole_numbers(node: Node) -> bool:
    """Whether an operation makes sense for whole numbers only: a series up to ``n``, a power of -1."""
    match node:
        case Series(_, _, first, last):
            return bool(symbols(first) | symbols(last))
        case Call("power", (Call("negate", (Number(),)), exponent)):
            return bool(symbols(exponent))
        case Call("gcd" | "lcm" | "double factorial"):
            return bool(symbols(node))
        case _:
            return False


def chosen_value(name: str, draw: Fraction) -> Fraction:
    """Return a value between 1/3 and 3 for a name: always the same for a draw, unrelated between draws."""
    noise = zlib.crc32(f"{name}/{draw}".encode())
    return (
        Fraction(noise % 1009 + 1, 1013)
        + (2 if noise >> 20 & 1 else 0) * Fraction(noise >> 12 & 1023, 1031)
        + Fraction(1, 3)
    )
