"""The training step with a loss of another kind, in a process of its own without a process group."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from polaris_train.errors import MemoryExhaustedError
from polaris_train.model import (
    Policy,
    StepSettings,
    TokenLosses,
    TrainingSequence,
    accumulate,
    optimizer_step,
    sequence_logprobs,
    take_step,
)
from transformers import Qwen3Config, Qwen3ForCausalLM

LENGTHS = [(3, 9), (1, 1), (7, 20), (2, 5)]
VOCAB = 40


@pytest.fixture
def policy():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True,
    )  # fmt: skip
    return Policy(Qwen3ForCausalLM(config).double(), dtype=torch.float64)


@pytest.fixture
def sequences():
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, VOCAB, (prompt + answer,), generator=generator).tolist() for prompt, answer in LENGTHS]
    num_tokens = sum(answer for _, answer in LENGTHS)
    return [
        TrainingSequence(prompt_token_ids=tuple(row[:prompt]), token_ids=tuple(row[prompt:]), weight=1 / num_tokens)
        for row, (prompt, _) in zip(rows, LENGTHS, strict=True)
    ]


def cross_entropy(logprobs, entropies, batch):
    return TokenLosses(
        losses=-logprobs,
        sums={"entropy": entropies, "targets": batch.targets},
        maxima={"surprise": -logprobs.detach()},
    )


def gradient(policy):
    return torch.cat([each.grad.flatten() for each in policy.parameters()])


def slow_cross_entropy(policy, sequences):
    """Of transformers, one sequence after the other."""
    total = 0.0
    for each in sequences:
        ids = torch.tensor([each.prompt_token_ids + each.token_ids])
        rows = policy.model(input_ids=ids).logits[0, len(each.prompt_token_ids) - 1 : -1]
        total = total + torch.nn.functional.cross_entropy(rows, torch.tensor(each.token_ids), reduction="sum")
    return total / sum(len(each.token_ids) for each in sequences)


@pytest.mark.parametrize("max_tokens", [1000, 30, 1])
def test_supervised_training_has_the_gradient_of_the_mean_cross_entropy(policy, sequences, max_tokens):
    slow = slow_cross_entropy(policy, sequences)
    slow.backward()
    expected = gradient(policy)
    policy.zero_grad()
    totals = accumulate(policy, sequences, cross_entropy, StepSettings(max_tokens=max_tokens))
    assert totals.sums["loss"].item() == pytest.approx(slow.item(), rel=1e-6)  # weights are float32
    assert (gradient(policy) - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("max_tokens", [1000, 1])
def test_sums_and_maxima_are_those_of_all_tokens(policy, sequences, max_tokens):
    settings = StepSettings(max_tokens=max_tokens)
    rows = sequence_logprobs(policy, sequences, settings)
    assert [len(row) for row in rows] == [len(each.token_ids) for each in sequences]
    totals = accumulate(policy, sequences, cross_entropy, settings)
    taken = optimizer_step(policy, torch.optim.SGD(policy.parameters(), lr=0.1), totals, settings)
    assert taken.sums["tokens"] == sum(answer for _, answer in LENGTHS)
    assert taken.sums["targets"] == sum(token for each in sequences for token in each.token_ids)
    assert taken.maxima["surprise"] == pytest.approx(-min(min(row) for row in rows), rel=1e-6)


def test_a_step_clips_its_gradient_and_clears_it(policy, sequences):
    before = [each.detach().clone() for each in policy.parameters()]
    settings = StepSettings(max_tokens=1000, max_grad_norm=1e-3)
    totals = accumulate(policy, sequences, cross_entropy, settings)
    taken = optimizer_step(policy, torch.optim.SGD(policy.parameters(), lr=1.0), totals, settings)
    assert taken.finite and taken.grad_norm > 1e-3
    moved = torch.stack([(old - new).norm() for old, new in zip(before, policy.parameters(), strict=True)]).norm()
    assert moved.item() == pytest.approx(1e-3, rel=1e-2)
    assert all(each.grad is None for each in policy.parameters())


def test_a_step_that_is_not_finite_is_left_out(policy, sequences):
    before = [each.detach().clone() for each in policy.parameters()]
    broken = [replace(sequences[0], weight=float("inf")), *sequences[1:]]
    settings = StepSettings(max_tokens=1000)
    totals = accumulate(policy, broken, cross_entropy, settings)
    taken = optimizer_step(policy, torch.optim.SGD(policy.parameters(), lr=1.0), totals, settings)
    assert not taken.finite
    assert all(torch.equal(old, new) for old, new in zip(before, policy.parameters(), strict=True))
    assert all(each.grad is None for each in policy.parameters())


HUGE = 2.0**127
"""A scale of the loss at which float32 overflows; float16 does at 2**16 already."""


def scaled_step(policy, sequences, *, scale):
    """Take a step of AdamW on a copy; return it, the weights, and the scale of the loss afterwards."""
    changed = deepcopy(policy).float()
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    optimizer = torch.optim.AdamW(changed.parameters(), lr=0.1)
    taken = take_step(changed, optimizer, sequences, cross_entropy, StepSettings(max_tokens=30), scaler=scaler)
    return taken, [each.detach() for each in changed.parameters()], scaler.get_scale()


def test_a_step_whose_gradients_overflow_is_the_one_that_begins_at_a_lower_scale(policy, sequences):
    taken, weights, scale = scaled_step(policy, sequences, scale=HUGE)
    assert taken.finite and taken.overflows > 0
    assert scale == HUGE / 2**taken.overflows
    low, expected, same = scaled_step(policy, sequences, scale=scale)
    assert low.overflows == 0 and same == scale
    assert (taken.sums, taken.grad_norm) == (low.sums, low.grad_norm)
    assert all(torch.equal(*each) for each in zip(weights, expected, strict=True))
    assert not any(torch.equal(*each) for each in zip(weights, policy.float().parameters(), strict=True))


def test_a_step_whose_loss_is_not_finite_is_not_tried_again(policy, sequences):
    broken = [replace(sequences[0], weight=float("inf")), *sequences[1:]]
    taken, weights, scale = scaled_step(policy, broken, scale=2.0**16)
    assert not taken.finite and taken.overflows == 0
    assert scale == 2.0**15
    assert all(torch.equal(*each) for each in zip(weights, policy.float().parameters(), strict=True))


def test_a_step_that_overflows_at_every_scale_is_left_out(policy, sequences):
    """The loss is finite, its gradient is not: that of a root at 0."""

    def steep(logprobs, entropies, batch):
        return TokenLosses(losses=(logprobs - logprobs.detach()).abs().sqrt())

    changed = deepcopy(policy).float()
    scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.AdamW(changed.parameters(), lr=0.1)
    taken = take_step(changed, optimizer, sequences, steep, StepSettings(max_tokens=30), scaler=scaler)
    assert not taken.finite and taken.overflows == 16
    assert scaler.get_scale() == 0.5
    assert all(torch.equal(*each) for each in zip(changed.parameters(), policy.float().parameters(), strict=True))


def test_a_micro_batch_that_does_not_fit_into_memory_is_named(policy, sequences):
    def hungry(logprobs, entropies, batch):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(MemoryExhaustedError, match="at most 50 tokens; the longest answer with its prompt has 27"):
        accumulate(policy, sequences, hungry, StepSettings(max_tokens=50))
