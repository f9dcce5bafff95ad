"""Answers that are words: option letters, yes and no, names, clock times and dates."""

import re
from dataclasses import dataclass
from fractions import Fraction

_WRAPPER = re.compile(
    r"\\(?:text|textrm|textbf|textit|textsf|mathrm|mathbf|mathit|mbox|hbox|operatorname)\s*\{([^{}]*)\}"
)
_NOISE = re.compile(r"\\[,;:! ]|\\q?quad(?![A-Za-z])|[~${}]|\\[()\[\]]|\*\*|`")
_LETTER = r"[A-J]"
_ALONE = re.compile(rf"\W{{0,3}}({_LETTER})\W{{0,3}}", re.IGNORECASE)
_LABELLED = re.compile(
    r"(?:(?:option|choice|answer)\s*:?\s*)?"
    rf"(?:\(\s*({_LETTER})\s*\)|\[\s*({_LETTER})\s*\]|({_LETTER})\s*[.:)。：．]|({_LETTER})$)",
    re.IGNORECASE,
)
_MORE_OPTIONS = re.compile(rf"\(\s*{_LETTER}\s*\)|(?<![\w'])(?:{_LETTER}\s*[.:)]|(?!A\b){_LETTER}\b(?!'))")
_SIGN = re.compile(r"[-+*/^=<>_(!]")
_NAMED_OPTION = re.compile(
    rf"(?:option|choice|[故应]?选(?:项|择)?|答案[是为]?)\s*[:：]?\s*\(?({_LETTER})(?![A-Za-z])|({_LETTER})\s*选?项$",
    re.IGNORECASE,
)
_OPTION_BEHIND = re.compile(
    rf"(?:.*[\d}})\]%])(?:\s|\\(?:Right|right|Longright)arrow|→|⇒)+\(\s*({_LETTER})\s*\)\s*"
    rf"|.*[\d}})\]%]\s*(?:\\(?:(?:Right|right|Longright)arrow|implies|to)|→|⇒)\s*({_LETTER})\s*",
    re.DOTALL,
)
_LETTER_BEHIND = re.compile(
    r"(.*[\d})\]%$])(?:\s|~|\\[ ,;:]|\\q?quad|\\(?:Right|right|Longright)arrow|\\implies|→|⇒)+"
    r"(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\([A-J]\)\s*\}|\(\s*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{\s*)?[A-J]\s*\}?\s*\))\s*",
    re.DOTALL,
)
_SEVERAL = re.compile(r"\(?([A-H①-⑨])\)?(?:(\s*(?:[,;、，；&\s]|and|和|与)\s*)?\(?[A-H①-⑨]\)?)+")
_LABEL = re.compile(
    r"(?:\\(?:text|textbf|textrm|mathrm|mathbf)\s*\{\s*\(?[A-J]\)?[.:]?\s*\}[\s:.]*|\([A-J]\)\s*|[A-J][.:)]\s+)"
    r"(?:\\[ ,;:]|~|\\q?quad|\s)*([^\s(=].*)",
    re.DOTALL,
)
_LETTER_AND_TEXT = re.compile(rf"({_LETTER})\s+[A-Z][a-z]+")
_SPEECH = re.compile(
    r"(?=.*[^\W\d_]{3}|no\W*\Z|[\u3400-\u9fff])[^\W\d_][\w'’-]*(?:[\s,.;:!?\"]+[^\W\d_][\w'’-]*)*[\s.!?\"]*",
    re.IGNORECASE,
)
_PUNCTUATION = re.compile(r"[^\w\s%+\-]|_")
_ARTICLE = re.compile(r"^(?:the|an?)\s+")
_SUBJECT = re.compile(
    r"^(?:it|(?:the |this |that )?(?:series|sequence|function|integral|statement|limit|graph|equation|system|product"
    r"|sum|set|claim|argument|matrix|relation|figure|shape|curve|triangle|answer|result))(?: is| are)? (?=\w)"
)

