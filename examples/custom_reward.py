"""A reward of your own on top of the grader: right answers count, less so the longer they are.

    python examples/custom_reward.py

The function has the form that TRL calls; what it needs of the grader, any other trainer can call as well.
"""

from polaris_reward import Grader, Outcome

MAX_CHARS = 2_000
"""A right answer of this length earns half of what a short one does."""


def short_and_right(completions: list[str], solution: list[str], grader: Grader) -> list[float | None]:
    """Return 1.0 for a short right answer, down to 0.5 for a long one, and 0.0 for a wrong one.

    A completion whose reference cannot be read gets None, which TRL leaves out: it says nothing about the model.
    """
    grades = grader.grade_many([(text, [answer]) for text, answer in zip(completions, solution, strict=True)])
    return [
        None
        if grade.outcome is Outcome.REFERENCE_REJECTED
        else grade.reward * (1 - 0.5 * min(len(text) / MAX_CHARS, 1))
        for text, grade in zip(completions, grades, strict=True)
    ]


def main() -> None:
    """Show the reward of four completions."""
    completions = [r"It is \boxed{0.5}.", "Step by step: " + "so " * 600 + r"\boxed{1/2}", r"\boxed{2}", r"\boxed{2}"]
    solution = [r"\frac{1}{2}", r"\frac{1}{2}", r"\frac{1}{2}", "{{"]
    with Grader() as grader:
        print(short_and_right(completions, solution, grader))


if __name__ == "__main__":
    main()
