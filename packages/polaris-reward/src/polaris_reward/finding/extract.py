r"""Find the final answer of a response.

The text after the thinking is searched for, in this order: the last ``\boxed{}`` or ``\fbox{}``, ``<answer>`` tags, a
line ``#### answer``, an ``"answer"`` field of JSON, a phrase such as "the final answer is", and the last value of the
text. A box wins over everything else: when the last one is empty or unclosed, there is no answer. All of this takes
time linear in the length of the text.

Find the answer of a text without a box: tags, hash lines, JSON fields, phrases, and the last value.
"""

import json
import re
from dataclasses import dataclass
from typing import Literal

from polaris_reward.convention import DEFAULT, Convention

THINK_OPEN = "<think>"


THINK_CLOSE = "</think>"


SHORTEST_STATEMENT = 8
"""A shorter reference cannot hold a phrase around its answer."""


LONGEST_STATEMENT = 50_000
"""A longer one is no solution either, and is refused for its length later."""


MAX_OPEN_BRACES = 1_000
"""A box with more braces open in it is taken for one that never closes."""


Source = Literal["box", "answer tag", "answer field", "hash line", "phrase", "whole text", "last value"]


# A box whose backslash was escaped twice, or became a backspace, on its way through JSON.
_BOX = re.compile(r"(?:\\|\x08)(?:boxed|fbox|oxed)(?![A-Za-z])|\x08oxed")


# Some models print their backslashes twice. A longer run is not looked at, which keeps the scan linear.
_BRACES = re.compile(
    r"(?:\\{1,2}(?:boxed|fbox)|\x08oxed)\s*(?:\{|\Z|(?P<bare>[0-9A-Za-z](?![A-Za-z])))|\\.|[{}]", re.DOTALL
)


# One box without anything that needs brackets to be counted.
_SIMPLE_BOX = re.compile(r"\\boxed\{((?:[^{}\\]++|\\[A-Za-z]|\{[^{}\\]*+\})*+)\}")


_BLANK = re.compile(r"(?:[\s${}~]|\\(?:text|mathrm|q?quad|[,;:!]|\s|\Z))*")


JOINED_BY = re.compile(r"(?:[\s,;$.&]|\\[()\[\],;:! ]|\\q?quad|\\text\s*\{\s*(?:,?\s*and\s*,?|,)?\s*\}|\band\b)*")


_CHAT_TOKEN = re.compile(r"<[|｜][^<>|｜]{1,40}[|｜]>")


@dataclass(frozen=True, slots=True)
class Extracted:
    """A final answer and where it stood."""

    text: str
    source: Source
    joined: str | None = None
    """The contents of a run of boxes with nothing but commas or "and" between them, as a list."""


@dataclass(slots=True)
class _Box:
    start: int
    """Of its content."""
    opened: int
    """Where the macro begins."""
    end: int | None = None
    """Of its content; ``None`` while the box is open."""
    outer: "_Box | None" = None
    """The box around this one."""


def final_answer(response: str, *, convention: Convention = DEFAULT) -> str | None:
    r"""Return what the response gives as its answer, or ``None``.

    Only the text after the last ``</think>`` counts, and nothing after a ``<think>`` that never closes. The last box
    wins; a box within a box is part of the outer one. There is no answer when the last box is empty, or when it never
    closes: then the response was cut, and an earlier box is not its answer.

    Args:
        response: What the model wrote, without the prompt.
        convention: Whether an answer may stand without a box, and without ``</think>``.
    """
    found = find_answer(response, convention=convention)
    return None if found is None else found.text


def find_answer(response: str, *, convention: Convention = DEFAULT) -> Extracted | None:
    """Return the final answer of a response with where it was found; see `final_answer`."""
    _, close, rest = response.rpartition(THINK_CLOSE)
    if convention.require_think and not close:
        return None
    text = _until_next_turn(rest.partition(THINK_OPEN)[0])
    if _first_box(text):
        return _boxed(text)
    if convention.require_box:
        return None
    # Prompts ask for boxes; the patterns for everything else are not loaded before they are needed.

    return find_in_prose(text)


def reference_answer(reference: str) -> str:
    """Return what a reference gives as the answer: it may be a whole solution, with a box or a phrase."""
    text = reference.strip()
    if _first_box(text):
        content = last_box(text)
        return text if content is None else content
    if text.startswith('["') and text.endswith('"]') and text.count('"') == 2:
        return text[2:-2]
    if not SHORTEST_STATEMENT <= len(text) <= LONGEST_STATEMENT:
        return text

    return stated_answer(text)


def last_box(text: str) -> str | None:
    r"""Return what is in the last ``\boxed{}`` or ``\fbox{}``, or ``None``: no box, or one that is open."""
    boxes = _outermost(_find_boxes(text))
    if not boxes or boxes[-1].end is None:
        return None
    return text[boxes[-1].start : boxes[-1].end].strip()


