"""Profiles from completions that exist already: a rollout store, or a file of answers with or without grades.

Needs the extra ``profile``. A completion that carries its grade is counted as it is, every other one is graded.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
from polaris_reward import GradeMany, Outcome, boxed_grader
from polaris_rollout import Group
from polaris_rollout.store import iterate_groups, read_columns, read_store

from polaris_data.completions.set_aside import SetAside, reasons_of, write_set_aside
from polaris_data.errors import OtherRunError, ProblemFileError
from polaris_data.files.journal import check_output, claim_output, partial_path, settings_path
from polaris_data.files.lock import locked_output
from polaris_data.files.progress import track
from polaris_data.problems.importing import set_aside_path
from polaris_data.problems.reading import content_hash
from polaris_data.problems.rows import read_rows
from polaris_data.profile.files import PROFILE_COMMAND, profile_path, write_profile
from polaris_data.profile.recorded import Answer, opening_tag, other_problems, read_recorded
from polaris_data.records import Difficulty, Problem

logger = logging.getLogger(__name__)

_GRADED_AT_ONCE = 256

_HASHED_AT_ONCE = 2**20


@dataclass(slots=True)
class _Tally:
    outcomes: Counter[Outcome] = field(default_factory=Counter[Outcome])
    num_truncated: int = 0
    num_tokens: int = 0
    num_unknown_lengths: int = 0


def count_completions(problems: Sequence[Problem], path: Path, out: Path, *, wanted: Mapping[str, Any]) -> bool:
    """Write the profile that existing completions give, and its settings beside it.

    Args:
        problems: As for `profile_completions`.
        path: As there.
        out: File to write.
        wanted: As for `refuse_other_source`.

    Returns:
        False if the file was complete and nothing was counted.

    Raises:
        OtherRunError: If the file belongs to a run with other settings, or the completions do.
        ProblemFileError: As there, or if the completions are of a profile that is under way.
    """
    _refuse_unfinished(path)
    recorded = recorded_settings(path)
    refuse_other_source(path, recorded, wanted)
    known = {name: value for name, value in wanted.items() if value is not None}
    settings = completions_settings(problems, path, recorded | known)
    check_output(out, settings)
    with locked_output(out):
        if out.exists():
            return False
        with boxed_grader() as grader:
            aside = set_aside_path(out)
            profile = profile_completions(problems, path, grader.grade_many, set_aside=aside)
        claim_output(out, settings)
        write_profile(out, profile)
    return True


def profile_completions(
    problems: Sequence[Problem], path: Path, grade_many: GradeMany, *, set_aside: Path | None = None
) -> list[Difficulty]:
    """Count how often each problem was solved by completions that exist already.

    Args:
        problems: Problems with distinct ids, every one of which has at least one completion there, and no others.
        path: A folder that ``polaris-rollout sample`` or a profile wrote; a parquet file of rollouts, graded or not;
            or a file of rows as `polaris_data.profile.recorded.read_recorded` reads them. Completions without a grade
            are graded, after the think tag that their prompt ended with, where it is in the row or the completions show
            it; see `ThinkEvidence`.
        grade_many: Grades them.
        set_aside: File for the rows and completions that cannot be counted, such as those without a response.

    Raises:
        ProblemFileError: If nothing can be read there, or a row cannot be used; if completions are of other
            problems, or of several states of a model's weights; if a problem has no completion.
        StoreError: If a rollout store is damaged.
    """
    by_id = {problem.problem_id: problem for problem in problems}
    tallies = {problem_id: _Tally() for problem_id in by_id}
    aside: list[SetAside] = []
    answers = iter(track(_read_answers(path, by_id, aside), total=None, label="counting completions"))
    while batch := list(islice(answers, _GRADED_AT_ONCE)):
        ungraded = [answer for answer in batch if answer.outcome is None]
        grades = iter(grade_many([(answer.text or "", by_id[answer.problem_id].references) for answer in ungraded]))
        for answer in batch:
            tally = tallies[answer.problem_id]
            tally.outcomes[answer.outcome or next(grades).outcome] += 1
            tally.num_truncated += answer.is_truncated
            tally.num_tokens += answer.num_tokens or 0
            tally.num_unknown_lengths += answer.num_tokens is None
    _report_aside(aside, path, set_aside)
    _refuse_missing(tallies, path, aside)
    if rejected := [each for each, tally in tallies.items() if tally.outcomes[Outcome.REFERENCE_REJECTED]]:
        logger.warning(
            "the grader cannot read the references of %d problems, %r for one; their profile means nothing",
            len(rejected),
            rejected[0],
        )
    return [_to_difficulty(problem_id, tally) for problem_id, tally in tallies.items()]


def recorded_settings(path: Path) -> dict[str, Any]:
    """Return what is recorded beside completions about how they were drawn; nothing if there is no record."""
    for place in (path / "settings.json", settings_path(path), path.parent / "settings.json"):
        if place.is_file():
            settings = json.loads(place.read_text(encoding="utf-8"))
            return cast(dict[str, Any], settings) if isinstance(settings, dict) else {}
    return {}


def refuse_other_source(path: Path, recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare what is recorded about completions with what the caller takes them for.

    Args:
        path: Named in the message.
        recorded: As `recorded_settings` returns it.
        wanted: Model, temperature, and so on; ``None`` stands for whatever it is.

    Raises:
        OtherRunError: If they differ, as far as it is recorded.
    """
    differing = [
        f"{name} is {recorded[name]!r}, not {value!r}"
        for name, value in wanted.items()
        if value is not None and name in recorded and recorded[name] != value
    ]
    if differing:
        raise OtherRunError(
            f"{path} holds completions of another run: {'; '.join(differing)}; leave the option out to take them as "
            "they are, or give other completions"
        )


