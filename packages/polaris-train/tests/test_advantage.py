"""Advantages: golden values of eight samples, the textbook formula, and what must hold of any group."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polaris_train.grpo.advantage import (
    completion_advantages,
    group_advantages,
    max_entropy_weight,
    max_likelihood_advantages,
    shorter_is_better,
)

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


def test_maxrl_advantages_worked_out_by_hand():
    """Two right of eight: the mean is 1/4, so a right answer gets (1 - 1/4) / (1/4) = 3, a wrong one -1."""
    found = max_likelihood_advantages(doubles([[1.0, 1.0] + [0.0] * 6, [0.0] * 8, [1.0] * 8]), eps=0.0)[[0, 2]]
    assert found.tolist() == [pytest.approx([3.0, 3.0] + [-1.0] * 6), [0.0] * 8]


def test_a_problem_that_is_never_solved_has_no_maxrl_advantage():
    assert max_likelihood_advantages(torch.zeros(1, 8)).tolist() == [[0.0] * 8]


@pytest.mark.parametrize("num_samples", [3, 5])
@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_maxrl_learns_the_log_of_the_pass_rate_as_far_as_its_samples_tell(num_samples, rate):
    """Exactly, over every outcome of independent answers that are right with probability p.

    The expected gradient is that of ``sum over k < n of (1 - p)**k`` times dp, the first terms of the series of
    ``d log p``; of the terms, the last is lost to the baseline, which counts an answer against itself.
    """
    expected = 0.0
    for outcome in range(2**num_samples):
        row = [float(outcome >> place & 1) for place in range(num_samples)]
        right = int(sum(row))
        if right:
            (advantages,) = max_likelihood_advantages(doubles([row]), eps=0.0).tolist()
            # The derivative by p of the log-probability of being right is 1 / p, of being wrong -1 / (1 - p).
            score = sum(a * (1 / rate if r else -1 / (1 - rate)) for a, r in zip(advantages, row, strict=True))
            expected += rate**right * (1 - rate) ** (num_samples - right) * score / num_samples
    series = sum((1 - rate) ** k for k in range(num_samples))
    assert expected == pytest.approx(series - (1 - rate) ** (num_samples - 1))


@pytest.mark.parametrize(
    ("pass_rate", "divergence"),
    [(0.5, 0.0), (0.0, math.log(2)), (1.0, math.log(2)), (0.25, 0.25 * math.log(0.5) + 0.75 * math.log(1.5))],
)
def test_the_weight_of_mgpo_is_that_of_the_divergence_from_a_half(pass_rate, divergence):
    assert max_entropy_weight(pass_rate, sharpness=2.0) == pytest.approx(math.exp(-2.0 * divergence))
    assert max_entropy_weight(pass_rate, sharpness=0.0) == 1.0


def test_rewards_move_from_long_to_short_correct_answers_worked_out_by_hand():
    """Inverse lengths 1/2, 1/4 and 1/4 (the wrong answer has none): mean 1/3, distances 1/6, -1/12, -1/12."""
    found = shorter_is_better([1.0, 0.0, 1.0, 1.0], [2, 1, 4, 4], weight=0.2)
    assert found == pytest.approx([1.2, 0.0, 0.9, 0.9])


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 50_000)), min_size=2, max_size=16),
    st.floats(0.01, 0.9),
)
def test_what_short_answers_gain_the_long_ones_lose_and_wrong_ones_see_none_of_it(answers, weight):
    rewards, lengths = [float(right) for right, _ in answers], [length for _, length in answers]
    found = shorter_is_better(rewards, lengths, weight=weight)
    assert sum(found) == pytest.approx(sum(rewards), abs=1e-9)
    for (right, length), reward in zip(answers, found, strict=True):
        assert (1 - weight - 1e-9 <= reward <= 1 + weight + 1e-9) if right else reward == 0
        assert not right or all(
            reward >= other - 1e-9
            for (also, longer), other in zip(answers, found, strict=True)
            if also and longer >= length
        )


@pytest.mark.parametrize(("rewards", "lengths"), [([0.0, 0.0], [3, 4]), ([1.0, 0.0], [3, 4]), ([1.0] * 3, [725] * 3)])
def test_where_no_two_correct_answers_differ_in_length_rewards_stay(rewards, lengths):
    assert shorter_is_better(rewards, lengths, weight=0.2) == rewards


def test_the_parts_of_an_advantage_work_together():
    """Rewards 1.2, 0.8, 0, 0 after the lengths, of mean 1/2; a pass rate of a half counts fully, with any sharpness."""
    found = completion_advantages(
        [1.0, 1.0, 0.0, 0.0], [10, 20, 5, 5], normalize_std=False, max_tokens=99, overlong_cache=None,
        normalize_mean=True, mgpo_lambda=3.0, long2short=0.2,
    )  # fmt: skip
    assert found == pytest.approx([1.4, 0.6, -1.0, -1.0], abs=1e-5)
    weighed = completion_advantages(
        [1.0, 0.0, 0.0, 0.0], [9] * 4, normalize_std=False, max_tokens=99, overlong_cache=None, mgpo_lambda=3.0
    )
    weight = max_entropy_weight(0.25, sharpness=3.0)
    assert weighed == pytest.approx([0.75 * weight] + [-0.25 * weight] * 3)
    alike = completion_advantages(
        [1.0, 1.0], [3, 9], normalize_std=True, max_tokens=99, overlong_cache=None, long2short=0.2
    )
    assert alike == [0.0, 0.0]
