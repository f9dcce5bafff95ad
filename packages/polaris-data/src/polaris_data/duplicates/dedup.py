"""Duplicates inside a problem set: clusters of the same problem, of which one member is kept.

The set is read three times and never held whole: for sketches (`polaris_data.duplicates.minhash`), for the text of
the pairs that may be duplicates, and to write what is kept. A million problems of 60 words take about 1.5 GB.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.minhash import Sketches, candidate_pairs, join_sketches, sketch
from polaris_data.duplicates.same_problem import Statement, compare, normal_answer, read_statement
from polaris_data.duplicates.wording import read_wording
from polaris_data.files.journal import write_json, write_text
from polaris_data.files.processes import in_pieces, map_in_order
from polaris_data.files.progress import track
from polaris_data.problems.reading import write_problems
from polaris_data.records import Problem

QUESTIONS_AT_ONCE = 2000
PAIRS_AT_ONCE = 10_000

Kind = Literal["exact", "near", "embedding"]
SameAnswer = Callable[[Sequence[str], Sequence[str]], bool]
"""Tells from the references of two problems whether they have the same answer."""

SimilarPairs = Callable[[Sequence[str]], Iterable[tuple[int, int, float]]]
"""Yields pairs of questions by position, with a score."""

Reason = Literal["kept", "exact duplicate", "near duplicate", "similar embedding", "conflicting answers"]

REASONS: dict[Kind, Reason] = {
    "exact": "exact duplicate",
    "near": "near duplicate",
    "embedding": "similar embedding",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One problem of a cluster."""

    problem_id: str
    """Of the problem set."""

    source: str
    """Where it comes from."""

    references: tuple[str, ...]
    """Its accepted answers."""

    duplicate_of: str | None
    """The member it was found to equal, the kept one if they were compared; ``None`` for the kept one."""

    kind: Kind | None
    """How they are equal; ``None`` for the kept one."""

    similarity: float | None
    """Share of their tokens in common, or the cosine of their embeddings; ``None`` for the kept one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Problems that are the same."""

    kept: str
    """Id of the member that stands for all; with conflicts dropped it is not kept either."""

    why: str
    """What made it the one."""

    conflict: bool
    """Whether the answer of some member is none of the kept one's."""

    members: tuple[Member, ...]
    """All of them, in the order of the set."""


class _Held(NamedTuple):
    """What is kept in memory of a problem that may have duplicates."""

    problem_id: str
    question: str
    references: tuple[str, ...]
    source: str
    num_extra: int


