"""Everyday ways to write an answer, brought into the notation of mathematics.

Money before the number, ordinals, Chinese words, marks of thousands of other countries, bases in words, systems of
equations in brackets, and conditions such as "where k is an integer".
"""

import re

_IDEOGRAPH = re.compile("[\u3400-\u9fff]")
_IDEOGRAPHS = (
    (re.compile("摄氏度"), r"^\\circ C"),
    (re.compile("华氏度"), r"^\\circ F"),
    (re.compile(r"(?<=\d)\s*度"), r"^\\circ "),
    (re.compile("或者?"), " or "),
    (re.compile("以及|[和与及且]"), " and "),
    (re.compile("百分之([0-9.]+)"), r"\1\\%"),
    (re.compile("根号"), r"\\sqrt "),
    (re.compile(r"(?<!不)(?:等于|是|为)(?=\s*[-\d\\A-Za-z(])"), "="),
)
_BOUND = re.compile("不|至少|至多|大于|小于|超过|少于|多于|介于")
"""Not, at least, at most, greater than: what follows is not the value."""
_FRENCH_INTERVAL = re.compile(r"(.*[\s=]|)([\[\]])([^\[\](),;]+)([,;][^\[\](),;]+)([\[\]])", re.DOTALL)
_AMOUNT = (
    r"-?\d(?:[\d,.٬]|\\!|\{,\})*(?:\s*(?:\\text\s*\{)?\s*(?:thousand|million|billion|trillion)\b\s*\}?)?"
    r"(?=\s*(?:\Z|[;)\]},]|\\text|(?:and|or)\b))"
)
_CURRENCIES = {
    r"\$": "USD", "USD": "USD", "€": "EUR", "EUR": "EUR", "£": "GBP", "GBP": "GBP", "₹": "INR", "Rs": "INR",
    "Rs.": "INR", "¥": "¥", "￥": "¥",
}  # fmt: skip
_MONEY = re.compile(
    r"(?:(\\\$|[€£₹¥￥])|\\(?:text|mathrm)\{\s*([€£₹]|USD|EUR|GBP|Rs\.?)\s*\}|\b(USD|EUR|GBP|Rs\.?)(?=\s|\d))\s*"
    rf"({_AMOUNT})"
)
_MONEY_SIGN = re.compile("[$€£₹¥￥]|USD|EUR|GBP|Rs")
_ORDINAL = re.compile(
    r"(?<=\d)\s*(?:\^\s*\{?\s*)?(?:\\(?:text|mathrm|textrm|textsuperscript|rm)\s*\{\s*)?(?:st|nd|rd|th)\b"
    r"(?:\s*\}){0,2}(?![A-Za-z])"
)
_BASE_WORDS = tuple(str(word) for word in "two three four five six seven eight nine ten eleven twelve".split())
_BASE_WORD = re.compile(
    rf"(?<=[0-9A-Fa-f)])\s*_\s*\{{?\s*(?:\\(?:text|mathrm)\s*\{{)?\s*({'|'.join(_BASE_WORDS)})\s*\}}{{0,2}}"
)
_APOSTROPHES = re.compile(r"(?<![\d.,])\d{1,3}(?:['’]\d{3})+(?!\d)")
_POINTS_AND_COMMA = re.compile(r"(?<![\d.,])([1-9]\d{0,2}(?:\.\d{3})+),(\d\d)(?![\d.,])")
_POINTS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:\.\d{3}){2,}(?![\d.,])")
_BRACED_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d{1,2}(?!\d)|\d{4})")
_SYSTEM = re.compile(
    r"\\left\s*\\\{\s*\\begin\s*\{(?:array|aligned|matrix)\}(?:\s*\{[^{}]*\})?(.*?)\\end\s*\{(?:array|aligned|matrix)\}"
    r"\s*(?:\\right\s*\.)?",
    re.DOTALL,
)
_IS_ODD = re.compile(r"\\text\s*\{\s*(?:is|are)\s+(?:an?\s+)?(?=odd|even|prime|integer|rational|irrational)")
_CONDITION_STARTS = re.compile(r"[,;(]|\\text|\bwhere\b|\bfor\b")
_INTEGER_CONDITION = re.compile(
    r"(?:where |for |with |and )*(?:any |every |all |some |an? )*(?:integers? ([a-z])"
    r"|([a-z]) (?:is |be |being )?(?:any |an? |some |arbitrary )*integer|([a-z]) ?\\in ?(?:\\mathbb ?)?\\?[ZN])"
)
_AROUND_WORDS = re.compile(r"(?:\\text\s*\{|[{}$(),;.~]|\\[ ,;:]|\s)+")

MAX_CONDITION_CHARS = 80


def in_formal_notation(text: str) -> str:
    """Rewrite what mathematics writes otherwise; each step is taken only where its signs occur, for speed."""
    text = text.replace(r"\pounds", "£").replace(r"\euro", "€")
    if _MONEY_SIGN.search(text):
        text = _MONEY.sub(_money_last, text)
        text = re.sub("[€£₹¥￥]", " ", text)
    if not text.isascii() and _IDEOGRAPH.search(text) and not _BOUND.search(text):
        for pattern, replacement in _IDEOGRAPHS:
            text = pattern.sub(replacement, text)
    if "th" in text or "st" in text or "nd" in text or "rd" in text:
        text = _ORDINAL.sub("", text)
    if "'" in text or "’" in text:
        text = _APOSTROPHES.sub(lambda found: re.sub("['’]", "", found[0]), text)
    if "." in text:
        text = _POINTS_AND_COMMA.sub(lambda found: f"{found[1].replace('.', '')}.{found[2]}", text)
        text = _POINTS.sub(lambda found: found[0].replace(".", ""), text)
    if "_" in text:
        text = _BASE_WORD.sub(lambda found: f"_{{{_BASE_WORDS.index(str(found[1])) + 2}}}", text)
    if "{,}" in text:
        text = _BRACED_COMMA.sub(".", text)
    if r"\begin" in text:
        text = _SYSTEM.sub(r"\\begin{cases}\1\\end{cases}", text)
    if ("]" in text or "[" in text) and (found := _FRENCH_INTERVAL.fullmatch(text)) and found[2] + found[5] != "[]":
        opening, closing = {"]": "(", "[": "["}[found[2]], {"[": ")", "]": "]"}[found[5]]
        text = f"{found[1]}{opening}{found[3]}{found[4]}{closing}"
    if r"\text" in text:
        text = _IS_ODD.sub(r"\\text{", text)
    return _with_integer_named(text) if r"\in" in text or "integer" in text else text


def _money_last(found: re.Match[str]) -> str:
    """Put the sign of a currency behind the number, where other units are."""
    sign = found[1] or found[2] or found[3]
    return rf"{found[4]} \text{{{_CURRENCIES[sign]}}}"


def _with_integer_named(text: str) -> str:
    """Write a condition at the end, such as ``where k is an integer``, in one way."""
    for start in _CONDITION_STARTS.finditer(text, max(0, len(text) - MAX_CONDITION_CHARS)):
        words = _AROUND_WORDS.sub(" ", text[start.start() :]).strip()
        if start.start() and (found := _INTEGER_CONDITION.fullmatch(words)):
            name = found[1] or found[2] or found[3]
            return rf"{text[: start.start()]}, {name} \in \mathbb{{Z}}"
    return text