def completions_settings(problems: Sequence[Problem], path: Path, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that a profile from completions depends on, and how they were drawn as far as it is known.

    Raises:
        ProblemFileError: If there is nothing at ``path``.
    """
    if not path.exists():
        raise ProblemFileError(f"no completions at {str(path)!r}; give a file, or a folder of polaris-rollout sample")
    drawn_with = ("model", "model_digest", "context", "temperature", "top_p", "top_k", "max_tokens", "seed", "suffix")
    if "adaptive" in recorded:  # What the answers settle, and what they do not, is asked by whoever selects.
        drawn_with = ("num_samples", *drawn_with, "adaptive")
    return {
        "command": "polaris-data profile --completions",
        "problems": content_hash(problems),
        "num_problems": len(problems),
        "completions": _content_digest(path),
        **{name: recorded[name] for name in drawn_with if name in recorded},
    }


def _refuse_unfinished(path: Path) -> None:
    if path.is_dir() and partial_path(out := profile_path(path)).exists():
        raise ProblemFileError(
            f"{path} is of the profile {str(out)!r}, which is not complete; repeat its profile command, which "
            "continues it, then grade again"
        )


def _read_answers(path: Path, problems: Mapping[str, Problem], aside: list[SetAside]) -> Iterator[Answer]:
    """Yield the answers; what is set aside is added to a list."""
    if path.is_dir():
        # Servers and the engine in a process name the same weights differently; a profile is of one model anyway.
        is_profile = recorded_settings(path).get("command") == PROFILE_COMMAND
        return _from_groups(read_store(path), path, problems, any_weights=is_profile)
    if _is_rollouts(path):
        graded = "outcome" in pq.read_schema(path).names
        outcomes = read_columns(path, ["outcome"])["outcome"] if graded else None
        return _from_groups(iterate_groups(path), path, problems, outcomes=outcomes)

    def answers(opened: str, aside: list[SetAside]) -> Iterator[Answer]:
        rows = read_rows(path, split="train", revision=None, keep_broken=True)
        for each in read_recorded(rows, problems, opened=opened):
            if isinstance(each, SetAside):
                aside.append(each)
            else:
                yield each

    return answers(opening_tag(answers("", []), path), aside)


def _is_rollouts(path: Path) -> bool:
    """Return whether a parquet file has the columns of `polaris_rollout.store.table`."""
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        return {"token_ids", "weights_version"} <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False  # Whoever reads it says what is wrong with it.


def _from_groups(
    groups: Iterable[Group],
    path: Path,
    problems: Mapping[str, Problem],
    *,
    outcomes: Sequence[str] | None = None,
    any_weights: bool = False,
) -> Iterator[Answer]:
    verdicts = None if outcomes is None else iter(outcomes)
    weights_version = None
    for group in groups:
        if group.problem_id not in problems:
            raise other_problems(str(path), group.problem_id)
        weights_version = weights_version or group.weights_version
        if group.weights_version != weights_version and not any_weights:
            raise ProblemFileError(
                f"{path} holds completions of several weights, {weights_version!r} and {group.weights_version!r} "
                "among them; a profile is of one model: give the completions of one"
            )
        for text, completion in zip(group.texts, group.completions, strict=True):
            yield Answer(
                problem_id=group.problem_id,
                place=str(path),
                text=text,
                outcome=None if verdicts is None else Outcome(next(verdicts)),
                num_tokens=len(completion.token_ids),
                is_truncated=completion.finish_reason == "length",
            )


def _report_aside(aside: Sequence[SetAside], path: Path, out: Path | None) -> None:
    if aside:
        where = ""
        if out is not None:
            write_set_aside(out, aside)
            where = f"; {out} has them"
        logger.warning(
            "%s: %d rows or completions are set aside and not counted (%s)%s",
            path,
            len(aside),
            reasons_of(aside),
            where,
        )


def _refuse_missing(tallies: Mapping[str, _Tally], path: Path, aside: Sequence[SetAside]) -> None:
    if missing := [problem_id for problem_id, tally in tallies.items() if not tally.outcomes]:
        lost = f" ({len(aside)} rows or completions are set aside: {reasons_of(aside)})" if aside else ""
        raise ProblemFileError(
            f"{path}: {len(missing)} of {len(tallies)} problems have no completion, {missing[0]!r} for one{lost}; "
            "sample them all, or give the --limit that was sampled"
        )


def _to_difficulty(problem_id: str, tally: _Tally) -> Difficulty:
    num_samples = tally.outcomes.total()
    return Difficulty(
        problem_id=problem_id,
        num_samples=num_samples,
        num_correct=tally.outcomes[Outcome.CORRECT],
        num_truncated=tally.num_truncated,
        mean_tokens=None if tally.num_unknown_lengths else tally.num_tokens / num_samples,
    )


def _content_digest(path: Path) -> str:
    """Return a fingerprint of a file, or of the parts of a rollout store."""
    digest = hashlib.sha256()
    paths = sorted(path.glob("part-*")) if path.is_dir() else [path]
    for each in paths:
        digest.update(f"{each.name}\0".encode())
        with each.open("rb") as file:
            while block := file.read(_HASHED_AT_ONCE):
                digest.update(block)
    return digest.hexdigest()[:16]
