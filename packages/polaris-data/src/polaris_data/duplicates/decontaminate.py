"""Benchmark problems inside a training set: found, told apart from problems that only look like them, and dropped.

Candidates share a passage of 13 tokens with a benchmark problem, or MinHash features, or (long ones) the answer. Each
is compared as `polaris_data.duplicates.same_problem` does, since most shared passages are no contamination: contest
problems of one family have whole sentences in common. What shares a passage and is another problem is reported and
kept.

Problems are decided one at a time and none is held: memory is that of the benchmarks, 20 KB a problem.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import tee
from pathlib import Path
from typing import Literal

import numpy as np

from polaris_data.duplicates.minhash import BandIndex, TokenHashes, candidates_between, hash_tokens, passages, sketch
from polaris_data.duplicates.same_problem import (
    MIN_PARAPHRASE_TOKENS,
    Statement,
    compare,
    normal_answer,
    same_text_inside,
    to_statement,
)
from polaris_data.duplicates.wording import read_wording
from polaris_data.errors import SettingError
from polaris_data.files.journal import check_output, claim_output, whole_text, write_json
from polaris_data.files.lock import locked_output
from polaris_data.files.parallel import in_pieces, map_in_order, num_usable_processors
from polaris_data.files.progress import track
from polaris_data.problems.reading import to_json_line
from polaris_data.problems.source import Source
from polaris_data.records import Problem

PROBLEMS_AT_ONCE = 1000

Kind = Literal["exact", "near", "paraphrase", "13-gram", "shared passage"]

KINDS: tuple[Kind, ...] = ("exact", "near", "paraphrase", "13-gram", "shared passage")
"""How a problem can be in a benchmark, the surest first; the last one is another problem with a passage in common."""


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
    """Between 0 and 1: share of tokens in common; for ``paraphrase`` the cosine of the content; for the last two
    the share of the benchmark problem's passages of 13 tokens that the problem contains."""

    num_shared_passages: int
    """Passages of 13 tokens in common."""


@dataclass(frozen=True, slots=True)
class _Item:
    benchmark: str
    benchmark_id: str
    statement: Statement
    num_passages: int


class BenchmarkIndex:
    """Benchmark problems, prepared to find them in a training set."""

    def __init__(self, benchmarks: Mapping[str, Sequence[Problem]]) -> None:
        named = [(name, problem) for name, problems in benchmarks.items() for problem in problems]
        wordings = [read_wording(problem.question) for _, problem in named]
        hashes = hash_tokens(wordings)
        grams, owners = passages(hashes)
        order = np.argsort(grams, kind="stable")
        self._grams, self._owners = grams[order], owners[order]
        self._bands = BandIndex(sketch(wordings, hashes))
        counts = np.bincount(owners, minlength=len(named))
        self._items = [
            _Item(name, problem.problem_id, to_statement(wording, problem.references), int(count))
            for (name, problem), wording, count in zip(named, wordings, counts, strict=True)
        ]
        self._by_answer: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for place, item in enumerate(self._items):
            if len(item.statement.counts) >= MIN_PARAPHRASE_TOKENS:
                for answer in item.statement.answers:
                    self._by_answer[answer].append(place)

    def look_up(self, problems: Sequence[Problem]) -> list[Finding | None]:
        """Return for each problem what it has in common with the benchmarks, if anything."""
        wordings = [read_wording(problem.question) for problem in problems]
        hashes = hash_tokens(wordings)
        shared = self._shared_passages(hashes, len(problems))
        candidates = [set(each) for each in shared]
        for row, place in candidates_between(sketch(wordings, hashes), self._bands).tolist():
            candidates[row].add(place)
        findings: list[Finding | None] = []
        for problem, wording, places, passages_of in zip(problems, wordings, candidates, shared, strict=True):
            if len(set(wording.tokens)) >= MIN_PARAPHRASE_TOKENS:
                for reference in problem.references:
                    places.update(self._by_answer.get(normal_answer(reference), ()))
            statement = to_statement(wording, problem.references) if places else None
            found = [
                finding
                for place in sorted(places)
                if statement and (finding := self._compare(problem, statement, place, passages_of[place]))
            ]
            findings.append(min(found, key=lambda each: (KINDS.index(each.kind), -each.score), default=None))
        return findings

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

    def _compare(self, problem: Problem, statement: Statement, place: int, num_shared: int) -> Finding | None:
        item = self._items[place]
        share = num_shared / item.num_passages if item.num_passages else 0.0
        kind: Kind
        if match := compare(statement, item.statement, paraphrases=True):
            kind, score = match.kind, match.score
        elif num_shared:
            kind = "13-gram" if same_text_inside(statement, item.statement, share=share) else "shared passage"
            score = min(1.0, share)
        else:
            return None
        return Finding(
            problem_id=problem.problem_id,
            benchmark=item.benchmark,
            benchmark_id=item.benchmark_id,
            kind=kind,
            score=round(score, 4),
            num_shared_passages=num_shared,
        )


