"""Candidates for near-duplicates among a million questions: MinHash signatures, compared where a band of them is equal.

A signature (rensa's) is of a question's numbers, longer words, and neighbouring symbols of its formulas. Short words
are left out, which in every language that writes words with letters say least: with them random questions would share
a fifth of their tokens, and the candidates could not be counted. `NUM_BANDS` bands of `ROWS_PER_BAND` values find 99%
of the pairs that share 62% of these and 5% of those that share 20%; the candidates are for
`polaris_data.duplicates.same_problem` to decide.

The number of candidates grows with the number of questions, however alike they are: in a family of problems that
differ in their numbers alone, each has about `MAX_PAIRS`, those with its own numbers first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.features import Hashes, TokenHashes, hash_text, hash_tokens
from polaris_data.duplicates.wording import Wording

ROWS_PER_BAND = 4
NUM_BANDS = 31
NUM_PERMUTATIONS = ROWS_PER_BAND * NUM_BANDS
SEED = 20250628

MIN_ESTIMATE = 0.45
"""Share of equal values in two signatures below which a candidate is given up: two standard errors below 0.54, the
least that labelled near-duplicates of real data sets share."""

MAX_NEIGHBOURS = 4
"""Questions of one bucket that each is compared with whatever their numbers: the next ones in the order of these."""

MAX_EQUAL = 32
"""The same, of those with the same numbers."""

MAX_PAIRS = 8
"""Candidates of one question that are kept, the most similar ones with the same numbers first; a pair is kept if it is
among those of either question."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """What is kept of each question of a set to find duplicates: 520 bytes."""

    keys: Hashes
    """[questions] hash of tokens, brackets, figures and choices: equal where no answer needs to be asked."""

    numbers: Hashes
    """[questions] hash of the numbers, whatever their order."""

    signatures: NDArray[np.uint32]
    """[questions, permutations] MinHash of the features."""

    def __len__(self) -> int:
        return len(self.keys)


def sketch(wordings: Sequence[Wording], hashes: TokenHashes | None = None) -> Sketches:
    """Sketch some questions, whose tokens may be hashed already; a question has the same sketch in every process."""
    hashes = hashes or hash_tokens(wordings)
    return Sketches(
        keys=np.array([hash_text(repr(wording)) for wording in wordings], np.uint64),
        numbers=np.array(
            [hash_text(" ".join(sorted(t for t in wording.tokens if t[0].isdigit()))) for wording in wordings],
            np.uint64,
        ),
        signatures=_signatures(hashes),
    )


def join_sketches(parts: Iterable[Sketches]) -> Sketches:
    """Put sketches one after the other."""
    whole = list(parts)
    return Sketches(
        np.concatenate([part.keys for part in whole] or [np.empty(0, np.uint64)]),
        np.concatenate([part.numbers for part in whole] or [np.empty(0, np.uint64)]),
        np.concatenate([part.signatures for part in whole] or [np.empty((0, NUM_PERMUTATIONS), np.uint32)]),
    )


def candidate_pairs(sketches: Sketches) -> NDArray[np.int64]:
    """Return the pairs of questions that may be near-duplicates.

    Returns:
        [pairs, 2] positions, the smaller one first, in ascending order, each pair once.
    """
    num = np.uint64(max(1, len(sketches)))
    codes = np.empty(0, np.uint64)
    for band in range(NUM_BANDS):
        buckets = _band(sketches.signatures, band)
        order = np.lexsort((sketches.keys, sketches.numbers, buckets))  # not by their order in the set
        buckets, numbers = buckets[order], sketches.numbers[order]
        found = [codes]
        for distance in range(1, MAX_EQUAL + 1):
            is_near = buckets[distance:] == buckets[:-distance]
            if not is_near.any():
                break
            if distance > MAX_NEIGHBOURS:
                is_near &= numbers[distance:] == numbers[:-distance]
            places = np.flatnonzero(is_near)
            if len(places):
                found.append(_code(np.stack([order[places], order[places + distance]]), num))
        codes = np.unique(np.concatenate(found))
    pairs = np.stack([codes // num, codes % num], axis=1).astype(np.int64)
    return _best(sketches, pairs)


def _best(sketches: Sketches, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs that are similar enough and among the `MAX_PAIRS` best of one of their questions."""
    estimates = np.concatenate([*_estimates(sketches, pairs), np.empty(0)])
    pairs, estimates = pairs[estimates >= MIN_ESTIMATE], estimates[estimates >= MIN_ESTIMATE]
    a, b = pairs.T
    have_equal_numbers = sketches.numbers[a] == sketches.numbers[b]
    tie = sketches.keys[a] ^ sketches.keys[b]  # not the order in the set
    is_best = np.zeros(len(pairs), np.bool_)
    ends = np.concatenate([a, b])
    order = np.lexsort((*(np.tile(each, 2) for each in (tie, -estimates, ~have_equal_numbers)), ends))
    starts = np.flatnonzero(np.diff(ends[order], prepend=-1))
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    is_best[order[ranks < MAX_PAIRS] % max(1, len(pairs))] = True
    return pairs[is_best]


def _signatures(hashes: TokenHashes) -> NDArray[np.uint32]:
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] (its types do not name it)

    if len(hashes.offsets) == 1:
        return np.empty((0, NUM_PERMUTATIONS), np.uint32)
    questions = hashes.questions
    is_pair = hashes.is_symbol[1:] & hashes.is_symbol[:-1] & (questions[1:] == questions[:-1])
    pairs = hashes.tokens[:-1] * _FACTOR + hashes.tokens[1:]
    features = np.concatenate([hashes.stems[hashes.is_content], pairs[is_pair]])
    owners = np.concatenate([questions[hashes.is_content], questions[:-1][is_pair]])
    features = features[np.argsort(owners, kind="stable")]
    offsets = np.zeros(len(hashes.offsets), np.uint64)
    np.cumsum(np.bincount(owners, minlength=len(hashes.offsets) - 1), out=offsets[1:], dtype=np.uint64)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(features, offsets, NUM_PERMUTATIONS, SEED)
    return np.array(matrix.to_rows(), np.uint32)


def _band(signatures: NDArray[np.uint32], band: int) -> Hashes:
    values = np.zeros(len(signatures), np.uint64)
    for column in range(band * ROWS_PER_BAND, (band + 1) * ROWS_PER_BAND):
        values = (values ^ signatures[:, column]) * _FACTOR
        values ^= values >> np.uint64(29)
    return values


_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no token is lost from a product modulo 2**64
_PAIRS_AT_ONCE = 200_000
"""Signatures compared at a time: 0.2 GB."""


def _estimates(sketches: Sketches, pairs: NDArray[np.int64]) -> Iterable[NDArray[np.float64]]:
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        a, b = pairs[start : start + _PAIRS_AT_ONCE].T
        yield (sketches.signatures[a] == sketches.signatures[b]).mean(axis=1)


def _code(pairs: NDArray[np.int64], num: np.uint64) -> Hashes:
    return pairs.min(axis=0).astype(np.uint64) * num + pairs.max(axis=0).astype(np.uint64)
