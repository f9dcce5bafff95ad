"""Completions joined with a benchmark, which says what the accepted answers are."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from polaris_data import Problem

from polaris_eval.errors import CompletionsFileError
from polaris_eval.running.parts import Part, same_text, stem_of

logger = logging.getLogger(__name__)

_LEAST_CHARS = 24
"""A shorter question may stand in a prompt by chance."""


def join_benchmark(
    parts: Sequence[Part], problems: Sequence[Problem], *, benchmark: str
) -> tuple[list[Part], list[Part]]:
    """Give every part the id, question and references of the problem of the benchmark that it is of.

    Known by its question, alone or inside a prompt; else by its id, with or without the number of a sample behind it.

    Returns:
        The parts, and those of no problem of the benchmark.

    Raises:
        CompletionsFileError: If rows are known by bare numbers, not all of which are ids of the benchmark: they count
            from another number, or something else.
    """
    by_id = {problem.problem_id: problem for problem in problems}
    by_question = {same_text(problem.question): problem for problem in problems}
    known: dict[str, Problem | None] = {}
    joined: list[Part] = []
    others: list[Part] = []
    numbers: list[Part] = []
    num_differing = 0
    for part in parts:
        problem = None
        if part.question is not None:
            if part.question not in known:
                known[part.question] = _by_question(part.question, by_question)
            problem = known[part.question]
        if problem is None and part.problem_id is not None and not (part.question and part.problem_id.isdigit()):
            problem = by_id.get(part.problem_id) or by_id.get(stem_of(part.problem_id))
            numbers += [part] if part.problem_id.isdigit() else []
        if problem is None:
            others.append(part)
            continue
        num_differing += part.references not in (None, problem.references)
        joined.append(_of(part, problem))
    if missing := [part for part in numbers if part.problem_id not in by_id]:
        raise CompletionsFileError(
            f"{missing[0].place}: its id {missing[0].problem_id!r} is none of {benchmark}'s, and no question says "
            "which problem it is of; give files with questions, or a benchmark with these ids"
        )
    if num_differing:
        logger.warning(
            "%s: %d of %d rows have another accepted answer than the benchmark, be it in its notation; the benchmark's "
            "count",
            benchmark,
            num_differing,
            len(joined),
        )
    return joined, others


def _by_question(question: str, by_question: Mapping[str, Problem]) -> Problem | None:
    """Return the problem that a text asks about: it is the question, or holds just one of them."""
    text = same_text(question)
    if text in by_question:
        return by_question[text]
    inside = [known for known in by_question if len(known) >= _LEAST_CHARS and known in text]
    longest = max(inside, key=len, default="")
    return by_question[longest] if longest and all(known in longest for known in inside) else None


def _of(part: Part, problem: Problem) -> Part:
    return replace(
        part,
        problem_id=problem.problem_id,
        question=problem.question,
        references=problem.references,
        is_ours=True,
    )