def decontaminate_problems(
    source: Source,
    against: Sequence[str],
    out: Path,
    *,
    drop_shared_passages: bool = False,
    num_processes: int | None = None,
) -> dict[str, int]:
    """Drop the problems of a set that are in a benchmark; write what `write_decontaminated` does.

    Args:
        source: The set; read once.
        against: Benchmarks, each whatever may be the name of a `Source`.
        out: Folder to write.
        drop_shared_passages: Drop other problems with a passage in common too.
        num_processes: ``None`` is one a processor.

    Returns:
        Problems by what was done with them: ``kept``, or dropped for a `Kind`.

    Raises:
        SettingError: If two benchmarks have one name.
        OtherRunError: If the folder belongs to a run with other settings, or another process writes it.
    """
    names = [Path(benchmark).name.partition(".")[0] or benchmark for benchmark in against]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SettingError(f"two benchmarks are named {twice!r}; give each one once, under a file name of its own")
    benchmarks = {
        name: Source(benchmark, skip_invalid=True, split="test") for name, benchmark in zip(names, against, strict=True)
    }
    settings = {
        "command": "polaris-data decontaminate",
        "problems": source.fingerprint(),
        "against": [benchmark.fingerprint() for benchmark in benchmarks.values()],
        "limit": source.limit,
        "skip_invalid": source.skip_invalid,
        "drop_shared_passages": drop_shared_passages,
    }
    kept = out / "problems.jsonl"
    with locked_output(kept):
        check_output(kept, settings)
        return write_decontaminated(
            out,
            source.iterate(),
            {name: benchmark.read() for name, benchmark in benchmarks.items()},
            drop_shared_passages=drop_shared_passages,
            num_processes=num_processes or num_usable_processors(),
            total=source.count(),
            claim=partial(claim_output, kept, settings),
        )


def find_contamination(
    problems: Iterable[Problem], benchmarks: Mapping[str, Sequence[Problem]], *, num_processes: int = 1
) -> Iterator[Finding | None]:
    """Yield for each problem what it has in common with a benchmark problem, or ``None``.

    Args:
        problems: A training set; it is taken in pieces and not held.
        benchmarks: Problems by the name of their benchmark.
        num_processes: More than 1 need the ``if __name__ == "__main__"`` guard in a script.
    """
    pieces = in_pieces(problems, PROBLEMS_AT_ONCE)
    work = map_in_order(_look_up, pieces, num_processes=num_processes, start=_set_index, start_arguments=(benchmarks,))
    for findings in work:
        yield from findings


def write_decontaminated(
    folder: Path,
    problems: Iterable[Problem],
    benchmarks: Mapping[str, Sequence[Problem]],
    *,
    drop_shared_passages: bool = False,
    num_processes: int = 1,
    total: int | None = None,
    claim: Callable[[], None] = lambda: None,
) -> dict[str, int]:
    """Write what is left of a training set and what was found, and return the counts by reason.

    Args:
        folder: Gets ``problems.jsonl`` (kept), ``findings.jsonl`` (each `Finding`, and whether it was dropped), and
            ``counts.json``.
        problems: The training set; read once.
        benchmarks: Problems by the name of their benchmark.
        drop_shared_passages: Drop other problems with a passage in common too.
        num_processes: As for `find_contamination`.
        total: Problems, for the progress bar.
        claim: Called when all is found, before any file gets its name.
    """
    ours, theirs = tee(track(problems, total=total, label="looking for benchmark problems"))
    counts = Counter[str](dict.fromkeys(["kept", *KINDS], 0))
    num_reported = 0
    with whole_text(folder / "findings.jsonl") as report, whole_text(folder / "problems.jsonl") as kept:
        for problem, finding in zip(
            ours, find_contamination(theirs, benchmarks, num_processes=num_processes), strict=True
        ):
            is_dropped = finding is not None and (finding.kind != "shared passage" or drop_shared_passages)
            counts[finding.kind if finding and is_dropped else "kept"] += 1
            if finding:
                num_reported += not is_dropped
                report.write(json.dumps({**asdict(finding), "dropped": is_dropped}, ensure_ascii=False) + "\n")
            if not is_dropped:
                kept.write(to_json_line(problem))
        claim()
    write_json(
        folder / "counts.json",
        {"num_problems": counts.total(), "num_kept_with_shared_passage": num_reported, **counts},
    )
    return dict(counts)


_index: list[BenchmarkIndex] = []
"""Of this process; a list of one, filled when the process starts."""


def _set_index(benchmarks: Mapping[str, Sequence[Problem]]) -> None:
    _index[:] = [BenchmarkIndex(benchmarks)]


def _look_up(problems: list[Problem]) -> list[Finding | None]:
    return _index[0].look_up(problems)
