"""The answers that traces are chosen from: of a store, or of what a stage of training has sampled and graded.

Needs the extra ``profile``.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_rollout.store import iterate_groups, read_columns, read_settings, read_store

from polaris_data.errors import ProblemFileError
from polaris_data.problems.reading import read_problems
from polaris_data.records import HINT

_STEPS = "step-*.parquet"
"""What a stage of training writes, a file for each step, in ``RUN/STAGE/rollouts``."""

_STAGE_PROBLEMS = "problems.jsonl"
"""What it trains on, in ``RUN/STAGE``."""


class Place(NamedTuple):
    """Which answer to a problem this is, in the order of the store."""

    problem_id: str
    sample: int


class Answer(NamedTuple):
    """One answer as it was sampled."""

    place: Place
    group: Group
    completion: Completion
    outcome: Outcome | None
    """How it was graded when it was sampled; ``None`` where the store does not say."""

    hinted: bool
    """Whether its prompt held a hint beside the question."""

    settings: Mapping[str, Any]
    """What decided on it, as far as the store says."""

    @property
    def text(self) -> str:
        """All that the model has said, with what its prompt began of it."""
        return self.group.prefilled + self.completion.text

    @property
    def surprise(self) -> float:
        """How unlikely the sampler found its tokens, in nats a token."""
        return -sum(self.completion.logprobs) / max(len(self.completion.logprobs), 1)


def read_answers(store: Path) -> Iterator[Answer]:
    """Yield the answers of a store, one group in memory at a time.

    Args:
        store: What a profile or ``polaris-rollout sample`` wrote; a stage of training, ``RUN/STAGE``, or its
            ``rollouts``.

    Raises:
        ProblemFileError: If it was sampled with hints and nobody knows for which problems.
        StoreError: If it is missing or damaged.
    """
    num_before = Counter[str]()
    hinted: frozenset[str] | None = None
    for group, outcomes, settings in _groups(store):
        if settings.get("hint_share") and hinted is None:
            hinted = _hinted(_folder(store).parent / _STAGE_PROBLEMS)
        has_hint = bool(settings.get("hint_share")) and group.problem_id in (hinted or ())
        for completion, outcome in zip(group.completions, outcomes, strict=True):
            place = Place(group.problem_id, num_before[group.problem_id])
            yield Answer(place, group, completion, outcome, has_hint, settings)
            num_before[group.problem_id] += 1


def _groups(store: Path) -> Iterator[tuple[Group, list[Outcome | None], Mapping[str, Any]]]:
    folder = _folder(store)
    steps = sorted(folder.glob(_STEPS))
    for path in steps:
        outcomes = iter(read_columns(path, ["outcome"])["outcome"])
        settings = read_settings(path) or {}
        for group in iterate_groups(path):
            yield group, [Outcome(next(outcomes)) for _ in group.completions], settings
    if not steps:
        settings = _store_settings(folder)
        for group in read_store(folder):
            yield group, [None] * len(group.completions), settings


def _folder(store: Path) -> Path:
    return store / "rollouts" if (store / "rollouts").is_dir() else store


def _hinted(problems: Path) -> frozenset[str]:
    """Return the ids of the problems with a hint in a stage of training."""
    if not problems.is_file():
        raise ProblemFileError(
            f"the answers were sampled with hints, and {problems}, which says for which problems, is not there; put it "
            "back beside the rollouts"
        )
    return frozenset(each.problem_id for each in read_problems(problems) if HINT in each.extra)


def _store_settings(folder: Path) -> Mapping[str, Any]:
    path = folder / "settings.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ProblemFileError(
            f"{path} is damaged ({error}); it is that of what wrote {folder}: put it back"
        ) from error


def provenance(answer: Answer) -> dict[str, Any]:
    """Return who said it and how it was sampled, as far as the store says."""
    settings = answer.settings
    sampling = settings.get("params") or {name: settings[name] for name in _SAMPLING if name in settings}
    return {
        "model": settings.get("model"),
        "weights_version": answer.group.weights_version or None,
        "sampling": json.dumps(sampling, sort_keys=True),
    }


_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "step")


def trace_writer(columns: Mapping[str, Any]) -> str | None:
    """Return who wrote a trace: a model, or ``RUN/STAGE`` whose weights these were; ``None`` if its line does not say.

    Args:
        columns: Of the trace, such as `provenance` gives.
    """
    trained = _TRAINED.fullmatch(str(columns.get("weights_version")))
    model = columns.get("model")
    return trained["stage"] if trained else model if isinstance(model, str) and model else None


_TRAINED = re.compile(r"(?P<stage>.+/.+)\+\d+")
"""Name of the weights after a step of a stage of training."""
