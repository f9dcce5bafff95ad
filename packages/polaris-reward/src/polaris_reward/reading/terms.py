"""Read expressions: sums of products of powers of atoms."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from polaris_reward.reading.lexer import Token
from polaris_reward.reading.quantities import Quantities
from polaris_reward.reading.refusals import Unreadable, Unsupported
from polaris_reward.reading.tree import BaseNumber, Call, Constant, Integral, Node, Number, Sequence, Series, Symbol

MAX_TREE_DEPTH = 100
"""Of operations within operations; what walks over a tree is recursive."""

RELATIONS = frozenset({"=", "<", ">", "<=", ">=", "!=", "approx", "in", "notin", "equiv"})
_STARTS_FACTOR = frozenset(
    r"number letter name function base ( [ { \{ frac binom pi infinity lfloor lceil int sum prod begin reals emptyset "
    "accent unknown dots".split()
)
_FUNCTION_NAMES = {
    "asin": "arcsin", "acos": "arccos", "atan": "arctan", "ceiling": "ceil", "lg": "log10", "tg": "tan", "ctg": "cot",
    "arctg": "arctan", "arcctg": "arccot", "cosec": "csc", "arsinh": "asinh", "arcosh": "acosh", "artanh": "atanh",
    "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
}  # fmt: skip
_INVERSES = {
    "sin": "arcsin",
    "cos": "arccos",
    "tan": "arctan",
    "cot": "arccot",
    "sinh": "asinh",
    "cosh": "acosh",
    "tanh": "atanh",
}
_CALLED_LETTERS = frozenset("fg")
"""Letters that name a function when a bracket follows."""

_OFTEN_CALLED_LETTERS = frozenset("hFGHWO")
"""Letters that do if there is but one letter or number in the bracket; all others are multiplied with it."""


class Terms(Quantities, ABC):
    """Reads expressions; what stands in brackets may be anything, which is left to a subclass."""

    @abstractmethod
    def _list(self, opening: Literal["", "(", "[", "{"], closing: Literal["", ")", "]", "}"]) -> Node: ...

    @abstractmethod
    def _bracketed(self, opening: str) -> Node: ...

    @abstractmethod
    def _environment(self, name: str) -> Node: ...

    # Sums, products and powers.

    def _sum(self) -> Node:
        terms, operators = [self._signed(self._product)], list[str]()
        while self._next.kind in {"+", "-", "pm", "mp"}:
            operators.append(self._take().kind)
            terms.append(self._signed(self._product))
        left = _added(terms, operators)
        if self._next.kind == "mod":
            self._take()
            return Call("mod", (left, self._signed(self._product)))
        return left

    def _signed(self, operand: Callable[[], Node]) -> Node:
        negative = False
        while self._next.kind in {"+", "-"}:
            negative ^= self._take().kind == "-"
        sign = self._take().kind if self._next.kind in {"pm", "mp"} else ""
        value = operand()
        value = Call(sign, (Number(Fraction(0)), value)) if sign else value
        return Call("negate", (value,)) if negative else value

    def _product(self) -> Node:
        left = self._factors()
        while self._next.kind in {"*", "/"}:
            operator = self._take().kind
            right = self._signed(self._factors if self._reading.tight_products else self._power)
            name = "multiply" if operator == "*" else "divide"
            left = Call(name, (left, right))
            if not self._reading.tight_products:
                left = self._times_factors(left, right)
        return left

    def _factors(self) -> Node:
        first = self._power()
        return self._times_factors(first, first)

    def _times_factors(self, product: Node, last: Node) -> Node:
        while self._starts_factor():
            factor = self._mixed_fraction(last) if product is last else None
            if factor is not None:
                product = last = self._postfix(Call("add", (product, factor)))
                continue
            if isinstance(last, Number) and self._next.kind == "number":
                raise Unreadable("two numbers side by side")
            last = self._power()
            product = Call("multiply", (product, last))
        return product

    def _starts_factor(self) -> bool:
        token = self._next
        if token.kind == "|":
            return self._bars == 0
        if (token.kind == "(" and self._peek().kind == "mod") or self._at_differential():
            return False
        if token.kind in {"letter", "word", "name", "frac"} and self._unit_ahead():
            return False
        if token.kind == "word":
            return not self._words_follow()
        return token.kind in _STARTS_FACTOR

    def _words_follow(self) -> bool:
        """Whether what follows is words rather than a product of letters."""
        token, follower = self._next, self._peek()
        return (
            token.spaced and len(token.value) > 3 and follower.kind in {"end", "word", ",", ";", "connective", "text"}
        )

    def _mixed_fraction(self, whole: Node) -> Node | None:
        """Read the fraction of a mixed number such as ``1 1/2``, if one follows a whole number."""
        if not isinstance(whole, Number) or whole.value.denominator != 1 or whole.significant_digits is not None:
            return None
        start = self._at
        if self._next.kind == "frac":
            fraction = self._atom()
        elif self._next.kind == "number" and self._next.spaced and self._peek().kind == "/":
            numerator = self._atom()
            self._take()
            if self._next.kind != "number":
                self._at = start
                return None
            fraction = Call("divide", (numerator, self._atom()))
        else:
            return None
        match fraction:
            case Call("divide", (Number(top), Number(bottom))) if (
                top.denominator == bottom.denominator == 1 and 0 < top < bottom and self._next.kind not in {"^", "!"}
            ):
                return fraction
            case _:
                self._at = start
                return None

    def _power(self) -> Node:
        base = self._postfix(self._atom())
        if not self._skip("^"):
            return base
        power = Call("power", (base, self._exponent()))
        return self._postfix(power)

    def _postfix(self, node: Node) -> Node:
        while True:
            if self._next.kind == "!":
                count = 0
                while self._skip("!"):
                    count += 1
                if count > 2:
                    raise Unreadable("more than two factorial signs")
                node = Call("factorial" if count == 1 else "double factorial", (node,))
            elif self._skip("%"):
                node = Call("percent", (node,))
            elif self._next.kind == "degree" and not self._temperature(self._at):
                self._take()
                node = Call("degree", (node,))
            else:
                return node

    def _exponent(self) -> Node:
        self._descend()
        exponent = self._signed_exponent()
        self._level -= 1
        return exponent

    def _signed_exponent(self) -> Node:
        if self._next.kind in {"-", "+"}:
            sign = self._take().kind
            exponent = self._postfix(self._atom())
            return Call("negate", (exponent,)) if sign == "-" else exponent
        exponent = self._atom()
        if self._next.kind == "^":
            # Towers are read from the right: 2^3^2 is 2^9.
            self._take()
            return Call("power", (exponent, self._exponent()))
        return exponent

    # Atoms.

    def _atom(self) -> Node:
        self._descend()
        atom = self._read_atom()
        self._level -= 1
        return atom

    def _read_atom(self) -> Node:
        token = self._take()
        match token.kind:
            case "number":
                assert token.number is not None
                return Number(token.number, token.significant_digits, token.grouped)
            case "base":
                digits, _, base = token.value.partition("_")
                if base == "10":
                    return Number(Fraction(digits))
                return BaseNumber(digits, int(base))
            case "letter":
                return self._letter(token.value)
            case "name":
                return Symbol(f"{token.value}_{self._subscript()}" if self._skip("_") else token.value)
            case "word":
                return self._first_letter(token.value)
            case "pi" | "infinity":
                return Constant(token.kind)  # pyright: ignore[reportArgumentType]
            case "emptyset":
                return Sequence((), "{", "}")
            case "reals":
                return Symbol("reals")
            case "dots":
                return Symbol("...")
            case "(" | "[" | "\\{" | "{":
                return self._bracketed(token.kind)
            case "|":
                self._bars += 1
                inner = self._sum()
                self._expect("|")
                self._bars -= 1
                return Call("abs", (inner,))
            case "lfloor" | "lceil":
                inner = self._sum()
                self._expect("r" + token.kind[1:])
                return Call("floor" if token.kind == "lfloor" else "ceil", (inner,))
            case "frac" | "binom":
                top, bottom = self._argument(), self._argument()
                return Call("divide" if token.kind == "frac" else "binomial", (top, bottom))
            case "function":
                return self._function(token.value)
            case "sum" | "prod":
                return self._series("sum" if token.kind == "sum" else "product")
            case "int":
                return self._integral()
            case "accent":
                return Call(f"{token.value}()", (self._atom(),))
            case "unknown":
                raise Unsupported(token.value)
            case "begin":
                return self._environment(token.value)
            case _:
                raise Unreadable(f"{token.value or token.kind!r} in an unexpected place")

    def _letter(self, name: str) -> Node:
        if self._next.kind == "_":
            self._take()
            name += "_" + self._subscript()
        elif name in {"e", "i"} and name not in self._indices:
            return Constant(name)  # pyright: ignore[reportArgumentType]
        while self._skip("'"):
            name += "'"
        if name == "C" and self._next.kind == "(" and self._peek().kind == "number" and self._peek(2).kind == ",":
            self._take()
            pair = self._list("(", ")")
            self._expect(")")
            return Call("binomial", pair.items if isinstance(pair, Sequence) else (pair,))
        if name in _CALLED_LETTERS and self._kinds(6) == ["^", "{", "-", "number", "}", "("]:
            self._at += 5
            name += "^-1"
        if self._next.kind == "(" and self._is_called(name):
            self._take()
            inner = self._list("(", ")")
            self._expect(")")
            arguments = inner.items if isinstance(inner, Sequence) else (inner,)
            return Call(f"{name}()", arguments)
        return Symbol(name)

    def _is_called(self, name: str) -> bool:
        has_one_argument = self._peek().kind in {"letter", "number"} and self._peek(2).kind == ")"
        if not self._next.spaced and (
            name[0] in _CALLED_LETTERS or (name in _OFTEN_CALLED_LETTERS and has_one_argument)
        ):
            return True
        return self._is_definition()

    def _is_definition(self) -> bool:
        """Whether a letter before a bracket is a function that is being defined, as in ``P(x) = ...``."""
        at = 1
        while self._peek(at).kind in {"letter", "name"} and self._peek(at + 1).kind == ",":
            at += 2
        return (
            self._peek(at).kind in {"letter", "name"}
            and self._peek(at + 1).kind == ")"
            and (self._peek(at + 2).kind in RELATIONS or (at == 1 and self._peek(3).kind == "end" and self._at > 1))
        )

    def _first_letter(self, letters: str) -> Node:
        """Cut a word into letters, which are then multiplied like any others."""
        if not letters.isalpha():
            raise Unreadable(f"{letters!r}")
        self._tokens[self._at - 1 : self._at] = [Token("letter", letter) for letter in letters]
        return self._letter(letters[0])

    def _subscript(self) -> str:
        """Return what stands below a letter, spelled in one way."""
        if self._next.kind != "{":
            token = self._take()
            if token.kind not in {"number", "letter", "name", "word", "text"}:
                raise Unreadable("a strange index")
            return token.value
        depth, parts = 0, list[str]()
        while True:
            token = self._take()
            depth += {"{": 1, "}": -1}.get(token.kind, 0)
            if token.kind == "end":
                raise Unreadable("a brace that is never closed")
            if depth == 0:
                return "".join(parts)
            if token.kind != "{":
                parts.append(token.value or token.kind)

    def _argument(self) -> Node:
        r"""Read an argument of ``\frac``: a group, or a single digit or letter as in ``\frac12``."""
        token = self._next
        if token.kind == "number" and token.number is not None and token.value.isdigit() and len(token.value) > 1:
            digits = (token.value[0], token.value[1:])
            self._tokens[self._at : self._at + 1] = [Token("number", one, number=Fraction(one)) for one in digits]
        if token.kind == "-":
            return self._exponent()
        return self._atom()

    def _function(self, name: str) -> Node:
        name = _FUNCTION_NAMES.get(name, name)
        if name in {"sqrt", "cbrt"}:
            return self._root(name)
        base: Node | None = None
        if self._skip("_"):
            base = self._exponent() if self._next.kind != "{" else self._atom()
        power = self._exponent() if self._skip("^") else None
        if base is None and self._skip("_"):
            base = self._atom()
        arguments = self._function_arguments()
        if name == "log" and base is not None:
            name, arguments = "log base", (base, *arguments)
        elif base is not None:
            raise Unreadable(f"{name} with an index")
        if power == Call("negate", (Number(Fraction(1)),)) and name in _INVERSES:
            return Call(_INVERSES[name], arguments)
        call = Call(name, arguments)
        return call if power is None else Call("power", (call, power))

    def _function_arguments(self) -> tuple[Node, ...]:
        if self._next.kind in {"(", "[", "{"}:
            inner = self._bracketed(self._take().kind)
            if isinstance(inner, Sequence) and inner.opening in {"(", "[", "{"}:
                return inner.items
            return (inner,)
        # `\sin 2x \cos x`: what is multiplied side by side, up to the next function.
        if self._skip("-"):
            return (Call("negate", (self._function_arguments()[0],)),)
        product = self._power()
        while self._starts_factor() and self._next.kind not in {"function", "(", "["}:
            product = Call("multiply", (product, self._power()))
        return (product,)

    def _root(self, name: str) -> Node:
        degree: Node = Number(Fraction(3 if name == "cbrt" else 2))
        if self._skip("["):
            degree = self._sum()
            self._expect("]")
        inner = self._bracketed(self._take().kind) if self._next.kind in {"(", "{"} else self._atom()
        return Call("root", (inner, degree))

    def _series(self, name: Literal["sum", "product"]) -> Node:
        self._expect("_")
        self._expect("{")
        index = self._take()
        if index.kind != "letter":
            raise Unreadable("a series without an index")
        self._expect("=")
        first = self._sum()
        self._expect("}")
        self._expect("^")
        last = self._exponent()
        self._indices.add(index.value)
        term = self._product()
        self._indices.discard(index.value)
        return Series(name, index.value, first, last, term)

    def _integral(self) -> Node:
        bounds: tuple[Node, ...] = ()
        if self._skip("_"):
            low = self._atom()
            self._expect("^")
            bounds = (low, self._exponent())
        self._integrals += 1
        integrand = self._sum()
        if not self._at_differential():
            raise Unsupported("an integral without a differential")
        self._integrals -= 1
        differential = self._take()
        variable = differential.value[1:] or self._take().value
        return Integral(variable, integrand, bounds)

    def _at_differential(self) -> bool:
        token, follower = self._next, self._peek()
        is_d = token.kind == "letter" and token.value == "d" and follower.kind == "letter"
        is_word = token.kind == "word" and len(token.value) == 2 and token.value[0] == "d"
        return self._integrals > 0 and (is_d or is_word)


def _added(terms: list[Node], operators: list[str]) -> Node:
    """Add terms up from the left; a long sum from the middle, so that its tree stays flat."""
    if len(terms) > MAX_TREE_DEPTH // 4 and set(operators) <= {"+", "-"}:
        signed = [terms[0]]
        for operator, term in zip(operators, terms[1:], strict=True):
            signed.append(term if operator == "+" else Call("negate", (term,)))
        middle = len(signed) // 2
        halves = (_added(half, ["+"] * (len(half) - 1)) for half in (signed[:middle], signed[middle:]))
        return Call("add", tuple(halves))
    total = terms[0]
    for operator, term in zip(operators, terms[1:], strict=True):
        total = Call({"+": "add", "-": "subtract"}.get(operator, operator), (total, term))
    return total
