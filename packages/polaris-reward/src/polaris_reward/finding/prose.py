"""The answer of a text without a box: tags, hash lines, JSON fields, phrases, and the last value."""

import json
import re

from polaris_reward.finding.boxes import JOINED_BY, Extracted, Source

MAX_PROSE_CHARS = 4_000
"""Only so much of the end of a text is searched."""

_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_HASH_LINE = re.compile(r"^[ \t]*####[ \t]*:?[ \t]*(\S.*)$", re.MULTILINE)
_PHRASE = re.compile(
    r"(?:\bfinal\s+answer|\banswers?|\bresult|\bréponse|\brespuesta|\bantwort|\brisposta|答案|答え|الجواب)"
    r"[\s*_]{0,6}"
    r"(?:(?:to\b[^.\n]{0,80}?\s)?(?:is|are|was|be|(?:should|must|would|will|has\s+to)\s+be|est|ist|es|是|为|為)\b\s*[:：]?"
    r"|[:：=]|(?=\\[\[(]|\$))"
    r"[\s*_:：\"]{0,8}",
    re.IGNORECASE,
)
_CLOSING_REMARK = re.compile(r"I hope (?:it is|this is|this helps).*\Z", re.IGNORECASE | re.DOTALL)
_NOTE = re.compile(r"(?:\bNote:|\[Note\b).*\Z", re.IGNORECASE | re.DOTALL)
_SENTENCE_END = re.compile(
    r"(?<=[^\s.][.!?])(?:\s+(?=[A-Z\"(\\$*])|\s*\Z)|[。！？]|\n[ \t]*\n|\n(?=[ \t]*(?:[-*#]|\d+\.)\s)"
)
_REASON = re.compile(r",?\s+(?:because|since|where|as)\b|,\s*not\b|(?<=\d)\s+\((?=[A-Za-z]{3})")
_MATH = re.compile(
    r"\\\[(.+?)\\\]|\\\((.+?)\\\)|\$\$(.+?)\$\$|(?<![\\$])\$((?:[^$\\\n]|\\.){1,400}?)\$(?![0-9])", re.DOTALL
)
_NUMERAL = re.compile(
    r"\d{4}-\d{2}-\d{2}(?!\d)|(?<![A-Za-z0-9_.])(?:(?<![A-Za-z0-9_)\]}])[-−+]\s?)?\\?[$€£]?\s?"
    r"(?:\\frac\s*\{[^{}]{1,40}\}\s*\{[^{}]{1,40}\}|(?:\d{1,3}(?:(?:,|\{,\}|,\\!)\d{3})+|\d+)(?:\.\d+)?|\.\d+)"
    r"(?:\s?/\s?\d+(?!\d|\.\d)|(?::\d+)+(?:\s?[AaPp]\.?\s?[Mm]\b\.?)?)?(?:\s?\\?%)?"
)
_NAMED_OPTION = re.compile(
    r"\b(?:option|choice)(?:\s+is)?\s*:?\s*(?:\*\*)?\(?([A-J])\)?(?![A-Za-z0-9'])"
    r"|(?:故选|应选|选项|选择|选)\s*[:：]?\s*\(?([A-J])(?![A-Za-z0-9'])"
    r"|(?<![\w(])\(?([A-J])\)?\s+is\s+(?:the\s+)?(?:correct|right)\b"
)
_NEXT_QUESTION = re.compile(r"\n[ \t]*(?:Q|Question|Problem|Human|User)[ \t]*:")
_YES_OR_NO = re.compile(r"(yes|no|true|false)(?=[,.;!]|\s*\Z)", re.IGNORECASE)
_APPROXIMATES = re.compile(r"[0-9)}%]\s*(?:≈|\\approx|~)\s*\Z")
_OPTION = re.compile(
    r"(?:\b(?:option|choice|it'?s|is|be|est|choose|select|pick)|答案是|选)\s*\(?([A-J])\)?(?![A-Za-z0-9'])"
)
_FIRST_OPTION = re.compile(r"\(?([A-J])\)?(?=[,.;:)]|\s*\Z|\s(?:not|non|since|because|as|for|rather)\b)")
_DENIAL = re.compile(r"\bnot?n?\b|n't\b|不是")
_HEDGE = re.compile(r"\b(?:or|not)\s*\Z")
_CLAUSE_START = re.compile(
    r"[.;:!?]\s|[,\n=]|\b(?:so|but|thus|hence|therefore|then|gives?|is|are|it's|which|because"
    r"|while|obtain|get)\b",
    re.IGNORECASE,
)
_NOT_THE_VALUE = re.compile(
    r"\b(?:not|never|cannot|nor|neither|without|except|unless|excluding|impossible|wrong|incorrect|between|exceeds?|above|below"
    r"|beyond|at\s+(?:least|most)|up\s+to|(?:instead|short)\s+of"
    r"|(?:greater|more|less|fewer|smaller|larger|higher|lower|bigger|other|rather|older|younger|longer|shorter)\s+than)\b|n't\b",
    re.IGNORECASE,
)
"""Before a number in its clause: it is denied, or is a bound of the answer."""
MAX_CLAUSE_CHARS = 120
_DOUBT = re.compile(
    r"\b(?:(?:don't|doesn't|not|never)\s+(?:think|believe|mean|say|claim|true|the\s+case|certain|sure)|doubt|unlikely|wrong"
    r"|incorrect|false|pretend|suppose|assume|if\s+(?:the\s+)?(?:final\s+)?answer)\b[^,;.\n]*\Z",
    re.IGNORECASE,
)
_BRACKETED = re.compile(
    r"(?<![\w)\]}\\])[(\[]\s*[-+−]?[\w./^√π∞\\{}]+(?:\s*,\s*[-+−]?[\w./^√π∞\\{}]+)+\s*[)\]](?![\w(])"
)
_PHRASE_IN_REFERENCE = re.compile(
    r"(?:^|[.!?\n])[\s*]*(?:(?:so|thus|hence|therefore|then|and|the|our|we get"
    r"|conclude|that)\b[\s,*]*)*(?:final |correct )?\Z",
    re.IGNORECASE,
)
_STATEMENT = re.compile(
    r"(?:the|its|their|our|we)\b[^$\d]{0,80}\b(?:is|are|equals?|get|have)\s*\$([^$]+)\$\s*\.?", re.IGNORECASE
)
_JSON_ANSWER = re.compile(r'"(?:final[_ ])?answer"\s*:\s*(?:"((?:[^"\\]|\\.)*)"|(-?[\d.]+))', re.IGNORECASE)
_ONLY_LETTERS = re.compile(r"[\s\\A-Za-z_{}'^]{0,20}")
_EMPHASIS = ' \t\r\n*_"`'
_FORMULAS_JOINED_BY = re.compile(r"\s*(?:,|;|,?\s*\b(?:and|or)\b)\s*")
_WORD = re.compile(r"(?<![\\A-Za-z])(?:[A-Za-z]{2,}|[^\W\d_A-Za-zα-ωΑ-Ω]+)")
_MATH_WORDS = frozenset(
    "and or sin cos tan cot sec csc exp ln log sqrt pi infinity inf mod max min gcd lcm abs floor ceil binom cm mm km "
    "kg mi ft pm am".split()
)


