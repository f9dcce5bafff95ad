"""The visit log: what training saw of each problem, a line for each visit.

Two formats are read, line by line: ours (the fields of `Visit`) and the one of the published code, a line for each step
(``{"index": [...], "score": [...]}``), which has no step: the line number stands for it.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from math import lcm
from pathlib import Path
from typing import Any

from polaris_data.errors import ProblemFileError
from polaris_data.profile.attempts import Attempt
from polaris_data.records import Visit

_LARGEST_GROUP = 1024
"""Completions of a problem in one step; a score that needs more to be a fraction is not a share of correct answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitLog:
    """What was read from visit logs, and what could not be."""

    visits: Sequence[Visit]
    """In the order of the files, each visit once."""

    malformed: Sequence[str]
    """One sentence with its place for each line that cannot be used."""

    num_duplicates: int
    """Visits that were left out because run, stage, step and problem had been seen before."""

    conflicts: Sequence[str]
    """One sentence for each duplicate that says something else than the first; the first counts."""

    @property
    def notes(self) -> list[str]:
        """What a reader of the result should know about the log, one sentence each."""
        num_hinted = sum(visit.hinted for visit in self.visits)
        hinted = [f"{num_hinted:,} visits with a hint in the prompt do not count"] if num_hinted else []
        repeated = [f"{self.num_duplicates:,} visits were written twice and count once"] if self.num_duplicates else []
        return [*(f"line set aside: {line}" for line in self.malformed), *self.conflicts, *repeated, *hinted]


def read_visits(paths: Iterable[Path]) -> VisitLog:
    """Read visit logs; a line that cannot be used is set aside with its reason.

    Raises:
        ProblemFileError: If a file is missing, or no line of it can be used.
    """
    visits: dict[tuple[str, str, int, str], Visit] = {}
    places: dict[tuple[str, str, int, str], str] = {}
    malformed: list[str] = []
    conflicts: list[str] = []
    num_duplicates = 0
    for path in paths:
        for place, visit in _read(path, malformed):
            key = (visit.run, visit.stage, visit.step, visit.problem_id)
            if key not in visits:
                visits[key], places[key] = visit, place
                continue
            num_duplicates += 1
            if visits[key] != visit:
                conflicts.append(f"{place}: step {visit.step} of {visit.problem_id!r} differs from {places[key]}")
    return VisitLog(
        visits=list(visits.values()), malformed=malformed, num_duplicates=num_duplicates, conflicts=conflicts
    )


def attempts_by_problem(visits: Iterable[Visit]) -> dict[str, list[Attempt]]:
    """Return the attempts at each visited problem, oldest first; those with a hint in the prompt are none at it."""
    attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
    for visit in visits:
        if visit.hinted:
            continue
        measured = Attempt(visit.num_samples, visit.num_correct, visit.num_truncated, visit.overlap)
        attempts[visit.problem_id].append(measured)
    return dict(attempts)


def is_visit_log(record: object) -> bool:
    """Return whether a JSON value is a line of a visit log, in either format."""
    return isinstance(record, dict) and (
        {"step", "num_correct"} <= record.keys() or {"index", "score"} <= record.keys()
    )


def _read(path: Path, malformed: list[str]) -> Iterator[tuple[str, Visit]]:
    """Yield the visits of one file with their places; add to ``malformed`` what cannot be used."""
    if not path.is_file():
        raise ProblemFileError(f"no visit log {str(path)!r}; check the path (a stage writes STAGE/visits.jsonl)")
    group_size, num_usable, before = _group_size(path), 0, len(malformed)
    for number, line in _lines(path):
        place = f"{path}:{number}"
        try:
            visits = _parse(line, run=path.stem, step=number, group_size=group_size)
        except ValueError as error:
            malformed.append(f"{place}: {error}")
            continue
        num_usable += 1
        for visit in visits:
            yield place, visit
    if not num_usable:
        reason = malformed[before] if len(malformed) > before else f"{path}: the file is empty"
        raise ProblemFileError(f"not a visit log: {reason}")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line


def _parse(line: bytes, *, run: str, step: int, group_size: int) -> list[Visit]:
    """Return the visits of one line; ``run``, ``step`` and ``group_size`` are for the published format."""
    try:
        record = json.loads(line)
    except ValueError:
        raise ValueError("not JSON, or a line cut short") from None
    if not is_visit_log(record):
        raise ValueError("no visit: expected 'problem_id', 'step', 'num_samples', 'num_correct', or 'index', 'score'")
    return _published(record, run=run, step=step, group_size=group_size) if "index" in record else [_visit(record)]


def _visit(record: dict[str, Any]) -> Visit:
    values: dict[str, Any] = {field.name: record.get(field.name) for field in fields(Visit)}
    values["hinted"] = record.get("hinted") is True
    for name in ("run", "stage", "problem_id"):
        if not isinstance(values[name], str):
            raise ValueError(f"{name!r} is {values[name]!r}; expected text")
    if type(values["step"]) is not int or values["step"] < 0:
        raise ValueError(f"'step' is {values['step']!r}; expected 0 or more")
    most = values["num_samples"]
    if type(most) is not int or most < 1:
        raise ValueError(f"'num_samples' is {most!r}; expected 1 or more")
    for name in ("num_correct", "num_truncated"):
        if type(values[name]) is not int or not 0 <= values[name] <= most:
            raise ValueError(f"{name!r} is {values[name]!r}; expected 0..num_samples")
    overlap = values["overlap"]
    if overlap is not None and not (type(overlap) in (int, float) and 0 <= overlap <= 1):
        raise ValueError(f"'overlap' is {overlap!r}; expected a share from 0 to 1")
    return Visit(**values)


def _published(record: dict[str, Any], *, run: str, step: int, group_size: int) -> list[Visit]:
    indices, scores = record["index"], record["score"]
    if not isinstance(indices, list) or not isinstance(scores, list) or len(indices) != len(scores):
        raise ValueError(f"{_length(indices)} of 'index' but {_length(scores)} of 'score'")
    return [
        Visit(
            run=run,
            stage="",
            step=step,
            problem_id=str(index),
            num_samples=group_size,
            num_correct=round(_share(score) * group_size),
            num_truncated=0,
        )
        for index, score in zip(indices, scores, strict=True)
    ]


def _group_size(path: Path) -> int:
    """Return the fewest completions of a problem that all scores of the published format are shares of."""
    shares: set[float] = set()
    for _, line in _lines(path):
        if b'"score"' in line:
            try:
                shares.update(_share(score) for score in json.loads(line)["score"])
            except (ValueError, TypeError, KeyError):
                continue  # reported when the line is read
    size = lcm(*(Fraction(share).limit_denominator(_LARGEST_GROUP).denominator for share in shares))
    if size > _LARGEST_GROUP:
        raise ProblemFileError(f"{path}: the scores are no shares of one number of completions, up to {_LARGEST_GROUP}")
    return size


def _share(score: object) -> float:
    if not isinstance(score, int | float) or isinstance(score, bool) or not 0 <= score <= 1:
        raise ValueError(f"the score {score!r} is no share from 0 to 1")
    return float(score)


def _length(value: object) -> str:
    return f"{len(value)} values" if isinstance(value, list) else f"no list ({value!r:.40})"
