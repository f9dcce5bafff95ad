"""The training step with a loss of another kind, in a process of its own without a process group."""

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


def test_a_micro_batch_that_does_not_fit_into_memory_is_named(policy, sequences):
    def hungry(logprobs, entropies, batch):
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(MemoryExhaustedError, match="at most 50 tokens; the longest answer with its prompt has 27"):
        accumulate(policy, sequences, hungry, StepSettings(max_tokens=50))
