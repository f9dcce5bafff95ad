"""What a question needs beside its own column: the text before it and the choices after it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from polaris_data.problems.answers import Reason, is_sentence, number_as_text, strip_wrapping
from polaris_data.problems.columns import find, structured

CONTEXT_COLUMNS = ("body", "context", "passage", "preamble", "background")
"""Text without which the question cannot be answered."""

CHOICE_COLUMNS = ("choices", "options", "answer_choices", "multiple_choice")
"""A list of texts, or of objects, or an object of letters."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTER_COLUMN = re.compile(r"(?:(?i:option|choice|op)[_ ]?)((?i:[a-h]))|([A-H])")


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the answers to choose from."""

    letter: str
    """``A``, by its place."""

    label: str
    """What the row calls it: the letter, or a number."""

    text: str


def with_context(columns: Mapping[str, Any], question: str) -> str:
    """Return the question after the text that it is about, unless it holds that text already."""
    context = find(columns, *CONTEXT_COLUMNS)
    if not isinstance(context, str) or not context.strip() or context.strip() in question:
        return question
    return f"{context.strip()} {question.strip()}"


def choices_of(columns: Mapping[str, Any]) -> list[Choice] | str | None:
    """Return the choices of a row, as text where they are written in one; ``None`` if there are none."""
    value, letters = structured(find(columns, *CHOICE_COLUMNS)), _letter_columns(tuple(columns))
    if value is None and not letters:
        return None
    if isinstance(value, str):
        return value.strip() or None
    labelled = dict[str, Any]()
    if isinstance(value, dict):  # {"text": [...], "label": [...]}, or {"A": ...}
        texts = cast("dict[str, Any]", value).get("text")
        labels = value.get("label") or value.get("labels") or _LETTERS
        labelled = dict(zip(labels, texts, strict=False)) if isinstance(texts, list) else value
    elif isinstance(value, list):
        for letter, one in zip(_LETTERS, cast("list[Any]", value), strict=False):
            is_object = isinstance(one, dict)
            text = find(cast("dict[str, Any]", one), "text", "content", "value", "answer") if is_object else one
            labelled[one.get("label", letter) if is_object else letter] = text
    else:
        labelled = {letter: columns[name] for letter, name in letters if columns[name] is not None}
    return [
        Choice(letter, str(label), _as_text(text, str(label)))
        for letter, (label, text) in zip(_LETTERS, labelled.items(), strict=False)
    ] or None


@lru_cache(maxsize=1024)
def _letter_columns(names: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the columns that hold one choice each, by their letters in order; none without A and B."""
    found = ((_LETTER_COLUMN.fullmatch(name), name) for name in names)
    letters = sorted(((match[1] or match[2]).upper(), name) for match, name in found if match)
    return letters if [letter for letter, _ in letters[:2]] == ["A", "B"] else []


def with_choices(question: str, choices: list[Choice] | str) -> str:
    """Return the question and its choices below it, unless it holds them already."""
    if isinstance(choices, str):
        return question if choices in question else f"{question}\n{choices}"
    if all(choice.text in question and re.search(rf"\b{choice.letter}\s*[).:\]}}]", question) for choice in choices):
        return question
    return "\n".join([question, *(f"({choice.letter}) {choice.text}" for choice in choices)])


def chosen(value: Any, choices: list[Choice], *, is_index: bool = False) -> str | Reason:
    """Return the reference that names a choice, by its letter and its text: ``(B) 12``.

    The grader accepts the letter, the text, or both. The value may be the letter, the text, or the number of the choice
    from 0 (with ``is_index`` it is not the text); where it could be a number and another choice's text as well, or is
    none of them, the choice is not clear.
    """
    text = strip_wrapping(_as_text(value, ""))
    bare = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", text).strip(" ().")
    by_label = [choice for choice in choices if bare.upper() == choice.label.upper()]
    by_text = [choice for choice in choices if choice.text in (text, _as_text(text, choice.label))]
    by_number = [choices[int(text)]] if text.isdigit() and int(text) < len(choices) else []
    found = {choice.letter: choice for choice in by_label or [*([] if is_index else by_text), *by_number]}
    if len(found) != 1:
        return Reason.UNCLEAR_CHOICE
    (choice,) = found.values()
    return choice.letter if is_sentence(choice.text) else f"({choice.letter}) {choice.text}"


def _as_text(value: Any, label: str) -> str:
    """Return a choice as text, without its own label in front."""
    text = number_as_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    return re.sub(rf"\A\s*\(?{re.escape(label)}[).:]\s*(?=\S)", "", str(text)).strip() if label else str(text).strip()
