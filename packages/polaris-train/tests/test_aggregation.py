"""How much each token counts: the three denominators as loops over copies of the sequences."""

from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from polaris_train.grpo.weights import token_weights

AGGREGATIONS = ("token-mean", "sequence-mean", "constant")
MAX_TOKENS = 60

counted_lengths = st.lists(st.tuples(st.integers(1, MAX_TOKENS), st.integers(0, 3)), min_size=1, max_size=12)


def mean_loss(losses, aggregation):
    """The loss of ``[sequence][token]`` losses as each paper writes it down."""
    if aggregation == "token-mean":
        flat = [loss for row in losses for loss in row]
        return sum(flat) / len(flat)
    if aggregation == "sequence-mean":
        return sum(sum(row) / len(row) for row in losses) / len(losses)
    return sum(sum(row) for row in losses) / (len(losses) * MAX_TOKENS)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("token-mean", [1 / 8, 2 / 8]), ("sequence-mean", [1 / 6, 2 / 9]), ("constant", [1 / 30, 2 / 30])],
)
def test_weights_match_a_case_worked_out_by_hand(aggregation, expected):
    """Two tokens that count once and three that count twice; at most ten in an answer."""
    assert token_weights([2, 3], [1, 2], aggregation=aggregation, max_tokens=10) == pytest.approx(expected)


@given(counted_lengths, st.sampled_from(AGGREGATIONS), st.integers(0, 1000))
def test_the_weighted_sum_is_the_mean_loss_with_every_sequence_repeated_as_often_as_it_counts(
    counted, aggregation, seed
):
    assume(any(count for _, count in counted))
    random = Random(seed)
    losses = [[random.gauss(0, 1) for _ in range(length)] for length, _ in counted]
    repeated = [row for row, (_, count) in zip(losses, counted, strict=True) for _ in range(count)]
    lengths, counts = zip(*counted, strict=True)
    weights = token_weights(lengths, counts, aggregation=aggregation, max_tokens=MAX_TOKENS)
    weighted = sum(weight * sum(row) for weight, row in zip(weights, losses, strict=True))
    assert weighted == pytest.approx(mean_loss(repeated, aggregation), abs=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_a_step_in_which_nothing_counts_has_no_loss(aggregation):
    assert token_weights([4, 2], [0, 0], aggregation=aggregation, max_tokens=10) == [0.0, 0.0]
    assert token_weights([], [], aggregation=aggregation, max_tokens=10) == []