@dataclass(frozen=True, slots=True)
class _Link:
    a: int
    b: int
    kind: Kind
    score: float


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
        similar: Finds further pairs: `polaris_data.duplicates.minhash.similar_pairs`.
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
    links = [_Link(int(a), int(b), "exact", 1.0) for a, b in _equal_pairs(sketches.keys)]
    first = _first_of_equals(sketches.keys)
    representatives = np.flatnonzero(first == np.arange(len(first)))
    sketches = _part(sketches, representatives)
    pairs = representatives[candidate_pairs(sketches)]
    del sketches
    wanted = set(np.unique(pairs).tolist()) | {place for link in links for place in (link.a, link.b)}
    held = {
        place: _Held(problem.problem_id, problem.question, problem.references, problem.source, len(problem.extra))
        for place, problem in enumerate(track(read(), total=total, label="reading candidates"))
        if place in wanted or similar
    }
    answers: dict[int, list[str]] = defaultdict(list)
    for place, problem in held.items():
        answers[int(first[place])] += problem.references
    links += _near_links(pairs, held, answers, num_processes=num_processes)
    if similar:
        questions = [held[place].question for place in range(len(first))]
        links += [_Link(a, b, "embedding", score) for a, b, score in similar(questions)]
    return [
        _to_cluster(places, links_inside, held, prefer=prefer, same_answer=same_answer or _same_answer)
        for places, links_inside in _components(links)
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

    write_text(
        folder / "clusters.jsonl", (json.dumps(asdict(cluster), ensure_ascii=False) + "\n" for cluster in clusters)
    )
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
    pairs: NDArray[np.int64], held: Mapping[int, _Held], answers: Mapping[int, list[str]], *, num_processes: int
) -> Iterator[_Link]:
    def pieces() -> Iterator[_Candidates]:
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            piece = [(int(a), int(b)) for a, b in pairs[start : start + PAIRS_AT_ONCE]]
            yield {place: (held[place].question, tuple(answers[place])) for pair in piece for place in pair}, piece

    total = -(-len(pairs) // PAIRS_AT_ONCE)
    work = track(pieces(), total=total, label="comparing candidates")
    for links in map_in_order(_compare_pairs, work, num_processes=num_processes):
        yield from links


def _compare_pairs(candidates: _Candidates) -> list[_Link]:
    texts, pairs = candidates

    links: list[_Link] = []
    for a, b in pairs:
        if match := compare(_statement(*texts[a]), _statement(*texts[b])):
            links.append(_Link(a, b, "exact" if match.kind == "exact" else "near", round(match.score, 4)))
    return links


@lru_cache(maxsize=20_000)  # about 0.2 GB; a family of similar problems comes up again and again
def _statement(question: str, references: tuple[str, ...]) -> Statement:
    return read_statement(question, references)


def _components(links: Iterable[_Link]) -> list[tuple[list[int], list[_Link]]]:
    """Return the positions that links join, with those links, in the order of the first position."""
    parent: dict[int, int] = {}

    def root(place: int) -> int:
        while (above := parent.setdefault(place, place)) != place:
            parent[place] = parent[above]
            place = above
        return place

    links = list(links)
    for link in links:
        low, high = sorted((root(link.a), root(link.b)))
        parent[high] = low
    groups: dict[int, tuple[list[int], list[_Link]]] = {place: ([], []) for place in sorted({root(p) for p in parent})}
    for place in sorted(parent):
        groups[root(place)][0].append(place)
    for link in links:
        groups[root(link.a)][1].append(link)
    return list(groups.values())


_CRITERIA = ("preferred source", "most frequent answer", "most metadata", "first in the set")


def _to_cluster(
    places: list[int],
    links: list[_Link],
    held: Mapping[int, _Held],
    *,
    prefer: Sequence[str],
    same_answer: SameAnswer,
) -> Cluster:
    answers = {place: {normal_answer(reference) for reference in held[place].references} for place in places}
    frequency = Counter(answer for each in answers.values() for answer in each)
    ranks = {
        place: (
            prefer.index(held[place].source) if held[place].source in prefer else len(prefer),
            -max(frequency[answer] for answer in answers[place]),
            -held[place].num_extra,
            place,
        )
        for place in places
    }
    kept, *others = sorted(places, key=ranks.__getitem__)
    ties = [sum(ranks[kept][:depth] == ranks[other][:depth] for other in others) for depth in range(1, 5)]
    best = _best_links(links, kept)
    members = (
        Member(
            problem_id=held[place].problem_id,
            source=held[place].source,
            references=held[place].references,
            duplicate_of=held[_other(best[place], place)].problem_id if place != kept else None,
            kind=best[place].kind if place != kept else None,
            similarity=best[place].score if place != kept else None,
        )
        for place in places
    )
    return Cluster(
        kept=held[kept].problem_id,
        why=_CRITERIA[ties.index(0)],
        conflict=any(not same_answer(held[kept].references, held[other].references) for other in others),
        members=tuple(members),
    )


def _best_links(links: Iterable[_Link], kept: int) -> dict[int, _Link]:
    """Return of each position the link to the kept one, or else the strongest one."""
    best: dict[int, tuple[bool, float, int, _Link]] = {}
    for link in links:
        for place in (link.a, link.b):
            other = _other(link, place)
            rank = (other == kept, link.score, -other, link)
            if place not in best or rank[:3] > best[place][:3]:
                best[place] = rank
    return {place: rank[3] for place, rank in best.items()}


def _other(link: _Link, place: int) -> int:
    return link.b if link.a == place else link.a


def _same_answer(a: Sequence[str], b: Sequence[str]) -> bool:
    return not set(map(normal_answer, a)).isdisjoint(map(normal_answer, b))
