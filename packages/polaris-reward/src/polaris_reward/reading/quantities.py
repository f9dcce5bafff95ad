"""Read the unit behind a number: products, quotients and powers of names and symbols."""

from polaris_reward.reading.counted import QUALIFIERS, TRAILING
from polaris_reward.reading.cursor import Cursor
from polaris_reward.reading.lexer import Token
from polaris_reward.reading.units import ONE, Unit, is_sure_unit, unit_named

_ENDS = frozenset(
    "end , ; connective ) ] \\} \\\\ & finish number = < > <= >= != approx in notin equiv : ( cup cap implies".split()
)
_FACTORS = frozenset({"text", "word", "letter", "name", "frac", "degree"})
_BEGINNINGS = _FACTORS | {"function"}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_LETTERS = {"mu": "µ", "Omega": "Ω"}
_SPELLED = {"min": "min", "sec": "sec", "percent": "", "%": ""}

Ahead = tuple[Unit, int]
"""A unit, and the place of the token after it."""


class Quantities(Cursor):
    """Looks ahead for units."""

    def _unit_ahead(self) -> Ahead | None:
        """Return the unit that begins at the next token and ends what is being read, if there is one."""
        if self._next.kind not in _BEGINNINGS:
            return None
        found = self._temperature(self._at) or self._compound(self._at, is_first=True)
        if found is None:
            return None
        unit, at = found
        while self._word(at).lower() in TRAILING or (
            self._word(at).lower() == "in" and self._word(at + 1).lower() in TRAILING
        ):
            at += 1
        if self._word(at).lower() == "of":
            # `cups of flour`, `liters of water`
            at += 1
            while self._tokens[at].kind in {"text", "word"}:
                at += 1
        return (unit, at) if self._tokens[at].kind in _ENDS else None

    def _temperature(self, at: int) -> Ahead | None:
        if self._tokens[at].kind != "degree":
            return None
        word = self._word(at + 1)
        unit = unit_named("deg" + word) if word in {"C", "F"} else unit_named(word)
        return (unit, at + 2) if unit is not None and unit.dimension[0][0] in {"degC", "degF"} else None

    def _compound(self, at: int, *, is_first: bool = False) -> Ahead | None:
        found = self._unit_power(at, is_first=is_first)
        if found is None:
            return None
        unit, at = found
        while True:
            kind, sign = self._tokens[at].kind, 1
            is_per = kind in {"text", "word"} and self._word(at).lower() in {"per", "an", "a"}
            if kind == "/" or is_per:
                sign = -1
            step = int(kind in {"*", "/"} or is_per)
            factor = self._unit_power(at + step) if step or kind in _FACTORS else None
            if factor is None:
                return None if step else (unit, at)
            unit, at = unit.times(factor[0], sign), factor[1]

    def _unit_power(self, at: int, *, is_first: bool = False) -> Ahead | None:
        word = self._word(at).lower()
        while word in QUALIFIERS:
            at += 1
            word = self._word(at).lower()
        if word in {"square", "sq", "cubic", "cu"} and (found := self._unit_power(at + 1, is_first=is_first)):
            return ONE.times(found[0], _POWERS[word]), found[1]
        found = self._factor(at, is_first=is_first)
        if found is None:
            return None
        unit, at = found
        if (word := self._word(at).lower()) in {"squared", "cubed"}:
            return ONE.times(unit, _POWERS[word]), at + 1
        if self._tokens[at].kind == "number" and not self._tokens[at].spaced and self._tokens[at].value in {"2", "3"}:
            return ONE.times(unit, int(self._tokens[at].value)), at + 1
        if self._tokens[at].kind != "^":
            return unit, at
        power = self._whole_power(at + 1)
        return None if power is None else (ONE.times(unit, power[0]), power[1])

    def _whole_power(self, at: int) -> tuple[int, int] | None:
        braced = self._tokens[at].kind == "{"
        at += braced
        negative = self._tokens[at].kind == "-"
        at += negative
        number = self._tokens[at].number
        if number is None or number.denominator != 1 or number > 9 or (braced and self._tokens[at + 1].kind != "}"):
            return None
        return int(number) * (-1 if negative else 1), at + 1 + braced

    def _factor(self, at: int, *, is_first: bool) -> Ahead | None:
        token = self._tokens[at]
        if token.kind == "degree" and not is_first:
            return self._temperature(at)
        if token.kind == "frac" and self._tokens[at + 1].kind == "{":
            top = self._compound(at + 2, is_first=is_first)
            bottom = (
                self._compound(top[1] + 2, is_first=is_first)
                if top and self._kinds_at(top[1], 2) == ["}", "{"]
                else None
            )
            if top is None or bottom is None or self._tokens[bottom[1]].kind != "}":
                return None
            return top[0].times(bottom[0], -1), bottom[1] + 1
        if token.kind in {"(", "{"} and not is_first:
            inner = self._compound(at + 1)
            closes = inner is not None and self._tokens[inner[1]].kind == {"(": ")", "{": "}"}[token.kind]
            return (inner[0], inner[1] + 1) if inner and closes else None
        word, at = self._symbol(at)
        if not word or (is_first and not self._may_begin(token, word)):
            return None
        unit = unit_named(word)
        return None if unit is None else (unit, at)

    def _symbol(self, at: int) -> tuple[str, int]:
        r"""Return a unit's spelling and the place after it: ``\mu`` and ``k`` belong to what follows at once."""
        word = self._word(at)
        following = self._word(at + 1)
        if word and following and word in {"µ", "k", "M", "G", "m"} and self._tokens[at].kind == "letter":
            is_joined = word == "µ" or (not self._tokens[at + 1].spaced and self._tokens[at + 1].kind == "letter")
            if is_joined and unit_named(word + following):
                return word + following, at + 2
        if word in {"M", "L", "R"} and self._tokens[at + 1].kind == "_":
            braced = self._tokens[at + 2].kind == "{"
            return f"{word}_{self._tokens[at + 2 + braced].value}", at + 3 + 2 * braced
        if word == "fl" and following == "oz":
            return "fl_oz", at + 2
        return word, at + 1

    def _may_begin(self, token: Token, word: str) -> bool:
        """Whether a unit, rather than a factor, begins with this: letters are variables first."""
        if token.kind == "text" or token.roman:
            return True
        if token.kind in {"word", "name", "function"}:
            return token.spaced or is_sure_unit(word)
        return self._reading.letter_units and (token.spaced or word[0] in "µΩ")

    def _word(self, at: int) -> str:
        token = self._tokens[min(at, len(self._tokens) - 1)]
        if token.kind in {"text", "word", "name"}:
            return token.value.strip(". ")
        if token.kind == "letter":
            return _LETTERS.get(token.value, token.value)
        return token.value if token.kind == "function" and token.value in _SPELLED else ""

    def _kinds_at(self, at: int, count: int) -> list[str]:
        return [self._tokens[min(at + step, len(self._tokens) - 1)].kind for step in range(count)]
