r"""What a question says, without how it is typeset: the tokens by which two questions are compared.

``$\dfrac{1}{2}\le x$``, ``\(\frac12 \leq x\)`` and ``½ ≤ x`` read the same. A token tells its kind by its first
character: a digit is a number, ``$`` a variable or label (``$AB$`` is two of them, case kept), ``"`` a word in
capitals that is itself data (letters to arrange), a letter a word in lower case, anything else an operator or function.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from polaris_data.duplicates.choices import Choices, split_choices

NUMBER_WORDS = {
    word: str(value)
    for value, word in enumerate("two three four five six seven eight nine ten eleven twelve".split(), start=2)
} | {"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "thousand": "1000"}


@dataclass(frozen=True, slots=True)
class Wording:
    """A question as tokens."""

    tokens: tuple[str, ...]
    """In their order; figures and remarks on the form of the answer left out."""

    figure: str
    """The source of its figures without white space; empty without any."""

    choices: Choices = ()
    """What it offers to choose from, which is no part of the tokens."""

    groups: tuple[tuple[int, int], ...] = ()
    """From which token to which brackets of any kind go, the outer ones first; those around one token are left out."""


def read_wording(question: str) -> Wording:
    """Take a question apart into tokens and figures.

    Remarks that ask for a form of the answer ("where m and n are relatively prime; find m + n", "Express your
    answer as a fraction", "(12 points)") are not part of the problem and left out.
    """
    figures: list[str] = []

    def take_out(match: re.Match[str]) -> str:
        figures.append("".join(_COMMENT.sub("", match[0]).split()))
        return " "

    question = question.strip()
    text = _FIGURE.sub(take_out, question) if _MAY_HAVE_FIGURE.search(question) else question
    text, choices = split_choices(text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_SYMBOLS))
    text = _strip_markup(text)
    tokens, groups = _tokens(_strip_remarks(text))
    if not tokens:
        tokens, groups = _tokens(text)
    return Wording(tokens, "".join(figures), choices, groups)


_MAY_HAVE_FIGURE = re.compile(r"asy[>\]}]|tikzpicture")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_FIGURE = re.compile(
    r"\[asy\].*?(?:\[/?asy\]|\Z)|<asy>.*?(?:</asy>|\Z)|\\begin\{(tikzpicture|asy)\}.*?\\end\{\1\}", re.S | re.I
)
_SYMBOLS = {
    **{ord(digit): f"^{value}" for value, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{
        ord(letter): f"\\{name} "
        for letter, name in zip(
            "αβγδεθλμνπρστφψωΔΓΣΩξηζκχϕ",
            "alpha beta gamma delta epsilon theta lambda mu nu pi rho sigma tau phi psi omega Delta Gamma Sigma Omega "
            "xi eta zeta kappa chi phi".split(),
            strict=True,
        )
    },
    **{
        ord(symbol): f" {meaning} "
        for symbol, meaning in {
            "≤": r"\le",
            "≥": r"\ge",
            "⩽": r"\le",
            "⩾": r"\ge",
            "≠": r"\ne",
            "−": "-",
            "–": "-",
            "—": "-",
            "°": r"^\circ",
            "∈": r"\in",
            "√": r"\sqrt",
            "∠": r"\angle",
            "△": r"\triangle",
            "∆": r"\triangle",
            "⊥": r"\perp",
            "∥": r"\parallel",
            "∞": r"\infty",
            "∪": r"\cup",
            "∩": r"\cap",
            "×": r"\times",
            "·": r"\cdot",
            "÷": r"\div",
            "…": r"\ldots",
            "⊙": r"\odot",
            "≡": r"\equiv",
            "½": r"\frac12",
        }.items()
    },
}


def _strip_markup(text: str) -> str:
    for pattern, replacement in _MARKUP:
        text = pattern.sub(replacement, text)
    return text


_MARKUP = [
    (re.compile(pattern), replacement)
    for pattern, replacement in [
        (r"!\[[^\]]*\]\([^)]*\)", " "),  # an image
        (r"\[([^\]]*)\]\s*\(https?://[^)]*\)", r"\1"),  # a link
        (r"https?://\S+", " "),
        (r"</?[a-zA-Z][^<>]{0,40}>|\[/?[a-z]{1,6}\]", " "),  # HTML, BBCode
        (r"(\d)(?:\{,\}|\\!|,\\!|\\,|,)(?:\\!)?(?=\d{3}(?!\d))", r"\1"),  # 1,000 and 1{,}000
        (r"\^\s*\{\s*\}|_\s*\{\s*\}|\\_", " "),
        (r"\\[dtc]?frac\s*(?:\{(\d+)\}|(\d))\s*(?:\{(\d+)\}|(\d))", r" \1\2/\3\4 "),
        (r"\\(?:text|textbf|textit|textrm|mbox|emph|textsc|it|bf|em)\s*\{([^{}]*)\}", "\x01\\1\x02"),
        (r"\{\s*\\(?:it|bf|em|rm)\b([^{}]*)\}", "\x01\\1\x02"),
        (r"\\not\s*=", r"\\ne "),
        (  # the positive integers, however they are named
            r"\\mathbb\s*\{?\s*(?:N\s*\}?\s*\^?\s*\{?\s*[*+]?|Z\s*\}?\s*(?:_\s*\{?\s*>\s*0|\^\s*\{?\s*[*+]))\s*\}?",
            " N ",
        ),
        (r"\\begin\s*\{[^}]*\}(?:\s*\{[lcr| ]*\})?|\\end\s*\{[^}]*\}|\\tag\s*\{[^}]*\}", " "),
        (r"\\equal\{\}", "="),
        (r"\\plus\{\}", "+"),
        (r"\\minus\{\}", "-"),
        (r"\\pmod", " mod "),
    ]
]

_SUM = r"(?:\$\s*[a-zA-Z](?:\s*\+\s*[a-zA-Z]){1,3}\s*\.?\$|\\\(\s*[a-zA-Z](?:\s*\+\s*[a-zA-Z]){1,3}\s*\\\))"
_ASKED_SUM = re.compile(  # ... where m and n are relatively prime. Find m + n.
    r"where [^.?]{1,120}?(?:integers|prime|numbers)\b[^.?]{0,60}[.?,]?\s*(?:and |then )?"
    r"(?:find|compute|determine|and find|what is|calculate|evaluate)\s+(?:the value of\s+)?" + _SUM + r"\s*[.?]?",
    re.I | re.S,
)
_FORM_OF_VALUE = re.compile(  # ... can be written as m/n, or x = a + b, in front of that
    r"(?:=[^$=]{1,14}(?P<close>\$))?(?:,?\s*(?:can |may |could )?(?:then )?(?:be )?(?:uniquely )?(?:written|expressed) "
    r"(?:uniquely )?(?:as|in the form|in the form of)(?: an?(?: \w+)? fraction(?: in \w+ \w+)?)?"
    r"\s*(?:\$[^$]{1,60}\$|\\\(.{1,60}?\\\)))?[ ,]*\Z",
    re.I | re.S,
)
_LONGEST_FORM = 160
"""Characters in front of "where" among which the form of the value is looked for."""

_REMARKS = [
    (hint, re.compile(pattern, re.I | re.S))
    for hint, pattern in [
        (
            "nswer",
            r"\b(?:express|give|write|state|enter|leave|round|submit) (?:your|the|this)? ?(?:final )?answers?\b"
            r"[^.?]*(?:[.?]|\Z)",
        ),
        (
            "oints",
            r"\((?:possible )?points?[^()]{0,20}\d+\.?\)|\(\s*\d+ points?\s*\)|\bpoints for the problem[ :]*\d+\.?",
        ),
        ("osed by", r"\((?:proposed|posed) by[^()]*\)"),
    ]
]


def _strip_remarks(text: str) -> str:
    if "where" in text and (asked := _ASKED_SUM.search(text)):
        start = max(0, asked.start() - _LONGEST_FORM)
        before = text[:start] + _FORM_OF_VALUE.sub(r"\g<close> ", text[start : asked.start()])
        text = before + text[asked.end() :]
    for hint, remark in _REMARKS:
        if hint in text:
            text = remark.sub(" ", text)
    return text


_TOKEN = re.compile(
    r"(?:[\s{}()\[\],;:?\"'`&_*~#@]|\.(?!\d))*+(?:(?P<letters>[a-zA-Z]+(?:['’](?:s|t)\b)?)"
    r"|(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<command>\\[a-zA-Z]+)|(?P<math>\\[()\[\]]|\$\$?)|(?P<text>[\x01\x02])"
    r"|(?P<space>\\.)|(?P<sign>.)|(?P<end>\Z))",
    re.S,
)
_LONGEST_LABEL = 4
"""Letters up to which capitals name a figure (ABCD); longer ones are a word."""

_NUM_REMEMBERED = 100_000
"""Distinct words, numbers and commands that are not taken apart again."""

_SYNONYMS = {
    command: token
    for token, commands in {
        "<=": r"\leq \le \leqslant",
        ">=": r"\geq \ge \geqslant",
        "!=": r"\neq \ne",
        "<": r"\lt",
        ">": r"\gt",
        "/": r"\div \over \frac \dfrac \tfrac \cfrac",
        "|": r"\vert \mid \lvert \rvert \Vert",
        "triangle": r"\triangle",
        "angle": r"\angle \measuredangle",
        "circle": r"\odot",
        "square": r"\square",
        "degree": r"\circ \degree",
        "perpendicular": r"\perp \bot",
        "parallel": r"\parallel",
        "congruent": r"\cong",
        "similar": r"\sim",
        "$phi": r"\varphi",
        "$epsilon": r"\varepsilon",
        "$theta": r"\vartheta",
        r"\log": r"\ln",
        r"\binom": r"\dbinom \choose",
        r"\varnothing": r"\emptyset",
        r"\setminus": r"\backslash",
    }.items()
    for command in commands.split()
}
_GREEK = frozenset(
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell".split()
)
_TYPESETTING = frozenset(
    "left right big Big bigg Bigg bigl bigr displaystyle textstyle limits nolimits quad qquad hspace vspace cdot times "
    "ldots cdots dots vdots ddots dotsc dotsb overline underline vec overrightarrow bar hat widehat tilde mathrm "
    "mathbf mathbb mathcal mathit mathsf mathfrak boldsymbol operatorname rm bf it text mbox textbf hline label to "
    "rightarrow Rightarrow longrightarrow mapsto lbrace rbrace langle rangle par noindent item underbrace overbrace "
    "hfill colon nonumber smallsmile overset stackrel hbox unit phantom color widetilde overparen overarc arc".split()
)
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log gcd lcm max min mod lim det arg deg exp".split()
)


def _tokens(text: str) -> tuple[tuple[str, ...], tuple[tuple[int, int], ...]]:
    tokens: list[str] = []
    opened: list[int] = []
    groups: list[tuple[int, int]] = []
    in_math = in_text = False
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        token = match[kind]
        for character in text[match.start() : match.start(kind)]:
            if character in "([{":
                opened.append(len(tokens))
            elif character in ")]}" and opened and len(tokens) - (start := opened.pop()) > 1:
                groups.append((start, len(tokens)))
        if kind == "letters":
            tokens += _of_letters_in_math(token) if in_math and not in_text else _of_letters(token)
        elif kind == "number":
            tokens.append(_number(token))
        elif kind == "command":
            tokens += _of_command(token)
        elif kind == "math":
            in_math = not in_math if token[0] == "$" else token in (r"\(", r"\[")
        elif kind == "text":
            in_text = token == "\x01"
        elif kind == "sign" and (token != "-" or not _is_hyphen(text, match.end() - 1, math=in_math and not in_text)):
            tokens.append(_SIGNS.get(token, token))
    return tuple(tokens), tuple(sorted(set(groups)))


_SIGNS = {"%": "percent"}


@lru_cache(maxsize=_NUM_REMEMBERED)
def _number(token: str) -> str:
    whole, dot, decimals = token.partition(".")
    decimals = decimals.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{decimals}" if dot and decimals else "")


def _is_hyphen(text: str, at: int, *, math: bool) -> bool:
    before, after = text[at - 1 : at], text[at + 1 : at + 2]
    return not math and (before.isalnum() or before in ("$", ")")) and after.isalpha()


@lru_cache(maxsize=_NUM_REMEMBERED)
def _of_command(token: str) -> tuple[str, ...]:
    name = token[1:]
    if name in _TYPESETTING:
        return ()
    return (f"${name}" if name in _GREEK else _SYNONYMS.get(token, token),)


@lru_cache(maxsize=_NUM_REMEMBERED)
def _of_letters(token: str) -> tuple[str, ...]:
    """Return a word of prose, or the labels that stand there without dollars: ABC, x."""
    if token.isupper() and token not in ("A", "I"):
        return tuple(f"${letter}" for letter in token) if len(token) <= _LONGEST_LABEL else (f'"{token.lower()}',)
    if len(token) == 1 and token not in "aAI":
        return (f"${token}",)
    word = token.lower().partition("'")[0].partition("’")[0]
    return (NUMBER_WORDS.get(word) or (f"\\{word}" if word in _FUNCTIONS else word),)


@lru_cache(maxsize=_NUM_REMEMBERED)
def _of_letters_in_math(token: str) -> tuple[str, ...]:
    """Return a function, or one variable for each letter."""
    if token in _FUNCTIONS:
        return (f"\\{token}",)
    if token.isupper() and len(token) > _LONGEST_LABEL:
        return (f'"{token.lower()}',)
    return tuple(f"${letter}" for letter in token if letter.isalpha())
