"""Benchmark problems, prepared to find them in a training set: what a problem has in common with each of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np

from polaris_data.duplicates.features import Rarity, TokenHashes, find_features, hash_tokens, passages, vectors
from polaris_data.duplicates.same_problem import (
    MIN_CLOSE,
    MIN_PARAPHRASE_NUMBERS,
    Statement,
    compare,
    is_inside,
    to_statements,
)
from polaris_data.duplicates.wording import read_wording
from polaris_data.records import Problem

MIN_CANDIDATE = MIN_PARAPHRASE_NUMBERS
"""Cosine from which two problems are compared."""

LITTLE_MORE = 1.3
"""A benchmark problem may have so many times the tokens of a problem that it contains."""

NEARLY_ALL = 0.8
"""Share of the runs of such a problem that the benchmark problem repeats."""

Kind = Literal["exact", "near", "paraphrase", "inside", "embedding", "close", "shared passage"]

KINDS: tuple[Kind, ...] = ("exact", "near", "paraphrase", "inside", "embedding", "close", "shared passage")
"""How a problem can be in a benchmark, the surest first; the last two are other problems."""

KEPT: tuple[Kind, ...] = ("close", "shared passage")
"""Kinds that are reported and kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One problem that has something in common with a benchmark problem: of several, the one it is most like."""

    problem_id: str
    """Of the training set."""

    benchmark: str
    """Where the benchmark problem is from."""

    benchmark_id: str
    """Its id there."""

    kind: Kind
    """How they are alike."""

    score: float
    """Between 0 and 1: cosine of the weighed features, or of the embeddings."""

    difference: str
    """What makes them different problems; empty for the same one."""

    num_shared_passages: int
    """Passages of 13 tokens in common."""


@dataclass(frozen=True, slots=True)
class _Item:
    benchmark: str
    benchmark_id: str
    statement: Statement


@dataclass(frozen=True, slots=True)
class Found:
    """What a problem has in common with a benchmark problem, before their answers are compared."""

    finding: Finding
    asked: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Answers that must agree, else it is ``close``."""


class BenchmarkIndex:
    """Benchmark problems, prepared to find them in a training set."""

    def __init__(self, benchmarks: Mapping[str, Sequence[Problem]], rarity: Rarity) -> None:
        """Prepare benchmarks.

        Args:
            benchmarks: Problems by the name of their benchmark.
            rarity: Of the training set and these together; see `count_rarity`.
        """
        from scipy.sparse import csr_array

        named = [(name, problem) for name, problems in benchmarks.items() for problem in problems]
        wordings = [read_wording(problem.question) for _, problem in named]
        hashes, features = hash_tokens(wordings), find_features(hash_tokens(wordings))
        grams, owners = passages(hashes)
        order = np.argsort(grams, kind="stable")
        self._grams, self._owners = grams[order], owners[order]
        self._rarity = rarity
        self._vocabulary, columns = np.unique(features.hashes, return_inverse=True)
        self._shape = len(named), len(self._vocabulary)
        weights = vectors(features, rarity, len(named))
        self._matrix = csr_array((weights, (columns, features.questions)), self._shape[::-1])
        statements = to_statements(wordings, [problem.references for _, problem in named], rarity)
        self._items = [
            _Item(name, problem.problem_id, statement)
            for (name, problem), statement in zip(named, statements, strict=True)
        ]

    def look_up(self, problems: Sequence[Problem]) -> list[list[Found]]:
        """Return for each problem what it may have in common with each benchmark problem, before answers are asked."""
        wordings = [read_wording(problem.question) for problem in problems]
        hashes = hash_tokens(wordings)
        shared = self._shared_passages(hashes, len(problems))
        scores = self._scores(hashes, len(problems))
        statements = to_statements(wordings, [problem.references for problem in problems], self._rarity)
        found: list[list[Found]] = []
        for row, (problem, statement) in enumerate(zip(problems, statements, strict=True)):
            places = sorted({*np.flatnonzero(scores[row] >= MIN_CANDIDATE).tolist(), *shared[row]})
            all_of_it = [
                self._compare(problem, statement, place, float(scores[row, place]), shared[row][place])
                for place in places
            ]
            found.append([each for each in all_of_it if each])
        return found

    def _scores(self, hashes: TokenHashes, num_problems: int) -> Any:
        """Return [problems, benchmark problems] the cosines."""
        from scipy.sparse import csr_array

        features = find_features(hashes)
        columns = np.minimum(np.searchsorted(self._vocabulary, features.hashes), max(0, self._shape[1] - 1))
        if not self._shape[1]:
            return np.zeros((num_problems, self._shape[0]), np.float32)
        is_known = self._vocabulary[columns] == features.hashes
        weights = vectors(features, self._rarity, num_problems)
        entries = weights[is_known], (features.questions[is_known], columns[is_known])
        product: Any = cast(Any, csr_array(entries, (num_problems, self._shape[1]))) @ self._matrix
        return product.toarray()

    def _shared_passages(self, hashes: TokenHashes, num_problems: int) -> list[Counter[int]]:
        """Count for each problem the passages that it shares with each benchmark problem."""
        shared = [Counter[int]() for _ in range(num_problems)]
        grams, rows = passages(hashes)
        starts = np.searchsorted(self._grams, grams, side="left")
        ends = np.searchsorted(self._grams, grams, side="right")
        for place in np.flatnonzero(ends > starts):
            for owner in set(self._owners[starts[place] : ends[place]].tolist()):
                shared[int(rows[place])][owner] += 1
        return shared

    def _compare(
        self, problem: Problem, statement: Statement, place: int, score: float, num_shared: int
    ) -> Found | None:
        item = self._items[place]
        likeness = compare(statement, item.statement, paraphrases=True, score=score)
        finding = Finding(
            problem_id=problem.problem_id,
            benchmark=item.benchmark,
            benchmark_id=item.benchmark_id,
            kind=likeness.kind or "close",
            score=round(likeness.score, 4),
            difference=likeness.difference,
            num_shared_passages=num_shared,
        )
        if likeness.kind and (
            not likeness.if_answers_agree or not statement.answers.isdisjoint(item.statement.answers)
        ):
            return Found(finding)
        # A benchmark may ask "find m + n" of what a problem asks directly; it repeats then all but the end.
        is_all_but_the_end = len(item.statement.wording.tokens) <= LITTLE_MORE * len(statement.wording.tokens) and (
            is_inside(item.statement, statement, self._rarity, min_runs=NEARLY_ALL)
        )
        if is_all_but_the_end or is_inside(statement, item.statement, self._rarity):
            return Found(replace(finding, kind="inside", difference=""))
        if likeness.kind:
            return Found(finding, asked=(statement.references, item.statement.references))
        if score >= MIN_CLOSE:
            return Found(finding)
        return Found(replace(finding, kind="shared passage")) if num_shared else None
