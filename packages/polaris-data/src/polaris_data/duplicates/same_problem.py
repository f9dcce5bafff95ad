"""Whether two similar questions are the same problem: the words may differ, what is computed may not.

Two problems of one family ("arrange the letters of SUCCESS", "... of MADAM") share almost every word, so that
similarity alone cannot tell. What tells is the mathematics (a number or an operator in the place of another one), how
rare that is which differs, and the answers. No rule knows a word of any language.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from polaris_data.duplicates.answers import normal_answer, normal_answers
from polaris_data.duplicates.choices import resolve_choice
from polaris_data.duplicates.features import (
    Hashes,
    Rarity,
    TokenHashes,
    find_features,
    hash_text,
    hash_tokens,
    in_parts,
    vectors,
)
from polaris_data.duplicates.wording import Wording, read_wording

MIN_SIMILARITY = 0.55
"""Cosine of the features of near-duplicates."""

MIN_SIMILARITY_WEAK = 0.7
"""The same, where the answer is one that many problems have or that the question offers: agreeing on it says little.
The mathematics must then be the same, in its order."""

MIN_SIMILARITY_MORE = 0.75
"""The same, where one of two questions has numbers, operators or variables that the other one lacks."""

MIN_PARAPHRASE = 0.48
"""Cosine of the features of a paraphrase whose answer is telling."""

MIN_PARAPHRASE_WEAK = 0.62
"""The same, where the answer is not; variables must then not be replaced either."""

MIN_PARAPHRASE_NUMBERS = 0.32
"""The same, where the answer is telling and both questions have the same numbers, at least `TELLING_NUMBERS`."""

TELLING_NUMBERS = 3

MIN_CLOSE = 0.5
"""Cosine from which two different problems are worth a look."""

MIN_INSIDE = 0.9
"""Share of a question's tokens that another one repeats in their order, if it contains it."""

RUN = 8
MIN_RUNS = 0.6
"""Share of its runs of `RUN` tokens that the other one must repeat, too."""

COMMON = 2.5
"""Rarity up to which a word may be missing there: one problem in 12 has it."""

MIN_INSIDE_TOKENS = 20
"""Tokens of a question that can be found inside another one: shorter ones are stock phrases."""

TELLING = 5.0
"""Rarity of an answer from which agreeing on it tells something: less than one problem in 150 has it."""

