import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data.duplicates import minhash
from polaris_data.duplicates.features import hash_tokens, passages
from polaris_data.duplicates.minhash import candidate_pairs, join_sketches, sketch
from polaris_data.duplicates.wording import Wording

WORDS = st.sampled_from([f"word{letter}" for letter in "abcdefghijklmnopqrst"] + ["3", "4", "+", "$x"])
QUESTION = st.lists(WORDS, max_size=30).map(lambda words: Wording(tuple(words), ""))
QUESTIONS = st.lists(QUESTION, max_size=12)
SO_FEW_THAT_NO_PAIR_IS_GIVEN_UP = st.lists(QUESTION, max_size=minhash.MAX_NEIGHBOURS + 1)


def slow_pairs(sketches):
    """Compare every two signatures band by band, as one would write it down."""
    bands = sketches.signatures.reshape(len(sketches), minhash.NUM_BANDS, minhash.ROWS_PER_BAND)
    return [
        [a, b]
        for a in range(len(sketches))
        for b in range(a + 1, len(sketches))
        if (bands[a] == bands[b]).all(axis=1).any()
        and (sketches.signatures[a] == sketches.signatures[b]).mean() >= minhash.MIN_ESTIMATE
    ]


@settings(deadline=None)
@given(SO_FEW_THAT_NO_PAIR_IS_GIVEN_UP)
def test_candidates_are_what_comparing_every_pair_finds(wordings):
    sketches = sketch(wordings)
    assert candidate_pairs(sketches).tolist() == slow_pairs(sketches)


@settings(deadline=None)
@given(QUESTIONS, st.integers(1, 5))
def test_sketching_in_pieces_gives_the_same(wordings, size):
    whole = sketch(wordings)
    parts = join_sketches(sketch(wordings[start : start + size]) for start in range(0, len(wordings), size))
    assert (whole.keys == parts.keys).all() and (whole.numbers == parts.numbers).all()
    assert (whole.signatures == parts.signatures).all()


def test_the_share_of_equal_values_estimates_the_similarity():
    features = [f"w{number:03}" for number in range(300)]
    a, b = Wording(tuple(features[:200]), ""), Wording(tuple(features[100:]), "")
    sketches = sketch([a, b])
    estimate = (sketches.signatures[0] == sketches.signatures[1]).mean()
    assert abs(estimate - 1 / 3) < 4 * np.sqrt(1 / 3 * 2 / 3 / minhash.NUM_PERMUTATIONS)


@given(QUESTIONS)
def test_passages_are_the_runs_of_13_tokens_inside_one_question(wordings):
    grams, rows = passages(hash_tokens(wordings))
    expected = [
        (row, wording.tokens[start : start + 13])
        for row, wording in enumerate(wordings)
        for start in range(len(wording.tokens) - 12)
    ]
    assert rows.tolist() == [row for row, _ in expected]
    assert len(set(grams.tolist())) == len({run for _, run in expected})


def family(num, num_numbers):
    """Questions in the same words with ever other numbers."""
    words = tuple(f"word{number}" for number in range(60))
    return [Wording((*words, str(number % num_numbers)), "") for number in range(num)]


def test_in_a_family_those_with_the_same_numbers_are_compared():
    pairs = {tuple(pair) for pair in candidate_pairs(sketch(family(400, 100))).tolist()}
    assert {(a, b) for a in range(400) for b in range(a + 100, 400, 100)} <= pairs


@pytest.mark.parametrize("num_numbers", [1, 20, 1000])
def test_the_candidates_of_a_family_grow_with_its_size_and_not_with_its_square(num_numbers):
    for num in (500, 1000):
        assert len(candidate_pairs(sketch(family(num, num_numbers)))) <= 2 * minhash.MAX_PAIRS * num


def test_the_candidates_do_not_depend_on_the_order():
    wordings = family(200, 7)
    pairs = {frozenset((wordings[a], wordings[b])) for a, b in candidate_pairs(sketch(wordings)).tolist()}
    turned = wordings[::-1]
    assert pairs == {frozenset((turned[a], turned[b])) for a, b in candidate_pairs(sketch(turned)).tolist()}
