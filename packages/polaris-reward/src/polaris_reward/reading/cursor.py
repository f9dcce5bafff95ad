"""Where the parser is in its tokens, and what it has met on the way there."""

from dataclasses import dataclass

from polaris_reward.reading.lexer import MAX_DEPTH, Token
from polaris_reward.reading.refusals import TooLarge, Unreadable


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How to read what can be read in two ways."""

    group_commas: bool = True
    """``1,234`` is a number, not a list."""

    index_digits: bool = False
    """``x1`` is ``x_1``, not ``x`` times 1."""

    tight_products: bool = False
    """``1/2x`` is ``1/(2x)``, not ``x/2``."""

    letter_units: bool = False
    """``300 K`` is 300 kelvins, not 300 times K."""


USUAL = Reading()


class Cursor:
    """Walks over the tokens of an answer, of which the last one is ``end``."""

    def __init__(self, tokens: list[Token], reading: Reading) -> None:
        self._tokens = tokens
        self._reading = reading
        self._at = 0
        # What the next token is within: recursion, brackets, a set, open bars, integrals, and series by their index.
        self._level = 0
        self._depth = 0
        self._in_braces = False
        self._bars = 0
        self._integrals = 0
        self._indices: set[str] = set()

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _peek(self, offset: int = 1) -> Token:
        return self._tokens[min(self._at + offset, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "end":
            self._at += 1
        return token

    def _skip(self, *kinds: str) -> bool:
        if self._next.kind in kinds:
            self._at += 1
            return True
        return False

    def _expect(self, kind: str) -> None:
        if not self._skip(kind):
            raise Unreadable(f"{kind!r} is missing")

    def _kinds(self, count: int) -> list[str]:
        return [self._peek(offset).kind for offset in range(count)]

    def _descend(self) -> None:
        self._level += 1
        if self._level > MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")
