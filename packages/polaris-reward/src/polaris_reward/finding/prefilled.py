"""Thinking sections that the prompt opened, so that the response itself shows no opening tag."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

LONGEST_TAG = 80
"""Characters at the end of a prompt that are looked at."""

_OPEN_AT_END = re.compile(r"[<\[][^<>\[\]/\s]{0,30}(?:think|thought|reason)[^<>\[\]/\s]{0,30}[>\]]\s*\Z", re.IGNORECASE)

_TAG = re.compile(r"([<\[])(/?)([^<>\[\]/\s]{0,30}(?:think|thought|reason)[^<>\[\]/\s]{0,30}[>\]])", re.IGNORECASE)

MAX_DOUBTFUL = 20
"""Responses without a tag, for each that closes a section it did not open, that may have been cut in thought."""


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


@dataclass(slots=True)
class ThinkEvidence:
    """What the responses of one model show of the thinking section that its chat template may have opened.

    Where it did, they close a section that they did not open, and those that were cut in thought have no tag at all.
    Where many ended by themselves without a tag, it did not, or the thoughts were taken out.
    """

    num_responses: int = 0
    """All that were added."""

    num_unclosed: int = 0
    """Without any tag: if the template opened the section, they were cut in thought."""

    _closed: Counter[str] = field(default_factory=Counter[str])
    """Those that close what they did not open, by the tag that would have opened it."""
    _endings: Counter[str | None] = field(default_factory=Counter[str | None])
    """How those without any tag ended."""

    def add(self, response: str, finish_reason: object = None) -> None:
        """Look at one response, after what of it is known to be prefilled.

        Args:
            response: Its text.
            finish_reason: ``"stop"`` where the model ended it, ``"length"`` where the token budget did.
        """
        self.num_responses += 1
        first = _TAG.search(response)
        if first is None:
            self.num_unclosed += 1
            self._endings[finish_reason if isinstance(finish_reason, str) else None] += 1
        elif first[2]:
            self._closed[first[1] + first[3]] += 1

    def opening_tag(self, template: str = "") -> str:
        """Return the tag that stood before every response, or nothing.

        Args:
            template: The tag that the chat template ends with, if that is known: then nothing but responses that ended
                by themselves without a tag speaks against it.
        """
        if not (template or self._closed):
            return ""
        num_doubtful = self._endings["stop"] + (0 if template else self._endings[None])
        if num_doubtful > MAX_DOUBTFUL * self._closed.total():
            return ""
        return template or self._closed.most_common(1)[0][0]
