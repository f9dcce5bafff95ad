r"""The boxes of a text, ``\boxed{}`` or ``\fbox{}``, and what is in the last one."""

import re
from dataclasses import dataclass
from typing import Literal

MAX_OPEN_BRACES = 1_000
"""A box with more braces open in it is taken for one that never closes."""

Source = Literal["box", "answer tag", "answer field", "hash line", "phrase", "whole text", "last value"]

JOINED_BY = re.compile(r"(?:[\s,;$.&]|\\[()\[\],;:! ]|\\q?quad|\\text\s*\{\s*(?:,?\s*and\s*,?|,)?\s*\}|\band\b)*")
"""What may stand between boxes or formulas that are one list."""

_LABEL = r"(?:parts?\s*)?(?:\(?(?:[a-h]|[1-9]|i{1,3}|iv|v)[).:]|\([a-h1-9]\))"
_BETWEEN = re.compile(
    rf"(?:[\s,;:$.&*]|\\[()\[\],;:! ]|\\q?quad|\\text\s*\{{|\}}|\b(?:and|for|the|part|answer|is)\b|{_LABEL}"
    r"|[A-Za-z](?:_\{?\w+\}?)?\s*=)*",
    re.IGNORECASE,
)
"""What may stand between boxes that answer parts of one question: labels and names, too."""
_NAME = re.compile(r"(?<![A-Za-z\\])([A-Za-z](?:_\{?\w{1,3}\}?)?)\s*=\s*\$*\s*\Z")
_ECHO = re.compile(r"(?:\b(?:with|in|inside|within|using|use|into|a|the)|`)\s*[`$]*\s*\Z", re.IGNORECASE)
"""Before a bare `\\boxed` in an instruction that is repeated."""

# A box whose backslash was escaped twice, or became a backspace, on its way through JSON.
_BOX = re.compile(r"(?:\\|\x08)(?:boxed|fbox|framebox|oxed)(?![A-Za-z])|\x08oxed")
# Some models print their backslashes twice. A longer run is not looked at, which keeps the scan linear.
_BRACES = re.compile(
    r"(?:\\{1,2}(?:boxed|fbox|framebox(?:\[[^\[\]]{0,20}\]){0,2})|\x08oxed)\s*(?:\{|\Z|(?P<bare>[0-9A-Za-z](?![A-Za-z])))|\\.|[{}]",
    re.DOTALL,
)
# One box without anything that needs brackets to be counted.
_SIMPLE_BOX = re.compile(r"\\boxed\{((?:[^{}\\]++|\\[A-Za-z]|\{[^{}\\]*+\})*+)\}")
_BLANK = re.compile(r"(?:[\s${}~]|\\(?:text|mathrm|q?quad|[,;:!]|\s|\Z))*")


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


def first_box(text: str) -> re.Match[str] | None:
    """Find where the first box is announced; a plain search for what all forms share comes first, for speed."""
    places = [place for place in (text.find("oxed"), text.find("fbox"), text.find("framebox")) if place >= 0]
    return _BOX.search(text, max(0, min(places) - 2)) if places else None


def last_box(text: str) -> str | None:
    r"""Return what is in the last ``\boxed{}`` or ``\fbox{}``, or ``None``: no box, or one that is open."""
    return _content_of_last(text, _outermost_boxes(text))


def boxed_answer(text: str) -> Extracted | None:
    """Return the answer of a text with boxes: what is in the last one, unless that is blank or open."""
    if text.count("boxed") == 1 and "fbox" not in text and (simple := _SIMPLE_BOX.search(text)):
        return None if _BLANK.fullmatch(simple[1]) else Extracted(simple[1].strip(), "box")
    boxes = _outermost_boxes(text)
    content = _content_of_last(text, boxes)
    if content is None or _BLANK.fullmatch(content):
        return None
    return Extracted(content, "box", _joined(text, boxes))


def outermost_contents(text: str) -> list[str]:
    """Return what is in each closed box of a text; a box within a box is part of the outer one."""
    return [text[box.start : box.end].strip() for box in _outermost_boxes(text) if box.end is not None]


def _outermost_boxes(text: str) -> list[_Box]:
    """Leave out boxes inside others, except inside one that never closes, and an instruction repeated at the end."""
    boxes = [box for box in _find_boxes(text) if box.outer is None or box.outer.end is None]
    is_bare = len(boxes) > 1 and boxes[-1].end is None and not text[boxes[-1].start - 1 :].lstrip().startswith("{")
    return boxes[:-1] if is_bare and _ECHO.search(text, 0, boxes[-1].opened) else boxes


def _content_of_last(text: str, boxes: list[_Box]) -> str | None:
    if not boxes or boxes[-1].end is None:
        return None
    return text[boxes[-1].start : boxes[-1].end].strip()


def _find_boxes(text: str) -> list[_Box]:
    boxes: list[_Box] = []
    innermost: _Box | None = None
    open_braces: list[_Box | None] = []
    first = first_box(text)
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


def _joined(text: str, boxes: list[_Box]) -> str | None:
    """Return the contents of the boxes that answer one question together, with their names if all have one."""
    run = [boxes[-1]]
    for box in reversed(boxes[:-1]):
        between = "" if box.end is None else text[box.end + 1 : min(run[-1].opened, box.end + 62)]
        if box.end is None or len(between) > 60 or not _BETWEEN.fullmatch(between):
            break
        run.append(box)
    run.reverse()
    contents = [text[box.start : box.end].strip() for box in run]
    if len(contents) < 2 or len(set(contents)) == 1:
        return None
    names = [found[1] for box in run if (found := _NAME.search(text, max(0, box.opened - 20), box.opened))]
    if len(names) == len(contents) == len(set(names)):
        contents = [
            content if "=" in content else f"{name} = {content}" for name, content in zip(names, contents, strict=True)
        ]
    return ", ".join(contents)
