"""Responses that come as chat messages, from whichever framework."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

_BY_THE_MODEL = (None, "assistant", "text")
"""Roles whose content the model wrote: some frameworks leave the role out, or call plain text one."""

_TEXT_PARTS = (None, "text", "output_text")


def response_text(response: object) -> str | None:
    """Return what the model wrote at last.

    Args:
        response: A text, a message, or a list of messages of which the last one of the assistant counts: the output of
            a tool is not the model's answer. A message is a mapping or an object with ``role`` and ``content``; its
            content may be missing, or be a list of parts with ``text``.

    Returns:
        The text, empty if the model said nothing; ``None`` if the response is something else.
    """
    if isinstance(response, str):
        return response
    messages = cast(Sequence[object], response) if isinstance(response, list | tuple) else [response]
    if not all(map(_is_message, messages)):
        return None
    said = [one for one in messages if field_of(one, "role") in _BY_THE_MODEL]
    return _content(field_of(said[-1], "content")) if said else ""


def thoughts_apart(value: object) -> bool:
    """Whether a message, a row, or one of a list of them, holds the model's thoughts beside its text."""
    values = cast(Sequence[object], value) if isinstance(value, list | tuple) else [value]
    return any(isinstance(field_of(one, name), str) for one in values for name in ("reasoning_content", "reasoning"))


def field_of(value: object, name: str) -> Any:
    """Return a field of a mapping or of an object, ``None`` where it has none."""
    return cast(Mapping[str, Any], value).get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _is_message(value: object) -> bool:
    return bool({"role", "content"} & value.keys()) if isinstance(value, Mapping) else hasattr(value, "content")


def _content(content: object) -> str | None:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        return None
    # Other parts are pictures, calls of tools, and thoughts.
    texts = [field_of(part, "text") for part in cast(list[object], content) if field_of(part, "type") in _TEXT_PARTS]
    return "".join(text for text in texts if isinstance(text, str))
