"""Clusters of problems that are the same, and which member of one is kept."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from polaris_data.duplicates.answers import SameAnswers, normal_answers

Kind = Literal["exact", "near", "embedding"]

_CRITERIA = ("preferred source", "most frequent answer", "most metadata", "first in the set")
"""What decides which member is kept, in this order."""

_CENTRAL = "the only one that every other equals"


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
    """The kept member; ``None`` for itself."""

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


class Held(NamedTuple):
    """What is kept in memory of a problem that may have duplicates."""

    problem_id: str
    question: str
    references: tuple[str, ...]
    source: str
    num_extra: int


@dataclass(frozen=True, slots=True)
class Link:
    """Two problems that are the same, by their positions in the set."""

    a: int
    b: int
    kind: Kind
    score: float


def components(links: Iterable[Link]) -> list[tuple[list[int], list[Link]]]:
    """Return the positions that links join, however indirectly, with those links, in the order of the first one."""
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
    groups: dict[int, tuple[list[int], list[Link]]] = {place: ([], []) for place in sorted({root(p) for p in parent})}
    for place in sorted(parent):
        groups[root(place)][0].append(place)
    for link in links:
        groups[root(link.a)][1].append(link)
    return list(groups.values())


def stars(links: Iterable[Link], name: Callable[[int], str]) -> list[tuple[list[int], list[Link]]]:
    """Return clusters whose members are each linked to one of them: a chain of links is cut.

    The centre of the first cluster is the position with the most links, its cluster they; so on with what is left.

    Args:
        links: Between positions.
        name: Of a position, by which ties are decided; so the clusters do not depend on the order of the positions.

    Returns:
        The positions of each cluster, ascending, and the links between them.
    """
    clusters: list[tuple[list[int], list[Link]]] = []
    for places, inside in components(links):
        neighbours: dict[int, set[int]] = {place: set() for place in places}
        for link in inside:
            neighbours[link.a].add(link.b)
            neighbours[link.b].add(link.a)
        left = set(places)
        for centre in sorted(places, key=lambda place: (-len(neighbours[place]), name(place))):
            members = (neighbours[centre] | {centre}) & left
            if centre in left and len(members) > 1:
                left -= members
                clusters.append((sorted(members), [link for link in inside if {link.a, link.b} <= members]))
    return sorted(clusters, key=lambda cluster: cluster[0])


def to_cluster(
    places: Sequence[int],
    links: Sequence[Link],
    copies: Mapping[int, Sequence[int]],
    held: Mapping[int, Held],
    *,
    prefer: Sequence[str],
    same_answers: SameAnswers,
) -> Cluster:
    """Make a cluster of the problems at some positions and their copies.

    What is kept is linked to every other one.

    Args:
        places: Of distinct problems.
        links: Between them.
        copies: Positions of what equals the one at a position.
        held: The problems by position.
        prefer: As for `polaris_data.duplicates.dedup.find_duplicates`.
        same_answers: As there.
    """
    origin = {copy: place for place in places for copy in (place, *copies.get(place, ()))}
    answers = {place: normal_answers(held[place].references) for place in origin}
    frequency = Counter(answer for each in answers.values() for answer in each)
    ranks = {
        place: (
            prefer.index(held[place].source) if held[place].source in prefer else len(prefer),
            -max(frequency[answer] for answer in answers[place]),
            -held[place].num_extra,
            place,
        )
        for place in origin
    }
    num_links = Counter(place for pair in {(link.a, link.b) for link in links} for place in pair)
    central = [place for place, first in origin.items() if num_links[first] == len(places) - 1]
    kept, *rivals = sorted(central, key=ranks.__getitem__)
    ties = [sum(ranks[kept][:depth] == ranks[other][:depth] for other in rivals) for depth in range(1, 5)]
    best = _best_links(links, origin[kept])
    others = [place for place in sorted(origin) if place != kept]

    def to_member(place: int) -> Member:
        link = None if origin[place] == origin[kept] else best[origin[place]]
        return Member(
            problem_id=held[place].problem_id,
            source=held[place].source,
            references=held[place].references,
            duplicate_of=held[kept].problem_id if place != kept else None,
            kind=(link.kind if link else "exact") if place != kept else None,
            similarity=(link.score if link else 1.0) if place != kept else None,
        )

    return Cluster(
        kept=held[kept].problem_id,
        why=_CRITERIA[ties.index(0)] if rivals else _CENTRAL,
        conflict=not all(same_answers([(held[kept].references, held[other].references) for other in others])),
        members=tuple(map(to_member, sorted(origin))),
    )


def _best_links(links: Iterable[Link], kept: int) -> dict[int, Link]:
    """Return of each position the strongest link to the kept one."""
    best: dict[int, Link] = {}
    for link in links:
        if kept in (link.a, link.b):
            place = link.b if link.a == kept else link.a
            if place not in best or link.score > best[place].score:
                best[place] = link
    return best
