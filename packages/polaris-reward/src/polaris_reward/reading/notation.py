"""Bring Unicode, spacing, sizing and delimiters of mathematics into the few forms that the lexer reads."""

import re
import unicodedata
from collections.abc import Callable

GROUPING = "٬"
r"""Stands for ``{,}`` and ``,\!``, which can only be thousands separators."""

ROW = "⏎"
"""Stands for the end of a row of a matrix."""

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
        "：": ":", "。": ".", "（": "(", "）": ")", "％": "%", "∶": ":", "、": ",", "µ": r"\mu ", "℃": r"^\circ C", "℉": r"^\circ F", "∧": r"\wedge ", "\u00a0": " ",
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
# Apart from commands that begin with a backslash.
_ROW_END = re.compile(r"\\\\(?:\[[\d.]+\s*(?:pt|em|ex|mm)\])?")
_NUMERAL = r"-?\d(?:[\d,.٬]|\\!|\{,\})*(?:\s*(?:\\text\s*\{)?\s*(?:thousand|million|billion|trillion)\b\s*\}?)?"
_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "₹": "INR", "¥": "¥", "￥": "¥", "USD": "USD", "EUR": "EUR", "GBP": "GBP"}
_MONEY = re.compile(
    rf"(?:\\(\$)|([€£₹¥￥])|\\(?:text|mathrm)\{{\s*([€£₹]|USD|EUR|GBP|Rs\.?)\s*\}}|\b(USD|EUR|GBP|Rs\.?)(?=\s|\d))\s*({_NUMERAL})"
    r"(?=\s*(?:\Z|[;)\]}]|,|\\text|(?:and|or)\b))"
)
_IDEOGRAPH = re.compile("[\u3400-\u9fff]")
_IDEOGRAPHS = (
    (re.compile("(?:摄氏)度"), r"^\\circ C"), (re.compile("华氏度"), r"^\\circ F"), (re.compile(r"(?<=\d)\s*度"), r"^\\circ "),
    (re.compile("或者?"), " or "), (re.compile("[和与及且]|以及"), " and "), (re.compile("(?:百分之)([0-9.]+)"), r"\1\\%"),
)  # fmt: skip
_ORDINAL = re.compile(
    r"(?<=\d)\s*(?:\^\s*\{?\s*)?(?:\\(?:text|mathrm|textrm|textsuperscript|rm)\s*\{\s*)?(?:st|nd|rd|th)\b(?:\s*\}){0,2}(?![A-Za-z])"
)
_BASE_WORDS = "two three four five six seven eight nine ten eleven twelve".split()
_BASE_WORD = re.compile(
    rf"(?<=[0-9A-Fa-f)])\s*_\s*\{{?\s*(?:\\(?:text|mathrm)\s*\{{)?\s*({'|'.join(_BASE_WORDS)})\s*\}}{{0,2}}"
)
_CONDITION_STARTS = re.compile(r"[,;(]|\\text|\bwhere\b|\bfor\b")
_INTEGER_CONDITION = re.compile(
    r"(?:where |for |with |and )*(?:any |every |all |some |an? )*(?:integers? ([a-z])"
    r"|([a-z]) (?:is |be |being )?(?:any |an? |some |arbitrary )*integer|([a-z]) ?\\in ?(?:\\mathbb ?)?\\?[ZN])"
)
_NO_WORDS = re.compile(r"\\text\s*\{|[{}$(),;.~]|\\[ ,;:]|\s+")
MAX_CONDITION_CHARS = 80

