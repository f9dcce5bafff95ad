"""Duplicates inside a problem set: clusters of the same problem, of which one member is kept.

The set is read three times and never held whole: for sketches (`polaris_data.duplicates.minhash`), for the text of
the pairs that may be duplicates, and to write what is kept. A million problems of 60 words take about 1.5 GB.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.answers import SameAnswers, best_comparison
from polaris_data.duplicates.clusters import Cluster, Held, Kind, Link, components, stars, to_cluster
from polaris_data.duplicates.embeddings import Embedding
from polaris_data.duplicates.features import Hashes, Rarity, hash_tokens
from polaris_data.duplicates.minhash import Sketches, candidate_pairs, join_sketches, sketch
from polaris_data.duplicates.same_problem import Statement, compare, countable, to_statements
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

STATEMENTS_HELD = 30_000
"""Problems that each process holds to be compared: about 0.3 GB."""

MANY_ANSWERS = 2
"""Other answers that problems alike have, from which agreeing on a common answer tells nothing."""

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
        "answers": best_comparison().__name__,
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
    same_answers: SameAnswers | None = None,
    similar: SimilarPairs | None = None,
    num_processes: int = 1,
) -> list[Cluster]:
    """Find the clusters of problems that are the same; a problem in none of them has no duplicate.

    Every member of a cluster was found to be the same problem as the kept one. Which clusters are found does not
    depend on the order of the problems; which member is kept may.

    Args:
        problems: With distinct ids.
        prefer: Sources, the best first, to keep a member of. Then comes the answer that most members have, then the
            problem with most in ``extra``, then the first.
        same_answers: Compares answers; by default `polaris_data.duplicates.answers.best_comparison`.
        similar: Finds further pairs, as `polaris_data.duplicates.embeddings.Embedding` does.
        num_processes: More than 1 need the ``if __name__ == "__main__"`` guard in a script.
    """
    return stream_duplicates(
        lambda: problems,
        prefer=prefer,
        same_answers=same_answers,
        similar=similar,
        num_processes=num_processes,
        total=len(problems),
    )


def stream_duplicates(
    read: Callable[[], Iterable[Problem]],
    *,
    prefer: Sequence[str] = (),
    same_answers: SameAnswers | None = None,
    similar: SimilarPairs | None = None,
    num_processes: int = 1,
    total: int | None = None,
) -> list[Cluster]:
    """Find duplicates as `find_duplicates` does in a set that need not fit into memory.

    Args:
        read: Reads the set; called twice.
        prefer: As there.
        same_answers: As there.
        similar: As there; the questions are all held in memory for it.
        num_processes: As there.
        total: Problems, for the progress bar.
    """
    same_answers = same_answers or best_comparison()
    found = _find_links(
        read, weighed=True, same_answers=same_answers, similar=similar, num_processes=num_processes, total=total
    )
    clusters = stars(found.links, lambda place: f"{found.held[place].question} {found.held[place].references}")
    joined = {place for places, _ in clusters for place in places}
    clusters += [([place], []) for place in found.copies if place not in joined]
    return [
        to_cluster(places, links, found.copies, found.held, prefer=prefer, same_answers=same_answers)
        for places, links in sorted(clusters, key=lambda cluster: cluster[0])
    ]


def stream_families(
    read: Callable[[], Iterable[Problem]], *, num_processes: int = 1, total: int | None = None
) -> list[list[str]]:
    """Find the ids of problems that duplicates join, however indirectly.

    Features are not weighed by how rare they are in the set, so other problems do not decide whether two are joined.

    Args:
        read: Reads the set; called twice.
        num_processes: As for `find_duplicates`.
        total: Problems, for the progress bar.
    """
    found = _find_links(
        read, weighed=False, same_answers=best_comparison(), similar=None, num_processes=num_processes, total=total
    )
    equal = [Link(place, other, "exact", 1.0) for place, others in found.copies.items() for other in others]
    return [[found.held[place].problem_id for place in places] for places, _ in components(found.links + equal)]


class _Found(NamedTuple):
    links: list[Link]
    """Between the first ones of equal problems."""

    copies: dict[int, list[int]]
    """Positions of problems that equal the first one of them, whose position is the key."""

    held: dict[int, Held]
    """By position, all problems that are in either."""


def _find_links(
    read: Callable[[], Iterable[Problem]],
    *,
    weighed: bool,
    same_answers: SameAnswers,
    similar: SimilarPairs | None,
    num_processes: int,
    total: int | None,
) -> _Found:
    sketches, rarity = sketch_problems(read(), weighed=weighed, num_processes=num_processes, total=total)
    first = _first_of_equals(sketches.keys)
    copies: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(first != np.arange(len(first))).tolist():
        copies[int(first[place])].append(place)
    representatives = np.flatnonzero(first == np.arange(len(first)))
    pairs = representatives[candidate_pairs(_part(sketches, representatives))]
    del sketches
    wanted = set(np.unique(pairs).tolist()) | copies.keys() | {place for each in copies.values() for place in each}
    held = {
        place: Held(problem.problem_id, problem.question, problem.references, problem.source, len(problem.extra))
        for place, problem in enumerate(track(read(), total=total, label="reading candidates"))
        if place in wanted or similar
    }
    answers: dict[int, list[str]] = defaultdict(list)
    for place, problem in held.items():
        answers[int(first[place])] += problem.references
    links = _near_links(pairs, held, answers, rarity, same_answers=same_answers, num_processes=num_processes)
    if similar:
        questions = [held[place].question for place in range(len(first))]
        found = ((*sorted((int(first[a]), int(first[b]))), score) for a, b, score in similar(questions))
        links += [Link(a, b, "embedding", score) for a, b, score in found if a != b]
    return _Found(links, copies, held)


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


def sketch_problems(
    problems: Iterable[Problem], *, weighed: bool, num_processes: int, total: int | None
) -> tuple[Sketches, Rarity]:
    """Sketch every question of a set, in its order, and count its features and answers.

    Args:
        problems: The set.
        weighed: Whether to count; if not, every feature is as rare as any other.
        num_processes: As for `find_duplicates`.
        total: Problems, for the progress bar.
    """
    rarity, sketches = Rarity(), list[Sketches]()
    pieces = in_pieces(track(problems, total=total, label="sketching questions"), QUESTIONS_AT_ONCE)
    for part, hashes in map_in_order(_sketch_problems, pieces, num_processes=num_processes):
        sketches.append(part)
        if weighed:
            rarity.add(hashes, len(part))
    return join_sketches(sketches), rarity


def _sketch_problems(problems: list[Problem]) -> tuple[Sketches, Hashes]:
    wordings = [read_wording(problem.question) for problem in problems]
    hashes = hash_tokens(wordings)
    return sketch(wordings, hashes), countable(hashes, wordings, [problem.references for problem in problems])


def _part(sketches: Sketches, places: NDArray[np.int64]) -> Sketches:
    return Sketches(sketches.keys[places], sketches.numbers[places], sketches.signatures[places])


def _first_of_equals(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return for each position the first one with the same key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse]


_Candidates = tuple[dict[int, tuple[str, tuple[str, ...]]], list[tuple[int, int]]]


class _Candidate(NamedTuple):
    link: Link
    is_telling: bool
    asked: tuple[tuple[str, ...], tuple[str, ...]] | None
    """Answers that must agree and are not written the same."""


def _near_links(
    pairs: NDArray[np.int64],
    held: Mapping[int, Held],
    answers: Mapping[int, list[str]],
    rarity: Rarity,
    *,
    same_answers: SameAnswers,
    num_processes: int,
) -> list[Link]:
    def pieces() -> Iterator[_Candidates]:
        for start in range(0, len(pairs), PAIRS_AT_ONCE):
            piece = [(int(a), int(b)) for a, b in pairs[start : start + PAIRS_AT_ONCE]]
            yield {place: (held[place].question, tuple(answers[place])) for pair in piece for place in pair}, piece

    total = -(-len(pairs) // PAIRS_AT_ONCE)
    work = track(pieces(), total=total, label="comparing candidates")
    found = map_in_order(
        _compare_pairs, work, num_processes=num_processes, start=_set_rarity, start_arguments=(rarity,)
    )
    links: list[tuple[Link, bool]] = []
    other_answers: dict[int, set[tuple[str, ...]]] = defaultdict(set)
    for candidates in found:
        agree = iter(same_answers([each.asked for each in candidates if each.asked]))
        for link, is_telling, asked in candidates:
            if asked is None or next(agree):
                links.append((link, is_telling))
            else:
                other_answers[link.a].add(asked[1])
                other_answers[link.b].add(asked[0])
    # In a family of problems with several answers, two of them have the same common one by chance.
    return [
        link
        for link, is_telling in links
        if is_telling or all(len(other_answers[place]) < MANY_ANSWERS for place in (link.a, link.b))
    ]


def _compare_pairs(candidates: _Candidates) -> list[_Candidate]:
    texts, pairs = candidates
    missing = [place for place in texts if place not in _statements]
    if len(_statements) + len(missing) > STATEMENTS_HELD:
        _statements.clear()
        missing = list(texts)
    wordings = [read_wording(texts[place][0]) for place in missing]
    read = to_statements(wordings, [texts[place][1] for place in missing], _rarity[0])
    _statements.update(zip(missing, read, strict=True))
    found: list[_Candidate] = []
    for a, b in pairs:
        one, other = _statements[a], _statements[b]
        likeness = compare(one, other)
        if likeness.kind:
            link = Link(a, b, "exact" if likeness.kind == "exact" else "near", round(likeness.score, 4))
            is_open = likeness.if_answers_agree and one.answers.isdisjoint(other.answers)
            found.append(_Candidate(link, likeness.is_telling, (one.references, other.references) if is_open else None))
    return found


_rarity: list[Rarity] = []
"""Of the set, in this process; a list of one, filled when the process starts."""


_statements: dict[int, Statement] = {}
"""What was read of the set in this process: a family of similar problems comes up again and again."""


def _set_rarity(rarity: Rarity) -> None:
    _rarity[:] = [rarity]
    _statements.clear()