def find_in_prose(text: str) -> Extracted | None:
    """Return the answer of a text without boxes with where it was found, or ``None``."""
    # A model that was shown examples may go on with a question of its own.
    before = _NEXT_QUESTION.split(text, maxsplit=1)[0]
    if _PHRASE.search(before) or _HASH_LINE.search(before):
        text = before
    text = _CLOSING_REMARK.sub("", text[-MAX_PROSE_CHARS:]).strip()
    if (note := _NOTE.search(text)) and not _PHRASE.search(text, note.start()) and text[: note.start()].strip():
        text = text[: note.start()].strip()
    if not text:
        return None
    if tags := _ANSWER_TAG.findall(text):
        return _extracted(_tidy(tags[-1]), "answer tag")
    if lines := _HASH_LINE.findall(text):
        return _extracted(_tidy(lines[-1]), "hash line")
    if fields := list(_JSON_ANSWER.finditer(text)):
        return _extracted(_json_string(fields[-1]), "answer field")
    phrases = [
        found
        for found in _PHRASE.finditer(text)
        if not text.startswith("not ", found.end())
        and not _DOUBT.search(text, max(0, found.start() - MAX_CLAUSE_CHARS), found.end())
    ]
    if phrases and (value := _value_of(text[phrases[-1].end() :])):
        return Extracted(value, "phrase")
    if options := _NAMED_OPTION.findall(text):
        return Extracted(next(letter for letter in options[-1] if letter), "last value")
    if answer := _YES_OR_NO.match(text):
        return Extracted(answer[1], "whole text")
    if (first := _FIRST_OPTION.match(text)) and _DENIAL.search(text):
        return Extracted(first[1], "whole text")
    is_prose = len(text.split()) > 2 and not _FIRST_OPTION.match(text)
    if is_prose and not any(map(str.isdigit, text)) and (options := _OPTION.findall(text)):
        return Extracted(options[-1], "last value")
    if _is_bare(text):
        return _extracted(_tidy(text), "whole text")
    return _last_value(text)


def _extracted(text: str, source: Source) -> Extracted | None:
    return Extracted(text, source) if text else None


def _json_string(found: re.Match[str]) -> str:
    if found[1] is None:
        return found[2]
    try:
        return str(json.loads(f'"{found[1]}"', strict=False)).strip()
    except ValueError:
        # LaTeX whose backslashes were not escaped.
        return found[1].strip()


