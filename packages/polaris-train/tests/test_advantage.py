"""Advantages: golden values of eight samples, the textbook formula, and what must hold of any group."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polaris_train.grpo.advantage import group_advantages

pytestmark = pytest.mark.numerics

GOLDEN = {  # k correct of 8: advantage of a correct and of a wrong completion, unbiased standard deviation
    1: (2.474874, -0.353553),
    2: (1.620185, -0.540062),
    3: (1.207615, -0.724569),
    4: (0.935414, -0.935414),
    5: (0.724569, -1.207615),
    6: (0.540062, -1.620185),
    7: (0.353553, -2.474874),
}

reward_rows = st.integers(2, 9).flatmap(
    lambda size: st.lists(st.lists(st.floats(-5, 5, width=32), min_size=size, max_size=size), min_size=1, max_size=6)
)


def doubles(rows):
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(("num_correct", "expected"), GOLDEN.items())
def test_advantages_of_eight_samples_are_the_published_ones(num_correct, expected):
    rewards = doubles([[1.0] * num_correct + [0.0] * (8 - num_correct)])
    advantages = group_advantages(rewards, eps=0.0)[0]
    assert advantages[0].item() == pytest.approx(expected[0], abs=1e-6)
    assert advantages[-1].item() == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize("num_correct", [0, 8])
def test_a_group_of_equal_rewards_gives_no_gradient(num_correct):
    assert group_advantages(torch.tensor([[float(num_correct > 0)] * 8])).tolist() == [[0.0] * 8]


@given(reward_rows)
def test_advantages_are_those_of_the_textbook(rows):
    expected = [[(reward - statistics.fmean(row)) / (statistics.stdev(row) + 1e-6) for reward in row] for row in rows]
    assert torch.allclose(group_advantages(doubles(rows)), doubles(expected), rtol=1e-9, atol=1e-8)


@given(reward_rows)
def test_without_the_standard_deviation_rewards_are_only_centered(rows):
    expected = [[reward - statistics.fmean(row) for reward in row] for row in rows]
    assert torch.allclose(group_advantages(doubles(rows), normalize_std=False), doubles(expected), atol=1e-12)


@given(reward_rows, st.booleans())
def test_advantages_of_a_group_add_up_to_zero_and_do_not_see_other_groups(rows, normalize_std):
    advantages = group_advantages(doubles(rows), normalize_std=normalize_std)
    assert advantages.sum(dim=1).abs().max() < 1e-7
    alone = torch.cat([group_advantages(doubles([row]), normalize_std=normalize_std) for row in rows])
    assert torch.allclose(alone, advantages, rtol=1e-12)


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="groups have 1 samples"):
        group_advantages(torch.ones(3, 1))
