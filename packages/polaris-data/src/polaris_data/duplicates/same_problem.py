"""Whether two similar questions are the same problem: the words may differ, what is computed may not.

Two problems of one family ("arrange the letters of SUCCESS", "... of MADAM") share almost every word, so that
similarity alone cannot tell. What tells is the mathematics: a number or operator that was replaced by another one,
another unknown, a negation. Answers are evidence where the texts leave it open, but no more than that:
copies of one problem with different answers exist, and are what a data set most needs to know about.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from polaris_data.duplicates.wording import Wording, read_wording

MIN_SIMILARITY = 0.65
"""Share of all tokens that a near-duplicate has in common."""

MIN_PARAPHRASE = 0.4
"""Cosine of the content of a paraphrase."""

MIN_PARAPHRASE_CONTENT = 6
"""Stems and pieces of formulas that a paraphrase has in common."""

MIN_PARAPHRASE_TOKENS = 20
"""Distinct tokens of a paraphrase: of shorter questions too little is left once the phrases differ."""

FORMULA = 5
"""Symbols in a piece of a formula."""

STEM_LENGTH = 5
"""Letters by which words are compared, so that "divided" is "divides"."""

Kind = Literal["exact", "near", "paraphrase"]


@dataclass(frozen=True, slots=True)
class Statement:
    """A problem as it is compared."""

    wording: Wording
    """The tokens of the question, and its figures."""

    counts: Mapping[str, int]
    """How often each token occurs."""

    numbers: frozenset[str]
    """Its numbers and other data."""

    answers: frozenset[tuple[str, ...]]
    """Each reference in its normal form."""


@dataclass(frozen=True, slots=True)
class Match:
    """How two questions are the same problem."""

    kind: Kind
    """Equal tokens; other words around the same mathematics; another text with the same content and answer."""

    score: float
    """Jaccard index of the tokens; of a paraphrase, the cosine of the content."""


def read_statement(question: str, references: Iterable[str]) -> Statement:
    """Prepare a problem for comparison."""
    return to_statement(read_wording(question), references)


def to_statement(wording: Wording, references: Iterable[str]) -> Statement:
    """Prepare a problem whose question was read before."""
    counts = Counter(wording.tokens)
    return Statement(
        wording,
        counts,
        numbers=frozenset(token for token in counts if token[0].isdigit() or token[0] == '"'),
        answers=frozenset(normal_answer(reference) for reference in references),
    )


@lru_cache(maxsize=100_000)
def normal_answer(answer: str) -> tuple[str, ...]:
    """Return the tokens of an answer in alphabetical order, without units and ``x =``; typesetting does not matter."""
    tokens = [token for token in read_wording(answer).tokens if token not in _NO_ANSWER]
    if "=" in tokens[:_LEFT_HAND_SIDE]:
        tokens = tokens[tokens.index("=") + 1 :] or tokens
    return tuple(sorted(tokens))


def compare(a: Statement, b: Statement, *, paraphrases: bool = False) -> Match | None:
    """Decide whether two questions are the same problem.

    *Exact*: the tokens are equal. If both have figures that differ, the answers decide.

    *Near*: at least `MIN_SIMILARITY` of the tokens are shared, no number, operator or variable was replaced (both
    questions have some that the other lacks; renaming a variable throughout is no replacement), and neither denies or
    reverses a word of the other. If one has additional numbers, operators or variables, or their order differs, the
    answers must agree; if the answers differ, only filler words may.

    *Paraphrase*: fewer tokens are shared, but the answers agree (and are no choice among given ones), no number was
    replaced, and the formulas and telling words are similar.

    Args:
        a: A problem.
        b: Another one; the order does not matter.
        paraphrases: Look for them too. Unlike the others, they cannot be found by `polaris_data.duplicates.minhash`.
    """
    same_answer = not a.answers.isdisjoint(b.answers)
    if a.wording.tokens == b.wording.tokens:
        figures = {a.wording.figure, b.wording.figure} - {""}
        return Match("exact", 1.0) if same_answer or len(figures) < 2 else None
    if _replaced(a.numbers, b.numbers):  # first, because it is what differs most often in families of problems
        return None
    score = similarity(a, b)
    if score >= MIN_SIMILARITY:
        return Match("near", score) if _is_near(a, b, same_answer=same_answer) else None
    if paraphrases and _have_telling_answer(a, b) and min(len(a.counts), len(b.counts)) >= MIN_PARAPHRASE_TOKENS:
        content_a, content_b = _content(a.wording), _content(b.wording)
        num_shared = len(content_a & content_b)
        cosine = num_shared / math.sqrt(len(content_a) * len(content_b) or 1)
        is_similar = cosine >= MIN_PARAPHRASE and num_shared >= MIN_PARAPHRASE_CONTENT
        if is_similar:
            return Match("paraphrase", cosine)
    return None


def same_text_inside(a: Statement, b: Statement, *, share: float) -> bool:
    """Decide whether a question that is not like another one as a whole contains it, with more around it.

    Args:
        a: A problem.
        b: Another one.
        share: Part of ``b``'s passages that ``a`` contains.
    """
    same_answer = not a.answers.isdisjoint(b.answers)
    is_larger = similarity(a, b) < MIN_SIMILARITY
    return share >= _MIN_INSIDE and same_answer and is_larger and not _replaced(a.numbers, b.numbers)


def similarity(a: Statement, b: Statement) -> float:
    """Return the Jaccard index of the sets of tokens."""
    shared = len(a.counts.keys() & b.counts.keys())
    return shared / ((len(a.counts) + len(b.counts) - shared) or 1)


def is_content(token: str) -> bool:
    """Return whether a token is a number, data, or a word that is no filler."""
    return token[0].isdigit() or token[0] == '"' or (token[0].isalpha() and token not in FILLER)


def _content(wording: Wording) -> set[str]:
    """Return the stems of the words that tell a problem from others, and the pieces of its formulas."""
    tokens = wording.tokens
    stems = {token[:STEM_LENGTH] for token in tokens if token[0].isalpha() and token not in FILLER} - _GENERIC_STEMS
    windows = (tokens[start : start + FORMULA] for start in range(len(tokens) - FORMULA + 1))
    return stems | {" ".join(window) for window in windows if not any(token[0].isalpha() for token in window)}


def _have_telling_answer(a: Statement, b: Statement) -> bool:
    """Return whether the answers agree, and not on a mere letter that was to choose."""
    return any(len(answer) > 1 or (answer and answer[0][0] != "$") for answer in a.answers & b.answers)


def _is_near(a: Statement, b: Statement, *, same_answer: bool) -> bool:
    only_a, only_b = Counter(a.counts) - Counter(b.counts), Counter(b.counts) - Counter(a.counts)
    values_a, values_b = (sum(map(_is_value, only)) for only in (only_a, only_b))
    labels_a, labels_b = ({token: n for token, n in only.items() if token[0] == "$"} for only in (only_a, only_b))
    is_renamed = (
        sorted(labels_a.values()) == sorted(labels_b.values())
        and labels_a.keys().isdisjoint(b.counts)
        and labels_b.keys().isdisjoint(a.counts)
    )
    is_relabelled = bool(labels_a and labels_b) and not is_renamed
    is_misprint = (
        sum(labels_a.values()) == sum(labels_b.values()) == 1
        and similarity(a, b) >= _MIN_MISPRINTED
        and _have_telling_answer(a, b)
    )
    if (values_a and values_b) or (is_relabelled and not is_misprint):
        return False
    if _polarity(a) != _polarity(b) and not (same_answer and similarity(a, b) >= _MIN_REWORDED):
        return False
    if same_answer:
        return True
    has_more = values_a or values_b or ((labels_a or labels_b) and not is_renamed)
    return not has_more and not any(map(is_content, only_a | only_b)) and _in_order(a) == _in_order(b)


def _is_value(token: str) -> bool:
    """Return whether a token is a number, an operator or data; bars only delimit and come and go."""
    return not token[0].isalpha() and token[0] != "$" and token != "|"


def _in_order(statement: Statement) -> list[str]:
    return [token for token in statement.wording.tokens if token[0].isdigit()]


def _replaced(a: frozenset[str], b: frozenset[str]) -> bool:
    return not (a <= b or b <= a)


def _polarity(statement: Statement) -> set[str]:
    return {_POLARITY[token] for token in statement.counts if token in _POLARITY}


_MIN_INSIDE = 0.5
"""Share of a question's passages in another one that contains it."""

