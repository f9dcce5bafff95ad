"""Duplicates inside a problem set: clusters of the same problem, of which one member is kept.

The set is read three times and never held whole: for sketches (`polaris_data.duplicates.minhash`), for the text of
the pairs that may be duplicates, and to write what is kept. A million problems of 60 words take about 1.5 GB.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.clusters import (
    Cluster,
    Held,
    Kind,
    Link,
    SameAnswer,
    components,
    have_same_answer,
    to_cluster,
)
from polaris_data.duplicates.embeddings import Embedding
from polaris_data.duplicates.minhash import Sketches, candidate_pairs, join_sketches, sketch
from polaris_data.duplicates.same_problem import Statement, compare, read_statement
from polaris_data.duplicates.wording import read_wording
from polaris_data.files.journal import check_output, claim_output, to_lines, write_json, write_text
from polaris_data.files.lock import locked_output
from polaris_data.files.parallel import in_pieces, map_in_order, num_usable_processors
from polaris_data.files.progress import track
from polaris_data.problems.reading import write_problems
from polaris_data.problems.source import Source
from polaris_data.records import Problem

QUESTIONS_AT_ONCE = 2000
PAIRS_AT_ONCE = 10_000

SimilarPairs = Callable[[Sequence[str]], Iterable[tuple[int, int, float]]]
"""Yields pairs of questions by position, with a score."""

Reason = Literal["kept", "exact duplicate", "near duplicate", "similar embedding", "conflicting answers"]

REASONS: dict[Kind, Reason] = {
    "exact": "exact duplicate",
    "near": "near duplicate",
    "embedding": "similar embedding",
}


class Deduplicated(NamedTuple):
    """What became of a set."""

    counts: dict[str, int]
    """Problems by what was done with them: ``kept``, or dropped for a `Reason`."""

    clusters: list[Cluster]


def deduplicate_problems(
    source: Source,
    out: Path,
    *,
    prefer: str = "",
    drop_conflicts: bool = False,
    embedding: Embedding | None = None,
    num_processes: int | None = None,
) -> Deduplicated:
    """Find the duplicates of a set and write what `write_deduplicated` does.

    Args:
        source: The set; read three times.
        out: Folder to write.
        prefer: Sources to keep a problem of, the best first, with commas between them.
        drop_conflicts: Keep no member of a cluster with conflicting answers.
        embedding: Finds further pairs.
        num_processes: ``None`` is one a processor.

    Raises:
        OtherRunError: If the folder belongs to a run with other settings, or another process writes it.
    """
    settings = {
        "command": "polaris-data dedup",
        "problems": source.fingerprint(),
        "limit": source.limit,
        "skip_invalid": source.skip_invalid,
        "prefer": prefer,
        "drop_conflicts": drop_conflicts,
        "embeddings": asdict(embedding) if embedding else None,
    }
    kept = out / "problems.jsonl"
    with locked_output(kept):
        check_output(kept, settings)
        clusters = stream_duplicates(
            source.iterate,
            prefer=[each.strip() for each in prefer.split(",") if each.strip()],
            similar=embedding,
            num_processes=num_processes or num_usable_processors(),
            total=source.count(),
        )
        claim_output(kept, settings)
        counts = write_deduplicated(out, source.iterate(), clusters, drop_conflicts=drop_conflicts)
    return Deduplicated(counts, clusters)


def find_duplicates(
    problems: Sequence[Problem],
    *,
    prefer: Sequence[str] = (),
    same_answer: SameAnswer | None = None,
    similar: SimilarPairs | None = None,
    num_processes: int = 1,
) -> list[Cluster]:
    """Find the clusters of problems that are the same; a problem in none of them has no duplicate.

    Which clusters are found does not depend on the order of the problems; which member is kept may.

    Args:
        problems: With distinct ids.
        prefer: Sources, the best first, to keep a member of. Then comes the answer that most members have, then the
            problem with most in ``extra``, then the first.
        same_answer: Finds conflicts; by default references are compared as
            `polaris_data.duplicates.same_problem.normal_answer` writes them.
        similar: Finds further pairs, as `polaris_data.duplicates.embeddings.Embedding` does.
        num_processes: More than 1 need the ``if __name__ == "__main__"`` guard in a script.
    """
    return stream_duplicates(
        lambda: problems,
        prefer=prefer,
        same_answer=same_answer,
        similar=similar,
        num_processes=num_processes,
        total=len(problems),
    )


def stream_duplicates(
    read: Callable[[], Iterable[Problem]],
    *,
    prefer: Sequence[str] = (),
    same_answer: SameAnswer | None = None,
    similar: SimilarPairs | None = None,
    num_processes: int = 1,
    total: int | None = None,
) -> list[Cluster]:
    """Find duplicates as `find_duplicates` does in a set that need not fit into memory.

    Args:
        read: Reads the set; called twice.
        prefer: As there.
        same_answer: As there.
        similar: As there; the questions are all held in memory for it.
        num_processes: As there.
        total: Problems, for the progress bar.
    """
    sketches = sketch_problems(read(), num_processes=num_processes, total=total)
    links = [Link(int(a), int(b), "exact", 1.0) for a, b in _equal_pairs(sketches.keys)]
    first = _first_of_equals(sketches.keys)
    representatives = np.flatnonzero(first == np.arange(len(first)))
    sketches = _part(sketches, representatives)
    pairs = representatives[candidate_pairs(sketches)]
    del sketches
    wanted = set(np.unique(pairs).tolist()) | {place for link in links for place in (link.a, link.b)}
    held = {
        place: Held(problem.problem_id, problem.question, problem.references, problem.source, len(problem.extra))
        for place, problem in enumerate(track(read(), total=total, label="reading candidates"))
        if place in wanted or similar
    }
    answers: dict[int, list[str]] = defaultdict(list)
    for place, problem in held.items():
        answers[int(first[place])] += problem.references
    links += _near_links(pairs, held, answers, num_processes=num_processes)
    if similar:
        questions = [held[place].question for place in range(len(first))]
        links += [Link(a, b, "embedding", score) for a, b, score in similar(questions)]
    return [
        to_cluster(places, links_inside, held, prefer=prefer, same_answer=same_answer or have_same_answer)
        for places, links_inside in components(links)
    ]


def decide(clusters: Iterable[Cluster], *, drop_conflicts: bool = False) -> dict[str, Reason]:
    """Return why each problem that is not kept is dropped, by its id.

    Args:
        clusters: As `find_duplicates` returned them.
        drop_conflicts: Keep no member of a cluster with conflicting answers.
    """
    dropped: dict[str, Reason] = {}
    for cluster in clusters:
        for member in cluster.members:
            if cluster.conflict and drop_conflicts:
                dropped[member.problem_id] = "conflicting answers"
            elif member.kind:
                dropped[member.problem_id] = REASONS[member.kind]
    return dropped


def write_deduplicated(
    folder: Path, problems: Iterable[Problem], clusters: Sequence[Cluster], *, drop_conflicts: bool
) -> dict[str, int]:
    """Write ``problems.jsonl`` (kept), ``clusters.jsonl`` and ``counts.json``, and return the counts by reason.

    Args:
        folder: Created when missing.
        problems: The set that the clusters are of.
        clusters: As `find_duplicates` returned them.
        drop_conflicts: Keep no member of a cluster with conflicting answers.
    """
    dropped = decide(clusters, drop_conflicts=drop_conflicts)
    counts = Counter[str](dict.fromkeys(["kept", *REASONS.values(), "conflicting answers"], 0))
    counts.update(dropped.values())

    def kept() -> Iterator[Problem]:
        for problem in problems:
            if problem.problem_id not in dropped:
                counts["kept"] += 1
                yield problem

    write_text(folder / "clusters.jsonl", to_lines(map(asdict, clusters)))
    write_problems(folder / "problems.jsonl", kept())
    num_conflicts = sum(cluster.conflict for cluster in clusters)
    write_json(
        folder / "counts.json",
        {"num_problems": counts.total(), "num_clusters": len(clusters), "num_conflicts": num_conflicts, **counts},
    )
    return dict(counts)


def sketch_problems(problems: Iterable[Problem], *, num_processes: int, total: int | None) -> Sketches:
    """Sketch every question of a set, in its order."""
    questions = (problem.question for problem in track(problems, total=total, label="sketching questions"))
    pieces = in_pieces(questions, QUESTIONS_AT_ONCE)
    return join_sketches(map_in_order(_sketch_questions, pieces, num_processes=num_processes))


def _sketch_questions(questions: list[str]) -> Sketches:
    return sketch([read_wording(question) for question in questions])


def _part(sketches: Sketches, places: NDArray[np.int64]) -> Sketches:
    return Sketches(sketches.keys[places], sketches.numbers[places], sketches.signatures[places])


def _first_of_equals(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return for each position the first one with the same key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


def _equal_pairs(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    first = _first_of_equals(keys)
    later = np.flatnonzero(first != np.arange(len(keys)))
    return np.stack([first[later], later], axis=1)


_Candidates = tuple[dict[int, tuple[str, tuple[str, ...]]], list[tuple[int, int]]]


def _near_links(
    pairs: NDArray[np.int64], held: Mapping[int, Held], answers: Mapping[int, list[str]], *, num_processes: int
) -> Iterator[Link]:
    def pieces() -> Iterator[_Candidates]:
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            piece = [(int(a), int(b)) for a, b in pairs[start : start + PAIRS_AT_ONCE]]
            yield {place: (held[place].question, tuple(answers[place])) for pair in piece for place in pair}, piece

    total = -(-len(pairs) // PAIRS_AT_ONCE)
    work = track(pieces(), total=total, label="comparing candidates")
    for links in map_in_order(_compare_pairs, work, num_processes=num_processes):
        yield from links


def _compare_pairs(candidates: _Candidates) -> list[Link]:
    texts, pairs = candidates
    links: list[Link] = []
    for a, b in pairs:
        if match := compare(_statement(*texts[a]), _statement(*texts[b])):
            links.append(Link(a, b, "exact" if match.kind == "exact" else "near", round(match.score, 4)))
    return links


@lru_cache(maxsize=20_000)  # about 0.2 GB; a family of similar problems comes up again and again
def _statement(question: str, references: tuple[str, ...]) -> Statement:
    return read_statement(question, references)
