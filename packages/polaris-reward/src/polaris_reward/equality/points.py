"""Points at which expressions are compared."""

import math
import zlib
from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise

from polaris_reward.reading.tree import Call, Node, Number, Series, symbols, walk

Point = Mapping[str, Fraction]
"""Values of variables, and under ``draw`` what the values of unknown functions are drawn by."""

FAR = 1_009
"""What some points are scaled with: `|x - 100|` is `100 - x` near 0."""

MAX_SIZES = 4
MAX_SIZE = Fraction(10**30)


_WHOLE_NAMES = frozenset("n m k p q i j N M K".split())
"""Variables that stand for whole numbers where something is rounded."""


def draws(names: set[str], *nodes: Node) -> list[tuple[Point, bool]]:
    """Return points to compare expressions at, and whether all their coordinates are positive."""
    parts = [part for node in nodes for part in walk(node)]
    has_steps = any(isinstance(part, Call) and part.name in {"floor", "ceil", "mod", "gcd", "lcm"} for part in parts)
    if any(map(_needs_whole_numbers, parts)) or (has_steps and names <= _WHOLE_NAMES):
        # Steps are only told apart far out.
        far = max([5_003, *(3 * abs(int(size)) for size in _sizes(parts))]) if has_steps else 7
        reaches = [far if has_steps and draw % 2 else 7 for draw in range(8)]
        points = [(_whole_point(names, draw, reach=reach), True) for draw, reach in enumerate(reaches)]
        # Multiples of the numbers that occur: `\\gcd(n, 10007)` is 1 elsewhere.
        sizes = [Fraction(math.ceil(size)) for size in _sizes(parts)] if has_steps else []
        return [*points, *(({**dict.fromkeys(names, size), "draw": Fraction(0)}, True) for size in sizes)]
    if has_steps or any(map(_has_kink, parts)):
        return _points_around_kinks(names, parts)
    positive = [_point(names, 0), _point(names, 1), _point(names, 2, scale=FAR)]
    mixed = [_point(names, 3, signs=1), _point(names, 4, signs=3), _point(names, 5, signs=2, scale=FAR)]
    return [*((point, True) for point in positive), *((point, False) for point in mixed)]


def _has_kink(node: Node) -> bool:
    """Whether an operation is not analytic; a few points tell all others apart."""
    match node:
        case Call("root", (radicand, _)):
            return any(isinstance(one, Call) and one.name == "power" and symbols(one) for one in walk(radicand))
        case Call("abs" | "max" | "min" | "floor" | "ceil" | "mod"):
            return bool(symbols(node))
        case _:
            return False


def _points_around_kinks(names: set[str], parts: list[Node]) -> list[tuple[Point, bool]]:
    """Return points on both sides of each number that occurs: ``|x - 5000|`` has its kink there, ``|2x + 5|`` before.

    Between kinks such expressions are smooth, and agree everywhere if they agree at a point that was drawn.
    """
    sizes = sorted({abs(size) for size in _sizes(parts)} | {Fraction(1)})
    edges = [size for size in sizes if size]
    values = [edges[0] / 3, *(low + (high - low) / 3 for low, high in pairwise(edges)), edges[-1] * 3, edges[-1] * FAR]
    drawn = [value * (1 + chosen_value("kink", Fraction(at)) / 97) for at, value in enumerate(values)]
    points: list[tuple[Point, bool]] = [
        (_point(names, 0), True),
        (_point(names, 1), True),
        (_point(names, 2, scale=FAR), True),
    ]
    points += [
        (_point(names, 3, signs=1), False),
        (_point(names, 4, signs=3), False),
        (_point(names, 5, signs=2), False),
    ]
    for at, value in enumerate(drawn):
        for sign in (1, -1):
            for name in sorted(names):
                # One variable far out, the others near 0; then all together.
                points.append(({**_point(names, at), name: sign * value}, False))
            points.append(({**_point(names, at), **dict.fromkeys(names, sign * value)}, False))
    return points


def _sizes(parts: list[Node]) -> list[Fraction]:
    """Return the numbers that occur, with quotients of two and roots: where kinks of simple expressions are."""
    found = {abs(number) for part in parts if (number := _number(part)) is not None}
    largest = sorted((one for one in found if one > 1), reverse=True)[:MAX_SIZES]
    smaller = {Fraction(math.isqrt(int(one))) for one in largest if one > 3}
    quotients = {one / other for one in largest for other in largest if one > other}
    return sorted({*largest, *smaller, *quotients}, reverse=True)[: 2 * MAX_SIZES]


def _number(node: Node) -> Fraction | None:
    """Return an integer or a power of integers, if it is not too large to be used as a value."""
    match node:
        case Number(value):
            return value if abs(value) < MAX_SIZE else None
        case Call("power", (Number(base), Number(exponent))) if exponent.denominator == 1 and 0 < exponent < 64:
            power = base ** int(exponent)
            return power if abs(power) < MAX_SIZE else None
        case Call("multiply", (left, right)):
            one, other = _number(left), _number(right)
            return None if one is None or other is None or abs(one * other) >= MAX_SIZE else one * other
        case _:
            return None


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
        even = 2 * (zlib.crc32(f"{name}{draw}".encode()) * reach >> 32) + 4
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
