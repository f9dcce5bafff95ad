r"""Find the final answer of a response: the last ``\boxed{}`` or ``\fbox{}`` after the thinking.

One pass over the text with a stack of open braces, so that hostile input costs time linear in its length.
"""

import re
from dataclasses import dataclass

from polaris_reward.policy import DEFAULT, Policy

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

_BOX = re.compile(r"\\(?:boxed|fbox)")
# Some models print their backslashes twice. A longer run is not looked at, which keeps the scan linear.
_BRACES = re.compile(r"\\{1,2}(?:boxed|fbox)\s*(?:\{|\Z)|\\.|[{}]", re.DOTALL)
_BLANK = re.compile(r"(?:[\s${}~]|\\(?:text|mathrm|q?quad|[,;:!]|\s|\Z))*")


@dataclass(slots=True)
class _Box:
    start: int
    """Of its content."""
    end: int | None = None
    """Of its content; ``None`` while the box is open."""
    outer: "_Box | None" = None
    """The box around this one."""


def final_answer(response: str, *, policy: Policy = DEFAULT) -> str | None:
    r"""Return what the response gives as its answer, or ``None``.

    Only the text after the last ``</think>`` counts, and nothing after a ``<think>`` that never closes. The
    last box wins; a box within a box is part of the outer one. There is no answer when the last box is empty,
    or when it never closes: then the response was cut, and an earlier box is not its answer.

    Args:
        response: What the model wrote, without the prompt.
        policy: Whether a response without ``</think>`` has an answer.

    Returns:
        The content of the box, outer white space stripped.
    """
    _, close, rest = response.rpartition(THINK_CLOSE)
    if policy.require_think and not close:
        return None
    content = last_box(rest.partition(THINK_OPEN)[0])
    return None if content is None or _BLANK.fullmatch(content) else content


def last_box(text: str) -> str | None:
    r"""Return what is in the last ``\boxed{}`` or ``\fbox{}``, or ``None``: no box, or one that is open."""
    box = _find_last_box(text)
    if box is None or box.end is None:
        return None
    while box.outer is not None and box.outer.end is not None:
        box = box.outer
    return text[box.start : box.end].strip()


def unbox(reference: str) -> str:
    """Return the content of the last box of a reference, or the reference itself when it has no box."""
    content = last_box(reference)
    return reference.strip() if content is None else content


def _find_last_box(text: str) -> _Box | None:
    last: _Box | None = None
    innermost: _Box | None = None
    open_braces: list[_Box | None] = []
    first = _BOX.search(text)
    for token in _BRACES.finditer(text, first.start()) if first else ():
        kind = token[0]
        if kind == "{":
            open_braces.append(None)
        elif kind == "}":
            closed = open_braces.pop() if open_braces else None
            if closed is not None:
                closed.end = token.start()
                innermost = closed.outer
        elif len(kind) > 2:
            last = innermost = _Box(token.end(), outer=innermost)
            open_braces.append(last)
    return last
