"""Pairs of problems of a set that are the same: candidates, compared in several processes, their answers graded."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.answers import SameAnswers
from polaris_data.duplicates.clusters import Held, Link
from polaris_data.duplicates.features import Hashes, Rarity, hash_tokens
from polaris_data.duplicates.minhash import Sketches, candidate_pairs, join_sketches, sketch
from polaris_data.duplicates.same_problem import Statement, compare, countable, to_statements
from polaris_data.duplicates.wording import read_wording
from polaris_data.files.parallel import in_pieces, map_in_order
from polaris_data.files.progress import track
from polaris_data.records import Problem

QUESTIONS_AT_ONCE = 2000
PAIRS_AT_ONCE = 10_000

STATEMENTS_HELD = 30_000
"""Problems that each process holds to be compared: about 0.3 GB."""

MANY_ANSWERS = 2
"""Other answers that problems alike have, from which agreeing on a common answer tells nothing."""

SimilarPairs = Callable[[Sequence[str]], Iterable[tuple[int, int, float]]]
"""Yields pairs of questions by position, with a score."""


class Links(NamedTuple):
    """The pairs of a set."""

    near: list[Link]
    """Between the first ones of equal problems."""

    copies: dict[int, list[int]]
    """Positions of problems that equal the first one of them, whose position is the key."""

    held: dict[int, Held]
    """By position, all problems that are in either."""


def find_links(
    read: Callable[[], Iterable[Problem]],
    *,
    weighed: bool,
    same_answers: SameAnswers,
    similar: SimilarPairs | None,
    num_processes: int,
    total: int | None,
) -> Links:
    """Find the pairs of a set that are the same problem.

    Args:
        read: Reads the set; called twice.
        weighed: Whether features are weighed by how rare they are in the set.
        same_answers: As for `polaris_data.duplicates.dedup.find_duplicates`.
        similar: As there.
        num_processes: As there.
        total: Problems, for the progress bar.
    """
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
    return Links(links, copies, held)


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
