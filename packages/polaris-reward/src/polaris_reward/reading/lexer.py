r"""Cut an answer into tokens: LaTeX, Unicode and the plain notation of computer algebra alike.

Every way to write a thing becomes one token (``\le``, ``<=``, ``≤``), so that the parser knows one notation.

Bring Unicode, spacing, sizing and delimiters of mathematics into the few forms that the lexer reads.
"""

import re
import unicodedata
from dataclasses import dataclass, replace
from fractions import Fraction


class Unreadable(Exception):
    """The text is not in the notation that is understood here."""


class Unsupported(Unreadable):
    """The text uses a command that is not understood here, but may be elsewhere."""


class TooLarge(Exception):
    """The text, or a number in it, passes a bound."""


class TooMuchWork(TooLarge):
    """What it would take passes a bound."""


_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
        "∙": r"\cdot ", "∗": "*", "÷": r"\div ", "∕": "/", "⁄": "/", "≤": r"\le ", "⩽": r"\le ", "≥": r"\ge ",
        "⩾": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "≡": r"\equiv ", "±": r"\pm ", "∓": r"\mp ", "∞": r"\infty ",
        "∈": r"\in ", "∉": r"\notin ", "∪": r"\cup ", "∩": r"\cap ", "∖": r"\setminus ", "∅": r"\emptyset ",
        "√": r"\sqrt ", "∛": r"\cbrt ", "°": r"^\circ ", "º": r"^\circ ", "′": "'", "ℝ": r"\mathbb{R}",
        "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "∠": r"\angle ", "…": r"\ldots ",
        "⋯": r"\ldots ", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}",
        "⅙": r"\frac{1}{6}", "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}",
        "⅞": r"\frac{7}{8}", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "，": ",", "；": ";",
        "：": ":", "。": ".", "（": "(", "）": ")", "％": "%", "€": "", "£": "", "¥": "", "￥": "", "\u00a0": " ",
        "\u2009": " ", "\u202f": " ", "\u200b": "", "\ufeff": "", "‘": "'", "’": "'", "∑": r"\sum ", "∏": r"\prod ",
        **{chr(letter): rf"\{name} " for letter, name in zip(
            [*range(0x3B1, 0x3C2), *range(0x3C3, 0x3CA)],
            "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi o pi rho "
            "sigma tau upsilon phi chi psi omega".split(), strict=True)},
        "Δ": r"\Delta ", "Γ": r"\Gamma ", "Θ": r"\Theta ", "Λ": r"\Lambda ", "Σ": r"\Sigma ", "Φ": r"\Phi ",
        "Ψ": r"\Psi ", "Ω": r"\Omega ", "ϕ": r"\phi ", "π": r"\pi ",
    }
)  # fmt: skip


_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ", "0123456789+-()ni")


_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉ₙₖᵢ", "0123456789nki")


_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+")


_LOWERED_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉ₙₖᵢ]+")


_STYLED_LETTERS = re.compile("[\U0001d400-\U0001d7ff\uff01-\uff5e]+")


GROUPING = "٬"
r"""Stands for ``{,}`` and ``,\!``, which can only be thousands separators."""


_ROW = "\n⏎"


_ROW_END = re.compile(r"\\\\(?:\[[\d.]+\s*(?:pt|em|ex|mm)\])?")
"""The end of a row of a matrix, kept apart from commands that begin with a backslash."""


_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"<[|｜][^<>]{0,40}[|｜]>"), " "),
    (re.compile(r"\\\$|(?<!\\)\$|`"), " "),
    (re.compile(r"(?<=\d)(?:,\\[!,]|\s?\{\s?,\s?\})\s?(?=\d{3}(?!\d))"), GROUPING),
    (re.compile(r"\{\s*:\s*\}"), ":"),
    (re.compile(r"\\phantom\s*\{[^{}]*\}|\\!|\\label\s*\{[^{}]*\}"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*\{\s*d\s*([a-z])\s*\}\s*\{\s*d\s*[a-z]\s*\}"), r"{\1'}"),
    (re.compile(r"\\frac\s*\{\s*d\s*\}\s*\{\s*d\s*[a-z]\s*\}"), r"\\derivative "),
    (re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\\(?:left|right)\s*\.|\\q?quad"), " "),
    (re.compile(r"\\[()\[\]](?=\s|$|.)"), " "),
    (re.compile(r"\\[,;:> ]|~"), " "),
    (re.compile(r"\(\s*([0-9A-F]+)\s*\)\s*_(?=\s*\{?\s*(?:\d|\\text))"), r"\1_"),
    (re.compile(r"(?<=\d)\s+((?:[ck]?m|ft|mi)\s*/\s*(?:s|h|hr|min|sec)(?:\s*\^\s*\{?[23]\}?)?)\Z"), r"\\text{\1}"),
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)(?![A-Za-z])\s*\}?"), r"\\degree "),
)  # fmt: skip


def normalise(text: str) -> str:
    """Replace Unicode, spacing, sizing and delimiters of mathematics by the few forms that the lexer reads."""
    text = _STYLED_LETTERS.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    text = _RAISED_RUN.sub(lambda run: f"^{{{run[0].translate(_RAISED)}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{run[0].translate(_LOWERED)}}}", text)
    text = text.translate(_CHARACTERS)
    if r"\begin" not in text or r"\\begin" in text:
        # Commands whose backslash was escaped twice on the way.
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    text = _ROW_END.sub(_ROW, text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip()


MAX_DIGITS = 4_000
"""Of one numeral, and the largest decimal exponent; Python itself refuses integers of more than 4,300 digits."""


MAX_DEPTH = 40
"""Of nested brackets; it keeps the parser far from Python's recursion limit."""


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


_GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho varrho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Upsilon Phi Psi Omega ell hbar Pi odot "
    "oplus star perp parallel dagger"
).split()


FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan arccot asin acos atan sinh cosh tanh coth exp ln log lg sqrt cbrt "
    "abs floor ceil ceiling gcd lcm min max det".split()
)


