"""Advantages, losses and log-probabilities against hand cases and slow, obvious formulations."""

import math

import pytest
import torch
from polaris_train.advantage import group_advantages
from polaris_train.logprobs import token_logprobs
from polaris_train.loss import clipped_loss

GOLDEN = {  # k correct of 8: advantage of a correct and of a wrong completion, unbiased standard deviation
    1: (2.474874, -0.353553),
    2: (1.620185, -0.540062),
    3: (1.207615, -0.724569),
    4: (0.935414, -0.935414),
    7: (0.353553, -2.474874),
}


@pytest.mark.parametrize(("num_correct", "expected"), GOLDEN.items())
def test_advantages_of_eight_samples_are_the_published_ones(num_correct, expected):
    rewards = torch.tensor([[1.0] * num_correct + [0.0] * (8 - num_correct)], dtype=torch.float64)
    advantages = group_advantages(rewards, eps=0.0)[0]
    assert advantages[0].item() == pytest.approx(expected[0], abs=1e-6)
    assert advantages[-1].item() == pytest.approx(expected[1], abs=1e-6)


def test_a_group_of_equal_rewards_gives_no_gradient():
    assert group_advantages(torch.tensor([[1.0] * 4, [0.0] * 4])).tolist() == [[0.0] * 4] * 2


def test_advantages_of_a_group_add_up_to_zero_and_do_not_see_other_groups():
    rewards = torch.rand(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    advantages = group_advantages(rewards)
    assert advantages.sum(dim=1).abs().max() < 1e-12
    assert torch.equal(group_advantages(rewards[2:3]), advantages[2:3])


def test_without_the_standard_deviation_rewards_are_only_centered():
    assert group_advantages(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), normalize_std=False)[0, 0] == 0.75


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="at least 2"):
        group_advantages(torch.ones(3, 1))


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 2.0, -2.0),
        (1.5, 1.0, -1.28),  # clipped high: no more to gain
        (1.5, -1.0, 1.5),  # wrong and more likely: not clipped
        (0.5, 1.0, -0.5),  # right and less likely: not clipped
        (0.5, -1.0, 0.8),  # clipped low
    ],
)
def test_the_clipped_loss_matches_cases_worked_out_by_hand(ratio, advantage, expected):
    loss = clipped_loss(
        torch.tensor([math.log(ratio)], dtype=torch.float64),
        torch.zeros(1, dtype=torch.float64),
        torch.tensor([advantage], dtype=torch.float64),
        clip_low=0.2,
        clip_high=0.28,
    )
    assert loss.item() == pytest.approx(expected)


def test_on_policy_the_loss_has_the_policy_gradient():
    logprobs = torch.randn(7, dtype=torch.float64, requires_grad=True)
    advantages = torch.randn(7, dtype=torch.float64)
    clipped_loss(logprobs, logprobs.detach(), advantages, clip_low=0.2, clip_high=0.28).sum().backward()
    assert torch.allclose(logprobs.grad, -advantages)


def _inputs(num_tokens, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(num_tokens, 6, dtype=dtype, generator=generator, requires_grad=True)
    head = torch.randn(11, 6, dtype=dtype, generator=generator, requires_grad=True)
    return hidden, head, torch.randint(0, 11, (num_tokens,), generator=generator)


@pytest.mark.parametrize("chunk_tokens", [1, 3, 5, 100])
def test_chunked_logprobs_and_gradients_equal_those_of_whole_logits(chunk_tokens):
    hidden, head, targets = _inputs(10)
    logprobs, entropies = token_logprobs(hidden, head, targets, temperature=1.4, chunk_tokens=chunk_tokens)
    gradients = torch.autograd.grad(logprobs.square().sum(), (hidden, head))
    whole = (hidden @ head.T / 1.4).log_softmax(dim=-1)
    expected = whole.gather(-1, targets[:, None])[:, 0]
    assert torch.allclose(logprobs, expected, atol=1e-12)
    assert torch.allclose(entropies, -(whole.exp() * whole).sum(-1), atol=1e-12)
    for gradient, slow in zip(gradients, torch.autograd.grad(expected.square().sum(), (hidden, head)), strict=True):
        assert torch.allclose(gradient, slow, atol=1e-12)


def test_the_entropy_of_a_uniform_distribution_is_the_logarithm_of_the_vocabulary():
    _, entropies = token_logprobs(torch.zeros(2, 3), torch.ones(11, 3), torch.tensor([0, 5]), temperature=0.7)
    assert entropies.tolist() == pytest.approx([math.log(11)] * 2)


def test_no_targets_still_reach_the_parameters():
    hidden, head, targets = _inputs(0, dtype=torch.float32)
    logprobs, _ = token_logprobs(hidden, head, targets, temperature=1.0)
    logprobs.sum().backward()
    assert logprobs.shape == (0,)
    assert torch.equal(head.grad, torch.zeros_like(head))
