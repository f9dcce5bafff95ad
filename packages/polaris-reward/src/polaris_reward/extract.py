r"""Find the final answer of a response.

The text after the thinking is searched for, in this order: the last ``\boxed{}`` or ``\fbox{}``, ``<answer>`` tags, a
line ``#### answer``, an ``"answer"`` field of JSON, a phrase such as "the final answer is", and the last value of the
text. A box wins over everything else: when the last one is empty or unclosed, there is no answer. All of this takes
time linear in the length of the text.
"""

import re
from dataclasses import dataclass
from typing import Literal

from polaris_reward.policy import DEFAULT, Policy

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


def final_answer(response: str, *, policy: Policy = DEFAULT) -> str | None:
    r"""Return what the response gives as its answer, or ``None``.

    Only the text after the last ``</think>`` counts, and nothing after a ``<think>`` that never closes. The last box
    wins; a box within a box is part of the outer one. There is no answer when the last box is empty, or when it never
    closes: then the response was cut, and an earlier box is not its answer.

    Args:
        response: What the model wrote, without the prompt.
        policy: Whether an answer may stand without a box, and without ``</think>``.
    """
    found = find_answer(response, policy=policy)
    return None if found is None else found.text


def find_answer(response: str, *, policy: Policy = DEFAULT) -> Extracted | None:
    """Return the final answer of a response with where it was found; see `final_answer`."""
    _, close, rest = response.rpartition(THINK_CLOSE)
    if policy.require_think and not close:
        return None
    text = _until_next_turn(rest.partition(THINK_OPEN)[0])
    if _first_box(text):
        return _boxed(text)
    if policy.require_box:
        return None
    # Prompts ask for boxes; the patterns for everything else are not loaded before they are needed.
    from polaris_reward.prose import find_in_prose

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
    from polaris_reward.prose import stated_answer

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
