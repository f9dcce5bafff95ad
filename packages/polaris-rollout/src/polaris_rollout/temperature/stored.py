"""How different the answers in a store are."""

import heapq
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polaris_rollout.errors import SettingError
from polaris_rollout.records import derive_seed
from polaris_rollout.store.folder import read_store
from polaris_rollout.temperature.diversity import (
    Interval,
    bootstrap_interval,
    default_num_tokens,
    distinct_n,
    expected_distinct_n,
)
from polaris_rollout.temperature.measure import NGRAM

MAX_WINDOW = 4096
"""Tokens of each answer that are looked at: answers of 50,000 would fill the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDiversity:
    """Diversity of the answers to some problems of a store."""

    expected: Interval
    """`expected_distinct_n` over tokens, mean over problems."""

    published: float | None
    """`distinct_n` over words, mean over problems; ``None`` where they have different numbers of answers."""

    num_problems: int
    """That have a value."""

    num_samples: int
    """Answers that diversity is expected of."""

    num_tokens: int
    """Tokens of each answer that diversity is expected of."""


def stored_diversity(
    folder: Path, problem_ids: Collection[str], *, num_samples: int = 4, num_problems: int = 256
) -> StoredDiversity | None:
    """Measure the diversity of the answers to some problems, chosen by a hash of their ids.

    Args:
        folder: Of a `RolloutStore`.
        problem_ids: To choose from.
        num_samples: Answers that diversity is expected of; problems with fewer have no value.
        num_problems: How many to choose; their answers are in memory, the first `MAX_WINDOW` tokens of each.

    Returns:
        ``None`` where too few problems have as many answers that fill a common window.

    Raises:
        StoreError: If the store is damaged.
    """
    chosen = set(heapq.nsmallest(num_problems, problem_ids, key=lambda each: derive_seed("diversity", each)))
    samples: dict[str, list[NDArray[np.int64]]] = {each: [] for each in sorted(chosen)}
    published: list[float] = []
    for group in read_store(folder, problem_ids=chosen):
        for each in group.completions:
            samples[group.problem_id].append(np.array(each.token_ids[:MAX_WINDOW]))
        published.append(float(distinct_n([[each.text for each in group.completions]]).mean()))
    answers = list(samples.values())
    try:
        num_tokens = default_num_tokens(answers, n=NGRAM)
        values = expected_distinct_n(answers, num_samples=num_samples, num_tokens=num_tokens, n=NGRAM)
        expected = bootstrap_interval(values)
    except SettingError:  # There is no answer, or too few problems have as many of that length.
        return None
    is_even = len(published) == len(samples) and len(set(map(len, answers))) == 1
    return StoredDiversity(
        expected=expected,
        published=float(np.mean(published)) if is_even else None,
        num_problems=int((~np.isnan(values)).sum()),
        num_samples=num_samples,
        num_tokens=num_tokens,
    )