def _value_of(tail: str) -> str:
    """Return the answer at the head of what follows a phrase."""
    tail = tail.lstrip(_EMPHASIS)
    run: list[str] = []
    at = 0
    for found in _MATH.finditer(tail):
        between = tail[at : found.start()]
        if between.strip() and not (run and (JOINED_BY.fullmatch(between) or _FORMULAS_JOINED_BY.fullmatch(between))):
            break
        run.append(_math_content(found))
        at = found.end()
    if run:
        return ", ".join(run)
    sentence = _REASON.split(_SENTENCE_END.split(tail, maxsplit=1)[0], maxsplit=1)[0]
    if found := _YES_OR_NO.match(sentence):
        return found[1]
    if found := _FIRST_OPTION.match(sentence):
        # With its text, if that is short: a reference may be the letter or the text.
        return found[1] if len(sentence) >= 40 or _DENIAL.search(sentence) else _tidy(sentence)
    if _is_bare(sentence):
        return _tidy(sentence)
    if found := _OPTION.search("is " + sentence):
        return found[1]
    value = _last_value(sentence)
    if value is not None:
        return value.text
    return _tidy(sentence) if len(sentence) <= 80 else ""


def _is_bare(text: str) -> bool:
    """Whether a text is an answer and nothing else: a formula, or a few words without numbers."""
    text = _tidy(text)
    if not text or len(text) > 300 or "\n\n" in text:
        return False
    words = _WORD.findall(_MATH.sub(" ", text))
    if not any(character.isdigit() for character in text) and "$" not in text:
        return len(words) <= 8
    return not [word for word in words if word.lower() not in _MATH_WORDS] or (
        len(words) <= 2 and text[0].isdigit() and text.isascii()
    )


def _last_value(text: str) -> Extracted | None:
    """Return the last formula or number of a text, whichever comes later; a lone letter is not a value."""
    formulas = [found for found in _MATH.finditer(text) if not _ONLY_LETTERS.fullmatch(_math_content(found))]
    number = None
    for found in _NUMERAL.finditer(text):
        if number is None or not _APPROXIMATES.search(text, 0, found.start()):
            number = found
    if formulas and (number is None or number.start() < formulas[-1].end()):
        joined = _joined_formulas(text, formulas)
        if _is_denied(text, formulas[-1].start()):
            return None
        if _HEDGE.search(text, 0, formulas[-1].start()):
            # "7 or 8" is both of them or nothing.
            return Extracted(joined, "last value") if joined else None
        return Extracted(_tidy(_math_content(formulas[-1])), "last value", joined)
    if number is None:
        return None
    brackets = [one for one in _BRACKETED.finditer(text) if one.start() < number.start() < one.end()]
    start = brackets[-1].start() if brackets else number.start()
    if _HEDGE.search(text, 0, start) or _is_denied(text, start):
        return None
    if brackets:
        return Extracted(brackets[-1][0], "last value")
    return Extracted(_tidy(_word_around(text, number)), "last value")


def _is_denied(text: str, start: int) -> bool:
    """Whether the clause before a value says that it is not the answer, or only a bound of it."""
    clause = _CLAUSE_START.split(text[max(0, start - MAX_CLAUSE_CHARS) : start])[-1]
    return bool(_NOT_THE_VALUE.search(clause) or _DOUBT.search(text, max(0, start - MAX_CLAUSE_CHARS), start))


def _word_around(text: str, number: re.Match[str]) -> str:
    """Return a number, or the formula without dollars that it is a part of, such as ``2^{10}``."""
    before, after = text[number.start() - 1 : number.start()], text[number.end() : number.end() + 1]
    if before not in {"^", "_", "{"} and after not in {"^", "!"}:
        return number[0]
    start = max(text.rfind(blank, 0, number.start()) for blank in " \n") + 1
    return re.compile(r"\S*").match(text, start)[0]  # pyright: ignore[reportOptionalSubscript]


def _joined_formulas(text: str, formulas: list[re.Match[str]]) -> str | None:
    first = len(formulas) - 1
    while first and _FORMULAS_JOINED_BY.fullmatch(text[formulas[first - 1].end() : formulas[first].start()]):
        first -= 1
    run = [_math_content(one) for one in formulas[first:]]
    return ", ".join(run) if len(run) > 1 else None


def _math_content(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None).strip()


def _tidy(text: str) -> str:
    """Remove emphasis, quotes and a full stop around an answer."""
    text = text.rstrip(_EMPHASIS + "'")
    return text.removesuffix(text[-1:] if text[-1:] in set(".!。！") else "").rstrip(_EMPHASIS + "'").lstrip(_EMPHASIS)
