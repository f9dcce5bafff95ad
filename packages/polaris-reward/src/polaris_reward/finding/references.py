"""The accepted answers of a problem: in what form they come, and what each gives as the answer."""

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from typing import cast

from polaris_reward.finding.boxes import boxed_answer, first_box, outermost_contents

SHORTEST_STATEMENT = 8
"""A shorter reference cannot hold a phrase around its answer."""

LONGEST_STATEMENT = 50_000
"""A longer reference is no solution either, and is refused for its length later."""

MOST_WORDS = 12
"""Words of three letters or more; an answer in words has fewer, a solution more."""

_ANSWER_TAG = re.compile(r"</?answer>", re.IGNORECASE)
_HASH_LINE = re.compile(r"^[ \t]*#{3,}(.*)$", re.MULTILINE)
_LABEL = re.compile(r"[\s*_]{0,6}(?:the\s)?(?:final\s)?(?:answer|result)\b(?:\s?is\b)?[\s*_:：]{0,6}", re.IGNORECASE)
# "The answer is 7.", "So the final answer is: 7", "Answer: 7", at the beginning of a sentence and up to the end.
_STATEMENT = re.compile(
    r"(?:\A|[.!?:]\s|[。！？，\n]|(?:,|\band)\s(?=the\b))[\s*_]{0,6}"
    r"(?:(?:so|thus|hence|then|therefore|所以|因此|故)[\s,，]{0,3}){0,2}(?:the\s|our\s)?(?:(?:final|correct)\s)?"
    r"(?:(?:answer|ans|réponse|respuesta|antwort|risposta)\b[\s*_]{0,6}(?:(?:is|are|est|es|ist|è)\b|(?=[:：=]))|答案|答え)"
    r"[\s*_]{0,6}[是为為は]?[\s*_:：=]{0,6}(?:(?:therefore|thus|then)\s)?(?P<answer>[\s\S]*)\Z",
    re.IGNORECASE,
)
# "The mode is $1/3$.": one sentence whose only formula, or number, ends it.
_NAMED = re.compile(
    r"(?:The|Its|There)\s(?:(?!not\b)[^\W\d_]+[\s-]){1,10}(?:is|are|equals)\s"
    r"(?P<answer>\$[^$]+\$|\\\([^$]+?\\\)|[-−]?[\d.,/]*\d)\s?\.?"
)
_COMMAND = re.compile(r"\\(?:begin|end)\{\w+\}|\\[A-Za-z]+")
_WORD = re.compile(r"[぀-ヿ㐀-鿿]{2}|[^\W\d_]{3,}")
_SENTENCE_BREAK = re.compile(
    r"[^\W\d_]{3}[.!?][\"')]?\s(?=\s?[A-Z])|[\d)$}][.!?]\s(?=\s?[A-Z][a-z]+\b)"
    r"|(?<=\S)(?:[。？](?=\S)|！(?=[^\W\d_]))|<<[^<>]+>>"  # "5！/2" is a factorial.
)
_EMPHASIS = ' \t\r\n*_"`'


def to_references(value: object) -> tuple[str, ...] | None:
    """Return accepted answers as strings; a number is one answer, and a blank string stays in its place.

    Args:
        value: A string, a number, or a list of them.

    Returns:
        The answers, or ``None`` if the value is anything else; an empty list gives none.
    """
    values = cast(Sequence[object], value) if isinstance(value, list | tuple) else (value,)
    texts = [_as_text(one) for one in values]
    return None if None in texts else tuple(text for text in texts if text is not None)


@lru_cache(maxsize=4096)
def reference_answer(reference: str) -> str | None:
    r"""Return what a reference gives as the answer.

    It may be the answer alone, or a whole solution that says where its answer is: in its only box, or in boxes in a
    row, which are one list; in a last line ``#### answer``, as in GSM8K; in an ``<answer>`` tag; after "the answer is"
    at its end. A solution that says none of these, or several different ones, is not guessed at.

    Returns:
        The answer, or ``None`` for a solution, or a record of JSON, without an answer to be sure of.
    """
    text = reference.strip()
    if first_box(text):
        return _boxed(text)
    if text.startswith('["') and text.endswith('"]') and text.count('"') == 2:
        return text[2:-2]
    if len(text) > LONGEST_STATEMENT or (len(text) < SHORTEST_STATEMENT and text.isascii() and "#" not in text):
        return text
    if len(parts := _ANSWER_TAG.split(text)) > 2:
        return parts[1].strip() if len(set(parts[1::2])) == 1 else None
    if lines := list(_HASH_LINE.finditer(text)):
        return _after_hashes(text, lines[-1])
    for pattern in (_STATEMENT.search, _NAMED.fullmatch):
        if found := pattern(text):
            stated = _tidy(found["answer"])
            return None if not stated or is_solution(stated) or _STATEMENT.search(stated) else stated
    return None if is_solution(text) or _is_record(text) else text


def is_solution(text: str) -> bool:
    """Whether a text is sentences rather than an answer: more than one, several lines of work, or too many words."""
    if _SENTENCE_BREAK.search(text):
        return True
    num_words = len(_WORD.findall(_COMMAND.sub(" ", text)))
    is_work = num_words > 2 and "=" in text and "\n" in text.strip() and r"\begin" not in text
    return is_work or num_words > MOST_WORDS


def _boxed(text: str) -> str | None:
    found = boxed_answer(text)
    if found is None:
        return None
    contents = outermost_contents(text)
    if len(set(contents)) == 1:
        return found.text
    return found.joined if found.joined == ", ".join(contents) else None


def _after_hashes(text: str, line: re.Match[str]) -> str | None:
    """Return what a line of ``####`` gives as the answer, or what stands below it if it is no more than a heading."""
    label = _LABEL.match(line[1])
    beside = _tidy(line[1][label.end() :] if label else line[1])
    below = _tidy(text[line.end() :])
    if label and not beside:
        beside, below = below, ""
    return None if not beside or below or is_solution(beside) else beside


def _is_record(text: str) -> bool:
    if not (text.startswith("{") and text.endswith("}") and '"' in text):
        return False
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _tidy(text: str) -> str:
    """Remove emphasis, quotes and a full stop around an answer."""
    text = text.strip(_EMPHASIS)
    return text.removesuffix(text[-1:] if text[-1:] in set(".。") else "").strip(_EMPHASIS)


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Files of numbers often hold integers as `7.0`, and large or small ones as `1e+20`.
    return f"{Decimal(str(value)):f}".removesuffix(".0")
