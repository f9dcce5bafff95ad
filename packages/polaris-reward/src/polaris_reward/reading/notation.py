"""Bring Unicode, spacing, sizing and delimiters of mathematics into the few forms that the lexer reads."""

import re
import unicodedata

from polaris_reward.reading.everyday import in_formal_notation

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
        "：": ":", "。": ".", "（": "(", "）": ")", "％": "%", "∶": ":", "、": ",", "µ": r"\mu ",
        "℃": r"^\circ C", "℉": r"^\circ F", "∧": r"\wedge ", "\u00a0": " ",
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
_REWRITES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("<", re.compile(r"<[|｜][^<>]{0,40}[|｜]>"), " "),
    ("$", re.compile(r"\\\$|(?<!\\)\$"), " "),
    ("`", re.compile("`"), " "),
    (",", re.compile(r"(?<=\d)(?:,\\[!,]|\s?\{\s?,\s?\})\s?(?=\d{3}(?!\d))"), GROUPING),
    (":", re.compile(r"\{\s*:\s*\}"), ":"),
    ("}_", re.compile(r"(?<![\\A-Za-z_^}\]])\{([A-Za-z])\}(?=_)"), r"\1"),
    (".", re.compile(rf"\.\s*(?=\\end(?![A-Za-z])|{ROW})"), " "),
    ("\\", re.compile(r"\\phantom\s*\{[^{}]*\}|\\!|\\label\s*\{[^{}]*\}"), ""),
    ("\\not", re.compile(r"\\not\s*="), r"\\ne "),
    ("\\not", re.compile(r"\\not\s*\\in(?![A-Za-z])"), r"\\notin "),
    ("frac", re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    ("frac", re.compile(r"\\frac\s*\{\s*d\s*([a-z])\s*\}\s*\{\s*d\s*[a-z]\s*\}"), r"{\1'}"),
    ("frac", re.compile(r"\\frac\s*\{\s*d\s*\}\s*\{\s*d\s*[a-z]\s*\}"), r"\\derivative "),
    ("frac", re.compile(r"\\frac\s*\{\s*d\^\{?2\}?\s*([a-z])\s*\}\s*\{\s*d\s*[a-z]\s*\^\{?2\}?\s*\}"), r"{\1''}"),
    ("&", re.compile(r"&\s*(=|<|>|\\[lg]eq?(?![A-Za-z])|\\neq?(?![A-Za-z]))\s*&?"), r"\1"),
    ("binom", re.compile(r"\\[dt]binom(?![A-Za-z])"), r"\\binom"),
    ("\\", re.compile(r"\\(?:left|right)\s*\.|\\q?quad"), " "),
    ("\\", re.compile(r"\\[()\[\]](?=\s|$|.)"), " "),
    ("\\", re.compile(r"\\[,;:> ]"), " "),
    ("~", re.compile("~"), " "),
    ("_", re.compile(r"\(\s*([0-9A-F]+)\s*\)\s*_(?=\s*\{?\s*(?:\d|\\text))"), r"\1_"),
    ("^", re.compile(r"\^\s*\{?\s*\\(?:circ|degree)(?![A-Za-z])\s*\}?"), r"\\degree "),
)  # fmt: skip
"""What is replaced, with a piece of text that it cannot do without: looking for that first is much faster."""


def normalise(text: str) -> str:
    """Replace Unicode, spacing, sizing and delimiters of mathematics by the few forms that the lexer reads."""
    text = _STYLED_LETTERS.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    text = _RAISED_RUN.sub(lambda run: f"^{{{run[0].translate(_RAISED)}}}", text)
    text = _LOWERED_RUN.sub(lambda run: f"_{{{run[0].translate(_LOWERED)}}}", text)
    text = in_formal_notation(text)
    text = text.translate(_CHARACTERS)
    if r"\\" in text and (r"\begin" not in text or r"\\begin" in text):
        # Commands whose backslash was escaped twice on the way.
        text = re.sub(r"\\\\(?=[A-Za-z])", r"\\", text)
    if r"\\" in text:
        text = _ROW_END.sub(f"\n{ROW}", text)
    for piece, pattern, replacement in _REWRITES:
        if piece in text:
            text = pattern.sub(replacement, text)
    return text.strip()
