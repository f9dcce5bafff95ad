r"""Answers as data sets give them, made into references; or the reason why a row cannot be used.

What is around an answer is taken off (``####``, dollars, a box), and how a number was stored is undone (142.0 is
``142``). The answer itself is left alone, so that no reference can mean something else than its source did;
applying this twice changes nothing. Where a whole solution or a sentence stands in the place of the answer, the answer
is what it states in a form that leaves no doubt; without one, it is no answer.
"""

import math
import re
from decimal import Decimal
from enum import StrEnum
from typing import Any, cast

from polaris_data.problems.columns import find, structured

_LARGEST_INTEGER = 1e15
"""Beyond it a float no longer stands for one integer for certain."""

_NOTHING = frozenset(
    {*("", "n/a", "nan", "null", "<na>", "notfound", "not found", "[not found]", "no answer", "no_answer", "[invalid]")}
    | {*("unknown", "-", "--", "?", "tbd", "see solution", "not provided", "no answer provided")}
)
"""How spreadsheets, data frames and converters write that there is no answer; "none" may well be one."""

_PROOFS = frozenset({"proof", "a proof", "prove", "proved", "proven", "q.e.d.", "qed", "see proof", "[proof]"})
"""What stands in the place of the answer to a task that asks for a proof."""

ANSWER_KEYS = ("ground_truth", "answer", "final_answer", "value", "target", "expected_answer")
"""Where the answer may stand in an object that takes its place."""

MAX_ANSWER_CHARS = 200
"""A longer text with words in it is no answer."""

_LONGEST_READ = 10_000
"""No answer comes near."""

MAX_STATED_CHARS = 100
"""What follows "the answer is" and is longer says something else."""

MAX_ANSWER_WORDS = 7
"""Text of more words is a sentence."""

_LETTERS = re.compile(r"[A-Za-z]{2}")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"))
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BETWEEN_BOXES = re.compile(r"(?:[\s,;$]|\\[,;:! ]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b)*")
_ANOTHER_OF_A_LIST = re.compile(r"\b(?:and|or)\b|,[\s$]*\\?\w{1,8}\s*=[\s$]*\Z")
_NEAR = 40
"""Characters between two boxes that are parts of one statement."""

_ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_PHRASE = re.compile(
    r"(?:\banswers?\b[\s*_]{0,6}(?:(?:is|are|will be|would be|should be|must be)\b\s*[:：]?|[:：=])"
    r"|\A\W*(?:ans|sol|solution|result|resposta|respuesta|réponse|antwort)\b\W{0,3}[:：=]"
    r"|答案(?:是|为|為)?\s*[:：]?)[\s*_}]*",
    re.IGNORECASE,
)
_THOUSANDS = re.compile(r"[-+]?\$?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_COUNTED = re.compile(r"([-+]?[\d.,/]*\d)\s*\((?!mod\b)[A-Za-z][A-Za-z .]*\)")
"""``9 (apples)`` is 9."""

# What is no prose: formulas between dollars, macros, words in capitals (names of points), names of functions.
_FORMULA = re.compile(r"\$\$.*?\$\$|(?<!\\)\$[^$]*\$|\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
_TEXT_MACRO = re.compile(r"\\(?:text[a-z]*|mathrm|mbox|hbox|operatorname)\s*\{([^{}]*)\}")
_MACRO = re.compile(r"\\[A-Za-z]+|<<[^<>]*>>")
_WORD = re.compile(
    r"(?<![\w^])[^\W\d_]{3,}(?![\w^(])|\b(?:[Ii][sfnt]|[Oo][fn]|[Nn]o|[Aa][tns]|[Tt]o|[Bb][ey]|[Ss]o|[Ww]e|[Ii]t|[Hh]e)\b"
)
_SPACED_WORD = re.compile(r"(?:(?<=\s)|\A)[^\W\d_]{2,}(?=[\s.,;:!?]|\Z)")
_CHINESE_SENTENCE = re.compile("[\u3040-\u30ff\u4e00-\u9fff]{11}|所以|因此|因为|解[:：]|故[^障]|[\u4e00-\u9fff].*。")
_FUNCTIONS = frozenset(
    "sin cos tan cot sec csc exp log max min gcd lcm mod sqrt and arcsin arccos arctan inf sup".split()
)
_CONCLUDING = frozenset("so thus hence therefore because since we our it there they you he she".split())
_VERBS = frozenset(
    "is are was were be has have had get gets got can cannot does do did must exists exist holds follows equals let "
    "if".split()
)
_UNCERTAIN = frozenset(
    "not no between either about roughly approximately less more greater than at unknown unclear obvious above below "
    "following given same that this the proved true shown left find found".split()
)
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


class Reason(StrEnum):
    """Why a row is set aside."""

    NO_QUESTION = "no question"
    NO_ANSWER = "no answer"
    NOT_AN_ANSWER = "the answer is neither text nor a number"
    SENTENCE = "a sentence or solution that states no answer"
    UNCLEAR_CHOICE = "the answer is none of the choices, or several"
    PICTURE = "needs a picture"
    SEVERAL_TURNS = "a conversation of several questions"
    PROOF = "a proof"
    SEVERAL_PARTS = "several parts"
    GRADED_RESPONSE = "a model's graded response without a reference"
    MARKED_INVALID = "marked as invalid by its source"
    UNREADABLE = "cannot be read"


def to_references(value: Any, *, is_solution: bool = False) -> tuple[str, ...] | Reason:
    """Return the accepted answers that a value gives, each once, or why it gives none.

    Args:
        value: Text, a number, or a list of them: accepted answers; or an object that holds the answer. Text may also be
            JSON of a list of texts, or of an object.
        is_solution: Whether the text is a worked solution, of which only what it states is the answer.
    """
    value = structured(value)
    values = cast("list[Any]", value) if isinstance(value, list) else [value]
    answers = [_to_answer(one, is_solution=is_solution) for one in values]
    for answer in answers:
        if isinstance(answer, Reason):
            return answer
    return tuple(dict.fromkeys(cast("list[str]", answers))) or Reason.NO_ANSWER


def stated_answer(text: str) -> str | None:
    r"""Return the answer that a solution states: in its last box, after ``####``, or after "the answer is" at its end.

    Boxes at the end with nothing but commas or "and" between them are one list. ``None`` where nothing is stated, or it
    is not certain what: a box that never closes, words such as "between" or "not", more text behind the phrase.
    """
    text = text.rpartition("</think>")[2]
    if _BOX.search(text):
        stated = _boxes(text)
    elif "####" in text:
        stated, _, rest = text.rpartition("####")[2].strip().partition("\n")
        stated = _without_separators(stated.strip())
        if rest.strip() and stated_answer(rest) != stated:
            return None  # a heading
    elif tags := _ANSWER_TAG.findall(text):
        stated = tags[-1]
    else:
        phrases = list(_PHRASE.finditer(text))
        stated = text[phrases[-1].end() :].strip(" *_\n") if phrases else None
        stated = stated and re.sub(r"[.。!]+\**\Z", "", stated)
    stated = stated and strip_wrapping(stated)
    if not stated or _is_unbalanced(stated) or (len(stated) > MAX_STATED_CHARS and _prose(stated)):
        return None
    words = _prose(stated)
    return None if (len(words) > 2 and is_sentence(stated)) or not _UNCERTAIN.isdisjoint(words) else stated


def is_sentence(text: str) -> bool:
    """Return whether a text is a sentence, or several, rather than an answer.

    It has more than `MAX_ANSWER_WORDS` words; or a conclusion or a pronoun ("so", "it"); or three words, and a verb
    among them, a full stop, or more than `MAX_ANSWER_CHARS` characters. Formulas and names of functions are no words.
    """
    if len(text) > _LONGEST_READ:
        return True
    words = _prose(text)
    return bool(
        len(words) > MAX_ANSWER_WORDS
        or not _CONCLUDING.isdisjoint(words)
        or (len(words) > 2 and not _VERBS.isdisjoint(words))
        or (len(words) > 2 and len(text) > MAX_ANSWER_CHARS)
        or (num_words(text) > 2 and text.rstrip().endswith((".", "!", "?")))
        or _CHINESE_SENTENCE.search(text)
        or _PHRASE.search(text)
        or "####" in text
    )


def num_words(text: str) -> int:
    """Return how many words an answer has outside formulas, with spaces around them."""
    bare = _MACRO.sub(" ", _TEXT_MACRO.sub(r" \1 ", _FORMULA.sub(" ", text)))
    return len(_SPACED_WORD.findall(bare))


def number_as_text(value: float) -> str | None:
    """Return a number as it is written: an integer without ``.0``; ``None`` if it is not finite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < _LARGEST_INTEGER else repr(value)
    return str(value)


def strip_wrapping(text: str) -> str:
    """Take off what is only around an answer: white space, ``####``, one pair of delimiters, one box, again."""
    while True:
        bare = _unwrapped(text.strip())
        if bare == text:
            return text
        text = bare


def _to_answer(value: Any, *, is_solution: bool) -> str | Reason:
    if value is None:
        return Reason.NO_ANSWER
    if isinstance(value, dict):
        inner = find(cast("dict[str, Any]", value), *ANSWER_KEYS)
        return (
            Reason.NOT_AN_ANSWER
            if isinstance(inner, list | dict | None)
            else _to_answer(inner, is_solution=is_solution)
        )
    if isinstance(value, str):
        if _INTEGER.fullmatch(value):  # most answers
            return value
        text = strip_wrapping(value)
        if text.casefold().rstrip(".") in _NOTHING:
            return Reason.NO_ANSWER
        if text.casefold() in _PROOFS:
            return Reason.PROOF
        if is_sentence(text) or (is_solution and not _is_bare(text)):
            stated = stated_answer(text)
            return Reason.SENTENCE if stated is None else _to_answer(stated, is_solution=False)
        whole = _WHOLE_NUMBER.fullmatch(text)
        counted = _COUNTED.fullmatch(text)
        return whole[1] if whole else counted[1] if counted else text
    if isinstance(value, Decimal):
        return _to_answer(str(value), is_solution=False)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_as_text(value) or Reason.NO_ANSWER
    return Reason.NOT_AN_ANSWER


def _unwrapped(text: str) -> str:
    if text.startswith("####"):
        return _without_separators(text[4:].strip())
    if text.startswith("="):
        return text[1:]
    if len(text) > 1 and text[0] == text[-1] == '"' and '"' not in text[1:-1]:
        return text[1:-1]
    for opening, closing in _DELIMITERS:
        inside = text[len(opening) : len(text) - len(closing)]
        is_whole = len(text) > len(opening + closing) and text.startswith(opening) and text.endswith(closing)
        if is_whole and opening not in inside and closing not in inside and not inside.endswith("\\"):
            return inside
    if box := _BOX.match(text):
        content, end = _box_content(text, box.end())
        if content is not None and end == len(text):
            return content
    return text


def _boxes(text: str) -> str | None:
    """Return what is in the last box, with what is in those before it that form one list with it."""
    contents: list[str] = []
    start = len(text)
    for box in reversed(list(_BOX.finditer(text))):
        content, end = _box_content(text, box.end())
        if end > start:  # a box around one that was taken
            contents, start = [content or ""], box.start()
            continue
        between = text[end:start]
        if contents and not _BETWEEN_BOXES.fullmatch(between):
            if len(between) < _NEAR and _ANOTHER_OF_A_LIST.search(between):
                return None  # one of several answers, and not in which way
            break
        if not content:
            return None
        contents.append(content)
        start = box.start()
    return ", ".join(dict.fromkeys(reversed(contents)))


def _is_unbalanced(text: str) -> bool:
    braces = re.sub(r"\\.|[^{}]", "", text, flags=re.DOTALL)
    return braces.count("{") != braces.count("}")


def _is_bare(text: str) -> bool:
    """Return whether what stands in the place of a solution is a value and nothing else."""
    return not _prose(text) and not _BOX.search(text) and "=" not in text and len(text) <= MAX_STATED_CHARS


def _without_separators(text: str) -> str:
    """Return a number without the commas between its thousands; any other text as it is."""
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _prose(text: str) -> list[str]:
    """Return the words of a text in lower case, without those of formulas."""
    if text.isascii() and not _LETTERS.search(text):
        return []
    text = _MACRO.sub(" ", _TEXT_MACRO.sub(r" \1 ", _FORMULA.sub(" ", text)))
    words = _WORD.findall(text)
    return [word.casefold() for word in words if word.casefold() not in _FUNCTIONS]


def _box_content(text: str, start: int) -> tuple[str | None, int]:
    """Return what is in the braces that open at ``start``, and where they end; ``None`` if they do not close."""
    if text[start : start + 1] != "{":
        return None, start
    depth = 0
    for token in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return text[start + 1 : token.start()].strip(), token.end()
    return None, start
