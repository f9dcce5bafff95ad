"""What a question needs beside its own column: the text before it and the choices after it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polaris_data.problems.answers import Reason, is_sentence, number_as_text, strip_wrapping
from polaris_data.problems.columns import find, structured

CONTEXT_COLUMNS = ("body", "context", "passage", "preamble", "background")
"""Text without which the question cannot be answered."""

CHOICE_COLUMNS = ("choices", "options", "answer_choices", "multiple_choice")
"""A list of texts, or of objects, or an object of letters."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER_COLUMN = re.compile(r"(?:(?i:option|choice|op)[_ ]?)((?i:[a-h]))|([A-H])")
_LETTERED = re.compile(r"\A\s*\(?[A-H][).:]\s+")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to choose from."""

    label: str
    """``A``"""

    text: str


def with_context(columns: Mapping[str, Any], question: str) -> str:
    """Return the question after the text that it is about, unless it holds that text already."""
    context = find(columns, *CONTEXT_COLUMNS)
    if not isinstance(context, str) or not context.strip() or context.strip() in question:
        return question
    return f"{context.strip()} {question.strip()}"


def choices_of(columns: Mapping[str, Any]) -> list[Choice] | str | None:
    """Return the choices of a row, as text where they are written in one; ``None`` if there are none."""
    value = structured(find(columns, *CHOICE_COLUMNS))
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        labels = value.get("label") or value.get("labels") or _LETTERS
        return [Choice(str(label), _as_text(text)) for label, text in zip(labels, value["text"], strict=False)]
    if isinstance(value, dict):
        return [Choice(str(label), _as_text(text)) for label, text in value.items()] or None
    if isinstance(value, list) and value:
        if all(isinstance(one, dict) for one in value):
            texts = [find(one, "text", "content", "value", "answer") for one in value]
            labels = [str(one.get("label", letter)) for letter, one in zip(_LETTERS, value, strict=False)]
        else:
            texts, labels = value, list(_LETTERS)
        return [Choice(label, _as_text(text)) for label, text in zip(labels, texts, strict=False)]
    columns_of_letters = ((_LETTER_COLUMN.fullmatch(name), text) for name, text in columns.items())
    lettered = {(found[1] or found[2]).upper(): text for found, text in columns_of_letters if found}
    if not {"A", "B"} <= lettered.keys():
        return None
    return [Choice(label, _as_text(text)) for label, text in sorted(lettered.items()) if text is not None]


def with_choices(question: str, choices: list[Choice] | str) -> str:
    """Return the question and its choices below it, unless it holds them already."""
    if isinstance(choices, str):
        return question if choices in question else f"{question}\n{choices}"
    if all(choice.text in question for choice in choices):
        return question
    return "\n".join([question, *(f"({choice.label}) {choice.text}" for choice in choices)])


def chosen(value: Any, choices: list[Choice]) -> str | Reason:
    """Return the reference that names a choice, by its letter and its text: ``(B) 12``.

    The grader accepts the letter, the text, or both. The value may be the letter, the text, or the number of the choice
    from 0; where it could be a number and another choice's text as well, or is none of them, the choice is not clear.
    """
    text = strip_wrapping(_as_text(value))
    bare = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip(" ().")
    by_label = [choice for choice in choices if choice.label == bare]
    by_text = [choice for choice in choices if choice.text == text]
    by_number = [choices[int(text)]] if text.isdigit() and int(text) < len(choices) else []
    found = {choice.label: choice for choice in (by_label or [*by_text, *by_number])}
    if len(found) != 1:
        return Reason.UNCLEAR_CHOICE
    (choice,) = found.values()
    if choice.label not in _LETTERS:
        return choice.text
    return choice.label if is_sentence(choice.text) else f"({choice.label}) {choice.text}"


def _as_text(value: Any) -> str:
    """Return a choice as text, without a letter in front that the label repeats."""
    text = number_as_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return _LETTERED.sub("", str(text)).strip()
