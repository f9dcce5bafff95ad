"""pass@k, votes and choices against all subsets, one by one."""

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_eval.scores.votes import (
    best_of,
    g_pass_at_k,
    majority_at_k,
    mean_g_pass_at_k,
    pass_at_k,
    weighted_vote,
)


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_completion(correct, data):
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(itertools.combinations(correct, k))
    assert pass_at_k(correct, k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


SHARES = [0.1, 0.25, 0.5, 0.7, 0.75, 1.0]


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.sampled_from(SHARES), st.data())
def test_g_pass_at_k_is_the_share_of_subsets_with_enough_correct_completions(correct, share, data):
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(itertools.combinations(correct, k))
    enough = [100 * sum(subset) >= round(100 * share) * k for subset in subsets]
    assert g_pass_at_k(correct, k, share) == pytest.approx(sum(enough) / len(subsets))


@given(st.lists(st.booleans(), min_size=1, max_size=10), st.data())
def test_its_mean_adds_up_the_thresholds_above_one_half(correct, data):
    k = data.draw(st.integers(1, len(correct)))
    subsets = list(itertools.combinations(correct, k))
    first = math.ceil(k / 2) + 1
    shares = [sum(sum(subset) >= least for subset in subsets) / len(subsets) for least in range(first, k + 1)]
    assert mean_g_pass_at_k(correct, k) == pytest.approx(2 / k * sum(shares))


def test_stable_is_between_never_and_always():
    correct = [True, True, True, False]
    assert g_pass_at_k(correct, 2, 1.0) == pytest.approx(3 / 6)  # of the six pairs three hold no wrong one
    assert g_pass_at_k(correct, 2, 0.5) == 1.0 == pass_at_k(correct, 2)
    assert mean_g_pass_at_k([True] * 8, 4) == 1.0
    assert mean_g_pass_at_k([False] * 8, 4) == 0.0
    with pytest.raises(ValueError, match="share is 0; give a number above 0"):
        g_pass_at_k(correct, 2, 0)


def slow_majority(votes, winner):
    counts = Counter(vote for vote in votes if vote is not None)
    if not counts:
        return 0.0
    top = [vote for vote, count in counts.items() if count == max(counts.values())]
    return (winner in top) / len(top)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=9), st.data())
def test_majority_at_k_is_the_mean_vote_over_all_subsets(votes, data):
    k = data.draw(st.integers(1, len(votes)))
    winner = data.draw(st.one_of(st.none(), st.integers(0, 4)))
    expected = [
        slow_majority(subset, winner) if winner is not None else 0.0 for subset in itertools.combinations(votes, k)
    ]
    assert majority_at_k(votes, winner, k) == pytest.approx(math.fsum(expected) / len(expected))


def test_a_tie_counts_for_its_share():
    assert majority_at_k(["7", "7", "9", "9", None], "7", 5) == 0.5


def test_one_vote_is_the_share_of_correct_completions():
    assert majority_at_k(["7", "9", "7", None], "7", 1) == 0.5


def test_no_answer_at_all_is_wrong():
    assert majority_at_k([None, None], None, 2) == 0.0


@pytest.mark.parametrize("k", [0, 4])
def test_more_completions_than_there_are_cannot_be_looked_at(k):
    for metric in (lambda: pass_at_k([True] * 3, k), lambda: majority_at_k(["1"] * 3, "1", k)):
        with pytest.raises(ValueError, match=f"k is {k}, but there are 3 completions"):
            metric()


def test_a_heavy_vote_outweighs_two_light_ones():
    assert weighted_vote(["9", "9", "7"], [0.2, 0.3, 0.9], "7") == 1.0
    assert weighted_vote(["9", "9", "7"], [0.2, 0.8, 1.0], "7") == 0.5
    assert weighted_vote([None], [1.0], "7") == 0.0


def test_the_best_scored_completion_is_chosen():
    assert best_of([True, False, False], [0.9, 0.1, 0.5]) == 1.0
    assert best_of([True, False, False], [0.5, 0.1, 0.5]) == 0.5
