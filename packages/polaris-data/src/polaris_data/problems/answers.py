r"""Answers as data sets give them, made into references; or the reason why a row cannot be used.

What is around an answer is taken off (``####``, dollars, a box), and how a number was stored is undone (142.0 is
``142``). The answer itself is left alone, so that no reference can mean something else than its source did;
applying this twice changes nothing.
"""

import json
import math
import re
from enum import StrEnum
from typing import Any, cast

_LARGEST_INTEGER = 1e15
"""Beyond it a float no longer stands for one integer for certain."""

_NOTHING = frozenset({"", "n/a", "nan", "null", "<na>"})
"""How spreadsheets and data frames write that there is no answer; "none" may well be one."""

_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0")
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)

# "(1) Find the range of f. (2) Find its maximum." asks twice; a list of conditions asks once, at its end.
_PART = re.compile(
    r"(?:^|(?<=[\s.;:,>$]))\$?\(\s*(?P<bracketed>[a-h]|[1-9]|i{1,3}|iv|v)\s*\)\$?(?=[\s\\$A-Z])"
    r"|^\s*(?P<bare>[a-h]|[1-9])[.)]\s",
    re.MULTILINE,
)
_SECOND_LABELS = ("b)", "2)", "ii)", "b.", "2.")
_FIRST_LABELS = (("a", "b"), ("1", "2"), ("i", "ii"))
# A question mark, or an imperative: "If we write them in order" asks for nothing.
_REQUEST = re.compile(
    r"\?|(?:[.,;:>$\n]|\b(?:and|then|please|try to))\s*(?:find|determine|compute|calculate|evaluate|solve|simplify|use"
    r"|prove|express|write|describe|state|draw|complete)\b",
    re.IGNORECASE,
)
_ANSWER_PART = re.compile(r"(?:^|[\s,;.$])\((a|b|i|ii|1|2)\)(?=[\s\\$])")

_PROVE = re.compile(r"\bprove\b|\bshow that\b", re.IGNORECASE)
_ASKS_FOR_A_VALUE = re.compile(
    r"\?|\b(?:find|determine|compute|calculate|evaluate|what|how|which|who|when|where|value|express|solve|simplify|use"
    r"|give|number of|maximum|minimum|smallest|largest|list|name|answer|state|choose)\b",
    re.IGNORECASE,
)


class Reason(StrEnum):
    """Why a row is set aside."""

    NO_QUESTION = "no question"
    NO_ANSWER = "no answer"
    NOT_AN_ANSWER = "the answer is neither text nor a number"
    PROOF = "a proof"
    SEVERAL_PARTS = "several parts"


def to_references(value: Any) -> tuple[str, ...] | Reason:
    """Return the accepted answers that a value gives, each once, or why it gives none.

    Args:
        value: Text, a number, or a list of them: accepted answers; text may also be a JSON list of texts.
    """
    values = cast("list[Any]", value) if isinstance(value, list) else _json_list(value)
    answers = [_to_answer(one) for one in values]
    for answer in answers:
        if isinstance(answer, Reason):
            return answer
    return tuple(dict.fromkeys(cast("list[str]", answers))) or Reason.NO_ANSWER


def refusal(question: str, references: tuple[str, ...]) -> Reason | None:
    """Return why a problem cannot be trained on although it has a question and an answer.

    A question that only asks for a proof has no answer that could be compared, whatever its answer column says.
    Of a question with several parts that each ask for something, an answer is at most one.
    """
    folded = question.lower()
    if (
        ("prove" in folded or "show that" in folded)
        and _PROVE.search(question)
        and not _ASKS_FOR_A_VALUE.search(question)
    ):
        return Reason.PROOF
    if _num_requests(question) > 1 or any(_names_parts(reference) for reference in references):
        return Reason.SEVERAL_PARTS
    return None


def number_as_text(value: float) -> str | None:
    """Return a number as it is written: an integer without ``.0``; ``None`` if it is not finite."""
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value.is_integer() and abs(value) < _LARGEST_INTEGER else repr(value)
    return str(value)


def last_box(text: str) -> str | None:
    r"""Return what is in the last ``\boxed{}`` or ``\fbox{}``; ``None`` if there is none, or it never closes."""
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    content, _ = _box_content(text, boxes[-1].end())
    return content


def strip_wrapping(text: str) -> str:
    """Take off what is only around an answer: white space, ``####``, one pair of delimiters, one box, again."""
    while True:
        bare = _unwrapped(text.strip())
        if bare == text:
            return text
        text = bare


def _json_list(value: Any) -> list[Any]:
    """Read a text such as ``["1/2"]`` as the list that it is; brackets around anything else are mathematics."""
    if isinstance(value, str) and re.match(r'\s*\["', value):
        try:
            values = json.loads(value)
        except ValueError:
            return [value]
        if isinstance(values, list):
            return cast("list[Any]", values)
    return [value]


def _to_answer(value: Any) -> str | Reason:
    if value is None:
        return Reason.NO_ANSWER
    if isinstance(value, str):
        text = strip_wrapping(value)
        whole = _WHOLE_NUMBER.fullmatch(text)
        return Reason.NO_ANSWER if text.casefold() in _NOTHING else whole[1] if whole else text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_as_text(value) or Reason.NO_ANSWER
    return Reason.NOT_AN_ANSWER


def _unwrapped(text: str) -> str:
    if text.startswith("####"):
        return text[4:]
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


def _num_requests(question: str) -> int:
    """Count the labelled parts that ask for something; 0 without labels that start a list."""
    if not any(label in question for label in _SECOND_LABELS):  # spares most questions the slower search
        return 0
    parts = list(_PART.finditer(question))
    labels = tuple(part["bracketed"] or part["bare"] for part in parts[:2])
    if labels not in _FIRST_LABELS:
        return 0
    ends = [*(part.start() for part in parts[1:]), len(question)]
    texts = (question[part.end() : end] for part, end in zip(parts, ends, strict=True))
    return sum(bool(_REQUEST.search(f".{text}")) for text in texts)


def _names_parts(reference: str) -> bool:
    return tuple(_ANSWER_PART.findall(reference)[:2]) in _FIRST_LABELS