def _until_next_turn(text: str) -> str:
    """Drop chat tokens, and what follows one: the model went on with the user's turn."""
    if "<|" not in text and "<｜" not in text:
        return text
    parts = [part for part in _CHAT_TOKEN.split(text) if part.strip()]
    if not parts:
        return ""
    # The token may stand within a box: the stop string was printed before the closing brace.
    return "".join(parts) if _first_box(parts[0]) and last_box(parts[0]) is None else parts[0]


def _first_box(text: str) -> re.Match[str] | None:
    """Find where the first box is announced; a plain search for what all forms share comes first, for speed."""
    places = [place for place in (text.find("oxed"), text.find("fbox")) if place >= 0]
    return _BOX.search(text, max(0, min(places) - 2)) if places else None


def _boxed(text: str) -> Extracted | None:
    if text.count("boxed") == 1 and "fbox" not in text and (simple := _SIMPLE_BOX.search(text)):
        return None if _BLANK.fullmatch(simple[1]) else Extracted(simple[1].strip(), "box")
    boxes = _outermost(_find_boxes(text))
    if not boxes or boxes[-1].end is None:
        return None
    content = text[boxes[-1].start : boxes[-1].end].strip()
    return None if _BLANK.fullmatch(content) else Extracted(content, "box", _joined(text, boxes))


def _joined(text: str, boxes: list[_Box]) -> str | None:
    run = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = "" if box.end is None else text[box.end + 1 : min(run[-1].opened, box.end + 62)]
        if len(between) > 60 or not between.strip(" \n$") or not JOINED_BY.fullmatch(between):
            break
        run.append(box)
    contents = [text[box.start : box.end].strip() for box in reversed(run)]
    return None if len(contents) < 2 or len(set(contents)) == 1 else ", ".join(contents)


def _find_boxes(text: str) -> list[_Box]:
    boxes: list[_Box] = []
    innermost: _Box | None = None
    open_braces: list[_Box | None] = []
    first = _first_box(text)
    # A doubled backslash belongs to its box.
    for token in _BRACES.finditer(text, max(first.start() - 1, 0)) if first else ():
        kind = token[0]
        if kind == "{":
            open_braces.append(None)
            if len(open_braces) > MAX_OPEN_BRACES:
                break
        elif kind == "}":
            closed = open_braces.pop() if open_braces else None
            if closed is not None:
                closed.end = token.start()
                innermost = closed.outer
        elif token["bare"]:
            boxes.append(_bare_box(text, token, innermost))
        elif len(kind) > 2:
            innermost = _Box(token.end(), token.start(), outer=innermost)
            boxes.append(innermost)
            open_braces.append(innermost)
    return boxes


def _bare_box(text: str, token: re.Match[str], outer: _Box | None) -> _Box:
    r"""Take what stands after ``\boxed`` without braces, as in ``\boxed 7``."""
    start = token.start("bare")
    found = re.compile(r"[0-9]+(?:\.[0-9]+)?|[A-Za-z]").match(text, start)
    assert found
    return _Box(start, token.start(), end=found.end(), outer=outer)


def _outermost(boxes: list[_Box]) -> list[_Box]:
    """Leave out boxes inside others, except inside one that never closes."""
    return [box for box in boxes if not _is_inside(box)]


def _is_inside(box: _Box) -> bool:
    return box.outer is not None and box.outer.end is not None


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


_CLOSING_REMARK = re.compile(
    r"I hope (?:it is|this is|this helps).*\Z|Note:.*\Z|\[Note\b.*\Z", re.IGNORECASE | re.DOTALL
)


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
    if not text:
        return None
    if tags := _ANSWER_TAG.findall(text):
        return _extracted(_tidy(tags[-1]), "answer tag")
    if lines := _HASH_LINE.findall(text):
        return _extracted(_tidy(lines[-1]), "hash line")
    if fields := list(_JSON_ANSWER.finditer(text)):
        return _extracted(_json_string(fields[-1]), "answer field")
    phrases = [found for found in _PHRASE.finditer(text) if not text.startswith("not ", found.end())]
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


def stated_answer(text: str) -> str:
    """Return what a reference without a box states: what is in its tags or follows its phrase, else all of it."""
    if tagged := _ANSWER_TAG.search(text):
        return tagged[1].strip()
    phrases = list(_PHRASE.finditer(text))
    return (_tidy(text[phrases[-1].end() :]) or text) if phrases else text


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
        if _HEDGE.search(text, 0, formulas[-1].start()):
            # "7 or 8" is both of them or nothing.
            return Extracted(joined, "last value") if joined else None
        return Extracted(_tidy(_math_content(formulas[-1])), "last value", joined)
    if number is None or _HEDGE.search(text, 0, number.start()):
        return None
    return Extracted(_tidy(_word_around(text, number)), "last value")


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
