"""Thinking sections that the prompt opened, so that the response itself shows no opening tag."""

import re
from collections.abc import Mapping, Sequence
from typing import cast

LONGEST_TAG = 80
"""Characters at the end of a prompt that are looked at."""

_OPEN_AT_END = re.compile(r"[<\[][^<>\[\]/\s]{0,30}(?:think|thought|reason)[^<>\[\]/\s]{0,30}[>\]]\s*\Z", re.IGNORECASE)


def prefilled_think(prompt: object) -> str:
    """Return the opening think tag that a prompt ends with, which belongs in front of the response: else nothing.

    Many chat templates end their generation prompt with ``<think>``. A response to it that was cut off in thought looks
    like an answer unless the tag stands before it: grade ``prefilled_think(prompt) + response``.

    Args:
        prompt: As the model saw it. Of a nested value, such as a row of a file, any text in it may be the prompt.
    """
    values = [prompt]
    while values:
        value = values.pop()
        if isinstance(value, str):
            if found := _OPEN_AT_END.search(value[-LONGEST_TAG:]):
                return found[0]
        elif isinstance(value, Mapping):
            values += cast(Mapping[object, object], value).values()
        elif isinstance(value, list | tuple):
            values += cast(Sequence[object], value)
    return ""
