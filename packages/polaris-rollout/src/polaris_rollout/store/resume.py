"""Sampling a file of prompts into a store, continued after a kill."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from polaris_rollout.contracts import Sampler
from polaris_rollout.errors import StoreError
from polaris_rollout.records import Group, Prompt, SamplingParams
from polaris_rollout.store.folder import RolloutStore
from polaris_rollout.store.table import explain_reading


def read_prompts(path: Path, *, suffix: str = "") -> list[Prompt]:
    """Read prompts from JSON lines.

    Args:
        path: Lines with ``question`` (or ``problem``, ``prompt``) and ``problem_id`` (or ``id``).
        suffix: Appended to every prompt.

    Raises:
        StoreError: Naming the line, if the file is missing, malformed, empty, or repeats an id.
    """
    return [prompt for prompt, _ in read_prompt_rows(path, suffix=suffix)]


def read_prompt_rows(path: Path, *, suffix: str = "") -> list[tuple[Prompt, dict[str, Any]]]:
    """Read prompts as `read_prompts` does, each with all that its line holds."""
    if not path.is_file():
        raise StoreError(f"no file {str(path)!r}; give a file of JSON lines")
    found: dict[str, tuple[Prompt, dict[str, Any]]] = {}
    with explain_reading(path), path.open(encoding="utf-8") as lines:  # which end at a line feed, and at U+2028 do not
        for number, line in enumerate(lines, start=1):
            if line.strip():
                prompt, row = _parse(line, f"{path}:{number}", suffix)
                if prompt.problem_id in found:
                    raise StoreError(f"{path}:{number}: id {prompt.problem_id!r} occurs twice; make ids unique")
                found[prompt.problem_id] = prompt, row
    if not found:
        raise StoreError(f"{path} holds no prompts; give at least one line")
    return list(found.values())


def sample_missing(
    store: RolloutStore, prompts: Iterable[Prompt], sampler: Sampler, params: SamplingParams, *, num_samples: int
) -> Iterator[Group]:
    """Sample the prompts whose groups a store does not hold, and yield each group once it is there.

    The sampler is not asked for anything where nothing is missing.

    Raises:
        StoreError: If a group cannot be written; those before it are kept.
    """
    missing = [prompt for prompt in prompts if prompt.problem_id not in store.finished]
    if not missing:
        return
    for group in sampler.sample(missing, params, n=num_samples):
        store.append(group, params)
        yield group


def _parse(line: str, where: str, suffix: str) -> tuple[Prompt, dict[str, Any]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise StoreError(f"{where}: not JSON ({error})") from error
    problem_id = _first(row, ("problem_id", "id"), where)
    text = _first(row, ("question", "problem", "prompt"), where)
    return Prompt(problem_id=problem_id, text=text + suffix), row


def _first(row: Any, names: tuple[str, ...], where: str) -> str:
    found = list(row) if isinstance(row, dict) else row
    for name in names:
        if isinstance(row, dict) and isinstance(row.get(name), str):
            return row[name]
    raise StoreError(f"{where}: no text field {' or '.join(map(repr, names))}; found {found!r}")
