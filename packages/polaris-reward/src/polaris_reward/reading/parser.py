r"""Read an answer as a tree, by recursive descent over its tokens.

The grammar is what answers look like: a list of relations between sums of products, with sets, tuples, intervals,
matrices and units around them. Where notation is ambiguous, `Reading` names the choices; a comparison may try several.
"""

from typing import Literal

from polaris_reward.reading.cursor import USUAL, Reading
from polaris_reward.reading.lexer import tokenize
from polaris_reward.reading.notation import normalise
from polaris_reward.reading.refusals import TooLarge, Unreadable, Unsupported
from polaris_reward.reading.terms import MAX_TREE_DEPTH, RELATIONS, Terms
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
    SetOperator,
    Symbol,
    Text,
    depth,
    is_constant,
)
from polaris_reward.reading.units import Unit, ratio_of_units

_SET_OPERATORS: dict[str, SetOperator] = {"cup": "union", "cap": "intersection", "setminus": "difference"}
_ITEM_ENDS = frozenset("end , ; connective ) ] } \\} \\\\ & finish | :".split())
_CLOSING = {"(": ")", "[": "]", "\\{": "\\}", "{": "}"}
_NOT_A_UNIT = frozenset("is are not wrong incorrect if else unless otherwise or possibly maybe perhaps but".split())
_OF_CONDITIONS = frozenset("if when for where is are provided that a an".split())
_MATRICES = frozenset("matrix pmatrix bmatrix Bmatrix smallmatrix array vmatrix cases aligned".split())


def parse(text: str, reading: Reading = USUAL) -> Node:
    """Read a text as a tree.

    Raises:
        Unreadable: If it is not in the notation that is understood here.
        TooLarge: If a number or the nesting passes its bound.
    """
    tokens = tokenize(normalise(text), group_commas=reading.group_commas, index_digits=reading.index_digits)
    try:
        node = _Parser(tokens, reading).whole()
    except Unreadable:
        if (unknown := next((token.value for token in tokens if token.kind == "unknown"), None)) is not None:
            raise Unsupported(unknown) from None
        raise
    if depth(node) > MAX_TREE_DEPTH:
        raise TooLarge(f"operations are nested deeper than {MAX_TREE_DEPTH}")
    return node


