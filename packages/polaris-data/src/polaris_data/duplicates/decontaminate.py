"""Benchmark problems inside a training set: found, told apart from problems that only look like them, and dropped.

Every problem is compared with every benchmark problem by the words, numbers and pieces of formulas that they share,
each weighed by how rare it is among all of them: one product of two sparse matrices. What is alike is compared as
`polaris_data.duplicates.same_problem` does, answers by the grader, since most of it is no contamination: contest
problems of one family have whole sentences in common. What is close and another problem is reported with what tells
them apart, and kept.

The set is read twice, once to count and once to compare, and never held: memory is that of the benchmarks.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain, tee
from pathlib import Path
from typing import Any, NamedTuple

from polaris_data.duplicates.answers import SameAnswers, best_comparison
from polaris_data.duplicates.benchmarks import KEPT, KINDS, BenchmarkIndex, Finding, Found
from polaris_data.duplicates.embeddings import Embedding, embed
from polaris_data.duplicates.features import Rarity, hash_tokens
from polaris_data.duplicates.same_problem import countable
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


class Decontaminated(NamedTuple):
    """What became of a set."""

    by_kind: dict[str, int]
    """Problems by what was done with them: ``kept``, or dropped for a `Kind`."""

    kept_though_close: dict[str, int]
    """Of the kept ones, those that are close to a benchmark problem, by what makes them another problem."""


def count_rarity(problems: Iterable[Problem], *, num_processes: int = 1) -> Rarity:
    """Count how many problems have each feature and answer.

    Args:
        problems: A set; it is taken in pieces and not held.
        num_processes: As for `find_contamination`.
    """
    rarity = Rarity()
    for num_problems, hashes in map_in_order(
        _count, in_pieces(problems, PROBLEMS_AT_ONCE), num_processes=num_processes
    ):
        rarity.add(hashes, num_problems)
    return rarity


def decontaminate_problems(
    source: Source,
    against: Sequence[str],
    out: Path,
    *,
    drop_shared_passages: bool = False,
    embedding: Embedding | None = None,
    num_processes: int | None = None,
) -> Decontaminated:
    """Drop the problems of a set that are in a benchmark; write what `write_decontaminated` does.

    Args:
        source: The set; read three times.
        against: Benchmarks, each whatever may be the name of a `Source`.
        out: Folder to write.
        drop_shared_passages: Drop other problems with a passage in common too.
        embedding: Finds further ones.
        num_processes: ``None`` is one a processor.

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
        "embeddings": asdict(embedding) if embedding else None,
        "answers": best_comparison().__name__,
    }
    kept = out / "problems.jsonl"
    with locked_output(kept):
        check_output(kept, settings)
        return write_decontaminated(
            out,
            source.iterate,
            {name: benchmark.read() for name, benchmark in benchmarks.items()},
            drop_shared_passages=drop_shared_passages,
            embedding=embedding,
            num_processes=num_processes or num_usable_processors(),
            total=source.count(),
            claim=partial(claim_output, kept, settings),
        )


def find_contamination(
    problems: Sequence[Problem],
    benchmarks: Mapping[str, Sequence[Problem]],
    *,
    same_answers: SameAnswers | None = None,
    embedding: Embedding | None = None,
    num_processes: int = 1,
) -> Iterator[Finding | None]:
    """Yield for each problem what it has in common with a benchmark problem, or ``None``.

    Args:
        problems: A training set.
        benchmarks: Problems by the name of their benchmark.
        same_answers: Compares answers; by default `polaris_data.duplicates.answers.best_comparison`.
        embedding: Finds further ones.
        num_processes: More than 1 need the ``if __name__ == "__main__"`` guard in a script.
    """
    return stream_contamination(
        lambda: problems, benchmarks, same_answers=same_answers, embedding=embedding, num_processes=num_processes
    )


def stream_contamination(
    read: Callable[[], Iterable[Problem]],
    benchmarks: Mapping[str, Sequence[Problem]],
    *,
    same_answers: SameAnswers | None = None,
    embedding: Embedding | None = None,
    num_processes: int = 1,
    total: int | None = None,
) -> Iterator[Finding | None]:
    """Find contamination as `find_contamination` does in a set that need not fit into memory.

    Args:
        read: Reads the set; called twice.
        benchmarks: As there.
        same_answers: As there.
        embedding: As there.
        num_processes: As there.
        total: Problems, for the progress bar.
    """
    same_answers = same_answers or best_comparison()
    counted = chain(track(read(), total=total, label="counting"), *benchmarks.values())
    rarity = count_rarity(counted, num_processes=num_processes)
    ours, again = tee(in_pieces(track(read(), total=total, label="looking for benchmark problems"), PROBLEMS_AT_ONCE))
    work = map_in_order(
        _look_up, ours, num_processes=num_processes, start=_set_index, start_arguments=(benchmarks, rarity)
    )
    by_embedding = _EmbeddedBenchmarks(benchmarks, embedding) if embedding else None
    for problems, found in zip(again, work, strict=True):
        agree = iter(same_answers([each.asked for all_of_it in found for each in all_of_it if each.asked]))
        findings = [_surest(_decided(each, agree) for each in all_of_it) for all_of_it in found]
        yield from by_embedding.add_to(findings, problems) if by_embedding else findings


