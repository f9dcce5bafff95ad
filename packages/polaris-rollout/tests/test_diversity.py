"""Diversity: the published score, the estimate that depends on neither number nor length, and their intervals."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_rollout.errors import SettingError
from polaris_rollout.temperature.diversity import (
    answer_entropy,
    bootstrap_interval,
    default_num_tokens,
    distinct_n,
    expected_distinct_n,
    token_entropy,
)

LETTERS = "ab\0é漢😀\ud800 \t\n\x1c\x85\xa0\u2003\u200b\u3000"
TEXTS = st.lists(st.text(LETTERS, max_size=40), max_size=5)


def by_sets(texts, n):
    """The published score as one would write it down."""
    ngrams = [tuple(words[i : i + n]) for words in map(str.split, texts) for i in range(len(words) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def by_subsets(texts, num_samples, num_tokens, n):
    """The expectation by its definition: the mean over every subset of the samples that fill the window."""
    windows = [words[:num_tokens] for words in map(str.split, texts) if len(words) >= num_tokens]
    subsets = itertools.combinations([" ".join(words) for words in windows], num_samples)
    shares = [by_sets(subset, n) for subset in subsets]
    return sum(shares) / len(shares) if shares else math.nan


def zipf_texts(rng, num_texts, num_words):
    """Independent words, a few of them frequent."""
    shares = 1 / np.arange(1, 16)
    drawn = rng.choice(15, size=(num_texts, num_words), p=shares / shares.sum())
    return [" ".join(f"w{word}" for word in row) for row in drawn]


@pytest.mark.parametrize(
    ("texts", "score"),
    [
        (["a b c d e", "a b c d f"], 0.75),
        (["a b c d"] * 4, 0.25),
        (["a a a a a a"], 1 / 3),
        (["a b c", ""], 0.0),
        ([], 0.0),
        (["A b c d", "a b c d"], 1.0),
        (["a\u2003b\nc\td", "a b c d"], 0.5),
        ([r"\frac{a}{b} = c d"], 1.0),
    ],
)
def test_the_score_is_the_published_one(texts, score):
    assert distinct_n([texts]).tolist() == [pytest.approx(score, abs=1e-12)]


@settings(deadline=None)
@given(TEXTS, st.integers(1, 4))
def test_the_score_equals_a_set_of_tuples_on_any_text(texts, n):
    assert distinct_n([texts], n)[0] == pytest.approx(by_sets(texts, n), abs=1e-12)


def test_long_words_that_share_all_but_one_letter_are_told_apart():
    words = ["x" * i + "y" + "x" * (39 - i) for i in range(40)] + ["x" * i for i in range(1, 41)]
    assert distinct_n([[word, word] for word in words], 1).tolist() == [0.5] * 80
    assert distinct_n([words], 1).tolist() == [1.0]
    assert distinct_n([["".join(bits) for bits in itertools.product("01", repeat=12)]], 1).tolist() == [1.0]


def test_a_word_without_end_is_one_word():
    assert distinct_n([["0" * 100_000, "0" * 100_001]], 1).tolist() == [1.0]


def test_problems_are_scored_apart():
    assert distinct_n([["a b", "a b"], ["a b"]], 2).tolist() == [0.5, 1.0]


@settings(deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=9).map(" ".join), max_size=6),
    st.integers(1, 4),
    st.integers(2, 6),
    st.integers(1, 2),
)
def test_the_expectation_equals_the_mean_over_every_subset(texts, num_samples, num_tokens, n):
    value = expected_distinct_n([texts], num_samples=num_samples, num_tokens=num_tokens, n=n)[0]
    assert value == pytest.approx(by_subsets(texts, num_samples, num_tokens, n), abs=1e-12, nan_ok=True)


@pytest.fixture(scope="module")
def true_share():
    """The distinct share of 4 samples of 60 words, over many draws of exactly these."""
    rng = np.random.default_rng(0)
    return np.mean([by_sets(zipf_texts(rng, 4, 60), 4) for _ in range(2000)])


@pytest.mark.parametrize("num_drawn", [4, 8, 16, 32])
@pytest.mark.parametrize("times_longer", [1, 3, 10])
def test_the_expectation_depends_on_neither_number_nor_length_of_the_samples(num_drawn, times_longer, true_share):
    rng = np.random.default_rng(num_drawn * times_longer)
    texts = [zipf_texts(rng, num_drawn, 60 * times_longer) for _ in range(40)]
    values = expected_distinct_n(texts, num_samples=4, num_tokens=60)
    assert abs(values.mean() - true_share) < 4 * values.std() / math.sqrt(40)
    if (num_drawn, times_longer) != (4, 1):
        assert distinct_n(texts).mean() < true_share - 0.02


def test_short_samples_are_left_out_and_their_problem_has_no_value():
    whole = "a b c d e"
    values = expected_distinct_n([[whole, "a b c", whole], [whole, "a b"], [whole]], num_samples=2, num_tokens=5)
    assert values.tolist() == pytest.approx([0.5, math.nan, math.nan], nan_ok=True)


@pytest.mark.parametrize("on_hard", [False, True])
def test_cutting_answers_beyond_the_window_changes_neither_window_nor_diversity(on_hard):
    rng = np.random.default_rng(7)
    lengths = np.sort(rng.integers(30, 200, size=(20, 6)), axis=0)
    whole = [[rng.integers(5, size=length) for length in row] for row in lengths]
    window = default_num_tokens(whole)
    assert window < 60
    # A budget of 60 tokens ends most answers: of all problems, or of the long-winded ones.
    cut = [[ids[:60] if not on_hard or index >= 10 else ids for ids in row] for index, row in enumerate(whole)]
    assert default_num_tokens(cut) == window
    values = [expected_distinct_n(each, num_samples=4, num_tokens=window) for each in (whole, cut)]
    assert values[0].tolist() == pytest.approx(values[1].tolist(), nan_ok=True)


def test_the_default_window_is_filled_by_nearly_all_samples_of_nearly_all_problems():
    rng = np.random.default_rng(2)
    lengths = rng.lognormal(5, 0.5, size=(50, 1)) * rng.lognormal(0, 0.4, size=(50, 16))
    texts = [["w " * int(length) for length in row] for row in lengths]
    window = default_num_tokens(texts)
    filled = (lengths >= window + 1).mean(axis=1)
    assert 0.85 <= (filled >= 0.85).mean() <= 0.98


def test_the_default_window_holds_an_ngram():
    assert default_num_tokens([["a b"]]) == 4
    with pytest.raises(SettingError, match="no response"):
        default_num_tokens([[]])


def test_the_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    intervals = [bootstrap_interval(rng.beta(4, 2, size=30), seed=seed, num_resamples=500) for seed in range(400)]
    covered = sum(each.low <= 4 / 6 <= each.high for each in intervals) / 400
    assert 0.91 <= covered <= 0.98


def test_the_interval_leaves_problems_without_a_value_out():
    values = [0.2, 0.4, 0.6, 0.8, 0.5]
    interval = bootstrap_interval([*values, math.nan])
    assert interval == bootstrap_interval(values)
    assert interval.value == pytest.approx(0.5)
    assert interval.low < interval.value < interval.high
    assert interval != bootstrap_interval(values, seed=1)


def test_too_few_problems_have_no_interval():
    with pytest.raises(SettingError, match=r"3 problems have a value \(1 have none\).*at least 4"):
        bootstrap_interval([0.1, 0.2, 0.3, math.nan])


@pytest.mark.parametrize(
    "call",
    [
        lambda: distinct_n([["a"]], 0),
        lambda: expected_distinct_n([["a"]], num_samples=0, num_tokens=4),
        lambda: expected_distinct_n([["a"]], num_samples=1, num_tokens=3),
        lambda: bootstrap_interval([0.1] * 9, level=95),
        lambda: answer_entropy([]),
    ],
)
def test_impossible_settings_are_refused(call):
    with pytest.raises(SettingError):
        call()


def test_answers_that_agree_have_no_entropy_and_missing_ones_never_agree():
    assert answer_entropy(["7"] * 8) == 0
    assert answer_entropy(["7", "7", "8", "8"]) == pytest.approx(math.log(2))
    assert answer_entropy([None] * 8) == pytest.approx(math.log(8))
    assert answer_entropy(["7", "7", None, None]) == pytest.approx(1.5 * math.log(2))


def test_token_entropy_is_the_mean_over_all_sampled_tokens():
    assert token_entropy([[-1.0, -2.0, -3.0], [-6.0], []]) == pytest.approx(3.0)
    assert math.isnan(token_entropy([[]]))


def test_token_entropy_estimates_the_entropy_of_the_sampling_distribution():
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    drawn = np.random.default_rng(3).choice(4, size=(8, 5000), p=shares)
    expected = -(shares * np.log(shares)).sum()
    assert token_entropy(np.log(shares)[drawn].tolist()) == pytest.approx(expected, abs=0.02)