CONNECTIVES = frozenset({"and", "or"})


_SYMBOLS = {
    "cdot": "*", "times": "*", "ast": "*", "div": "/", "pm": "pm", "mp": "mp", "le": "<=", "leq": "<=",
    "leqslant": "<=", "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "ne": "!=", "neq": "!=",
    "approx": "approx", "cup": "cup", "bigcup": "cup", "cap": "cap", "setminus": "setminus", "backslash": "setminus",
    "in": "in", "notin": "notin", "infty": "infinity", "infinity": "infinity", "inf": "infinity", "oo": "infinity",
    "pi": "pi", "emptyset": "emptyset", "varnothing": "emptyset", "bmod": "mod", "mod": "mod", "pmod": "pmod",
    "equiv": "equiv", "cong": "equiv", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "lfloor": "lfloor",
    "rfloor": "rfloor", "lceil": "lceil", "choose": "choose", "rceil": "rceil", "langle": "(", "rangle": ")",
    "lbrace": "\\{", "rbrace": "\\}", "lbrack": "[", "rbrack": "]", "ldots": "dots", "dots": "dots", "cdots": "dots",
    "circ": "circ", "degree": "degree", "colon": ":",
    "sum": "sum", "int": "int",
    "prod": "prod", "frac": "frac", "binom": "binom",
    "angle": "angle", "triangle": "angle", "percent": "%", "pct": "%", "percentage": "%", "degrees": "degree",
    "deg": "degree", "R": "reals",
}  # fmt: skip


_POWERS_OF_TEN = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}


_ELSEWHERE = frozenset(
    "iint iiint oint lim limsup liminf sup inf partial nabla leftarrow rightarrow leftrightarrow longrightarrow "
    "Rightarrow Leftarrow Leftrightarrow implies iff forall exists nexists subset subseteq supset supseteq propto sim "
    "simeq arg deg dim ker hom Pr land lor lnot neg wedge vee otimes coprod mapsto colon star".split()
)
"""Commands without a meaning here that begin like others."""


_PLAIN_ONLY = frozenset(
    {"inf", "infinity", "oo", "percent", "pct", "percentage", "degree", "degrees", "deg", "mod", "pi"}
)


_IGNORED = frozenset(
    "left right big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr displaystyle textstyle limits nolimits "
    "quad qquad thinspace enspace space hfill noindent boldmath".split()
)


_FONTS = frozenset(
    "mathbf boldsymbol bm mathit mathsf mathtt mathcal mathscr mathfrak overline bar vec hat tilde overrightarrow "
    "overleftarrow widehat underline boxed fbox pmb mathop ensuremath bf it rm".split()
)


_TEXTS = frozenset("text textrm textbf textit textsf mbox hbox mathrm operatorname textnormal emph".split())


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


_LETTERS = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{\s*([A-Za-z]+)\*?\s*\}(?:\s*\{[^{}]*\})?(?:\[[^\[\]]*\])?")


_BASE = re.compile(
    r"([0-9A-Fa-f]+)\s*_\s*(?:\{\s*(?:\\text\s*\{|\()?\s*(\d{1,2})\s*[)}]?\s*\}|(\d{1,2}))(?![0-9A-Za-z])"
)


_MATHLIKE = re.compile(r"\\|(?<!\^)(?<!\^\{)\d|\A[\s.,%+\-*/()=<>^|!]*\Z")
"""Words with a number or a command among them, or without any letter: mathematics all the same."""


_OPERATORS = re.compile(r"<=|>=|!=|==|=|\*\*|\.\.\.|:=|[-+*/^_!|,;:()\[\]{}<>=&%']")


