r"""Cut an answer into tokens: LaTeX, Unicode and the plain notation of computer algebra alike.

Every way to write a thing becomes one token (``\le``, ``<=``, ``≤``), so that the parser knows one notation.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from polaris_reward.reading import vocabulary
from polaris_reward.reading.counted import CHINESE
from polaris_reward.reading.notation import GROUPING, ROW
from polaris_reward.reading.refusals import TooLarge, Unreadable
from polaris_reward.reading.units import unit_pieces

MAX_DIGITS = 4_000
"""Of one numeral, and the largest decimal exponent; Python itself refuses integers of more than 4,300 digits."""

MAX_DEPTH = 40
"""Of nested brackets; it keeps the parser far from Python's recursion limit."""

_NUMBER = re.compile(
    rf"(?P<sure>\d{{1,3}}(?:{GROUPING}\d{{3}})+(?:\.\d+)?)"
    r"|(?P<spaced>\d{1,3}(?: \d{3})+(?![\d])(?:\.\d+)?)"
    r"|(?P<under>\d{1,3}(?:_\d{3})+(?!\d))"
    r"|(?P<comma>\d{1,3}(?:,\d{3})+(?![\d])(?:\.\d+)?)"
    r"|(?P<plain>(?:\d+(?:\.\d*)?|\.\d+))"
)
_REPEATING = re.compile(
    r"(?<=\.)\((\d+)\)|\\(?:overline|dot|bar)\s*(?:\{(\d+)\}|(\d))(?:\s*\\dot\s*(?:\{(\d)\}|(\d)))?"
)
_EXPONENT = re.compile(r"[eE]([+-]?\d+)(?![\d.]*[A-Za-z({])")
_COMMAND = re.compile(r"\\(?:([A-Za-z]+)\*?|(.))", re.DOTALL)
_IDEOGRAPHS = re.compile("[\u3400-\u9fff]+")
_LETTERS = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{\s*([A-Za-z]+)\*?\s*\}(?:\s*\{[^{}]*\})?(?:\[[^\[\]]*\])?")
_BASE = re.compile(
    r"([0-9A-Fa-f]+)\s*_\s*(?:\{\s*(?:\\text\s*\{|\()?\s*(\d{1,2})\s*[)}]?\s*\}|(\d{1,2}))(?![0-9A-Za-z])"
)
_MATHLIKE = re.compile(r"\\|(?<!\^)(?<!\^\{)\d|\A[\s.,%+\-*/()=<>^|!]*\Z")
"""Words with a number or a command among them, or without any letter: mathematics all the same."""
_OPERATORS = re.compile(r"<=|>=|!=|==|=|\*\*|\.\.\.|:=|[-+*/^_!|,;:()\[\]{}<>=&%']")
_BEFORE_UNITS = frozenset("number } ) ] letter name word text degree % ! pi / * { |".split())
_SAME = {"==": "=", "**": "^", ":=": "=", "...": "dots"}


@dataclass(frozen=True, slots=True)
class Token:
    """One piece of an answer."""

    kind: str
    """``number``, ``letter``, ``name``, ``word``, ``text``, ``function``, ``base``, ``end``, or the symbol itself."""

    value: str = ""
    number: Fraction | None = None
    significant_digits: int | None = None
    grouped: bool = False
    spaced: bool = False
    """White space stands before it."""
    roman: bool = False
    r"""A letter in ``\text{}`` or the like, where units are."""


def tokenize(text: str, *, group_commas: bool = True, index_digits: bool = False) -> list[Token]:
    r"""Cut a normalised text into tokens, an ``end`` token last.

    Args:
        text: Output of `normalise`.
        group_commas: Read ``1,234`` outside brackets as one number.
        index_digits: Read ``x1`` as ``x_1``.

    Raises:
        Unreadable: At a character or a command without a meaning here.
        TooLarge: If a number or the nesting passes its bound.
    """
    return _Lexer(text, group_commas=group_commas, index_digits=index_digits).run()


