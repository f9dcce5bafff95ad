r"""Take off what stands around an answer without being part of it.

The same is taken off both sides: dollars, fonts, colours, sizes, quotes, punctuation at the end, ``=`` or ``\approx``
at the beginning, "the answer is", and the labels of parts.
"""

import re
from functools import lru_cache

MAX_LAYERS = 40
"""Of wrapping; what has more is left as it is."""

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]")
_STYLED_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_WRAPPER = re.compile(
    r"\\(?:text(?:rm|bf|it|sf|tt|normal|up|md)?|mbox|hbox|emph|underline|boxed|fbox|framebox|ensuremath"
    r"|math(?:rm|bf|it|sf|tt|normal)"
    r"|tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge|boldsymbol|bm|pmb"
    r"|(?:text|math)?color(?:box)?\s*(?:\[[^\]]*\])?\s*\{[^{}]*\})\s*(?:\[[^\]]*\]\s*)?\{"
)
_LABELS = (
    "area|perimeter|volume|length|width|height|radius|diameter|domain|range|slope|sum|difference|product|quotient|total"
    "|minimum|maximum|mean|median|mode|average|probability|ratio|equation|solutions?|roots?|distance|angle|speed|time"
    "|interval|numbers?|values?|cost|price|profit|remainder|inverse|derivative|integral|limit"
)
"""Words that name a value before a colon; others may deny or bound it."""
_BEGINNING = re.compile(
    r"(?:=|[:：]|≈|\\(?:approx|therefore|implies|Rightarrow|rightarrow|Longrightarrow|to|quad|qquad|displaystyle|textstyle"
    r"|tiny|scriptsize|footnotesize|small|normalsize|[lL]arge|LARGE|[hH]uge|bf|it|rm|bfseries)(?![A-Za-z])|\\[,;:! ]"
    r"|\\color\s*\{[^{}]*\}|(?:\\text\s*\{\s*)?(?:about|approximately|approx\.|roughly|around|约|大约)\s*\}?\s*(?=[-\d$\\])"
    rf"|(?:\\text\s*\{{\s*)?(?:the\s+)?(?:(?:{_LABELS})\s+(?:of\s+)?)*(?:{_LABELS})\s*\}}?\s*[:：]\s*\}}?"
    r"|(?:(?:\\text\s*\{\s*)?(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|result|solution|value)s?\s*(?:is|are|:|=)\s*\}?)"
    r"|(?![^:：]*[不非至大小于])[\u3400-\u9fff]{1,8}[:：]"
    r"|(?:故?答案|结果)(?:是|为|為|：|:)*)\s*",
    re.IGNORECASE,
)
_END = re.compile(r"(?:[\s,;:，；。．]|\\\\|\\q?quad|\\[,;: ])+\Z")
_LAST_OF_ENDS = (" ", "\n", "\t", ",", ";", ":", "，", "；", "。", "．", "\\", "quad")
_QUOTES = {"'": "'", '"': '"', "“": "”", "‘": "’", "`": "`", "「": "」", "《": "》"}
_CIRCLED = re.compile(r"\\textcircled\s*\{\s*([1-9])\s*\}")
_PART = re.compile(r"(?:(?<=[\s,;{}$])|\A|(?<=\\ ))\(?(?:([a-h])|([1-9])|(i{1,3}|iv|v|vi))\)\s*(?=[^\s)])")
_PART_ORDER = ("abcdefgh", "123456789", ("i", "ii", "iii", "iv", "v", "vi"))


@lru_cache(maxsize=8_192)
def clean(text: str) -> str:
    r"""Remove what cannot matter around an answer."""
    text = _INVISIBLE.sub("", text).replace("−", "-").strip()
    if r"\textcircled" in text:
        text = _CIRCLED.sub(lambda found: chr(0x245F + int(found[1])), text)
    for _ in range(MAX_LAYERS):
        previous, text = text, _peel(text)
        if text == previous:
            break
    return _STYLED_FRACTION.sub(lambda _: r"\frac", text)


def without_part_labels(text: str) -> str:
    """Return ``(a) 2, (b) 3`` as the list ``2, 3``."""
    if ")" not in text:
        return text
    found = list(_PART.finditer(re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)))
    if len(found) < 2:
        return text
    text = re.sub(r"\\text\s*\{([^{}]*)\}", r" \1 ", text)
    for kind, order in enumerate(_PART_ORDER, start=1):
        labels = [one for one in found if one[kind]]
        if (
            len(labels) < 2
            or [one[kind] for one in labels] != list(order[: len(labels)])
            or text[: labels[0].start()].strip()
        ):
            continue
        ends = [one.start() for one in labels[1:]] + [len(text)]
        parts = [text[one.end() : end].strip(" ,;.") for one, end in zip(labels, ends, strict=True)]
        return ", ".join(parts) if all(parts) else text
    return text


def _peel(text: str) -> str:
    if (wrapped := _within(text)) is not None:
        return wrapped.strip()
    if text.startswith("**") and text.endswith("**") and len(text) > 4:
        return text[2:-2].strip()
    if text.endswith(".") and not text.endswith(("..", r"\right.", r"\left.")):
        return text[:-1].rstrip()
    for opening, closing in ((r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > 3:
            return text[2:-2].strip()
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    if text.startswith("``") and text.endswith("''") and len(text) > 4:
        return text[2:-2].strip()
    # The checks before the patterns are for speed.
    if text.endswith(_LAST_OF_ENDS) and (found := _END.search(text)) and found.start():
        return text[: found.start()]
    starts_plainly = text[:1].isdigit() or text.startswith(("-", "(", "{", "["))
    if not starts_plainly and (found := _BEGINNING.match(text)) and found.end() < len(text):
        return text[found.end() :]
    dollars = text.count("$") - text.count(r"\$")
    if dollars and dollars % 2 == 0:
        return re.sub(r"(?<!\\)\$", " ", text).strip()
    return text


def _within(text: str) -> str | None:
    """Return what is within the command or the braces that a text consists of."""
    if not text.endswith("}"):
        return None
    found = _WRAPPER.match(text)
    start = found.end() if found else int(text.startswith("{"))
    if not start or _closing_brace(text, start) != len(text) - 1:
        return None
    content = text[start:-1]
    # A plain `{1,234}` may be meant as a set.
    return None if found is None and "," in content else content


def _closing_brace(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        if text[at] in "{}" and text[at - 1] != "\\":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return at
    return -1
