"""How different the completions of one problem are from each other: n-grams, answers, tokens.

The published score, `distinct_n`, falls with the number of samples and with their length, because common n-grams
repeat: two figures compare only at equal numbers and lengths. `expected_distinct_n` asks for the same ratio at a
fixed number of samples and tokens, whatever was drawn, answers that the token budget ended included.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from polaris_rollout.errors import SettingError

WINDOW_QUANTILE = 0.1
"""Share of a problem's samples, and of the problems, that may be shorter than the derived window."""

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio, made odd
_IS_SPACE = np.array([chr(code).isspace() for code in range(128)] + [False] * 128)
_WIDE_SPACES = [chr(code) for code in range(128, 0x3001) if chr(code).isspace()]


Sample = str | NDArray[np.int64]
"""A response: its text, whose tokens are the words between whitespace, or the ``[T]`` ids of a model's tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure and how far it may be from that over all problems of the kind."""

    value: float
    """Best estimate; a mean is over the problems that have a value."""

    low: float
    """Lower end."""

    high: float
    """Upper end."""


def distinct_n(texts_by_problem: Sequence[Sequence[str]], n: int = 4) -> NDArray[np.float64]:
    """Return, for each problem, the share of n-grams that are distinct among all its responses.

    As published with POLARIS: words are what whitespace separates, n-grams slide within a response, and those of
    all responses are pooled. The score of a model is the mean over problems.

    Args:
        texts_by_problem: ``[problem][sample]`` responses.
        n: Words of an n-gram.

    Returns:
        ``[problem]`` distinct n-grams divided by all n-grams; 0 where no response has ``n`` words.

    Raises:
        SettingError: If ``n`` is not positive.

    References:
        Li et al., "A Diversity-Promoting Objective Function", 2016. https://arxiv.org/abs/1510.03055
        An et al., "POLARIS", 2025. https://hkunlp.github.io/blog/2025/Polaris
    """
    _check_positive(n=n)
    return np.array([_distinct_share([_ngrams(_word_hashes(text), n) for text in texts]) for texts in texts_by_problem])


def expected_distinct_n(
    samples_by_problem: Sequence[Sequence[Sample]],
    *,
    num_samples: int,
    num_tokens: int,
    n: int = 4,
) -> NDArray[np.float64]:
    """Return, for each problem, the distinct share expected of ``num_samples`` samples of ``num_tokens`` tokens.

    Every usable sample is cut to its first ``num_tokens`` tokens, so all have the same number of n-grams and every
    one is read at the same positions: a window anywhere else would lie in another part of the argument in a long
    response than in a short one. The mean over all subsets of ``num_samples`` of the ``m`` usable samples is exact:
    a subset misses an n-gram that ``c`` samples contain with probability ``C(m - c, k) / C(m, k)``. It is an
    unbiased estimate of the same quantity for every ``m``.

    A sample that the token budget ended is known up to there, and that is beyond the window: it counts as any other.
    Without it, a problem that is hard at a temperature would have no value there. Samples shorter than the window are
    left out, which `default_num_tokens` keeps few.

    Args:
        samples_by_problem: ``[problem][sample]`` responses: texts, or token ids, whose count does not depend on how
            a formula is spaced.
        num_samples: Of a subset, ``k``.
        num_tokens: Of the window, at least ``n``; the same for all figures compared.
        n: Tokens of an n-gram.

    Returns:
        ``[problem]`` distinct n-grams divided by all n-grams; NaN where fewer than ``num_samples`` are usable.

    Raises:
        SettingError: If a number is too small.

    References:
        Hurlbert, "The Nonconcept of Species Diversity", 1971. https://doi.org/10.2307/1934145
    """
    _check_positive(n=n, num_samples=num_samples)
    if num_tokens < n:
        raise SettingError(f"num_tokens is {num_tokens}, which holds no {n}-gram; give at least {n}")
    return np.array(
        [
            _expected_share(_windows(samples, num_tokens, n), num_samples, num_tokens - n + 1)
            for samples in samples_by_problem
        ]
    )