_SYNONYMS = {
    "true": "yes", "false": "no", "dne": "does not exist", "no solutions": "no solution",
    "no real solution": "no solution", "no real solutions": "no solution",
    "infinitely many solutions": "infinitely many", "无解": "no solution", "不存在": "does not exist", "是": "yes",
    "对": "yes", "正确": "yes", "否": "no", "错误": "no", "偶数": "even", "奇数": "odd", "无穷大": "infinity",
}  # fmt: skip
_FORMULAS = {
    "all real numbers": r"\mathbb{R}",
    "all reals": r"\mathbb{R}",
    "real numbers": r"\mathbb{R}",
    "empty set": r"\emptyset",
    "no solution": r"\emptyset",
}
_NUMBERS = (
    {
        word: Fraction(value)
        for value, word in enumerate(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen twenty".split()
        )
    }
    | {word: Fraction(value) for value, word in enumerate("零一二三四五六七八九十")}
    | {"两": Fraction(2)}
)
_CHINESE_TENS = re.compile("([一二三四五六七八九])?十([一二三四五六七八九])?")
_CHINESE_FRACTION = re.compile("([一二三四五六七八九十]+)分之([一二三四五六七八九十]+)")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?\s*(?:([ap])\.?\s?m\.?)?", re.IGNORECASE)
_HOUR = re.compile(r"(\d{1,2})\s*([ap])\.?\s?m\.?", re.IGNORECASE)
_MONTHS = "january february march april may june july august september october november december".split()
_MONTH = "(" + "|".join(f"{month[:3]}(?:{month[3:]})?" for month in _MONTHS) + r")\.?"
_DATES = (
    (re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})"), "ymd"),
    (re.compile(rf"{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(\d{{4}}))?", re.IGNORECASE), "mdy"),
    (re.compile(rf"(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+(\d{{4}}))?", re.IGNORECASE), "dmy"),
)


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day, or a duration: without a.m. or p.m. they are spelled alike."""

    seconds: int
    afternoon: bool | None


def compare_words(answer: str, reference: str) -> bool | None:
    """Compare two answers as option letters, times, dates or words.

    Returns:
        ``None`` where they are none of these, or where words are not the whole story.
    """
    one, other = plain(answer), plain(reference)
    for reading in (_compare_several, _compare_options, _compare_times, _compare_dates, _compare_speech):
        verdict = reading(one, other)
        if verdict is not None:
            return verdict
    return None


def plain(text: str) -> str:
    r"""Remove ``\text{}``, dollars and spacing commands around words."""
    previous = ""
    while text != previous:
        previous, text = text, _WRAPPER.sub(r" \1 ", text)
    text = re.sub(r"\s+", " ", _NOISE.sub(" ", text)).strip()
    return re.sub(r"(?<=\d) ?: ?(?=\d)", ":", text)


def formula(text: str) -> str:
    """Return the formula that a phrase such as "all real numbers" stands for, or the text itself."""
    return _FORMULAS.get(_spoken(plain(text)), text) if len(text) < 60 else text


def without_label(text: str) -> str:
    r"""Return the value that follows the letter of an option, as in ``\textbf{(D)}\ 16``."""
    found = _LABEL.fullmatch(text) or _LETTER_BEHIND.fullmatch(text)
    return text if found is None else found[1]


def number_word(words: str) -> Fraction | None:
    """Return the number that a word up to twenty names, or a Chinese one up to 99 or a fraction of such."""
    words = words.strip().strip(".").lower()
    if found := _CHINESE_FRACTION.fullmatch(words):
        bottom, top = number_word(found[1]), number_word(found[2])
        return top / bottom if top is not None and bottom else None
    if found := _CHINESE_TENS.fullmatch(words):
        return 10 * _NUMBERS[found[1] or "一"] + _NUMBERS[found[2] or "零"]
    return _NUMBERS.get(words)


def option(text: str) -> str | None:
    """Return the letter of the option that a text names, such as ``(B)``, ``B.`` or ``C: because``."""
    if found := _ALONE.fullmatch(text):
        return found[1].upper() if found[1].isupper() or found[1] not in "ei" else None
    if found := _OPTION_BEHIND.fullmatch(text):
        letter = found[1] or found[2]
        return letter if letter.isupper() else None
    found = _LABELLED.match(text) or _NAMED_OPTION.match(text)
    # Several labels are a list of options, and what goes on with a sign is a formula.
    if found is None or _MORE_OPTIONS.search(text, found.end()) or _SIGN.match(text, found.end()):
        return None
    letter = next(letter for letter in found.groups() if letter)
    return letter.upper() if letter.isupper() or found.end() == len(text) else None


def _compare_several(answer: str, reference: str) -> bool | None:
    """Compare lists of options in any order; more than two letters without anything between may be an order."""
    if not _SEVERAL.fullmatch(answer) or not _SEVERAL.fullmatch(reference):
        return None
    given, expected = (re.findall("[A-H①-⑨]", side.replace("and", "")) for side in (answer, reference))
    if len(set(given)) < len(given) or len(set(expected)) < len(expected):
        return None
    if reference == "".join(expected) and re.search(r"[,，\s]", answer):
        # `AB` may be a segment or a product, where `A, B` is two things.
        return None
    glued = [side for side, letters in ((answer, given), (reference, expected)) if side == "".join(letters)]
    if len(given) > 2 and (len(glued) == 2 or any(list(side) != sorted(side) for side in glued)):
        return given == expected
    return set(given) == set(expected)


def _compare_options(answer: str, reference: str) -> bool | None:
    given, expected = option(answer), option(reference)
    if expected is None and (found := _LETTER_AND_TEXT.match(reference)) and given is not None:
        expected = found[1]
    if given is None and (found := _LETTER_AND_TEXT.match(answer)) and expected is not None:
        given = found[1]
    if given is None or expected is None:
        return None
    if given == expected and not _is_alone(answer) and not _is_alone(reference):
        # Both come with a text, which must then agree too.
        return None
    if given != expected and answer.lower() == answer:
        return None
    return given == expected


def _is_alone(text: str) -> bool:
    return bool(_ALONE.fullmatch(text) or re.fullmatch(rf"(?:option|choice)\s*\(?{_LETTER}\)?\W*", text, re.IGNORECASE))


def _compare_times(answer: str, reference: str) -> bool | None:
    given, expected = _clock(answer), _clock(reference)
    if given is None or expected is None:
        return None
    if given.afternoon is None and expected.afternoon is None:
        return given.seconds == expected.seconds
    return _in_day(given) == _in_day(expected)


def _clock(text: str) -> Clock | None:
    if found := _CLOCK.fullmatch(text):
        hours, minutes, seconds = int(found[1]), int(found[2]), int(found[3] or 0)
        half = found[4]
    elif found := _HOUR.fullmatch(text):
        hours, minutes, seconds, half = int(found[1]), 0, 0, found[2]
    else:
        return None
    if minutes > 59 or seconds > 59 or hours > 24:
        return None
    return Clock(3600 * hours + 60 * minutes + seconds, None if half is None else half.lower() == "p")


def _in_day(clock: Clock) -> int:
    if clock.afternoon is None:
        return clock.seconds
    return clock.seconds % 43200 + 43200 * clock.afternoon


def _compare_dates(answer: str, reference: str) -> bool | None:
    given, expected = _date(answer), _date(reference)
    if given is None and expected is None:
        return None
    if given is None or expected is None:
        # A date is not the difference of three numbers.
        return False if _DATES[0][0].fullmatch(answer if given else reference) else None
    missing_year = given[0] is None or expected[0] is None
    return given[1:] == expected[1:] and (missing_year or given[0] == expected[0])


def _date(text: str) -> tuple[int | None, int, int] | None:
    for pattern, order in _DATES:
        if found := pattern.fullmatch(text.strip(". ")):
            parts = dict(zip(order, found.groups(), strict=True))
            month = parts["m"] or ""
            number = int(month) if month.isdigit() else [name[:3] for name in _MONTHS].index(month[:3].lower()) + 1
            return (int(parts["y"]) if parts["y"] else None), number, int(parts["d"] or 0)
    return None


def _compare_speech(answer: str, reference: str) -> bool | None:
    """Compare words as a reader would: without case, articles, punctuation."""
    if not _SPEECH.fullmatch(answer) or not _SPEECH.fullmatch(reference):
        return None
    given, expected = _spoken(answer), _spoken(reference)
    if given == expected and given:
        return True
    return None


def _spoken(text: str) -> str:
    words = re.sub(r"\s+", " ", _PUNCTUATION.sub(" ", text.casefold())).strip()
    words = _ARTICLE.sub("", _SUBJECT.sub("", words))
    return _SYNONYMS.get(words, words)
