"""The words put around a problem, in one place for profiling, training and evaluation."""

from polaris_data.records import Problem

PROMPT_SUFFIX = r" Let's think step by step and output the final answer within \boxed{}."
"""What the published evaluation appends to every problem; its training forgot to, ours does not."""


def to_prompt(problem: Problem, *, suffix: str = PROMPT_SUFFIX) -> str:
    """Return the user turn for a problem: its question, then the suffix."""
    return problem.question + suffix
