"""What one row of a file of completions says, and the problems that the rows are of.

Completions are of one problem if its question is the same, whatever ids stand beside it: taken for several problems
they would make every interval too narrow.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polaris_data.problems import bare_question

from polaris_eval.errors import CompletionsFileError

_SAMPLE_SUFFIX = re.compile(
    r"(?:[-_.:/#@\s]+(?:s|sample|run|rep|repeat|attempt|seed|epoch|try|rs|n|k)?[-_.:#]?\d+)\Z", re.IGNORECASE
)
"""What scripts put behind the id of a problem to number its samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Completions of one problem, from one row."""

    place: str
    """Where it stands: ``dump.jsonl:17``."""

    row: Mapping[str, Any]
    """As it stands there."""

    problem_id: str | None
    """As the row has it."""

    question: str | None
    """As a problem set would have it."""

    key: str | None
    """What else is the same for all samples of a problem: the tokens of the prompt."""

    references: tuple[str, ...] | None
    """Accepted answers; ``None`` where the row has none."""

    no_references: str
    """Why it has none."""

    completions: Sequence[dict[str, Any]]
    """As they go into a group."""

    is_ours: bool = False
    """Whether the id is that of the problem for certain."""


@dataclass(frozen=True, slots=True)
class Samples:
    """All parts of one problem."""

    problem_id: str
    question: str | None
    references: tuple[str, ...] | None
    parts: Sequence[Part]


def same_text(text: str) -> str:
    """Return what is the same in two prompts for the same question: no template, no request, no white space."""
    return " ".join(bare_question(text).split())


def group_parts(parts: Sequence[Part]) -> list[Samples]:
    """Put the parts of each problem together, in order of appearance.

    They are of one problem if they have the same question; without questions, if they have the same id; else each is a
    problem of its own. The same question with other references under another id is another problem.

    Raises:
        CompletionsFileError: If the references of one problem differ.
    """
    found: dict[tuple[str, str], list[Part]] = {}
    for number, part in enumerate(parts):
        found.setdefault(_key(part, number), []).append(part)
    groups = [(kind, text, each) for (kind, text), same in found.items() for each in _by_references(same)]
    names = _name([(kind, text, [part.problem_id for part in each]) for kind, text, each in groups])
    return [
        Samples(
            problem_id=name,
            question=next((part.question for part in each if part.question is not None), None),
            references=next((part.references for part in each if part.references is not None), None),
            parts=each,
        )
        for name, (_, _, each) in zip(names, groups, strict=True)
    ]


def stem_of(problem_id: str) -> str:
    """Return an id without the number of a sample behind it."""
    return _SAMPLE_SUFFIX.sub("", problem_id) or problem_id


def _key(part: Part, number: int) -> tuple[str, str]:
    if part.is_ours and part.problem_id is not None:
        return "id", part.problem_id
    if part.question is not None:
        return "question", same_text(part.question)
    if part.key is not None:
        return "question", part.key
    return ("row", f"row-{number}") if part.problem_id is None else ("id", part.problem_id)


def _by_references(parts: Sequence[Part]) -> list[list[Part]]:
    """Return the parts of one question as those of one problem, or of several whose references and ids differ."""
    by_references: dict[tuple[str, ...], list[Part]] = {}
    for part in parts:
        if part.references is not None:
            by_references.setdefault(tuple("".join(each.split()) for each in part.references), []).append(part)
    if len(by_references) < 2:
        return [list(parts)]
    ids = Counter(name for same in by_references.values() for name in {part.problem_id for part in same})
    if None in ids or ids.most_common(1)[0][1] > 1:
        first, second = (same[0] for same in list(by_references.values())[:2])
        name = second.problem_id if second.problem_id is not None else f"{second.question:.40}"
        raise CompletionsFileError(
            f"{second.place}: problem {name!r} has the references {list(second.references or ())!r} here and "
            f"{list(first.references or ())!r} at {first.place}; give each problem its own id, or --benchmark to take "
            "the references from there"
        )
    of_id = {part.problem_id: same for same in by_references.values() for part in same}
    for part in parts:
        if part.references is None and part.problem_id in of_id:
            of_id[part.problem_id].append(part)
    return [
        *by_references.values(),
        *([part] for part in parts if part.references is None and part.problem_id not in of_id),
    ]


def _name(groups: Sequence[tuple[str, str, Sequence[str | None]]]) -> list[str]:
    """Return an id for each group: that of its rows, or one made from the question where they have none or several."""
    names: list[str | None] = []
    for kind, text, ids in groups:
        own = {each for each in ids if each is not None}
        stems = {stem_of(each) for each in own}
        names.append(
            text if kind == "row" else own.pop() if len(own) == 1 else stems.pop() if len(stems) == 1 else None
        )
    counts = Counter(names)
    return [
        name
        if name is not None and counts[name] == 1
        else f"q-{hashlib.sha256(repr((text, name)).encode()).hexdigest()[:12]}"
        for name, (_, text, _) in zip(names, groups, strict=True)
    ]