_REWRITES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"<[|｜][^<>]{0,40}[|｜]>"), " "),
    (re.compile(r"\\\$|(?<!\\)\$|[`€£₹¥￥]"), " "),
    (re.compile(r"(?<=\d)(?:,\\[!,]|\s?\{\s?,\s?\})\s?(?=\d{3}(?!\d))"), GROUPING),
    (re.compile(r"\{\s*:\s*\}"), ":"),
    (re.compile(r"(?<![\\A-Za-z_^}\]])\{([A-Za-z])\}(?=\s*_)"), r"\1"),
    (re.compile(r"(?<=\d)\{,\}(?=\d)"), "."),
    (re.compile(r"(?<![\d.,])(\d{1,3}(?:'\d{3})+)(?!\d)"), lambda found: found[1].replace("'", "")),
    (re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d+)(?![\d.,])"), lambda found: f"{found[1].replace('.', '')}.{found[2]}"),
    (re.compile(r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?![\d.,])"), lambda found: found[1].replace(".", "")),
    (re.compile(r"\\left\s*\\\{\s*\\begin\s*\{(?:array|aligned|matrix)\}(?:\s*\{[^{}]*\})?(.*?)\\end\s*\{(?:array|aligned|matrix)\}\s*(?:\\right\s*\.)?", re.DOTALL), r"\\begin{cases}\1\\end{cases}"),
    (re.compile(rf"\.\s*(?=\\end(?![A-Za-z])|{ROW})"), " "),
    (re.compile(r"\\text\s*\{\s*(?:is|are)\s+(?:an?\s+)?(?=odd|even|prime|integer|rational|irrational)"), r"\\text{"),
    (re.compile(r"\\phantom\s*\{[^{}]*\}|\\!|\\label\s*\{[^{}]*\}"), ""),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*\{\s*d\s*([a-z])\s*\}\s*\{\s*d\s*[a-z]\s*\}"), r"{\1'}"),
    (re.compile(r"\\frac\s*\{\s*d\s*\}\s*\{\s*d\s*[a-z]\s*\}"), r"\\derivative "),
    (re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    (re.compile(r"\\(?:left|right)\s*\.|\\q?quad"), " "),
    (re.compile(r"\\[()\[\]](?=\s|$|.)"), " "),
    (re.compile(r"\\[,;:> ]|~"), " "),
    (re.compile(r"\(\s*([0-9A-F]+)\s*\)\s*_(?=\s*\{?\s*(?:\d|\\text))"), r"\1_"),
    (_BASE_WORD, lambda found: f"_{{{_BASE_WORDS.index(found[1]) + 2}}}"),
    (re.compile(r"\^\s*\{?\s*\\(?:circ|degree)(?![A-Za-z])\s*\}?"), r"\\degree "),
)  # fmt: skip


def normalise(text: str) -> str:
    """Replace Unicode, spacing, sizing and delimiters of mathematics by the few forms that the lexer reads."""
    text = _STYLED_LETTERS.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    text = _RAISED_RUN.sub(lambda run: f"^{{{run[0].translate(_RAISED)}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{run[0].translate(_LOWERED)}}}", text)
    text = text.replace(r"\pounds", "£").replace(r"\euro", "€")
    text = _MONEY.sub(_money_last, text)
    if _IDEOGRAPH.search(text):
        for pattern, replacement in _IDEOGRAPHS:
            text = pattern.sub(replacement, text)
    text = _ORDINAL.sub("", text)
    text = text.translate(_CHARACTERS)
    if r"\begin" not in text or r"\\begin" in text:
        # Commands whose backslash was escaped twice on the way.
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    text = _ROW_END.sub(f"\n{ROW}", text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return _with_integer_named(text.strip())


def _with_integer_named(text: str) -> str:
    """Write a condition at the end, such as ``where k is an integer``, in one way."""
    if r"\in" not in text and "integer" not in text:
        return text
    for start in _CONDITION_STARTS.finditer(text, max(0, len(text) - MAX_CONDITION_CHARS)):
        words = re.sub(" +", " ", _NO_WORDS.sub(" ", text[start.start() :])).strip()
        if start.start() and (found := _INTEGER_CONDITION.fullmatch(words)):
            name = found[1] or found[2] or found[3]
            return rf"{text[: start.start()]}, {name} \in \mathbb{{Z}}"
    return text


def _money_last(found: re.Match[str]) -> str:
    """Put the sign of a currency behind the number, where other units are."""
    sign = next(one for one in found.groups()[:-1] if one).rstrip(".")
    return rf"{found[5]} \text{{{_CURRENCIES.get(sign, 'INR')}}}"
