"""Duplicates inside a problem set: clusters of the same problem, of which one member is kept.

The set is read three times and never held whole: for sketches (`polaris_data.duplicates.minhash`), for the text of
the pairs that may be duplicates, and to write what is kept. A million problems of 60 words take about 1.5 GB.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

from polaris_data.duplicates.answers import SameAnswers, best_comparison
from polaris_data.duplicates.clusters import Cluster, Kind, Link, components, stars, to_cluster
from polaris_data.duplicates.embeddings import Embedding
from polaris_data.duplicates.links import SimilarPairs, find_links
from polaris_data.files.journal import check_output, claim_output, to_lines, write_json, write_text
from polaris_data.files.lock import locked_output
from polaris_data.files.parallel import num_usable_processors
from polaris_data.problems.reading import write_problems
from polaris_data.problems.source import Source
from polaris_data.records import Problem

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
    found = find_links(
        read, weighed=True, same_answers=same_answers, similar=similar, num_processes=num_processes, total=total
    )
    clusters = stars(found.near, lambda place: f"{found.held[place].question} {found.held[place].references}")
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
    found = find_links(
        read, weighed=False, same_answers=best_comparison(), similar=None, num_processes=num_processes, total=total
    )
    equal = [Link(place, other, "exact", 1.0) for place, others in found.copies.items() for other in others]
    return [[found.held[place].problem_id for place in places] for places, _ in components(found.near + equal)]


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