def default_num_tokens(samples_by_problem: Sequence[Sequence[Sample]], *, n: int = 4) -> int:
    """Derive a window for `expected_distinct_n` that nearly all samples of nearly all problems fill.

    The tenth percentile of the lengths within each problem, and of these over the problems. How long a sample would
    have become that the token budget ended does not matter so far below: it has at least the length it has. Derive the
    window once, from everything that is to be compared: figures of different windows do not compare.

    Returns:
        A number of tokens, at least ``n``.

    Raises:
        SettingError: If there is no response.
    """
    lengths = [
        [len(sample.split()) if isinstance(sample, str) else len(sample) for sample in samples]
        for samples in samples_by_problem
    ]
    low = [np.quantile(each, WINDOW_QUANTILE, method="lower") for each in lengths if each]
    if not low:
        raise SettingError("there is no response, so there is no length to measure; give at least one")
    return max(n, int(np.quantile(low, WINDOW_QUANTILE, method="lower")))


def bootstrap_interval(
    values_per_problem: Sequence[float] | NDArray[np.float64],
    *,
    level: float = 0.95,
    seed: int = 0,
    num_resamples: int = 2000,
) -> Interval:
    """Return the mean over problems with a bootstrap interval: problems are drawn anew, with replacement.

    Percentiles of the resampled means, stretched about the mean by ``sqrt(P / (P - 1))`` because a resample of
    ``P`` problems spreads that much too little. Samples of one problem stay together, so the interval holds for
    problems not yet seen: from 20 problems on nearly as often as it says, with 4 about 15 in 100 fewer.

    Args:
        values_per_problem: ``[problem]`` values; NaN ones are left out.
        level: Share of such intervals that should hold the true mean.
        seed: Of the resampling.
        num_resamples: Means drawn.

    Raises:
        SettingError: If a resample can be all one problem so often (``P ** -P``) that the interval would end at
            the smallest or largest value: fewer than 4 problems for 0.95.
    """
    if not 0 < level < 1:
        raise SettingError(f"level is {level!r}; give a number between 0 and 1, such as 0.95")
    _check_positive(num_resamples=num_resamples)
    values = np.asarray(values_per_problem, dtype=np.float64)
    usable = values[~np.isnan(values)]
    num_needed = next(count for count in range(2, 100) if count**-count <= (1 - level) / 2)
    if len(usable) < num_needed:
        raise SettingError(
            f"{len(usable)} problems have a value ({len(values) - len(usable)} have none), too few for an interval "
            f"at {level}; give at least {num_needed}"
        )
    mean = float(usable.mean())
    drawn = np.random.default_rng(seed).integers(len(usable), size=(num_resamples, len(usable)))
    spread = (usable[drawn].mean(axis=1) - mean) * math.sqrt(len(usable) / (len(usable) - 1))
    low, high = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=mean, low=mean + float(low), high=mean + float(high))


def answer_entropy(answers: Sequence[str | None]) -> float:
    """Return the entropy of the final answers of one problem, in nats: 0 where all samples agree.

    A missing answer agrees with nothing, not even with another missing one, so that gibberish does not pass for
    self-consistency. At most ``log(len(answers))``: compare at equal numbers of samples.

    Args:
        answers: Of each sample; equal answers must be equal texts.

    Raises:
        SettingError: If there are no answers.
    """
    _check_positive(num_answers=len(answers))
    counts = Counter(index if answer is None else answer for index, answer in enumerate(answers))
    shares = np.array(list(counts.values())) / len(answers)
    return float(-(shares * np.log(shares)).sum()) + 0.0


def token_entropy(logprobs_by_sample: Sequence[Sequence[float]]) -> float:
    """Return the mean of ``-logprob`` over the sampled tokens of one problem, in nats; NaN without tokens.

    A Monte-Carlo estimate of the mean entropy of the sampling distribution, for log-probabilities under that very
    distribution.

    Args:
        logprobs_by_sample: ``[sample][token]`` log-probabilities of the sampled tokens.
    """
    num_tokens = sum(map(len, logprobs_by_sample))
    return -math.fsum(map(math.fsum, logprobs_by_sample)) / num_tokens if num_tokens else math.nan


