"""Whether two trees mean the same.

Structures are compared part by part, expressions by their values. What is asked of the convention is only how near two
numbers must be; everything else is mathematics and the conventions that the documentation lists.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

from polaris_reward.convention import Convention
from polaris_reward.equality import beside
from polaris_reward.equality.cases import with_conditions
from polaris_reward.equality.constants import same_general_solution
from polaris_reward.equality.expressions import Undecided, proportional, same_value
from polaris_reward.equality.realset import equal_sets, is_set_notation, real_set, variable
from polaris_reward.reading.refusals import TooLarge
from polaris_reward.reading.tree import (
    BaseNumber,
    Call,
    Constant,
    Integral,
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
    is_expression,
    rebuilt,
    steps,
    substitute,
    walk,
)
from polaris_reward.reading.units import RADIAN, ratio_of_units
from polaris_reward.reading.words import number_word

MAX_ITEMS = 100
"""Of a list; comparing two takes time that grows with its square."""

_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Equality:
    """Compares trees under a convention."""

    convention: Convention
    """How near two numbers must be."""

    def __call__(self, left: Node, right: Node) -> bool:
        """Whether an answer and a reference mean the same.

        Raises:
            Undecided: If this cannot be told here.
            TooLarge: If a number or the work passes a bound.
        """
        left, right = beside.bare(left), beside.bare(right)
        if left == right:
            return True
        if (verdict := same_general_solution(left, right, self)) is not None:
            return verdict
        left, right = beside.without_names(left, right, is_answer=True), beside.without_names(right, left)
        left, right = beside.spread(left, right), beside.spread(right, left)
        if isinstance(left, Relation) and isinstance(right, Relation):
            return self._relations(left, right)
        if is_set_notation(left) or is_set_notation(right):
            return self._sets(left, right)
        left, right = beside.plus_minus(_as_matrix(left)), beside.plus_minus(_as_matrix(right))
        if isinstance(left, Sequence) or isinstance(right, Sequence):
            return self._sequences(left, right)
        if isinstance(left, Relation) or isinstance(right, Relation):
            return False
        return self._single(left, right)

    def _single(self, left: Node, right: Node) -> bool:
        match left, right:
            case Integral(), Integral():
                return self._integrals(left, right)
            case Call(name, arguments), Call(other_name, others) if name.endswith("()") and not is_expression(left):
                return name == other_name and self._ordered(arguments, others)
            case (Matrix(), _) | (_, Matrix()):
                return isinstance(left, Matrix) and isinstance(right, Matrix) and self._matrices(left, right)
            case (Text(words), other) | (other, Text(words)):
                return self._words(words, other)
            case Quantity(one, unit), Quantity(other, other_unit):
                scale = ratio_of_units(unit, other_unit)
                return scale is not None and self(_times(one, scale), other)
            case Quantity(), _:
                pair = _without_unit(left, right)
                return pair is not None and self(*pair)
            case _, Quantity():
                pair = _without_unit(right, left)
                return pair is not None and self(*reversed(pair))
            case Ratio(terms), Ratio(others):
                return self._ratios(terms, others)
            case (Ratio((first, second)), other) | (other, Ratio((first, second))):
                return self(Call("divide", (first, second)), other)
            case _ if any(isinstance(one, BaseNumber) for one in (*walk(left), *walk(right))):
                # A base is part of the answer: 1010_2 is neither 10 nor 1010.
                return left == right
            case _:
                return same_value(left, right, self.convention)

    def _words(self, words: str, other: Node) -> bool:
        if isinstance(other, Text):
            return words.casefold() == other.words.casefold() or _letters(words) == _letters(other.words) != []
        if (number := number_word(words)) is not None:
            return self(Number(number), other)
        letters = _letters(words)
        return bool(letters) and self(_product(letters), other)

    def _matrices(self, left: Matrix, right: Matrix) -> bool:
        if left.kind == right.kind == "cases":
            return self._cases(left, right)
        same_shape = list(map(len, left.rows)) == list(map(len, right.rows))
        return same_shape and all(map(self._ordered, left.rows, right.rows))

    def _cases(self, left: Matrix, right: Matrix) -> bool:
        """Compare definitions by cases, in any order; "otherwise" is what the other conditions leave."""
        return self._same_members(with_conditions(left), with_conditions(right), self._same_case)

    def _same_case(self, left: tuple[Node, Node], right: tuple[Node, Node]) -> bool:
        return self(left[0], right[0]) and self(left[1], right[1])

    def _integrals(self, left: Integral, right: Integral) -> bool:
        """Compare integrals by what is integrated; computer algebra may know more of definite ones."""
        renamed = substitute(right.integrand, right.variable, Symbol(left.variable))
        if self._ordered(left.bounds, right.bounds) and self(left.integrand, renamed):
            return True
        return bool(left.bounds and right.bounds) and same_value(left, right, self.convention)

    def _ratios(self, terms: tuple[Node, ...], others: tuple[Node, ...]) -> bool:
        if len(terms) != len(others):
            return False
        return all(
            self(Call("multiply", (term, others[0])), Call("multiply", (other, terms[0])))
            for term, other in zip(terms[1:], others[1:], strict=True)
        )

    def _sequences(self, left: Node, right: Node) -> bool:
        for one, other in ((left, right), (right, left)):
            if (
                isinstance(one, Matrix)
                and isinstance(other, Sequence)
                and all(isinstance(item, Sequence) for item in other.items)
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
            return self._ordered(beside.unnamed(left), beside.unnamed(right))
        if ("{" in kinds and kinds & {"(", "["}) or kinds == {"", "["}:
            return False
        return self._unordered_with_names(left, right)

    def _ordered(self, left: tuple[Node, ...], right: tuple[Node, ...]) -> bool:
        return len(left) == len(right) and all(self(one, other) for one, other in zip(left, right, strict=True))

    def _unordered_with_names(self, left: Sequence, right: Sequence) -> bool:
        one, other = beside.assignments(left.items), beside.assignments(right.items)
        if one is not None and other is not None:
            return self._same_members(one, other, self._same_record)
        for records, tuples in ((one, right.items), (other, left.items)):
            if records and all(isinstance(item, Sequence) and item.opening == "(" for item in tuples):
                values = [Sequence(tuple(record.values()), "(", ")") for record in records]
                return self._same_members(values, tuples, self)
        values, other_values = beside.unnamed(left), beside.unnamed(right)
        if (one is None and other is None) or len({name for record in one or other or [] for name in record}) == 1:
            are_sets = left.opening == right.opening == "{" or all(
                isinstance(item, Sequence) for item in (*values, *other_values)
            )
            same = self._same_set if are_sets else self._same_members
            return same(beside.expanded(values), beside.expanded(other_values), self)
        return self._ordered(values, other_values)

    def _same_record(self, left: Mapping[Node, Node], right: Mapping[Node, Node]) -> bool:
        return left.keys() == right.keys() and all(self(left[name], right[name]) for name in left)

    def _same_members(self, left: Any, right: Any, same: Callable[[Any, Any], bool]) -> bool:
        """Compare lists in any order; a member that is repeated counts as often, like a double root."""
        if len(left) != len(right):
            return False
        rest = list(right)
        for one in left:
            at = next((at for at, other in enumerate(rest) if same(one, other)), None)
            if at is None:
                return False
            rest.pop(at)
        return True

    def _same_set(self, left: Any, right: Any, same: Callable[[Any, Any], bool]) -> bool:
        return all(any(same(one, other) for other in right) for one in left) and all(
            any(same(one, other) for one in left) for other in right
        )

    def _relations(self, left: Relation, right: Relation) -> bool:
        if set(left.operators) == {"="} and left.operators == right.operators:
            return self._equations(left, right)
        if variable(left) != variable(right) and variable(left) and variable(right):
            return False
        if (one := real_set(left)) is not None and (other := real_set(right)) is not None:
            return equal_sets(one, other)
        for flipped in (right, _flip(right)):
            if flipped is not None and left.operators == flipped.operators:
                if all(is_expression(side) for side in (*left.sides, *flipped.sides)) and len(left.sides) == 2:
                    return proportional(left, flipped, positive=left.operators[0] not in {"!=", "equiv"})
                if self._ordered(left.sides, flipped.sides):
                    return True
        if len(left.sides) == len(right.sides) == 2 and {left.operators[0], right.operators[0]} <= _FLIPPED.keys():
            mirrored = Relation((right.sides[1], right.sides[0]), (_FLIPPED[right.operators[0]],))
            return left.operators == mirrored.operators and proportional(left, mirrored, positive=True)
        return False

    def _equations(self, left: Relation, right: Relation) -> bool:
        """Compare equations; of a chain, such as that of a line in space, each step."""
        if len(left.sides) > 2:
            return all(self._equations(one, other) for one, other in zip(steps(left), steps(right), strict=True))
        (name, value), (other_name, other_value) = left.sides[:2], right.sides[:2]  # pyright: ignore[reportAssignmentType]
        if beside.is_name(name) and name == other_name:
            return self(value, other_value)
        if all(is_expression(side) for side in (*left.sides, *right.sides)):
            return proportional(left, right, positive=False)
        return self._ordered(left.sides, right.sides) or self._ordered(left.sides, right.sides[::-1])

    def _sets(self, left: Node, right: Node) -> bool:
        if isinstance(left, Relation) != isinstance(right, Relation) and (is_expression(left) or is_expression(right)):
            return False
        if variable(left) != variable(right) and variable(left) and variable(right):
            return False
        one, other = real_set(left), real_set(right)
        if one is not None and other is not None:
            return equal_sets(one, other)
        if type(left) is not type(right):
            if (one is None and other is None) or not _may_be_a_set(left) or not _may_be_a_set(right):
                return False
            raise Undecided
        match left, right:
            case SetOperation(name, a, b), SetOperation(other_name, c, d) if name == other_name:
                return (self(a, c) and self(b, d)) or (name != "difference" and self(a, d) and self(b, c))
            case Sequence(), Sequence():
                return self._sequences(left, right)
            case _:
                return False


def _without_unit(quantity: Quantity, other: Node) -> tuple[Node, Node] | None:
    """Drop a unit that the other side lacks, which may have a degree or percent sign instead; ``None`` if it stays."""
    unit = quantity.unit
    if not unit.is_known:
        return None
    match other:
        case Call("degree" | "percent" as sign, (number,)):
            if unit.dimension == RADIAN.dimension and sign == "degree":
                in_radians = Call("divide", (Call("multiply", (number, Constant("pi"))), Number(Fraction(180))))
                return quantity.value, in_radians
            is_temperature = unit.dimension in {(("degC", 1),), (("degF", 1),)}
            return (quantity.value, number) if sign == "degree" and is_temperature else None
        case _:
            return quantity.value, other


def _letters(words: str) -> list[str]:
    """Return the factors of a product of two or three letters, sorted; nothing for a word."""
    is_product = 2 <= len(words) <= 3 and words.isalpha() and words not in {"no", "on", "yes", "won", "now"}
    return sorted(words) if is_product else []


def _product(letters: list[str]) -> Node:
    factors: list[Node] = [Constant(one) if one == "e" or one == "i" else Symbol(one) for one in letters]
    return reduce(lambda product, factor: Call("multiply", (product, factor)), factors)


def _as_matrix(node: Node) -> Node:
    """Carry out sums, differences, multiples and transposes of matrices."""
    if not isinstance(node, Call) or not any(isinstance(one, Matrix | Sequence) for one in walk(node)):
        return node
    match Call(node.name, tuple(map(_as_matrix, node.arguments))):
        case Call("multiply", (Matrix() as matrix, factor)) | Call("multiply", (factor, Matrix() as matrix)) if (
            is_expression(factor)
        ):
            return rebuilt(matrix, lambda cell: Call("multiply", (factor, cell)))
        case Call("divide", (Matrix() as matrix, divisor)):
            return rebuilt(matrix, lambda cell: Call("divide", (cell, divisor)))
        case Call("negate", (Matrix() as matrix,)):
            return rebuilt(matrix, lambda cell: Call("negate", (cell,)))
        case Call("add" | "subtract" as name, (Matrix(rows), Matrix(others))) if list(map(len, rows)) == list(
            map(len, others)
        ):
            pairs = [zip(row, other, strict=True) for row, other in zip(rows, others, strict=True)]
            return Matrix(tuple(tuple(Call(name, pair) for pair in row) for row in pairs))
        case Call("multiply", (Matrix(rows), Matrix(others))) if len(rows[0]) == len(others):
            columns = list(zip(*others, strict=True))
            return Matrix(tuple(tuple(_dot(row, column) for column in columns) for row in rows))
        case Call("power", (Matrix(rows), Symbol("T" | "top"))):
            return Matrix(tuple(zip(*rows, strict=True)))
        case Call("power", (Sequence(items, "(" | "["), Symbol("T" | "top"))):
            return Matrix(tuple((item,) for item in items))
        case _:
            return node


def _dot(row: tuple[Node, ...], column: tuple[Node, ...]) -> Node:
    products: list[Node] = [Call("multiply", pair) for pair in zip(row, column, strict=True)]
    return reduce(lambda total, one: Call("add", (total, one)), products)


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


def _may_be_a_set(node: Node) -> bool:
    return isinstance(node, Sequence | SetOperation | Relation) or node == Symbol("reals")


def _times(node: Node, scale: Fraction) -> Node:
    return node if scale == 1 else Call("multiply", (node, Number(scale)))
