"""What polaris-data hands to others: problems, their difficulty, and visits during training.

The words put around a problem are here, in one place for profiling, training and evaluation.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

PROMPT_SUFFIX = r" Let's think step by step and output the final answer within \boxed{}."
"""What the published evaluation appends to every problem; its training forgot to, ours does not."""

HINT = "stage_hint"
"""Name under which a problem of a stage of training carries a hint, which its prompt ends with, beside the other
columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mathematical problem with its known answer."""

    problem_id: str
    """Unique within a problem set."""

    question: str
    """The statement, without a prompt suffix."""

    references: tuple[str, ...]
    """Accepted answers, at least one; an answer equal to any of them is correct. What several parts ask for is one."""

    source: str = ""
    """Where the problem comes from."""

    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Every other column of the source, unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difficulty:
    """How often a model solved one problem."""

    problem_id: str
    """Of the problem set that was profiled."""

    num_samples: int
    """Completions drawn, at least one."""

    num_correct: int
    """Completions whose answer was correct."""

    num_truncated: int
    """Completions that the token budget ended."""

    mean_tokens: float | None
    """Mean length of the completions, in tokens; ``None`` where completions of another program do not tell."""

    @property
    def accuracy(self) -> float:
        """Share of correct completions, between 0 and 1."""
        return self.num_correct / self.num_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One group of completions that training drew for a problem."""

    run: str
    """Name of the run folder."""

    stage: str
    """Name of the stage in the recipe."""

    step: int
    """Optimizer step, counted from 1 within the stage."""

    problem_id: str
    """Of the stage's problem set."""

    num_samples: int
    """Completions drawn, at least one."""

    num_correct: int
    """Completions whose answer was correct."""

    num_truncated: int
    """Completions that the token budget ended."""

    mean_tokens: float | None = None
    """Mean length of the completions, in tokens; ``None`` in records of earlier versions."""

    overlap: float | None = None
    """Share of the intermediate results of right completions that the wrong ones have, on average; ``None`` where none
    was wrong or nothing is known of right ones, and without CORE."""

    hinted: bool = False
    """Whether a part of a solution was in the prompt: it says nothing about the problem alone."""

    def to_data(self) -> dict[str, Any]:
        """Return its line of a visit log; what few recipes have is left out where it is not there."""
        rare = {"hinted": False, "overlap": None}
        return {name: value for name, value in asdict(self).items() if name not in rare or value != rare[name]}


def to_prompt(problem: Problem, *, suffix: str = PROMPT_SUFFIX) -> str:
    """Return the user turn for a problem: its question, then the suffix."""
    return problem.question + suffix
