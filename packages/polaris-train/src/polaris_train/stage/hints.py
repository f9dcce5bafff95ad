"""Hints: the first part of a solution, in the prompt of a problem that was never solved.

A group without a single correct answer teaches nothing. With half of a solution before it the same model may find the
rest, and later stages take the hint away (Li et al., "QuestA", 2025, https://arxiv.org/abs/2507.13266). A hint ends
before the sentence that first says the answer: where the grader, at its most lenient, finds an answer in a sentence
that is right, or where the answer stands literally, though it be by chance.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from polaris_data import HINT, Problem
from polaris_data.problems import find
from polaris_reward import DEFAULT, Grader, Outcome

_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")
_SHORT = 4
"""Characters of an answer that may stand in a text by chance, so that it must stand there as a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """The part of a solution that a problem's prompt gets."""

    text: str
    """Empty where nothing is left of it."""

    cut: bool
    """Whether it would have said the answer."""


def hints_for(problems: Sequence[Problem], share: float) -> dict[str, Hint]:
    """Return the hint of each problem that has a solution, by its id.

    Args:
        problems: That were never solved.
        share: Of the solution's characters, at most; a hint ends with a whole word.
    """
    solutions = {each.problem_id: find(each.extra, "solution") for each in problems}
    parts = {
        each.problem_id: _sentences(_beginning(solution, share))
        for each in problems
        if isinstance(solution := solutions[each.problem_id], str) and solution.strip()
    }
    references = {each.problem_id: each.references for each in problems}
    with Grader(convention=DEFAULT, max_failed_share=None) as grader:
        pairs = [(sentence, references[name]) for name, sentences in parts.items() for sentence in sentences]
        grades = iter(grader.grade_many(pairs) if pairs else ())
        found = {name: [next(grades).outcome for _ in sentences] for name, sentences in parts.items()}
    return {name: _cut(parts[name], found[name], references[name]) for name in parts}


def with_hints(problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems as a model is asked them: those with a hint end with it, and say where it is from."""
    return [
        replace(
            each,
            question=f"{each.question}\n\nHint, the beginning of a reference solution:\n{each.extra[HINT]}\n"
            "(Here the hint ends.)",
        )
        if HINT in each.extra
        else each
        for each in problems
    ]


def hinted_ids(problems: Iterable[Problem]) -> frozenset[str]:
    """Return the ids of the problems with a hint."""
    return frozenset(each.problem_id for each in problems if HINT in each.extra)


def _beginning(solution: str, share: float) -> str:
    """Return the first part of a solution, whole words alone."""
    solution = solution.strip()
    part = solution[: int(share * len(solution))]
    whole = part == solution or solution[len(part)].isspace()
    return part.rstrip() if whole else part[: max((m.start() for m in re.finditer(r"\s", part)), default=0)].rstrip()


def _sentences(text: str) -> list[str]:
    """Cut a text into sentences and lines, which together are the text."""
    ends = [found.end() for found in _SENTENCE_END.finditer(text)]
    bounds = [0, *ends, *([len(text)] if not ends or ends[-1] < len(text) else [])]
    return [text[start:end] for start, end in pairwise(bounds)]


def _cut(sentences: Sequence[str], outcomes: Sequence[Outcome], references: Sequence[str]) -> Hint:
    """Return the sentences before the first that says the answer, or of which the grader cannot tell."""
    harmless = (Outcome.INCORRECT, Outcome.NO_ANSWER, Outcome.ANSWER_REJECTED)
    for place, (sentence, outcome) in enumerate(zip(sentences, outcomes, strict=True)):
        if outcome not in harmless or any(_says(sentence, reference) for reference in references):
            return Hint(text="".join(sentences[:place]).strip(), cut=True)
    return Hint(text="".join(sentences).strip(), cut=False)


def _says(sentence: str, reference: str) -> bool:
    """Return whether an answer stands in a sentence as it is written in the references."""
    if not (bare := reference.strip().strip("$").strip()):
        return False
    squeezed = "".join(bare.split())
    if len(squeezed) >= _SHORT and squeezed in "".join(sentence.split()):
        return True
    return re.search(rf"(?<![\w.]){re.escape(bare)}(?!\w|\.\d)", sentence) is not None