_SAME = {"==": "=", "**": "^", ":=": "=", "...": "dots"}


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
            elif character == "⏎":
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
            elif found := _OPERATORS.match(self._text, self._at):
                self._operator(found[0])
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
        _check_digits(digits)
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
        if self._tokens and self._tokens[-1].kind in {"_", "^"} and word not in FUNCTIONS and word not in _SYMBOLS:
            # Without braces, an index or a power is one letter.
            word = word[0]
        self._at += len(word)
        lower = word.lower()
        if len(word) == 1:
            self._letter(word)
        elif lower in CONNECTIVES:
            self._add("connective", lower)
        elif lower in _POWERS_OF_TEN and self._tokens and self._tokens[-1].kind == "number":
            numeral = self._tokens[-1]
            assert numeral.number is not None
            self._tokens[-1] = replace(numeral, number=numeral.number * 10 ** _POWERS_OF_TEN[lower])
        elif (word in FUNCTIONS or lower in {"sqrt", "exp"}) and not self._is_time_unit(word):
            self._add("function", lower)
        elif lower in _PLAIN_ONLY:
            self._add(_SYMBOLS[lower])
        elif word in _GREEK:
            self._add("letter", word)
        elif word.isupper():
            self._add("name", word)
        elif (known := _leading_function(word)) is not None:
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
        elif name in _IGNORED:
            self._spaced = True
        elif name in _TEXTS:
            self._text_command(name)
        elif name in _FONTS:
            self._font(name)
        elif name in {"dot", "ddot"}:
            self._add("letter", self._argument().strip() + "'" * (len(name) - 2))
        elif name in {"mathbb", "Bbb"}:
            letter = self._argument().strip()
            self._add("reals" if letter == "R" else "name", f"set {letter}")
        elif name in FUNCTIONS:
            self._add("function", name)
        elif name in _GREEK:
            self._add("letter", name)
        elif name in _SYMBOLS:
            self._known(name)
        elif known := _glued_command(name):
            # The space that ended the command was lost, as in perpOH.
            self._text = f"\\{known} " + self._text[self._at - len(name) + len(known) :]
            self._at = 0
        else:
            raise Unsupported(rf"\{name}")

    def _known(self, name: str) -> None:
        kind = _SYMBOLS[name]
        if kind == "angle":
            found = re.compile(r"\s*\{?\s*([A-Z0-9]{1,4})\s*\}?").match(self._text, self._at)
            if found is None:
                raise Unreadable(rf"\{name}")
            self._at = found.end()
            self._add("name", f"{name} {found[1]}")
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
        if words in CONNECTIVES:
            self._add("connective", words)
        elif not words:
            self._spaced = True
            if content.strip():
                self._add(",")
        elif words in {"m", "s", "g", "h", "l"} and self._tokens and self._tokens[-1].kind in {"number", "}"}:
            self._add("text", words)
        elif _MATHLIKE.search(content) or len(words) == 1 or words in FUNCTIONS | _PLAIN_ONLY:
            self._insert(content)
        elif name == "operatorname":
            raise Unreadable(rf"\{name}{{{content}}}")
        else:
            self._add("text", content.strip())

    def _font(self, name: str) -> None:
        if re.compile(r"\s*\{").match(self._text, self._at):
            content = self._argument()
            # Braces stay, so that `x^\mathbf{10}` and `\overline{AB}^2` keep their extent.
            self._insert(f"{{{content}}}" if name not in {"boxed", "fbox"} else content)

    def _insert(self, content: str) -> None:
        self._text = content + self._text[self._at :]
        self._at = 0


def _check_digits(digits: str) -> None:
    if len(digits) > MAX_DIGITS:
        raise TooLarge(f"a number of {len(digits)} digits; at most {MAX_DIGITS} are read")


def _repeating(digits: str, found: re.Match[str]) -> Fraction:
    block = "".join(part or "" for part in found.groups())
    places = len(digits.partition(".")[2])
    return Fraction(int(block), (10 ** len(block) - 1) * 10**places)


def _leading_function(word: str) -> str | None:
    """Return the function that a run of letters such as ``sinx`` begins with."""
    for length in range(6, 1, -1):
        if (
            word[:length] in FUNCTIONS
            and 1 <= len(word) - length <= 2
            and word[:length] not in {"min", "max", "det", "abs", "lg"}
        ):
            return word[:length]
    return None


def _glued_command(name: str) -> str | None:
    """Return the longest known command that a name begins with, if only a few letters are left."""
    if name in _ELSEWHERE:
        return None
    for length in range(len(name) - 1, max(1, len(name) - 4), -1):
        if name[:length] in _SYMBOLS or name[:length] in _GREEK:
            return name[:length]
    return None