class _Lexer:
    def __init__(self, text: str, *, group_commas: bool, index_digits: bool) -> None:
        self._text = text
        self._at = 0
        self._tokens: list[Token] = []
        self._depth = 0
        self._brackets = 0
        self._group_commas = group_commas
        self._index_digits = index_digits
        self._spaced = False

    def run(self) -> list[Token]:
        while self._at < len(self._text):
            character = self._text[self._at]
            if character.isspace():
                self._spaced = True
                self._at += 1
            elif character == ROW:
                self._at += 1
                self._add("\\\\")
            elif character == "\\":
                self._command()
            elif found := _BASE.match(self._text, self._at):
                self._base(found)
            elif (character.isdigit() and character.isascii()) or (character == "." and self._digit_follows()):
                self._number()
            elif found := _LETTERS.match(self._text, self._at):
                self._letters(found)
            elif found := _IDEOGRAPHS.match(self._text, self._at):
                self._at = found.end()
                self._add("text", found[0])
            elif found := _OPERATORS.match(self._text, self._at):
                self._operator(found[0])
            elif character == "." and self._tokens and self._tokens[-1].kind == "word":
                # Of an abbreviation.
                self._at += 1
            else:
                raise Unreadable(f"{character!r}")
        self._add("end")
        return self._tokens

    def _digit_follows(self) -> bool:
        return self._text[self._at + 1 : self._at + 2].isdigit()

    def _add(self, kind: str, value: str = "", **more: object) -> None:
        self._tokens.append(Token(kind, value, spaced=self._spaced, **more))  # pyright: ignore[reportArgumentType]
        self._spaced = False

    def _operator(self, text: str) -> None:
        self._at += len(text)
        if text in "([{":
            self._open(bracket=text != "{")
        elif text in ")]}":
            self._close(bracket=text != "}")
        self._add(_SAME.get(text, text))

    def _open(self, *, bracket: bool) -> None:
        self._depth += 1
        self._brackets += bracket
        if self._depth > MAX_DEPTH:
            raise TooLarge(f"brackets are nested deeper than {MAX_DEPTH}")

    def _close(self, *, bracket: bool) -> None:
        self._depth -= 1
        self._brackets -= bracket

    def _base(self, found: re.Match[str]) -> None:
        digits, base = found[1], int(found[2] or found[3])
        before = self._text[self._at - 1 : self._at]
        readable = (
            2 <= base <= 36 and not (before.isalnum() and not self._spaced) and (digits[0].isdigit() or base == 16)
        )
        if not readable or (not digits.isdigit() and base <= 10):
            if _NUMBER.match(self._text, self._at):
                self._number()
            else:
                letters = _LETTERS.match(self._text, self._at)
                assert letters
                self._letters(letters)
            return
        self._at = found.end()
        self._add("base", f"{digits.upper()}_{base}")

    def _number(self) -> None:
        found = _NUMBER.match(self._text, self._at)
        assert found
        kind = found.lastgroup
        if (kind == "comma" and (self._brackets > 0 or not self._group_commas)) or (kind == "under" and self._depth):
            found = re.compile(r"\d+").match(self._text, self._at)
            assert found
            kind = "plain"
        self._at = found.end()
        digits = re.sub(rf"[{GROUPING},_ ]", "", found[0])
        if digits.endswith("."):
            # A full stop, or the first of an ellipsis.
            digits, self._at = digits[:-1], self._at - 1
            if _REPEATING.match(self._text, self._at + 1):
                digits, self._at = digits + ".", self._at + 1
            elif not re.match(r"[\w.\\]", self._text[self._at + 1 :]):
                self._at += 1
        if len(digits) > MAX_DIGITS:
            raise TooLarge(f"a number of {len(digits)} digits; at most {MAX_DIGITS} are read")
        value, significant = Fraction(digits if digits[-1:] != "." else digits[:-1]), None
        if "." in digits:
            significant = len(digits.replace(".", "").lstrip("0"))
            if repeated := _REPEATING.match(self._text, self._at):
                self._at = repeated.end()
                value += _repeating(digits, repeated)
                significant = None
        if exponent := _EXPONENT.match(self._text, self._at):
            power = int(exponent[1][:8])
            if abs(power) > MAX_DIGITS or len(exponent[1]) > 8:
                raise TooLarge(f"the exponent {exponent[1][:20]} passes {MAX_DIGITS}")
            self._at = exponent.end()
            value *= Fraction(10) ** power
            significant = None
        self._add("number", found[0], number=value, significant_digits=significant, grouped=kind == "comma")

    def _letters(self, found: re.Match[str]) -> None:
        word = found[0]
        is_known = word in vocabulary.FUNCTIONS or word in vocabulary.SYMBOLS
        if self._tokens and self._tokens[-1].kind in {"_", "^"} and not is_known:
            # Without braces, an index or a power is one letter.
            word = word[0]
        self._at += len(word)
        lower = word.lower()
        if len(word) == 1:
            self._letter(word)
        elif lower in vocabulary.CONNECTIVES:
            self._add("connective", lower)
        elif lower in vocabulary.LARGE_NUMBERS and self._tokens and self._tokens[-1].kind == "number":
            self._scale(lower)
        elif (word in vocabulary.FUNCTIONS or lower in {"sqrt", "exp"}) and not self._is_time_unit(word):
            self._add("function", lower)
        elif lower in vocabulary.PLAIN_ONLY:
            self._add(vocabulary.SYMBOLS[lower])
        elif word in vocabulary.GREEK:
            self._add("letter", word)
        elif word.isupper():
            self._add("name", word)
        elif (known := vocabulary.leading_function(word)) is not None:
            self._add("function", known)
            for letter in word[len(known) :]:
                self._letter(letter)
        else:
            self._add("word", word)

    def _is_time_unit(self, word: str) -> bool:
        """Whether ``min`` or ``sec`` stands alone after a number."""
        follows = self._text[self._at :].lstrip()[:1]
        return word in {"min", "sec"} and follows in {"", ".", ","} and bool(self._tokens)

    def _letter(self, letter: str) -> None:
        if self._index_digits and (digits := re.compile(r"\d+").match(self._text, self._at)):
            self._at = digits.end()
            letter = f"{letter}_{digits[0]}"
        self._add("letter", letter)

    def _command(self) -> None:
        if environment := _ENVIRONMENT.match(self._text, self._at):
            self._at = environment.end()
            self._add("begin" if environment[1] == "begin" else "finish", environment[2])
            return
        found = _COMMAND.match(self._text, self._at)
        if found is None:
            # A backslash at the very end.
            self._at += 1
            return
        self._at = found.end()
        name, escaped = found[1], found[2]
        if name is None:
            self._escaped(escaped)
        elif name in vocabulary.IGNORED:
            self._spaced = True
        elif name in vocabulary.TEXTS:
            self._text_command(name)
        elif name in vocabulary.FONTS:
            self._font(name)
        elif name in vocabulary.ACCENTS:
            self._accent(vocabulary.ACCENTS[name])
        elif name in {"mathbb", "Bbb", "Z", "N", "Q"}:
            letter = self._argument().strip() if len(name) > 1 else name
            self._add("reals" if letter == "R" else "name", f"set {letter}")
        elif name in vocabulary.FUNCTIONS or name in vocabulary.SHORT_HYPERBOLICS:
            self._add("function", vocabulary.SHORT_HYPERBOLICS.get(name, name))
        elif name == "AA":
            self._add("text", "Å")
        elif name in vocabulary.GREEK:
            self._add("letter", name)
        elif name in vocabulary.SYMBOLS:
            self._known(name)
        elif known := vocabulary.glued_command(name):
            # The space that ended the command was lost, as in perpOH.
            self._text = f"\\{known} " + self._text[self._at - len(name) + len(known) :]
            self._at = 0
        else:
            self._add("unknown", rf"\{name}")

    def _known(self, name: str) -> None:
        kind = vocabulary.SYMBOLS[name]
        if kind == "angle":
            found = re.compile(r"\s*(?:\{\s*([A-Z0-9]{1,4})\s*\}|([A-Z0-9]{1,4}))").match(self._text, self._at)
            if found is None:
                raise Unreadable(rf"\{name}")
            self._at = found.end()
            self._add("name", f"{name} {found[1] or found[2]}")
            return
        if kind in ("\\{", "["):
            self._open(bracket=True)
        elif kind in ("\\}", "]"):
            self._close(bracket=True)
        self._add(kind)

    def _escaped(self, character: str) -> None:
        if character in "{}":
            (self._open if character == "{" else self._close)(bracket=True)
            self._add(f"\\{character}")
        elif character == "%":
            self._add("%")
        elif character == "|":
            self._add("|")
        elif character.isalnum():
            self._at -= 1
        elif character in "#&_":
            raise Unreadable(rf"\{character}")
        else:
            self._spaced = True

    def _argument(self) -> str:
        """Take the argument of a command: what is in braces, or one character."""
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1
        if self._text[self._at : self._at + 1] != "{":
            self._at += 1
            return self._text[self._at - 1 : self._at]
        depth, start = 0, self._at + 1
        for position in range(self._at, len(self._text)):
            depth += {"{": 1, "}": -1}.get(self._text[position], 0)
            if depth == 0:
                self._at = position + 1
                return self._text[start:position]
        raise Unreadable("a brace that is never closed")

    def _text_command(self, name: str) -> None:
        content = self._argument()
        words = content.strip().strip(",;").strip().lower()
        if words in vocabulary.CONNECTIVES:
            self._add("connective", words)
        elif not words:
            self._spaced = True
            if content.strip():
                self._add(",")
        elif self._after_a_value() and (pieces := unit_pieces(content)):
            self._unit(pieces)
        elif _MATHLIKE.search(content) or len(words) == 1 or words in vocabulary.FUNCTIONS | vocabulary.PLAIN_ONLY:
            self._insert(content)
        elif name == "operatorname" and words in vocabulary.SHORT_HYPERBOLICS:
            self._add("function", vocabulary.SHORT_HYPERBOLICS[words])
        elif name == "operatorname":
            self._add("label", content.strip())
        else:
            self._add("text", content.strip())

    def _after_a_value(self) -> bool:
        """Whether a unit may stand here."""
        follows = self._text[self._at :].lstrip()[:1]
        return bool(self._tokens) and self._tokens[-1].kind in _BEFORE_UNITS and follows not in {"(", "["}

    def _unit(self, pieces: list[str]) -> None:
        for piece in pieces:
            if piece in vocabulary.CONNECTIVES:
                self._add("connective", piece)
            elif piece.lower() in {"degree", "degrees", "deg"}:
                self._add("degree")
            elif piece.isdigit():
                self._add("number", piece, number=Fraction(piece))
            elif piece.lower() in vocabulary.LARGE_NUMBERS and self._tokens[-1].kind == "number":
                self._scale(piece.lower())
            elif piece.isalpha() and len(piece) == 1 and piece.isascii():
                self._add("letter", piece, roman=True)
            else:
                self._add("text" if piece[0].isalpha() or piece in CHINESE else piece, piece)

    def _scale(self, word: str) -> None:
        """Let the numeral before a word such as ``million`` be so many."""
        numeral = self._tokens[-1]
        assert numeral.number is not None
        self._tokens[-1] = replace(numeral, number=numeral.number * vocabulary.LARGE_NUMBERS[word])

    def _font(self, name: str) -> None:
        if re.compile(r"\s*\{").match(self._text, self._at):
            content = self._argument()
            # Braces stay, so that `x^\mathbf{10}` and `\overline{AB}^2` keep their extent.
            self._insert(f"{{{content}}}" if name not in {"boxed", "fbox"} else content)

    def _accent(self, accent: str) -> None:
        content = self._argument().strip()
        letter = content.removeprefix("\\")
        if accent in {"dot", "ddot"}:
            self._add("letter", letter + "'" * (len(accent) - 2))
        elif (len(letter) == 1 and letter.isalpha()) or letter in vocabulary.GREEK:
            self._add("letter", f"{accent} {letter}")
        elif content.isalpha() and content.isupper():
            # A bar over two points is the segment between them.
            self._add("name", content if accent == "bar" else f"{accent} {content}")
        else:
            self._add("accent", accent)
            self._insert(f"{{{content}}}")

    def _insert(self, content: str) -> None:
        self._text = content + self._text[self._at :]
        self._at = 0


def _repeating(digits: str, found: re.Match[str]) -> Fraction:
    block = "".join(part or "" for part in found.groups())
    places = len(digits.partition(".")[2])
    return Fraction(int(block), (10 ** len(block) - 1) * 10**places)