def _decided(found: Found, agree: Iterator[bool]) -> Finding:
    if found.asked is None or next(agree):
        return found.finding
    return replace(found.finding, kind="close", difference="another answer")


def _surest(findings: Iterable[Finding]) -> Finding | None:
    return min(findings, key=lambda each: (KINDS.index(each.kind), -each.score), default=None)


class _EmbeddedBenchmarks:
    """Benchmark problems whose embeddings are compared with those of problems in which nothing was found."""

    def __init__(self, benchmarks: Mapping[str, Sequence[Problem]], embedding: Embedding) -> None:
        self._named = [(name, problem) for name, problems in benchmarks.items() for problem in problems]
        self._embedding = embedding
        self._vectors = embed([problem.question for _, problem in self._named], model=embedding.model)

    def add_to(self, findings: Sequence[Finding | None], problems: Sequence[Problem]) -> list[Finding | None]:
        """Return the findings, and what is close by its embedding in the place of nothing."""
        cosines = embed([problem.question for problem in problems], model=self._embedding.model) @ self._vectors.T
        whole = list(findings)
        for row, problem in enumerate(problems):
            place = int(cosines[row].argmax())
            finding, (name, found) = whole[row], self._named[place]
            if cosines[row, place] > self._embedding.min_cosine and (finding is None or finding.kind in KEPT):
                whole[row] = Finding(
                    problem_id=problem.problem_id,
                    benchmark=name,
                    benchmark_id=found.problem_id,
                    kind="embedding",
                    score=round(float(cosines[row, place]), 4),
                    difference="",
                    num_shared_passages=0,
                )
        return whole


def write_decontaminated(
    folder: Path,
    read: Callable[[], Iterable[Problem]],
    benchmarks: Mapping[str, Sequence[Problem]],
    *,
    drop_shared_passages: bool = False,
    same_answers: SameAnswers | None = None,
    embedding: Embedding | None = None,
    num_processes: int = 1,
    total: int | None = None,
    claim: Callable[[], None] = lambda: None,
) -> Decontaminated:
    """Write what is left of a training set and what was found, and return the counts by reason.

    Args:
        folder: Gets ``problems.jsonl`` (kept), ``findings.jsonl`` (each `Finding`, and whether it was dropped), and
            ``counts.json``.
        read: Reads the training set; called three times.
        benchmarks: Problems by the name of their benchmark.
        drop_shared_passages: Drop other problems with a passage in common too.
        same_answers: As for `find_contamination`.
        embedding: As for `find_contamination`.
        num_processes: As for `find_contamination`.
        total: Problems, for the progress bar.
        claim: Called when all is found, before any file gets its name.
    """
    counts = Counter[str](dict.fromkeys(["kept", *KINDS], 0))
    findings = stream_contamination(
        read, benchmarks, same_answers=same_answers, embedding=embedding, num_processes=num_processes, total=total
    )
    kept_though = Counter[str]()
    with whole_text(folder / "findings.jsonl") as report, whole_text(folder / "problems.jsonl") as kept:
        for problem, finding in zip(read(), findings, strict=True):
            is_dropped = finding is not None and (
                finding.kind not in KEPT or (drop_shared_passages and finding.num_shared_passages > 0)
            )
            counts[finding.kind if finding and is_dropped else "kept"] += 1
            if finding:
                kept_though[finding.difference or finding.kind] += not is_dropped
                report.write(json.dumps({**asdict(finding), "dropped": is_dropped}, ensure_ascii=False) + "\n")
            if not is_dropped:
                kept.write(to_json_line(problem))
        claim()
    close = {difference: num for difference, num in kept_though.most_common() if num}
    write_json(folder / "counts.json", {"num_problems": counts.total(), **counts, "kept_though_close": close})
    return Decontaminated(dict(counts), close)


_index: list[BenchmarkIndex] = []
"""Of this process; a list of one, filled when the process starts."""


def _set_index(benchmarks: Mapping[str, Sequence[Problem]], rarity: Rarity) -> None:
    _index[:] = [BenchmarkIndex(benchmarks, rarity)]


def _look_up(problems: list[Problem]) -> list[list[Found]]:
    return _index[0].look_up(problems)


def _count(problems: list[Problem]) -> tuple[int, Any]:
    wordings = [read_wording(problem.question) for problem in problems]
    return len(problems), countable(hash_tokens(wordings), wordings, [problem.references for problem in problems])
