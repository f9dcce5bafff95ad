"""Whether two trees mean the same.

Structures are compared part by part, expressions by their values. What is asked of the policy is only how near two
numbers must be; everything else is mathematics, and the conventions that docs/conventions.md lists.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import mpmath

from polaris_reward.evaluate import (
    DIGITS,
    MORE_DIGITS,
    Undefined,
    Value,
    agree,
    chosen_value,
    evaluate,
    is_zero,
)
from polaris_reward.notation import TooLarge, Unreadable
from polaris_reward.policy import Policy
from polaris_reward.realset import equal_sets, is_set_notation, real_set, variable
from polaris_reward.tree import (
    BaseNumber,
    Call,
    Constant,
    Matrix,
    Node,
    Number,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    Series,
    SetOperation,
    Symbol,
    Text,
    symbols,
    walk,
)
from polaris_reward.units import ratio_of_units
from polaris_reward.words import number_word

MAX_ITEMS = 100
"""Of a list; comparing two takes time that grows with its square."""

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


class Undecided(Exception):
    """The rules here do not tell whether the two are equal."""


@dataclass(frozen=True, slots=True)
class Equality:
    """Compares trees under a policy."""

    policy: Policy

    def __call__(self, left: Node, right: Node) -> bool:
        """Whether an answer and a reference mean the same.

        Raises:
            Undecided: If this cannot be told here.
            TooLarge: If a number or the work passes a bound.
        """
        left, right = _bare(left), _bare(right)
        if left == right:
            return True
        left, right = _without_names(left, right), _without_names(right, left)
        left, right = _spread(left, right), _spread(right, left)
        if isinstance(left, Relation) and isinstance(right, Relation):
            return self._relations(left, right)
        if is_set_notation(left) or is_set_notation(right):
            return self._sets(left, right)
        left, right = _plus_minus(left), _plus_minus(right)
        if isinstance(left, Sequence) or isinstance(right, Sequence):
            return self._sequences(left, right)
        if isinstance(left, Relation) or isinstance(right, Relation):
            return False
        return self._single(left, right)

    def _single(self, left: Node, right: Node) -> bool:
        match left, right:
            case (Matrix(), _) | (_, Matrix()):
                return isinstance(left, Matrix) and isinstance(right, Matrix) and self._matrices(left, right)
            case (Text(words), other) | (other, Text(words)):
                return self._words(words, other)
            case Quantity(one, unit), Quantity(other, other_unit):
                scale = ratio_of_units(unit, other_unit)
                return scale is not None and self(_times(one, scale), other)
            case (Quantity(value, _), other) | (other, Quantity(value, _)):
                return self(value, other) if left is not other else self(other, value)
            case Ratio(terms), Ratio(others):
                return self._ratios(terms, others)
            case (Ratio((first, second)), other) | (other, Ratio((first, second))):
                return self(Call("divide", (first, second)), other)
            case _ if any(isinstance(one, BaseNumber) for one in (*walk(left), *walk(right))):
                # A base is part of the answer: 1010_2 is neither 10 nor 1010.
                return left == right
            case _:
                return self._expressions(left, right)

    def _words(self, words: str, other: Node) -> bool:
        if isinstance(other, Text):
            return words.casefold() == other.words.casefold() or _letters(words) == _letters(other.words) != []
        if letters := _letters(words):
            return self(_product(letters), other)
        number = number_word(words)
        return number is not None and self(Number(number), other)

    def _matrices(self, left: Matrix, right: Matrix) -> bool:
        one = [[*row] for row in left.rows]
        other = [[*row] for row in right.rows]
        if [len(row) for row in one] != [len(row) for row in other]:
            return False
        return all(self(a, b) for row, across in zip(one, other, strict=True) for a, b in zip(row, across, strict=True))

    def _ratios(self, terms: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
        if len(terms) != len(others):
            return False
        return all(
            self(Call("multiply", (term, others[0])), Call("multiply", (other, terms[0])))
            for term, other in zip(terms[1:], others[1:], strict=True)
        )

    # Lists, tuples and sets of listed things.

    def _sequences(self, left: Node, right: Node) -> bool:
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Matrix) and isinstance(other, Sequence) and all(
                isinstance(item, Sequence) for item in other.items
            ):
                rows = tuple(item.items for item in other.items if isinstance(item, Sequence))
                return other.opening == "[" and self._matrices(one, Matrix(rows))
            if isinstance(one, Matrix) and isinstance(other, Sequence) and (vector := _vector(one)) is not None:
                return other.opening in {"(", "["} and self._ordered(vector, other.items)
        if not isinstance(left, Sequence) or not isinstance(right, Sequence):
            return False
        if max(len(left.items), len(right.items)) > MAX_ITEMS:
            raise TooLarge(f"a list of more than {MAX_ITEMS} items")
        kinds = {left.opening, right.opening}
        if kinds <= {"(", "["}:
            alike = (left.opening, left.closing) == (right.opening, right.closing) or len(left.items) > 2
            return alike and self._ordered(left.items, right.items)
        if kinds == {"", "("}:
            return self._ordered(_unnamed(left), _unnamed(right))
        if "{" in kinds and kinds & {"(", "["} or kinds == {"", "["}:
            return False
        return self._unordered_with_names(left, right)

    def _ordered(self, left: tuple[Node, ...], right: tuple[Node, ...]) -> bool:
        return len(left) == len(right) and all(self(one, other) for one, other in zip(left, right, strict=True))

    def _unordered_with_names(self, left: Sequence, right: Sequence) -> bool:
        one, other = _assignments(left.items), _assignments(right.items)
        if one is not None and other is not None:
            return self._same_members(one, other, self._same_record)
        if one is None and other is None or _number_of_names(one or other or []) == 1:
            return self._same_members(_expanded(_unnamed(left)), _expanded(_unnamed(right)), self)
        return self._ordered(_unnamed(left), _unnamed(right))

    def _same_record(self, left: Mapping[Node, Node], right: Mapping[Node, Node]) -> bool:
        return left.keys() == right.keys() and all(self(left[name], right[name]) for name in left)

    def _same_members(self, left: Any, right: Any, same: Callable[[Any, Any], bool]) -> bool:
        return all(any(same(one, other) for other in right) for one in left) and all(
            any(same(one, other) for one in left) for other in right
        )

    # Equations, inequalities and sets of real numbers.

    def _relations(self, left: Relation, right: Relation) -> bool:
        if left.operators == right.operators == ("=",):
            return self._equations(left, right)
        if variable(left) != variable(right) and variable(left) and variable(right):
            return False
        if (one := real_set(left)) is not None and (other := real_set(right)) is not None:
            return equal_sets(one, other)
        for flipped in (right, _flip(right)):
            if flipped is not None and left.operators == flipped.operators:
                if all(_is_expression(side) for side in (*left.sides, *flipped.sides)) and len(left.sides) == 2:
                    return self._proportional(left, flipped, positive=left.operators[0] not in {"!=", "equiv"})
                if self._ordered(left.sides, flipped.sides):
                    return True
        if len(left.sides) == len(right.sides) == 2 and {left.operators[0], right.operators[0]} <= _FLIPPED.keys():
            mirrored = Relation((right.sides[1], right.sides[0]), (_FLIPPED[right.operators[0]],))
            return left.operators == mirrored.operators and self._proportional(left, mirrored, positive=True)
        return False

    def _equations(self, left: Relation, right: Relation) -> bool:
        if _is_name(left.sides[0]) and left.sides[0] == right.sides[0]:
            return self(left.sides[1], right.sides[1])
        if all(_is_expression(side) for side in (*left.sides, *right.sides)):
            return self._proportional(left, right, positive=False)
        return self._ordered(left.sides, right.sides) or self._ordered(left.sides, right.sides[::-1])

    def _proportional(self, left: Relation, right: Relation, *, positive: bool) -> bool:
        """Whether the differences of the sides are multiples of one another by one number."""
        one, other = (Call("subtract", (relation.sides[0], relation.sides[1])) for relation in (left, right))
        names = symbols(one) | symbols(other)
        if not names:
            raise Undecided
        ratios: list[Value] = []
        for point in _points(names, 4):
            try:
                ratios.append(evaluate(Call("divide", (one, other)), point))
            except Undefined:
                return False
        if any(not agree(ratio, ratios[0]) for ratio in ratios) or is_zero(ratios[0]):
            return False
        return not positive or ratios[0].is_real and ratios[0].real > 0

    def _sets(self, left: Node, right: Node) -> bool:
        if isinstance(left, Relation) != isinstance(right, Relation) and (
            _is_expression(left) or _is_expression(right)
        ):
            return False
        if variable(left) != variable(right) and variable(left) and variable(right):
            return False
        one, other = real_set(left), real_set(right)
        if one is not None and other is not None:
            return equal_sets(one, other)
        if type(left) is not type(right):
            if one is None and other is None or not _may_be_a_set(left) or not _may_be_a_set(right):
                return False
            raise Undecided
        match left, right:
            case SetOperation(name, a, b), SetOperation(other_name, c, d) if name == other_name:
                return self(a, c) and self(b, d) or name != "difference" and self(a, d) and self(b, c)
            case Sequence(), Sequence():
                return self._sequences(left, right)
            case _:
                return False

    # Expressions.

    def _expressions(self, left: Node, right: Node) -> bool:
        if not _is_expression(left) or not _is_expression(right):
            if any(isinstance(one, Text | Relation) for one in (*walk(left), *walk(right))):
                return False
            raise Undecided
        if self.policy.strict_integers and _is_integer(right) and not _is_literal(left):
            return False
        signs = (_sign_of_infinity(left), _sign_of_infinity(right))
        if any(signs):
            return signs[0] == signs[1]
        return any(self._agree(one, other, values) for one, other, values in _conventions(left, right))

    def _agree(self, left: Node, right: Node, conventions: Mapping[str, Any]) -> bool:
        names = symbols(left) | symbols(right)
        degrees = "degrees" in conventions
        if not names:
            return self._constants(left, right, conventions, degrees=degrees)
        compared = 0
        draws = _draws(names, whole=_needs_whole_numbers(left) or _needs_whole_numbers(right))
        for point, all_positive in draws:
            verdict = _agree_at(left, right, {**point, **conventions}, all_positive=all_positive, degrees=degrees)
            if verdict is False:
                return False
            compared += bool(verdict)
        if compared < 2:
            raise Undecided
        point, _ = draws[0]
        return _agree_at(left, right, {**point, **conventions}, digits=MORE_DIGITS, degrees=degrees) is not False

    def _constants(self, left: Node, right: Node, conventions: Mapping[str, Any], *, degrees: bool) -> bool:
        values: list[Value] = []
        for digits in (DIGITS, MORE_DIGITS):
            try:
                values = [evaluate(side, conventions, digits=digits, degrees=degrees) for side in (left, right)]
            except Undefined:
                return False
            if not agree(*values, digits=digits):
                return self._near(left, right, *values)
            if all(isinstance(value.number, Fraction) for value in values):
                return True
        if any(value.rounded for value in values):
            raise Undecided
        return True

    def _near(self, left: Node, right: Node, one: Value, other: Value) -> bool:
        """Whether the policy lets two different numbers pass for the same."""
        if not one.is_real or not other.is_real:
            return False
        difference = abs(one.real - other.real)
        if self.policy.tolerance and difference <= self.policy.tolerance * abs(other.real):
            return True
        digits = self.policy.float_digits
        return digits is not None and any(
            _has_digits(side, digits) and difference <= abs(value.real) * mpmath.mpf(10) ** (1 - digits)
            for side, value in ((left, one), (right, other))
        )


def _agree_at(
    left: Node, right: Node, point: Mapping[str, Any], *, all_positive: bool = True, digits: int = DIGITS, degrees: bool
) -> bool | None:
    """Compare two expressions at one point; ``None`` if it tells nothing."""
    try:
        one = evaluate(left, point, digits=digits, degrees=degrees)
        other = evaluate(right, point, digits=digits, degrees=degrees)
    except Undefined:
        return None
    if not all_positive and not (one.is_real and other.is_real):
        return None
    return agree(one, other, digits=digits)


def _conventions(left: Node, right: Node) -> Iterator[tuple[Node, Node, dict[str, Any]]]:
    """Yield the ways to read both sides, the usual one first.

    A percent sign or a degree sign on one side alone may also be a unit, and a logarithm without a base is of an
    unknown base unless that leaves the question open.
    """
    names = [{node.name for node in walk(side) if isinstance(node, Call)} for side in (left, right)]
    usual: dict[str, Any] = {}
    yield left, right, usual
    if ("percent" in names[0]) != ("percent" in names[1]):
        yield left, right, {"unit of percent": Fraction(1)}
    if ("degree" in names[0]) != ("degree" in names[1]):
        yield left, right, {"degrees": Fraction(1)}
    if "log" in names[0] | names[1] and "ln" not in names[0] | names[1]:
        yield left, right, {"base of log": Fraction(10)}
    if (renamed := _constant_of_integration(left, right)) is not None:
        yield *renamed, usual


def _constant_of_integration(left: Node, right: Node) -> tuple[Node, Node] | None:
    """Return both sides without the constant ``C`` they end with, and without the numbers that it absorbs."""
    terms = [_terms(side) for side in (left, right)]
    if not any(Symbol("C") in side for side in terms):
        return None
    kept: list[Node] = []
    for side in terms:
        constant = next((name for name in (Symbol("C"), Symbol("c"), Symbol("K")) if name in side), None)
        if constant is None:
            return None
        rest = [term for term in side if term != constant and symbols(term)]
        if not rest or any(constant.name in symbols(term) for term in rest):
            return None
        total = rest[0]
        for term in rest[1:]:
            total = Call("add", (total, term))
        kept.append(total)
    return kept[0], kept[1]


def _terms(node: Node) -> list[Node]:
    match node:
        case Call("add", (left, right)):
            return [*_terms(left), *_terms(right)]
        case Call("subtract", (left, right)):
            return [*_terms(left), *(Call("negate", (term,)) for term in _terms(right))]
        case _:
            return [node]


def _draws(names: set[str], *, whole: bool) -> list[tuple[dict[str, Any], bool]]:
    """Return points to compare expressions at, and whether all their coordinates are positive."""
    whole_points = [
        ({name: Fraction(zlib.crc32(f"{name}{draw}".encode()) % 7 + 3 + draw) for name in names} | {"draw": Fraction(draw)}, True)
        for draw in range(4)
    ]
    if whole:
        return whole_points
    positive = [(point, True) for point in _points(names, 3)]
    negative = [
        ({name: -value if name != "draw" else value for name, value in point.items()}, False) for point in _points(names, 2, 7)
    ]
    return [*positive, *negative]


def _points(names: set[str], count: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {name: chosen_value(name, Fraction(draw)) for name in names} | {"draw": Fraction(draw)}
        for draw in range(first, first + count)
    ]


def _needs_whole_numbers(node: Node) -> bool:
    """Whether an expression makes sense for whole numbers only: a series up to ``n``, a power of -1."""
    return any(
        isinstance(one, Series)
        and bool(symbols(one.first) | symbols(one.last))
        or isinstance(one, Call)
        and (
            one.name == "power" and isinstance(_unsigned(one.arguments[0]), Number) and bool(symbols(one.arguments[1]))
            and one.arguments[0] != _unsigned(one.arguments[0])
            or one.name in {"mod", "gcd", "lcm", "double factorial"} and bool(symbols(one))
        )
        for one in walk(node)
    )  # fmt: skip


def _bare(node: Node) -> Node:
    """Drop what a chain of equalities passes through, and an approximation at its end."""
    if not isinstance(node, Relation):
        return node
    sides, operators = list(node.sides), list(node.operators)
    if "approx" in operators and len(operators) > 1:
        at = operators.index("approx")
        if at and set(operators[:at]) == {"="}:
            sides, operators = sides[: at + 1], operators[:at]
    elif operators == ["approx"]:
        if not _is_name(sides[0]):
            return sides[0]
        operators = ["="]
    if len(operators) > 1 and set(operators) == {"="}:
        sides, operators = [sides[0], sides[-1]], ["="]
    if operators == ["="] and not _is_name(sides[0]) and _is_constant(sides[0]) and _is_constant(sides[1]):
        return sides[1]
    return Relation(tuple(sides), tuple(operators))


def _without_names(node: Node, other: Node) -> Node:
    """Return the value of ``x = 5`` or the set of ``x \\in S`` where the other side does not name anything."""
    if not isinstance(node, Relation) or isinstance(other, Relation) or len(node.sides) != 2:
        return node
    first, last = node.sides
    if node.operators == ("in",) and _is_name(first):
        return last
    if node.operators != ("=",) or _names_something(other):
        return node
    if _is_name(first) and not _shares_symbols(first, last):
        return last
    if _is_name(last) and not _shares_symbols(first, last) and not _is_name(first):
        return first
    return node


def _spread(node: Node, other: Node) -> Node:
    """Read ``(a, b) = (1, 2)`` as ``a = 1, b = 2`` where the other side names its values one by one."""
    match node:
        case Relation((Sequence(names), Sequence(values)), ("=",)) if _names_something(other) and len(names) == len(values):
            pairs = zip(names, values, strict=True)
            return Sequence(tuple(Relation((name, value), ("=",)) for name, value in pairs), "", "")
        case _:
            return node


def _names_something(node: Node) -> bool:
    return isinstance(node, Sequence) and any(isinstance(item, Relation) for item in node.items)


def _shares_symbols(name: Node, value: Node) -> bool:
    return not isinstance(name, Call | Text) and bool(symbols(name) & symbols(value))


def _is_name(node: Node) -> bool:
    match node:
        case Symbol() | Text():
            return True
        case Call(name):
            return name.endswith("()") or name == "abs" and all(isinstance(one, Symbol) for one in node.arguments)
        case Sequence(items) | Ratio(items):
            return bool(items) and all(_is_name(item) for item in items)
        case Quantity(Symbol(), _):
            return True
        case _:
            return False


def _assignments(items: tuple[Node, ...]) -> list[dict[Node, Node]] | None:
    """Read ``p=5, q=2; p=7, q=2`` as records, a new one wherever a name comes again; ``None`` if not all are named."""
    records: list[dict[Node, Node]] = [{}]
    for item in items:
        item = _bare(item)
        if not isinstance(item, Relation) or item.operators != ("=",) or not _is_name(item.sides[0]):
            return None
        for value in _expanded((item.sides[1],)):
            if item.sides[0] in records[-1]:
                records.append({})
            records[-1][item.sides[0]] = value
    return records


def _number_of_names(records: list[dict[Node, Node]]) -> int:
    return len({name for record in records for name in record})


def _unnamed(sequence: Sequence) -> tuple[Node, ...]:
    """Return the items without the names that they are given."""
    items: list[Node] = []
    for item in sequence.items:
        item = _bare(item)
        if isinstance(item, Relation) and item.operators in {("=",), ("in",)} and _is_name(item.sides[0]):
            item = item.sides[1]
        items.append(item)
    return tuple(items)


def _expanded(items: tuple[Node, ...]) -> list[Node]:
    """Return the items with each plus-minus written out."""
    expanded: list[Node] = []
    for item in items:
        both = _plus_minus(item)
        expanded.extend(both.items if both is not item and isinstance(both, Sequence) else [item])
    return expanded


def _plus_minus(node: Node) -> Node:
    """Return the two values of an expression with a plus-minus sign as a list."""
    if isinstance(node, Relation | Sequence | SetOperation | Matrix):
        return node
    if not any(isinstance(one, Call) and one.name in {"pm", "mp"} for one in walk(node)):
        return node
    return Sequence((_signed(node, upper=True), _signed(node, upper=False)), "", "")


def _signed(node: Node, *, upper: bool) -> Node:
    match node:
        case Call("pm" | "mp", arguments):
            name = "add" if (node.name == "pm") == upper else "subtract"
            return Call(name, tuple(_signed(one, upper=upper) for one in arguments))
        case Call(name, arguments):
            return Call(name, tuple(_signed(one, upper=upper) for one in arguments))
        case Quantity(value, _):
            return replace(node, value=_signed(value, upper=upper))
        case _:
            return node


def _letters(words: str) -> list[str]:
    """Return the factors of a product of two or three letters, sorted; nothing for a word."""
    is_product = 2 <= len(words) <= 3 and words.isalpha() and words not in {"no", "on", "yes"}
    return sorted(words) if is_product else []


def _product(letters: list[str]) -> Node:
    product: Node = Symbol(letters[0])
    for letter in letters[1:]:
        product = Call("multiply", (product, Symbol(letter)))
    return product


def _vector(matrix: Matrix) -> tuple[Node, ...] | None:
    if matrix.kind != "matrix":
        return None
    if len(matrix.rows) == 1:
        return matrix.rows[0]
    return tuple(row[0] for row in matrix.rows) if len(matrix.rows[0]) == 1 else None


def _flip(relation: Relation) -> Relation | None:
    """Read a chain from the right: ``1 < x`` as ``x > 1``."""
    operators = tuple(_FLIPPED.get(one, one) for one in reversed(relation.operators))
    return None if "in" in operators else Relation(relation.sides[::-1], operators)


def _is_expression(node: Node) -> bool:
    return all(isinstance(one, Number | Symbol | Constant | Call | Series) or _in_determinant(node, one) for one in walk(node))


def _in_determinant(root: Node, node: Node) -> bool:
    return isinstance(node, Matrix) and any(
        isinstance(one, Call) and one.name == "det" and node in one.arguments for one in walk(root)
    )


def _is_constant(node: Node) -> bool:
    return _is_expression(node) and not symbols(node)


def _may_be_a_set(node: Node) -> bool:
    return isinstance(node, Sequence | SetOperation | Relation) or node == Symbol("reals")


def _is_integer(node: Node) -> bool:
    inner = _unsigned(node)
    return isinstance(inner, Number) and inner.value.denominator == 1


def _is_literal(node: Node) -> bool:
    while isinstance(node, Call) and node.name in {"negate", "percent", "degree"}:
        node = node.arguments[0]
    return isinstance(node, Number)


def _unsigned(node: Node) -> Node:
    return node.arguments[0] if isinstance(node, Call) and node.name == "negate" else node


def _has_digits(node: Node, digits: int) -> bool:
    inner = _unsigned(node)
    return isinstance(inner, Number) and (inner.significant_digits or 0) >= digits


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


def _times(node: Node, scale: Fraction) -> Node:
    return node if scale == 1 else Call("multiply", (node, Number(scale)))


__all__ = ["Equality", "Undecided", "Unreadable"]
