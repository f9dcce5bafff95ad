"""The accepted answers of a problem: in what form they come, and what each gives as the answer."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import cast

from polaris_reward.finding.boxes import first_box, last_box

SHORTEST_STATEMENT = 8
"""A shorter reference cannot hold a phrase around its answer."""

LONGEST_STATEMENT = 50_000
"""A longer one is no solution either, and is refused for its length later."""


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


def reference_answer(reference: str) -> str:
    """Return what a reference gives as the answer: it may be a whole solution, with a box or a phrase."""
    text = reference.strip()
    if first_box(text):
        content = last_box(text)
        return text if content is None else content
    if text.startswith('["') and text.endswith('"]') and text.count('"') == 2:
        return text[2:-2]
    if not SHORTEST_STATEMENT <= len(text) <= LONGEST_STATEMENT:
        return text
    from polaris_reward.finding.prose import stated_answer

    return stated_answer(text)


def _as_text(value: object) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # Files of numbers often hold integers as `7.0`, and large or small ones as `1e+20`.
    return f"{Decimal(str(value)):f}".removesuffix(".0")
