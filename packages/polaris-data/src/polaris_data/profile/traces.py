"""Traces for supervised fine-tuning: correct completions of a store, with their questions.

Needs the extra ``profile``. The store is read twice, first to grade and choose, then to write what was chosen, so that
one group is in memory however long the completions are.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from polaris_reward import GradeMany, Outcome, boxed_grader
from polaris_rollout import Completion
from polaris_rollout.store import read_store

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import check_output, claim_output, to_lines, whole_file, write_text
from polaris_data.files.lock import locked_output
from polaris_data.files.progress import track
from polaris_data.problems.reading import content_hash
from polaris_data.problems.source import Source
from polaris_data.records import Problem

Choice = Literal["all", "shortest", "one"]
"""Which correct completions of a problem are written: every one, the one of fewest tokens, or one by a hash."""

_GRADED_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceCounts:
    """What became of the completions of a store."""

    num_completions: int
    """In the store."""

    num_traces: int
    """Written."""

    num_problems: int
    """With a trace."""

    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    """Completions that were not written, by reason; with the traces they add up to all."""


class _Place(NamedTuple):
    problem_id: str
    sample: int


def trace_problems(source: Source, store: Path, out: Path, *, choose: Choice = "all", seed: int = 0) -> TraceCounts:
    """Write the traces of a problem set, graded by polaris-reward, and the settings beside them.

    Args:
        source: The set.
        store: As for `write_traces`.
        out: As there.
        choose: As there.
        seed: As there.

    Raises:
        OtherRunError: If the file belongs to a run with other settings.
        ProblemFileError: As there, or if the problems cannot be read.
        StoreError: As there.
    """
    problems = source.read()
    settings = {
        "command": "polaris-data traces",
        "problems": content_hash(problems),
        "num_problems": len(problems),
        "store": str(store),
        "choose": choose,
        "seed": seed,
    }
    check_output(out, settings)
    with locked_output(out), boxed_grader() as grader, whole_file(out) as whole:
        counts = write_traces(problems, store, whole, grader.grade_many, choose=choose, seed=seed)
        claim_output(out, settings)
    return counts


def write_traces(
    problems: Sequence[Problem], store: Path, out: Path, grade_many: GradeMany, *, choose: Choice = "all", seed: int = 0
) -> TraceCounts:
    """Write the correct completions of a store as JSON lines, in the order in which they finished.

    A line has ``problem_id``, ``question`` (without the suffix that the model was asked with), ``response`` and
    ``num_tokens``. Completions that the token budget ended are left out, correct or not: they would teach not to end.

    Args:
        problems: With distinct ids; completions of others are left out.
        store: A folder that a profile or ``polaris-rollout sample`` wrote.
        out: File to write; it appears whole.
        grade_many: Grades the completions; grades that are kept beside them are not asked.
        choose: Which of a problem's.
        seed: Of the hash that chooses ``one``.

    Raises:
        ProblemFileError: If no completion is left.
        StoreError: If the store is missing or damaged.
    """
    by_id = {problem.problem_id: problem for problem in problems}
    left_out, lengths = _grade(store, by_id, grade_many)
    chosen = {each for places in lengths.values() for each in _choose(places, choose, seed)}
    num_correct = sum(map(len, lengths.values()))
    left_out["another of the problem was chosen"] = num_correct - len(chosen)
    counts = TraceCounts(
        num_completions=num_correct + left_out.total() - left_out["another of the problem was chosen"],
        num_traces=len(chosen),
        num_problems=len(lengths),
        left_out={reason: count for reason, count in left_out.most_common() if count},
    )
    if not chosen:
        raise ProblemFileError(f"{store} holds no completion to learn from: {_describe(counts.left_out)}")
    write_text(out, to_lines(_to_rows(store, by_id, chosen)))
    return counts


def _grade(
    store: Path, problems: Mapping[str, Problem], grade_many: GradeMany
) -> tuple[Counter[str], dict[str, dict[_Place, int]]]:
    """Count what cannot be a trace by reason, and return the length of everything that can, by problem."""
    left_out, lengths = Counter[str](), defaultdict[str, dict[_Place, int]](dict)
    completions = iter(track(_completions(store), total=None, label="grading completions"))
    while batch := list(islice(completions, _GRADED_AT_ONCE)):
        usable = [each for each in batch if each[0].problem_id in problems]
        left_out["not among the problems"] += len(batch) - len(usable)
        grades = grade_many([(text, problems[place.problem_id].references) for place, text, _ in usable])
        for (place, _, completion), grade in zip(usable, grades, strict=True):
            if completion.finish_reason == "length":
                left_out["truncated"] += 1
            elif grade.outcome is not Outcome.CORRECT:
                left_out[str(grade.outcome)] += 1
            else:
                lengths[place.problem_id][place] = len(completion.token_ids)
    return left_out, lengths


def _choose(lengths: Mapping[_Place, int], choose: Choice, seed: int) -> list[_Place]:
    if choose == "all":
        return list(lengths)
    if choose == "shortest":  # of equals the first, wherever the store has it
        return [min(lengths, key=lambda place: (lengths[place], place))]
    return [min(lengths, key=lambda place: _hash(place, seed))]


def _hash(place: _Place, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{place.problem_id}\0{place.sample}".encode(), digest_size=8).digest()


def _completions(store: Path) -> Iterator[tuple[_Place, str, Completion]]:
    """Yield each completion after the text that is graded."""
    num_before = Counter[str]()
    for group in read_store(store):
        for text, completion in zip(group.texts, group.completions, strict=True):
            yield _Place(group.problem_id, num_before[group.problem_id]), text, completion
            num_before[group.problem_id] += 1


def _to_rows(store: Path, problems: Mapping[str, Problem], chosen: set[_Place]) -> Iterator[dict[str, Any]]:
    for place, _, completion in _completions(store):
        if place in chosen:
            yield {
                "problem_id": place.problem_id,
                "question": problems[place.problem_id].question,
                "response": completion.text,
                "num_tokens": len(completion.token_ids),
            }


def _describe(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in left_out.items()) or "it is empty"
