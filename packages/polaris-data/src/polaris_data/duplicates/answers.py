"""Whether two problems have the same answer: by how it is written, else by the grader that training uses."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from polaris_data.duplicates.wording import read_wording

SameAnswers = Callable[[Sequence[tuple[Sequence[str], Sequence[str]]]], list[bool]]
"""Tells of each pair of problems, given by their references, whether they have the same answer."""

_LEFT_HAND_SIDE = 5
"""Tokens within which an answer may name what it is: ``f(x) =``."""

_NO_ANSWER = frozenset({"^", "degree", "degrees", "dollar", "dollars", "percent", r"\$", r"\boxed", "and", "or"})


@lru_cache(maxsize=100_000)
def normal_answer(answer: str) -> tuple[str, ...]:
    """Return the tokens of an answer in alphabetical order, without units and ``x =``; typesetting does not matter."""
    tokens = [token for token in read_wording(answer).tokens if token not in _NO_ANSWER]
    if "=" in tokens[:_LEFT_HAND_SIDE]:
        tokens = tokens[tokens.index("=") + 1 :] or tokens
    return tuple(sorted(tokens))


def normal_answers(references: Iterable[str]) -> frozenset[tuple[str, ...]]:
    """Return each reference in its normal form."""
    return frozenset(map(normal_answer, references))


def written_the_same(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[bool]:
    """Compare answers as text, without typesetting."""
    return [not normal_answers(a).isdisjoint(normal_answers(b)) for a, b in pairs]


def graded_the_same(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> list[bool]:
    """Compare answers as text, and those that differ there with polaris-reward: either is right by the other's."""
    from polaris_reward import Outcome, boxed_grader
    from polaris_reward.finding import reference_answer

    same = written_the_same(pairs)
    if all(same):
        return same
    asked = [(place, pair) for place, pair in enumerate(pairs) if not same[place]]
    items = [
        (place, rf"\boxed{{{reference_answer(response)}}}", list(references))
        for place, pair in asked
        for responses, references in (pair, pair[::-1])
        for response in responses
    ]
    with boxed_grader() as grader:
        grades = grader.grade_many([(response, references) for _, response, references in items])
    for (place, _, _), grade in zip(items, grades, strict=True):
        same[place] |= grade.outcome is Outcome.CORRECT
    return same


def best_comparison() -> SameAnswers:
    """Return `graded_the_same` where polaris-reward is installed, else `written_the_same`."""
    try:
        import polaris_reward  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        return written_the_same
    return graded_the_same