def _ngrams(words: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Hash each n-gram of hashed words; a million n-grams hold two with the same hash once in ten million texts."""
    num_ngrams = max(0, len(words) - n + 1)
    hashes = words[:num_ngrams].copy()
    for offset in range(1, n):
        hashes = _mixed(hashes) + words[offset : offset + num_ngrams]
    return hashes


def _word_hashes(text: str, max_words: int | None = None) -> NDArray[np.uint64]:
    """Hash each of the first words of ``text.split()``, without making an object of each."""
    data, starts, ends = _word_bounds(text)
    starts, ends = starts[:max_words], ends[:max_words]
    if not len(starts):
        return np.empty(0, dtype=np.uint64)
    lengths = ends - starts
    num_chunks = (lengths + 7) // 8
    first_chunks = np.cumsum(num_chunks) - num_chunks
    offsets = 8 * (np.arange(num_chunks.sum()) - np.repeat(first_chunks, num_chunks))
    eight_bytes = np.ndarray(len(data) - 7, dtype="<u8", buffer=data, strides=(1,))
    chunks = eight_bytes[np.repeat(starts, num_chunks) + offsets]
    beyond_word = np.maximum(offsets + 8 - np.repeat(lengths, num_chunks), 0)
    chunks <<= (8 * beyond_word).view(np.uint64)
    chunks = _mixed(_mixed(chunks) + offsets.view(np.uint64))
    return _mixed(np.add.reduceat(chunks, first_chunks) + lengths.view(np.uint64))


def _word_bounds(text: str) -> tuple[bytes, NDArray[np.int64], NDArray[np.int64]]:
    """Return the text as bytes, and where each of its words starts and ends."""
    if not text.isascii():
        for space in _WIDE_SPACES:
            text = text.replace(space, " ")
    data = b" " + text.encode("utf-8", "surrogatepass") + b" " * 8
    is_space = _IS_SPACE[np.frombuffer(data, dtype=np.uint8)]
    borders = np.flatnonzero(is_space[1:] != is_space[:-1]) + 1
    return data, borders[::2], borders[1::2]


def _mixed(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit of each number over all of its bits, one to one."""
    hashes = hashes ^ (hashes >> np.uint64(32))
    hashes *= _MULTIPLIER
    hashes ^= hashes >> np.uint64(29)
    return hashes


def _distinct_share(ngrams_by_sample: Sequence[NDArray[np.uint64]]) -> float:
    num_ngrams = sum(map(len, ngrams_by_sample))
    return len(_run_starts(np.sort(np.concatenate(ngrams_by_sample)))) / num_ngrams if num_ngrams else 0.0


def _run_starts(in_order: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return where each run of equal hashes starts; with a sort before it, this is faster than ``np.unique``."""
    return np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]]))


def _windows(samples: Sequence[Sample], num_tokens: int, n: int) -> list[NDArray[np.uint64]]:
    """Return the distinct n-grams of the first ``num_tokens`` tokens of each response that has as many."""
    tokens = (
        _word_hashes(sample, num_tokens) if isinstance(sample, str) else sample[:num_tokens].astype(np.uint64)
        for sample in samples
    )
    in_order = [np.sort(_ngrams(each, n)) for each in tokens if len(each) == num_tokens]
    return [each[_run_starts(each)] for each in in_order]


def _expected_share(windows: Sequence[NDArray[np.uint64]], num_samples: int, num_ngrams: int) -> float:
    num_windows = len(windows)
    if num_windows < num_samples:
        return math.nan
    in_order = np.sort(np.concatenate(windows))
    num_containing = np.bincount(np.diff(_run_starts(in_order), append=len(in_order)), minlength=num_windows + 1)
    subsets = math.comb(num_windows, num_samples)
    present = [1 - math.comb(num_windows - c, num_samples) / subsets for c in range(num_windows + 1)]
    return float(num_containing @ np.array(present)) / (num_samples * num_ngrams)


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise SettingError(f"{name} is {value}; give 1 or more")
