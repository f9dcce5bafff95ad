"""Candidates for near-duplicates among a million questions: MinHash signatures, compared where a band of them is equal.

A signature (rensa's) is of a question's *features*: numbers, content words, and neighbouring symbols of its formulas.
Filler words are left out; with them random questions would share a fifth of their tokens, and the candidates could not
be counted. `NUM_BANDS` bands of `ROWS_PER_BAND` values find 98% of the pairs that share 75% of their features
and 0.1% of those that share 20%; the candidates are for `polaris_data.duplicates.same_problem` to decide.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.same_problem import STEM_LENGTH, is_content
from polaris_data.duplicates.wording import Wording

Hashes = NDArray[np.uint64]

ROWS_PER_BAND = 6
NUM_BANDS = 21
NUM_PERMUTATIONS = ROWS_PER_BAND * NUM_BANDS
SEED = 20250628

MIN_ESTIMATE = 0.45
"""Share of equal values in two signatures below which a candidate is given up: two standard errors below 0.54, the
least that labelled near-duplicates of real data sets share."""

MAX_NEIGHBOURS = 64
"""Questions of one bucket that each is compared with. In a larger bucket, a family of problems that differ in their
numbers alone, they are the next ones in the order of the numbers."""

NGRAM = 13
"""Tokens in a passage, as benchmarks are usually checked."""

_EMPTY = np.uint64(0)
_MAX_KNOWN = 1_000_000
"""Tokens whose hashes a process remembers before it starts anew: about 0.2 GB."""


@dataclass(frozen=True, slots=True)
class TokenHashes:
    """Tokens of several questions, one after the other, as numbers."""

    tokens: Hashes
    """[tokens] of each token."""

    content: Hashes
    """[tokens] of each number and of the stem of each content word; 0 for any other token."""

    is_symbol: NDArray[np.bool_]
    """[tokens] whether it is anything but a word."""

    offsets: NDArray[np.int64]
    """[questions + 1] where each question begins, and the end."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """What is kept of each question of a set to find duplicates: 520 bytes."""

    keys: Hashes
    """[questions] hash of tokens and figures: equal for exact duplicates."""

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
        keys=np.array([_hash(f"{' '.join(wording.tokens)}\n{wording.figure}") for wording in wordings], np.uint64),
        numbers=np.array(
            [_hash(" ".join(sorted(t for t in wording.tokens if t[0].isdigit()))) for wording in wordings], np.uint64
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
        order = np.lexsort((sketches.numbers, buckets))
        buckets = buckets[order]
        found = [codes]
        for distance in range(1, MAX_NEIGHBOURS + 1):
            places = np.flatnonzero(buckets[distance:] == buckets[:-distance])
            if not len(places):
                break
            found += [_code(part, num) for part in _alike(sketches, order[places], order[places + distance])]
        codes = np.unique(np.concatenate(found))
    return np.stack([codes // num, codes % num], axis=1).astype(np.int64)


def candidates_between(queries: Sketches, index: "BandIndex") -> NDArray[np.int64]:
    """Return the pairs (question, indexed question) that may be near-duplicates, in ascending order: [pairs, 2]."""
    num = np.uint64(max(1, len(index.sketches)))
    found = [np.empty(0, np.uint64)]
    for band in range(NUM_BANDS):
        buckets = _band(queries.signatures, band)
        first = np.searchsorted(index.buckets[band], buckets, side="left")
        counts = np.searchsorted(index.buckets[band], buckets, side="right") - first
        rows = np.repeat(np.arange(len(queries)), counts)
        places = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        columns = index.orders[band][places]
        estimates = (queries.signatures[rows] == index.sketches.signatures[columns]).mean(axis=1)
        is_alike = estimates >= MIN_ESTIMATE
        found.append(rows[is_alike].astype(np.uint64) * num + columns[is_alike].astype(np.uint64))
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // num, codes % num], axis=1).astype(np.int64)


class BandIndex:
    """Sketches sorted by each of their bands, to look many others up in."""

    def __init__(self, sketches: Sketches) -> None:
        self.sketches = sketches
        bands = [_band(sketches.signatures, band) for band in range(NUM_BANDS)]
        self.orders = [np.argsort(buckets, kind="stable") for buckets in bands]
        self.buckets = [buckets[order] for buckets, order in zip(bands, self.orders, strict=True)]


def hash_tokens(wordings: Sequence[Wording]) -> TokenHashes:
    """Turn tokens into numbers, the same in every process."""
    known = [_known.get(token) or _token_hashes(token) for wording in wordings for token in wording.tokens]
    offsets = np.zeros(len(wordings) + 1, np.int64)
    np.cumsum([len(wording.tokens) for wording in wordings], out=offsets[1:])
    columns: list[Any] = list(zip(*known, strict=True)) or [(), (), ()]
    return TokenHashes(
        np.array(columns[0], np.uint64), np.array(columns[1], np.uint64), np.array(columns[2], np.bool_), offsets
    )


def passages(hashes: TokenHashes) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hash of every passage of `NGRAM` tokens, and the position of the question that it is in."""
    num = len(hashes.tokens) - NGRAM + 1
    if num <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    grams = np.zeros(num, np.uint64)
    for place in range(NGRAM):
        grams = grams * _FACTOR + hashes.tokens[place : place + num]
    questions = np.repeat(np.arange(len(hashes.offsets) - 1), np.diff(hashes.offsets))
    is_whole = questions[:num] == questions[NGRAM - 1 :]
    return grams[is_whole], questions[:num][is_whole]


_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no token is lost from a product modulo 2**64
_known: dict[str, tuple[int, int, bool]] = {}


def _token_hashes(token: str) -> tuple[int, int, bool]:
    if (known := _known.get(token)) is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        is_word = token[0].isalpha()
        stem = token[:STEM_LENGTH] if is_word else token
        known = _known[token] = (_hash(token), _hash(f"content {stem}") if is_content(token) else 0, not is_word)
    return known


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _signatures(hashes: TokenHashes) -> NDArray[np.uint32]:
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] (its types do not name it)

    if len(hashes.offsets) == 1:
        return np.empty((0, NUM_PERMUTATIONS), np.uint32)
    questions = np.repeat(np.arange(len(hashes.offsets) - 1), np.diff(hashes.offsets))
    is_pair = hashes.is_symbol[1:] & hashes.is_symbol[:-1] & (questions[1:] == questions[:-1])
    pairs = hashes.tokens[:-1] * _FACTOR + hashes.tokens[1:]
    is_content_token = hashes.content != _EMPTY
    features = np.concatenate([hashes.content[is_content_token], pairs[is_pair]])
    owners = np.concatenate([questions[is_content_token], questions[:-1][is_pair]])
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


_PAIRS_AT_ONCE = 200_000
"""Signatures compared at a time: 0.2 GB."""


def _alike(sketches: Sketches, a: NDArray[np.int64], b: NDArray[np.int64]) -> Iterable[NDArray[np.int64]]:
    """Yield those of the pairs (a, b) whose signatures are similar enough."""
    for start in range(0, len(a), _PAIRS_AT_ONCE):
        rows, columns = a[start : start + _PAIRS_AT_ONCE], b[start : start + _PAIRS_AT_ONCE]
        estimates = (sketches.signatures[rows] == sketches.signatures[columns]).mean(axis=1)
        yield np.stack([rows, columns])[:, estimates >= MIN_ESTIMATE]


def _code(pairs: NDArray[np.int64], num: np.uint64) -> Hashes:
    return pairs.min(axis=0).astype(np.uint64) * num + pairs.max(axis=0).astype(np.uint64)
