"""The choices that a question offers: "(A) 3 (B) 4 (C) 5" behind it, or "A. 3", as in any language."""

import re

Choices = tuple[tuple[str, str], ...]
"""Letter and text of each choice, in their order."""

MIN_CHOICES = 3
"""Fewer marks are labels: (A) and (B)."""

_MARK = re.compile(r"(?<![A-Za-z0-9\\}])[(（]\s*([A-H])\s*[)）]|(?<![^\s{}$~])([A-H])\s*[.．、:)](?!\w)")
_LETTER = re.compile(
    r"(?:[\s${]|\\(?:text|textbf|textrm|mathrm|mathbf|boxed|rm|bf)\b)*(?:[(（]([A-H])[)）].*|([A-H])[\s$}.]*)", re.S
)
_BEFORE_MARK = re.compile(
    r"(?:\\(?:text|textbf|textrm|mathrm|mathbf|rm|bf|qquad|quad|hspace\{[^}]*\})\s*\{?|\\(?=\s)|[\s,;~{$&])+\Z"
)
_AFTER_MARK = re.compile(r"\A(?:\\(?=[\s,;:!])|[\s,;:!~}&.．])+")


def split_choices(question: str) -> tuple[str, Choices]:
    """Return a question without the choices behind it, and the choices; none if it offers none.

    What follows the last choice behind an empty line belongs to the question.
    """
    marks = [(match[1] or match[2], match) for match in _MARK.finditer(question)]
    for first in (place for place in reversed(range(len(marks))) if marks[place][0] == "A"):
        run: list[re.Match[str]] = []
        for letter, match in marks[first:]:
            if letter != chr(ord("A") + len(run)):
                break
            run.append(match)
        if len(run) < MIN_CHOICES:
            continue
        end = question.find("\n\n", run[-1].end())
        end = len(question) if end < 0 else end
        stops = [match.start() for match in run[1:]] + [end]
        texts = [
            _AFTER_MARK.sub("", _BEFORE_MARK.sub("", question[match.end() : stop]), count=1).strip()
            for match, stop in zip(run, stops, strict=True)
        ]
        stem = _BEFORE_MARK.sub("", question[: run[0].start()]).rstrip()
        if not stem or not all(texts):
            return question, ()
        return f"{stem} {question[end:].strip()}".strip(), tuple(zip("ABCDEFGH", texts, strict=False))
    return question, ()


def resolve_choice(reference: str, choices: Choices) -> str:
    """Return the text of the choice that an answer names by its letter, else the answer."""
    if choices and (match := _LETTER.fullmatch(reference)):
        return dict(choices).get(match[1] or match[2], reference)
    return reference
