"""Difficulty profiles as files: one JSON object a line, with the fields of `Difficulty`."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from polaris_data.errors import ProblemFileError
from polaris_data.files.journal import partial_path, recorded_settings, to_lines, write_text
from polaris_data.problems.rows import Row, json_lines
from polaris_data.records import Difficulty

_FIELDS = tuple(field.name for field in fields(Difficulty))
PROFILE_COMMAND = "polaris-data profile"
"""In the settings of a profile that was sampled, and of its completions."""

_COUNTS = ("num_samples", "num_correct", "num_truncated")


def read_profile(path: str | Path) -> list[Difficulty]:
    """Read a difficulty profile.

    Raises:
        ProblemFileError: If the file is missing, not complete, malformed or empty, or names a problem twice.
    """
    path = Path(path)
    if not path.is_file():
        raise ProblemFileError(_absence(path))
    places: dict[str, str] = {}
    profile: list[Difficulty] = []
    for row in json_lines(path):
        difficulty = _to_difficulty(row)
        if (earlier := places.setdefault(difficulty.problem_id, row.place)) != row.place:
            raise ProblemFileError(f"{row.place}: the id {difficulty.problem_id!r} was used at {earlier}")
        profile.append(difficulty)
    if not profile:
        raise ProblemFileError(f"{path}: an empty profile")
    return profile


def write_profile(path: Path, profile: Iterable[Difficulty]) -> None:
    """Write a whole difficulty profile, as `read_profile` reads it."""
    write_text(path, to_lines(map(asdict, profile)))


def rollouts_path(out: Path) -> Path:
    """Return the folder of a profile's completions, beside it: ``data/profile.rollouts`` of ``data/profile.jsonl``."""
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.rollouts")


def profile_path(rollouts: Path) -> Path:
    """Return the profile whose completions a folder holds, the other way round than `rollouts_path`."""
    return rollouts.with_name(f"{rollouts.name.removesuffix('.rollouts')}.jsonl")


def is_profile(path: Path) -> bool:
    """Return whether a file of JSON lines begins with a `Difficulty`, rather than a problem."""
    if path.suffix != ".jsonl" or not path.is_file():
        return False
    first = next(json_lines(path), None)
    return first is not None and all(name in first.columns for name in _COUNTS)


def check_recorded_problems(path: Path, problems_hash: str) -> None:
    """Compare problems with those that a profile's settings name; a profile without settings passes.

    Args:
        path: Of the profile.
        problems_hash: As `polaris_data.problems.reading.content_hash` gives it.

    Raises:
        ProblemFileError: If the profile was made from other questions or references, whatever the ids.
    """
    settings = recorded_settings(path)
    if settings and settings.get("problems") != problems_hash:
        raise ProblemFileError(
            f"{path} is a profile of other problems: the ids agree, but questions, answers or their order have "
            "changed since; profile these problems, or give the old ones"
        )


def _absence(path: Path) -> str:
    if partial_path(path).exists():
        return f"the profile {str(path)!r} is not complete; repeat its profile command, which continues it"
    return f"no profile {str(path)!r}; check the path, or write it with polaris-data profile"


def _to_difficulty(row: Row) -> Difficulty:
    if missing := [name for name in _FIELDS if name not in row.columns]:
        found = ", ".join(repr(name) for name in row.columns)
        raise ProblemFileError(f"{row.place}: not a profile: no {missing[0]!r}; found {found}")
    values = {name: row.columns[name] for name in _FIELDS}
    if not isinstance(values["problem_id"], str):
        raise ProblemFileError(f"{row.place}: 'problem_id' is {values['problem_id']!r}; expected text")
    for name in _COUNTS:
        if type(values[name]) is not int or not 0 <= values[name] <= values["num_samples"]:
            raise ProblemFileError(f"{row.place}: {name!r} is {values[name]!r}; expected 0..num_samples")
    if values["num_samples"] < 1:
        raise ProblemFileError(f"{row.place}: 'num_samples' is {values['num_samples']!r}; expected 1 or more")
    if type(values["mean_tokens"]) not in (int, float, type(None)):
        raise ProblemFileError(f"{row.place}: 'mean_tokens' is {values['mean_tokens']!r}; expected a number or null")
    return Difficulty(**values)