_MIN_REWORDED = 0.8
"""Similarity at which "no two attack each other" may be "they do not ...", if the answers agree."""

_MIN_MISPRINTED = 0.95
"""Similarity at which one variable in place of another is a misprint, if the answers agree."""

_LEFT_HAND_SIDE = 5
"""Tokens within which an answer may name what it is: ``f(x) =``."""

_NO_ANSWER = frozenset({"^", "degree", "degrees", "dollar", "dollars", "percent", r"\$", r"\boxed", "and", "or"})

FILLER = frozenset(
    "a an the of and or is are be been being was were that which who whose this these those it its they their them we "
    "you your he she his her in on at to with for from by as into than then if when where while so such let given give "
    "suppose consider assume know known find determine calculate compute evaluate what how many much value values "
    "possible can could will would may might must should has have had having do does did there here all any each every "
    "both also respectively following denote denoted denotes called defined define some other another same satisfy "
    "satisfies satisfying please number numbers show shown see but out about take takes get gets form forms make makes "
    "made whether why because thus hence therefore now i am".split()
)
"""Words that say little about what a problem is, and change when it is told in other words."""

_GENERIC_STEMS = frozenset(
    word[:STEM_LENGTH]
    for word in "positive negative integer natural real function line point triangle angle side circle square plane "
    "area length degree number sum product value set distinct different same term first second third least greatest "
    "smallest largest maximum minimum more less than only exactly between equal equation sequence condition property "
    "form prime divided right left zero one not no non prove".split()
)
"""Stems that so many problems have that sharing them says nothing."""

_POLARITY = {
    word: sense
    for sense, words in {
        "not": "not no never without cannot non nor neither",
        "most": "maximum maximal maximize maximized largest greatest biggest highest longest",
        "least": "minimum minimal minimize minimized smallest lowest shortest",
        "even": "even",
        "odd": "odd",
        "negative": "negative",
        "increasing": "increasing",
        "decreasing": "decreasing",
        "left": "left",
        "right": "right",
        "horizontal": "horizontal",
        "vertical": "vertical",
        "above": "above",
        "below": "below",
        "irrational": "irrational",
        "composite": "composite",
    }.items()
    for word in words.split()
}
"""Words that turn a problem into another one when they are added, left out or replaced."""
