"""Weights for what another program sampled: each correction as a loop over tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polaris_train.grpo.loss import mismatch_weights

pytestmark = pytest.mark.numerics

logprob_pairs = st.lists(st.tuples(st.floats(-9, 0), st.floats(-9, 0)), min_size=1, max_size=20)


def weights(old, engine, sequences=None, **options):
    rows = (torch.tensor(row, dtype=torch.float64) for row in (old, engine))
    index = torch.tensor(sequences) if sequences else torch.arange(len(old))
    return mismatch_weights(*rows, index, **{"low": 0.5, "high": 2.0} | options)


def slow_weight(old, engine, correction):
    rho = math.exp(old) / math.exp(engine)
    if correction == "none":
        return 1.0
    if correction == "truncate":
        return rho if rho < 2.0 else 2.0
    return rho if 0.5 <= rho <= 2.0 else 0.0


@pytest.mark.parametrize(
    ("correction", "expected"),
    [("truncate", [0.25, 0.5, 1.5, 2.0]), ("mask", [0.0, 0.5, 1.5, 0.0]), ("none", [1.0] * 4)],
)
def test_weights_match_cases_worked_out_by_hand(correction, expected):
    """The trainer gives the tokens 1/4, 1/2, 3/2 and 8 times the engine's probability."""
    old = [math.log(0.05 * ratio) for ratio in (0.25, 0.5, 1.5, 8.0)]
    found = weights(old, [math.log(0.05)] * 4, correction=correction, low=0.499)
    assert found.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("correction", ["truncate", "mask", "none"])
@given(pairs=logprob_pairs)
def test_weights_are_those_of_a_loop_over_the_tokens(correction, pairs):
    old, engine = zip(*pairs, strict=True)
    expected = [slow_weight(*pair, correction) for pair in pairs]
    assert weights(old, engine, correction=correction).tolist() == pytest.approx(expected, rel=1e-9)


def test_the_geometric_band_keeps_or_drops_a_sequence_as_a_whole_worked_out_by_hand():
    """Ratios 2 and 1/2 have the geometric mean 1; 1.02, 1.02, 1.02 have 1.02; 4 and 1/4 have 1, and 4 is cut at 2."""
    ratios = [2.0, 0.5, 1.02, 1.02, 1.02, 4.0, 0.25]
    found = weights(
        [math.log(0.05 * ratio) for ratio in ratios], [math.log(0.05)] * 7, [0, 0, 1, 1, 1, 2, 2],
        correction="geometric", low=0.99, high=1.01,
    )  # fmt: skip
    assert found.tolist() == pytest.approx([2.0, 0.5, 0.0, 0.0, 0.0, 2.0, 0.25])


@given(rows=st.lists(st.tuples(st.floats(-9, 0), st.floats(-0.05, 0.05), st.integers(0, 3)), min_size=1, max_size=20))
def test_the_geometric_weights_are_those_of_a_loop_over_the_sequences(rows):
    expected = []
    for _, ratio, sequence in rows:
        ratios = [other for _, other, number in rows if number == sequence]
        mean = sum(ratios) / len(ratios)
        if abs(abs(math.exp(mean) - 1) - 0.01) < 1e-9:
            return  # on the border rounding decides
        expected.append(math.exp(ratio) if 0.99 <= math.exp(mean) <= 1.01 else 0.0)
    engine, ratios, sequences = (list(row) for row in zip(*rows, strict=True))
    old = [before + ratio for before, ratio in zip(engine, ratios, strict=True)]
    found = weights(old, engine, sequences, correction="geometric", low=0.99, high=1.01)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("correction", ["truncate", "mask", "geometric", "none"])
def test_no_gradient_flows_through_the_weights(correction):
    old = torch.tensor([-1.0, -2.0], requires_grad=True)
    found = mismatch_weights(
        old, torch.tensor([-1.1, -1.9]), torch.tensor([0, 0]), correction=correction, low=0.5, high=2.0
    )
    assert not found.requires_grad


@pytest.mark.parametrize("correction", ["truncate", "mask", "geometric"])
def test_a_token_that_the_engine_all_but_excluded_does_not_overflow(correction):
    found = weights([-0.1, -500.0], [-500.0, -0.1], correction=correction)
    assert torch.isfinite(found).all()


def test_truncated_weights_keep_the_expected_gradient_where_no_weight_is_cut():
    """Exactly, over every token: the engine's mean of ``rho * score`` is the policy's mean of ``score``."""
    generator = torch.Generator().manual_seed(0)
    policy = torch.randn(7, dtype=torch.float64, generator=generator).log_softmax(0)
    engine = (policy + 0.1 * torch.randn(7, dtype=torch.float64, generator=generator)).log_softmax(0)
    score = torch.randn(7, dtype=torch.float64, generator=generator)
    rho = mismatch_weights(policy, engine, torch.arange(7), correction="truncate", low=0.5, high=2.0)
    assert torch.allclose((engine.exp() * rho * score).sum(), (policy.exp() * score).sum(), atol=1e-12)