class _Parser(Terms):
    """Reads lists, relations, sets, quantities, brackets and matrices around expressions."""

    def whole(self) -> Node:
        node = self._list("", "")
        while self._skip("\\\\"):
            pass
        if self._next.kind != "end":
            raise Unreadable(f"{self._next.kind!r} in an unexpected place")
        return node

    def _list(self, opening: Literal["", "(", "[", "{"], closing: Literal["", ")", "]", "}"]) -> Node:
        items = [self._item()]
        bare, connective = True, ""
        while self._next.kind in {",", ";", "connective"}:
            bare = False
            while self._next.kind in {",", ";", "connective"}:
                connective = self._take().value or connective
            if self._next.kind in {"end", "\\\\", ")", "]", "}", "\\}", "finish", "&"}:
                break
            items.append(_excluded_too(items[-1], self._item()))
        if bare and not opening:
            return items[0]
        return Sequence(tuple(items), opening, closing, connective)  # pyright: ignore[reportArgumentType]

    def _item(self) -> Node:
        start, state = self._at, (self._level, self._depth, self._in_braces, self._bars, self._integrals)
        try:
            item = self._relation()
            if self._next.kind in _ITEM_ENDS or (equals := self._end_of_label(start)) is None:
                return item
        except Unreadable:
            if (equals := self._end_of_label(start)) is None:
                raise
        self._at, (self._level, self._depth, self._in_braces, self._bars, self._integrals) = equals + 1, state
        # Whatever stands before the sign names the value, as in `P(A|B) = 0.3`.
        label = Text(" ".join(token.value or token.kind for token in self._tokens[start:equals]))
        value = self._relation()
        if isinstance(value, Relation):
            return Relation((label, *value.sides), ("=", *value.operators))
        return Relation((label, value), ("=",))

    def _end_of_label(self, start: int) -> int | None:
        """Return where an equality sign follows something with letters that cannot be read."""
        depth, has_letters = 0, False
        for at, token in enumerate(self._tokens[start:], start):
            depth += (token.kind in _CLOSING) - (token.kind in _CLOSING.values())
            if token.kind == "=" and depth == 0:
                return at if has_letters else None
            is_denial = token.value in {r"\not", r"\neg", r"\lnot"} or (
                token.kind in {"word", "text"} and bool(_NOT_A_UNIT & set(token.value.lower().split()))
            )
            if (
                depth < 0
                or is_denial
                or (depth == 0 and token.kind in RELATIONS | {",", ";", "connective", "&", "\\\\"})
            ):
                return None
            has_letters |= token.kind in {"letter", "name", "word", "text", "function", "unknown", "label", "accent"}
        return None

    def _relation(self) -> Node:
        sides, operators = [self._ratio()], list[str]()
        while self._next.kind in RELATIONS:
            operators.append(self._take().kind)
            sides.append(self._ratio())
        if not operators:
            return sides[0]
        return Relation(tuple(sides), tuple(operators))

    def _ratio(self) -> Node:
        terms = [self._set()]
        while not self._in_braces and self._skip(":"):
            terms.append(self._set())
        return terms[0] if len(terms) == 1 else Ratio(tuple(terms))

    def _set(self) -> Node:
        left = self._quantity()
        if self._skip("choose"):
            left = Call("binomial", (left, self._quantity()))
        while (name := _SET_OPERATORS.get(self._next.kind)) is not None:
            self._take()
            left = SetOperation(name, left, self._quantity())
        match left:
            case Call(
                "subtract", (Symbol("reals") | Sequence(opening="{") as members, Sequence(opening="{") as left_out)
            ):
                return SetOperation("difference", members, left_out)
            case _:
                return left

    def _quantity(self) -> Node:
        if self._next.kind in {"text", "word"}:
            return self._label()
        value = self._sum()
        if self._next.kind == "pmod" or (self._next.kind == "(" and self._peek().kind == "mod"):
            return Quantity(value, Unit(((self._modulus(), 1),)))
        if (found := self._unit_ahead()) is not None:
            unit, self._at = found
            return Quantity(self._with_smaller_units(value, unit), unit)
        return Quantity(value, Unit(((words, 1),), is_known=False)) if (words := self._words()) else value

    def _with_smaller_units(self, value: Node, unit: Unit) -> Node:
        """Add what follows in smaller units of the same kind, as in ``5 hours and 30 minutes``."""
        while True:
            start = self._at
            self._at += self._next.kind == "connective" and self._next.value == "and"
            number = self._next.number
            self._take()
            found = self._unit_ahead() if number is not None else None
            ratio = ratio_of_units(found[0], unit) if found else None
            if number is None or found is None or ratio is None or ratio >= 1:
                self._at = start
                return value
            value, self._at = Call("add", (value, Number(number * ratio))), found[1]

    def _label(self) -> Node:
        """Read words that stand where an expression would."""
        words = [self._take().value]
        while self._next.kind in {"text", "word"}:
            words.append(self._take().value)
        is_plain, follower = self._tokens[self._at - 1].kind == "word", self._next
        if len(words) == 1 and (
            (is_plain and self._depth and len(words[0]) <= 3)
            or (is_plain and follower.kind == "number" and not follower.spaced)
            or follower.kind in {"*", "/", "+", "-", "^", "_", "(", "letter"}
        ):
            # A product of letters, such as `abc/d`.
            self._at -= 1
            return self._sum()
        if follower.kind == "number":
            raise Unreadable("words before a number")
        return Text(" ".join(words))

    def _words(self) -> str:
        words: list[str] = []
        while self._next.kind in {"text", "word"} or (words and self._next.kind == "letter"):
            words.append(self._take().value)
            if _NOT_A_UNIT & set(words[-1].lower().split()):
                raise Unreadable("a remark after a number")
        return " ".join(words)

    def _modulus(self) -> str:
        """Read ``(mod 7)`` after a number, which like a unit says how to take it."""
        closing = ")" if self._take().kind == "(" else ""
        self._skip("mod")
        start = self._at
        if closing:
            self._sum()
            self._expect(closing)
        else:
            self._atom()
        return "mod " + "".join(token.value or token.kind for token in self._tokens[start : self._at]).strip("{})")

    def _bracketed(self, opening: str) -> Node:
        outside = self._bars, self._in_braces, self._depth
        # In a set, a bar or a colon may begin the condition.
        self._bars, self._in_braces, self._depth = int(opening == "\\{"), opening == "\\{", self._depth + 1
        if opening != "{" and self._skip(_CLOSING[opening]):
            self._bars, self._in_braces, self._depth = outside
            return Sequence((), "{", "}") if opening == "\\{" else Sequence((), "[", "]")
        brackets: Literal["(", "[", "{"] = "{" if opening in {"\\{", "{"} else opening  # pyright: ignore[reportAssignmentType]
        inner = self._list(brackets, ")")
        condition = self._list("", "") if self._in_braces and self._skip("|", ":") else None
        self._bars, self._in_braces, self._depth = outside
        closing = self._take().kind
        allowed = {_CLOSING[opening]} if opening in {"{", "\\{"} else {")", "]"}
        if closing not in allowed:
            raise Unreadable(f"{opening!r} is never closed")
        assert isinstance(inner, Sequence)
        if condition is not None:
            # Of `{x : x > 3}` the condition says all; `{2k : k \\in Z}` is what it says for each k.
            only_names = all(isinstance(one, Symbol | Relation) for one in inner.items)
            is_point = len(inner.items) == 1 and isinstance(inner.items[0], Sequence)
            return condition if only_names or is_point else Sequence((*inner.items, condition), "", "")
        if len(inner.items) == 1 and opening != "\\{":
            return inner.items[0]
        return Sequence(inner.items, brackets, {"}": "}", "\\}": "}"}.get(closing, closing))  # pyright: ignore[reportArgumentType]

    def _environment(self, name: str) -> Node:
        if name not in _MATRICES:
            raise Unreadable(rf"\begin{{{name}}}")
        rows: list[tuple[Node, ...]] = []
        is_cases = name in {"cases", "aligned"}
        while not self._skip("finish"):
            rows.append(self._case() if is_cases else self._row())
            if not self._skip("\\\\") and self._next.kind != "finish":
                raise Unreadable(rf"\begin{{{name}}} is never ended")
        if not rows or len({len(row) for row in rows}) > 1:
            raise Unreadable("rows of different lengths")
        if is_cases and len(rows[0]) == 1:
            # A system of equations.
            return Sequence(tuple(row[0] for row in rows), "", "")
        if name == "vmatrix":
            return Call("det", (Matrix(tuple(rows)),))
        return Matrix(tuple(rows), "cases" if is_cases else "matrix")

    def _row(self) -> tuple[Node, ...]:
        cells = [self._cell()]
        while self._skip("&"):
            cells.append(self._cell())
        return tuple(cells)

    def _case(self) -> tuple[Node, ...]:
        """Read a row of a definition by cases: a value and its condition, or an equation of a system."""
        value = self._cell()
        while self._skip("&", ","):
            pass
        if self._next.kind in {"\\\\", "finish"}:
            return (value,)
        words: list[str] = []
        condition: Node | None = None
        while self._next.kind not in {"\\\\", "finish", "end"}:
            if self._skip("&", ",") or (
                self._next.kind == "connective" and self._skip("connective") and condition is None
            ):
                continue
            if self._next.kind in {"text", "word"}:
                words += [one for one in self._take().value.lower().strip(" .,").split() if one not in _OF_CONDITIONS]
            elif condition is None:
                condition = self._list("", "")
            else:
                raise Unreadable("two conditions in one case")
        if condition is None:
            return value, Text(" ".join(words))
        if isinstance(condition, Quantity) and not condition.unit.is_known:
            words += [one for one in condition.unit.dimension[0][0].split() if one not in _OF_CONDITIONS]
            condition = condition.value
        return value, Sequence((condition, Text(" ".join(words))), "", "") if words else condition

    def _cell(self) -> Node:
        cell = self._list("", "")
        # A comma at the end of a cell is punctuation.
        return cell.items[0] if isinstance(cell, Sequence) and len(cell.items) == 1 and not cell.opening else cell


def _excluded_too(previous: Node, item: Node) -> Node:
    """Read ``x \\ne 0, 1`` as ``x \\ne 0, x \\ne 1``."""
    match previous:
        case Relation((Symbol() as name, _), ("!=",)) if is_constant(item):
            return Relation((name, item), ("!=",))
        case _:
            return item
