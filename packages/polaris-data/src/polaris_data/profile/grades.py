"""How the answers of a profile were graded, one by one: ``grades.jsonl`` beside its completions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_data.errors import ProblemFileError
from polaris_data.problems.rows import json_lines
from polaris_data.records import Difficulty

GRADES_NAME = "grades.jsonl"

CORRECT = "correct"
"""The outcome of polaris-reward that counts as solved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedAnswers:
    """Answers to one problem that were drawn and graded together: all of them, or some of an adaptive profile."""

    problem_id: str
    """Of the problem set that was profiled."""

    first_sample: int
    """Number of the first of these answers among those to the problem."""

    outcomes: tuple[str, ...]
    """What the grader said about each, as polaris-reward names it."""

    num_tokens: tuple[int, ...]
    """Length of each."""

    truncated: tuple[bool, ...]
    """Whether the token budget ended each."""

    def to_difficulty(self) -> Difficulty:
        """Return what they say about the problem."""
        num_samples = len(self.outcomes)
        return Difficulty(
            problem_id=self.problem_id,
            num_samples=num_samples,
            num_correct=self.outcomes.count(CORRECT),
            num_truncated=sum(self.truncated),
            mean_tokens=sum(self.num_tokens) / num_samples,
        )


def from_record(record: Mapping[str, Any]) -> GradedAnswers:
    """Return what a line of the file says."""
    lists: dict[str, Any] = {name: tuple(record[name]) for name in ("outcomes", "num_tokens", "truncated")}
    return GradedAnswers(problem_id=record["problem_id"], first_sample=record["first_sample"], **lists)


def has_grades(rollouts: Path) -> bool:
    """Return whether a folder holds the completions of a complete profile, and their grades."""
    return (rollouts / GRADES_NAME).is_file()


def read_grades(rollouts: Path) -> Iterator[GradedAnswers]:
    """Yield the grades of the answers of a complete profile, one line of the file in memory at a time.

    Raises:
        ProblemFileError: If a line is malformed.
    """
    for row in json_lines(rollouts / GRADES_NAME):
        try:
            yield from_record(row.columns)
        except (KeyError, TypeError) as error:
            raise ProblemFileError(f"{row.place}: not the grades of answers ({error!r})") from error
