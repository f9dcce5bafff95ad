"""What tells one question from others, as numbers: its words, numbers and pieces of formulas, each weighed by rarity.

No list of words of any language is used: that "find" says little and "fragrant" much is counted in the set itself
(`Rarity`), and a character of Chinese is a word like any other.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.wording import Wording

Hashes = NDArray[np.uint64]

STEM_LENGTH = 5
"""Letters by which words are compared, so that "divided" is "divides"."""

SHORT = 3
"""Letters up to which words are left out of a sketch."""

FORMULA_LENGTHS = (2, 3, 4)
"""Neighbouring symbols in a piece of a formula."""

FORMULA_WEIGHT = 0.35
"""Of a piece of a formula, to that of a word: a formula has about nine pieces for each symbol."""

NGRAM = 13
"""Tokens in a passage, as benchmarks are usually checked."""

_MAX_KNOWN = 1_000_000
"""Tokens whose hashes a process remembers before it starts anew: about 0.2 GB."""


@dataclass(frozen=True, slots=True)
class TokenHashes:
    """Tokens of several questions, one after the other, as numbers."""

    tokens: Hashes
    """[tokens] of each token."""

    stems: Hashes
    """[tokens] of each number, operator and the stem of each word; 0 for a variable."""

    unnamed: Hashes
    """[tokens] of each token, all variables being the same one."""

    is_content: NDArray[np.bool_]
    """[tokens] whether it is a number, a word of more than `SHORT` letters, or a letter that is a word."""

    is_symbol: NDArray[np.bool_]
    """[tokens] whether it is anything but a word."""

    is_letter: NDArray[np.bool_]
    """[tokens] whether it is a letter that is a word, as every character of Chinese is."""

    offsets: NDArray[np.int64]
    """[questions + 1] where each question begins, and the end."""

    @property
    def questions(self) -> NDArray[np.int64]:
        """[tokens] position of the question that each one is in."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True, slots=True)
class Features:
    """Features of several questions, one after the other; each question has a feature once."""

    hashes: Hashes
    """[features] ascending inside a question."""

    factors: NDArray[np.float32]
    """[features] 1 for a word, `FORMULA_WEIGHT` for a piece of a formula."""

    questions: NDArray[np.int64]
    """[features] position of the question that it is in."""


def hash_tokens(wordings: Sequence[Wording]) -> TokenHashes:
    """Turn tokens into numbers, the same in every process."""
    known = [_known_hashes(token) for wording in wordings for token in wording.tokens]
    offsets = np.zeros(len(wordings) + 1, np.int64)
    np.cumsum([len(wording.tokens) for wording in wordings], out=offsets[1:])
    columns: list[Any] = list(zip(*known, strict=True)) or [()] * 6
    tokens, stems, unnamed = (np.array(column, np.uint64) for column in columns[:3])
    is_content, is_symbol, is_letter = (np.array(column, np.bool_) for column in columns[3:])
    return TokenHashes(tokens, stems, unnamed, is_content, is_symbol, is_letter, offsets)


def find_features(hashes: TokenHashes) -> Features:
    """Return the words, numbers and operators of questions, pairs of one-letter words, and pieces of formulas.

    A piece counts twice, once with the names of its variables and once without: a problem with other names is half
    the same, and one with other numbers is not.
    """
    questions = hashes.questions
    is_stem = hashes.stems != 0
    letters, places = _runs(hashes.tokens, hashes.is_letter, questions, 2)
    found, owners = [hashes.stems[is_stem], letters], [questions[is_stem], places]
    for symbols, salt in ((hashes.tokens, 1), (hashes.unnamed, 2)):
        for length in FORMULA_LENGTHS:
            pieces, places = _runs(symbols, hashes.is_symbol, questions, length)
            found.append(pieces * _FACTOR + np.uint64(10 * length + salt))
            owners.append(places)
    num_words = len(found[0]) + len(letters)
    factors = np.full(sum(map(len, found)), FORMULA_WEIGHT, np.float32)
    factors[:num_words] = 1
    return _each_once(np.concatenate(found), factors, np.concatenate(owners))


def passages(hashes: TokenHashes) -> tuple[Hashes, NDArray[np.int64]]:
    """Return the hash of every passage of `NGRAM` tokens, and the position of the question that it is in."""
    return _runs(hashes.tokens, np.ones(len(hashes.tokens), np.bool_), hashes.questions, NGRAM)