Kind = Literal["exact", "near", "paraphrase", "inside"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A problem as it is compared."""

    wording: Wording
    """The tokens of the question, and its figures."""

    counts: Mapping[str, int]
    """How often each token occurs."""

    features: Hashes
    """Its `polaris_data.duplicates.features.Features`, ascending."""

    weights: NDArray[np.float32]
    """Of each feature; the sum of squares is 1."""

    references: tuple[str, ...]
    """Its accepted answers; the text of a choice in the place of its letter."""

    answers: frozenset[tuple[str, ...]]
    """Each of them in its normal form."""

    has_telling_answer: bool
    """Whether an answer is rare, and not offered by the question."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What the texts of two questions say about whether they are the same problem."""

    score: float
    """Cosine of their features, from 0 to 1; 1 for equal tokens."""

    kind: Kind | None
    """How they are the same; ``None`` if they are not."""

    if_answers_agree: bool = False
    """Whether they are so only if they have the same answer."""

    is_telling: bool = True
    """Whether agreeing on the answer tells something."""

    difference: str = ""
    """What makes them different, if anything does."""


def read_statement(question: str, references: Iterable[str], rarity: Rarity | None = None) -> Statement:
    """Prepare a problem for comparison."""
    return to_statements([read_wording(question)], [tuple(references)], rarity or Rarity())[0]


def to_statements(wordings: Sequence[Wording], references: Sequence[Sequence[str]], rarity: Rarity) -> list[Statement]:
    """Prepare problems whose questions were read before.

    Args:
        wordings: Of each question.
        references: Of each problem.
        rarity: Of features and answers, see `hash_answer`.
    """
    features = find_features(hash_tokens(wordings))
    parts = in_parts(features, vectors(features, rarity, len(wordings)), len(wordings))
    statements: list[Statement] = []
    for wording, own, (hashes, weights) in zip(wordings, references, parts, strict=True):
        resolved = tuple(resolve_choice(reference, wording.choices) for reference in own)
        answers, counts = normal_answers(resolved), Counter(wording.tokens)
        offered = counts.keys() | {token for _, text in wording.choices for token in normal_answer(text)}
        rare = [answer for answer in answers if set(answer) - offered]
        rarities = rarity.weights(np.array([hash_answer(answer) for answer in rare], np.uint64))
        statements.append(
            Statement(
                wording,
                counts,
                features=hashes,
                weights=weights,
                references=resolved,
                answers=answers,
                has_telling_answer=bool(len(rarities) and rarities.max() >= TELLING),
            )
        )
    return statements


def countable(hashes: TokenHashes, wordings: Sequence[Wording], references: Sequence[Sequence[str]]) -> Hashes:
    """Return what `Rarity` counts of some problems: their features, and the normal forms of their answers."""
    answers = [
        hash_answer(answer)
        for wording, own in zip(wordings, references, strict=True)
        for answer in normal_answers(resolve_choice(reference, wording.choices) for reference in own)
    ]
    return np.concatenate([find_features(hashes).hashes, np.array(answers, np.uint64)])


def hash_answer(answer: Sequence[str]) -> int:
    """Return the hash by which an answer in its normal form is counted."""
    return hash_text(f"answer {' '.join(answer)}")


def compare(a: Statement, b: Statement, *, paraphrases: bool = False, score: float | None = None) -> Likeness:
    """Say what the texts of two questions tell about whether they are the same problem.

    *Exact*: the tokens are equal. Where figures, choices or brackets differ, the answers must agree.

    *Near*: the answers agree, no number and no operator stands in the place of another one, and the features are
    similar: at least `MIN_SIMILARITY`, or more where that is little evidence.

    *Paraphrase*: the answers agree and are telling, no number was replaced, and the features are similar enough.

    Args:
        a: A problem.
        b: Another one; the order does not matter.
        paraphrases: Look for them too.
        score: Cosine of the features, if it is known.
    """
    if a.wording.tokens == b.wording.tokens:
        return Likeness(1.0, "exact", if_answers_agree=a.wording != b.wording)
    if _have_other_figures(a, b):
        return Likeness(score or 0.0, None, difference="another figure")
    only_a, only_b = _only(a, b), _only(b, a)
    difference = _difference(a, b, only_a, only_b)
    if difference and not paraphrases:
        return Likeness(score or 0.0, None, difference=difference)
    score = cosine(a, b) if score is None else score
    is_telling = a.has_telling_answer and b.has_telling_answer
    has_more = any(_is_value(token) for token in only_a | only_b) or _have_other_variables(a, b, only_a, only_b)
    least = max(MIN_SIMILARITY if is_telling else MIN_SIMILARITY_WEAK, MIN_SIMILARITY_MORE if has_more else 0)
    if not difference and score >= least:
        return Likeness(score, "near", if_answers_agree=True, is_telling=is_telling)
    if paraphrases and score >= _least_of_paraphrase(a, b):
        is_replaced = _are_replaced(_numbers(a.counts), _numbers(b.counts))
        if not is_replaced and (is_telling or not _are_replaced(_variables(only_a), _variables(only_b))):
            return Likeness(score, "paraphrase", if_answers_agree=True, is_telling=is_telling)
    return Likeness(score, None, difference=difference or "not alike enough")


def is_inside(a: Statement, b: Statement, rarity: Rarity, *, min_runs: float = MIN_RUNS) -> bool:
    """Decide whether a question repeats another one, with more around it or asking for it in another form.

    Nothing of the other one's mathematics may be missing, nor any but common words, so the answers may differ: "find
    m + n" has another answer than the question for the fraction.

    Args:
        a: A problem.
        b: The one that it may contain.
        rarity: Of the words.
        min_runs: Share of the runs of `RUN` tokens of ``b`` that ``a`` must repeat.
    """
    tokens, missing = b.wording.tokens, _only(b, a)
    if len(tokens) < MIN_INSIDE_TOKENS:
        return False
    words = [token for token in missing if token not in a.counts]
    if any(not token[0].isalpha() for token in missing) or any(rarity.of_words(words) > COMMON):
        return False
    if a.wording.figure != b.wording.figure and b.wording.figure and len(_numbers(b.counts)) < 2:
        return False  # what is computed stands in the figure
    runs = {tokens[start : start + RUN] for start in range(len(tokens) - RUN + 1)}
    found = {a.wording.tokens[start : start + RUN] for start in range(len(a.wording.tokens) - RUN + 1)}
    return len(runs & found) >= min_runs * len(runs) and longest_common(a.wording.tokens, tokens) >= MIN_INSIDE * len(
        tokens
    )


def cosine(a: Statement, b: Statement) -> float:
    """Return the cosine of the features."""
    _, places_a, places_b = np.intersect1d(a.features, b.features, assume_unique=True, return_indices=True)
    return float(min(1.0, a.weights[places_a] @ b.weights[places_b]))


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    References:
        Hyyrö, "Bit-parallel LCS-length computation revisited", 2004.
    """
    places: dict[str, int] = {}
    for place, token in enumerate(b):
        places[token] = places.get(token, 0) | 1 << place
    every = row = (1 << len(b)) - 1
    for token in a:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & every
    return len(b) - row.bit_count()


def _least_of_paraphrase(a: Statement, b: Statement) -> float:
    """Return how similar two questions must be, at least, to be paraphrases."""
    if not (a.has_telling_answer and b.has_telling_answer):
        return MIN_PARAPHRASE_WEAK
    numbers = _numbers(a.counts)
    same_numbers = numbers == _numbers(b.counts) and len(numbers) >= TELLING_NUMBERS
    return MIN_PARAPHRASE_NUMBERS if same_numbers else MIN_PARAPHRASE


def _only(a: Statement, b: Statement) -> Counter[str]:
    """Return what ``a`` has more of."""
    return Counter({token: more for token, n in a.counts.items() if (more := n - b.counts.get(token, 0)) > 0})


def _difference(a: Statement, b: Statement, only_a: Counter[str], only_b: Counter[str]) -> str:
    """Name what makes two problems different, if they are not the same; words never do."""
    if _are_replaced(_numbers(only_a), _numbers(only_b)):
        return "another number"
    operators_a, operators_b = ({t for t in only if _is_value(t)} - _numbers(only) for only in (only_a, only_b))
    if _are_replaced(operators_a, operators_b):
        return "another operator"
    if not (a.has_telling_answer and b.has_telling_answer) and _mathematics(a) != _mathematics(b):
        return "other mathematics, and an answer that many have"
    return ""


def _mathematics(statement: Statement) -> list[str]:
    return [token for token in statement.wording.tokens if not token[0].isalpha() and token != "|"]


def _numbers(tokens: Iterable[str]) -> set[str]:
    """Return the numbers and other data among tokens."""
    return {token for token in tokens if token[0].isdigit() or token[0] == '"'}


def _variables(tokens: Iterable[str]) -> set[str]:
    return {token for token in tokens if token[0] == "$"}


def _is_value(token: str) -> bool:
    """Return whether a token is a number, an operator or data; bars only delimit and come and go."""
    return not token[0].isalpha() and token[0] != "$" and token != "|"


def _are_replaced(a: set[str], b: set[str]) -> bool:
    return not (a <= b or b <= a)


def _have_other_variables(a: Statement, b: Statement, only_a: Counter[str], only_b: Counter[str]) -> bool:
    """Return whether variables differ by more than their names."""
    names_a, names_b = ({t: n for t, n in only.items() if t[0] == "$"} for only in (only_a, only_b))
    is_renamed = names_a.keys().isdisjoint(b.counts) and names_b.keys().isdisjoint(a.counts)
    return names_a != names_b and not (is_renamed and sorted(names_a.values()) == sorted(names_b.values()))


def _have_other_figures(a: Statement, b: Statement) -> bool:
    """Return whether both have figures that may show different things: not even the numbers in them are the same."""
    if not a.wording.figure or not b.wording.figure or a.wording.figure == b.wording.figure:
        return False
    numbers_a, numbers_b = (sorted(_IN_FIGURE.findall(each.wording.figure)) for each in (a, b))
    return not numbers_a or numbers_a != numbers_b


_IN_FIGURE = re.compile(r'"[^"]*\d[^"]*"')
"""A label of a figure with a number in it."""
