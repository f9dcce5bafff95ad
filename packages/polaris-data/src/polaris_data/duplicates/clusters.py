"""Clusters of problems that are the same, and which member of one is kept."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from polaris_data.duplicates.same_problem import normal_answer

Kind = Literal["exact", "near", "embedding"]
SameAnswer = Callable[[Sequence[str], Sequence[str]], bool]
"""Tells from the references of two problems whether they have the same answer."""

_CRITERIA = ("preferred source", "most frequent answer", "most metadata", "first in the set")
"""What decides which member is kept, in this order."""


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
    groups: dict[int, tuple[list[int], list[Link]]] = {place: ([], []) for place in sorted({root(p) for p in parent})}
    for place in sorted(parent):
        groups[root(place)][0].append(place)
    for link in links:
        groups[root(link.a)][1].append(link)
    return list(groups.values())


def to_cluster(
    places: list[int],
    links: list[Link],
    held: Mapping[int, Held],
    *,
    prefer: Sequence[str],
    same_answer: SameAnswer,
) -> Cluster:
    """Make a cluster of the problems at some positions.

    Args:
        places: Of its members, in ascending order.
        links: Between them.
        held: Its members by position.
        prefer: As for `polaris_data.duplicates.dedup.find_duplicates`.
        same_answer: As there.
    """
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


def _best_links(links: Iterable[Link], kept: int) -> dict[int, Link]:
    """Return of each position the link to the kept one, or else the strongest one."""
    best: dict[int, tuple[bool, float, int, Link]] = {}
    for link in links:
        for place in (link.a, link.b):
            other = _other(link, place)
            rank = (other == kept, link.score, -other, link)
            if place not in best or rank[:3] > best[place][:3]:
                best[place] = rank
    return {place: rank[3] for place, rank in best.items()}


def _other(link: Link, place: int) -> int:
    return link.b if link.a == place else link.a


def have_same_answer(a: Sequence[str], b: Sequence[str]) -> bool:
    """Return whether two problems have a reference in common, however it is written."""
    return not set(map(normal_answer, a)).isdisjoint(map(normal_answer, b))