class Rarity:
    """How many of the questions of a set have a feature, counted in a table of fixed size.

    Attributes:
        num_questions: Counted so far.
    """

    def __init__(self) -> None:
        self.num_questions = 0
        self._table = np.zeros(_TABLE_SIZE, np.uint32)

    def add(self, hashes: Hashes, num_questions: int) -> None:
        """Count hashes, each as often as it is given."""
        self.num_questions += num_questions
        places, counts = np.unique(hashes & _TABLE_MASK, return_counts=True)
        self._table[places] += counts.astype(np.uint32)

    def weights(self, hashes: Hashes) -> NDArray[np.float32]:
        """Return the logarithm of one over the share of questions with each of these, as if a few more had none."""
        counts = self._table[hashes & _TABLE_MASK].astype(np.float32)
        return np.log((self.num_questions + _UNSEEN) / (counts + 1)).astype(np.float32)

    def of_words(self, words: Iterable[str]) -> NDArray[np.float32]:
        """Return the weights of words, numbers or operators."""
        return self.weights(np.array([_known_hashes(word)[1] for word in words], np.uint64))


def vectors(features: Features, rarity: Rarity, num_questions: int) -> NDArray[np.float32]:
    """Return the weight of each feature, scaled so that each question has length 1."""
    weights = features.factors * rarity.weights(features.hashes)
    lengths = np.sqrt(np.bincount(features.questions, weights.astype(np.float64) ** 2, minlength=num_questions))
    return (weights / np.maximum(lengths, 1e-9)[features.questions]).astype(np.float32)


def hash_text(text: str) -> int:
    """Return 64 bits that are the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


_UNSEEN = 1000
"""Questions without any of the features that are assumed besides those that were counted: in a set of few, or where
nothing was counted, every feature weighs much the same."""

_TABLE_SIZE = 2**22
_TABLE_MASK = np.uint64(_TABLE_SIZE - 1)
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that no token is lost from a product modulo 2**64
_known: dict[str, tuple[int, int, int, bool, bool, bool]] = {}


def _known_hashes(token: str) -> tuple[int, int, int, bool, bool, bool]:
    if (known := _known.get(token)) is None:
        if len(_known) >= _MAX_KNOWN:
            _known.clear()
        is_word, is_variable = token[0].isalpha(), token[0] == "$"
        stem = token[:STEM_LENGTH] if is_word else token
        stem_hash = 0 if is_variable or token == "|" else hash_text(f"stem {stem}")
        unnamed = hash_text("$" if is_variable else token)
        is_letter = is_word and len(token) == 1 and not token.isascii()
        is_content = is_letter or (is_word and len(token) > SHORT) or token[0].isdigit() or token[0] == '"'
        known = hash_text(token), stem_hash, unnamed, is_content, not is_word, is_letter
        _known[token] = known
    return known


def _runs(
    tokens: Hashes, is_allowed: NDArray[np.bool_], questions: NDArray[np.int64], length: int
) -> tuple[Hashes, NDArray[np.int64]]:
    """Return a hash of each run of so many allowed tokens inside one question, and the question."""
    num = len(tokens) - length + 1
    if num <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    runs, is_run = np.zeros(num, np.uint64), questions[:num] == questions[length - 1 :]
    for place in range(length):
        runs = runs * _FACTOR + tokens[place : place + num]
        is_run = is_run & is_allowed[place : place + num]
    return runs[is_run], questions[:num][is_run]


def _each_once(hashes: Hashes, factors: NDArray[np.float32], questions: NDArray[np.int64]) -> Features:
    order = np.lexsort((hashes, questions))
    hashes, factors, questions = hashes[order], factors[order], questions[order]
    is_first = np.ones(len(hashes), np.bool_)
    is_first[1:] = (hashes[1:] != hashes[:-1]) | (questions[1:] != questions[:-1])
    return Features(hashes[is_first], factors[is_first], questions[is_first])


def in_parts(features: Features, values: NDArray[Any], num_questions: int) -> Iterator[tuple[Hashes, NDArray[Any]]]:
    """Yield for each question its features and the values that belong to them."""
    ends = np.searchsorted(features.questions, np.arange(num_questions + 1))
    for start, end in pairwise(ends.tolist()):
        yield features.hashes[start:end], values[start:end]
