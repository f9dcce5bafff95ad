"""Sampling a file of prompts into a folder of parquet files, continued after a kill."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from polaris_rollout.errors import StoreError
from polaris_rollout.records import Group, Prompt, Sampler, SamplingParams
from polaris_rollout.store import read_columns, write_groups

WRITE_EVERY_S = 10.0
"""Finished groups are on disk after this time at the latest; a kill loses no more."""


def read_prompts(path: Path, *, suffix: str = "") -> list[Prompt]:
    """Read prompts from JSON lines.

    Args:
        path: Lines with ``question`` (or ``problem``, ``prompt``) and ``problem_id`` (or ``id``).
        suffix: Appended to every prompt.

    Raises:
        StoreError: Naming the line, if the file is missing, malformed, empty, or repeats an id.
    """
    if not path.is_file():
        raise StoreError(f"no file {str(path)!r}; give a file of JSON lines")
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            prompt = _parse(line, f"{path}:{number}", suffix)
            if prompt.problem_id in prompts:
                raise StoreError(f"{path}:{number}: id {prompt.problem_id!r} occurs twice; make ids unique")
            prompts[prompt.problem_id] = prompt
    if not prompts:
        raise StoreError(f"{path} holds no prompts; give at least one line")
    return list(prompts.values())


def open_folder(folder: Path, settings: dict[str, Any]) -> set[str]:
    """Claim an output folder for a job and return the problems whose groups are in it already.

    Raises:
        StoreError: If the folder belongs to a job with other settings.
    """
    path = folder / "settings.json"
    if path.exists() and (old := json.loads(path.read_text(encoding="utf-8"))) != settings:
        differing = sorted(key for key in old.keys() | settings.keys() if old.get(key) != settings.get(key))
        raise StoreError(f"{folder} belongs to another job ({', '.join(differing)} differ); choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return {
        problem_id
        for part in folder.glob("part-*.parquet")
        for problem_id in read_columns(part, ["problem_id"])["problem_id"]
    }


def sample_to_folder(
    folder: Path, prompts: Sequence[Prompt], sampler: Sampler, params: SamplingParams, *, num_samples: int
) -> Iterator[Group]:
    """Sample prompts, yield each group and write the finished ones to the next parts of a folder."""
    waiting: list[Group] = []
    written = time.monotonic()
    for group in sampler.sample(prompts, params, n=num_samples):
        waiting.append(group)
        yield group
        if time.monotonic() - written > WRITE_EVERY_S:
            _write_part(folder, waiting, params)
            waiting, written = [], time.monotonic()
    if waiting:
        _write_part(folder, waiting, params)


def _write_part(folder: Path, groups: Sequence[Group], params: SamplingParams) -> None:
    number = 1 + max((int(path.stem.removeprefix("part-")) for path in folder.glob("part-*.parquet")), default=0)
    write_groups(folder / f"part-{number:06d}.parquet", groups, params)


def _parse(line: str, where: str, suffix: str) -> Prompt:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise StoreError(f"{where}: not JSON ({error})") from error
    problem_id = _first(row, ("problem_id", "id"), where)
    text = _first(row, ("question", "problem", "prompt"), where)
    return Prompt(problem_id=problem_id, text=text + suffix)


def _first(row: Any, names: tuple[str, ...], where: str) -> str:
    found = list(row) if isinstance(row, dict) else row
    for name in names:
        if isinstance(row, dict) and isinstance(row.get(name), str):
            return row[name]
    raise StoreError(f"{where}: no text field {' or '.join(map(repr, names))}; found {found!r}")
