"""Chunked log-probabilities against whole logits, and that neither memory nor precision is lost."""

import math

import pytest
import torch
from polaris_train.model.logprobs import token_logprobs
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.numerics

HALVES = [torch.bfloat16, torch.float16]


def inputs(num_tokens, *, vocab=11, size=6, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    hidden = (scale * torch.randn(num_tokens, size, generator=generator, dtype=torch.float64)).to(dtype)
    head = torch.randn(vocab, size, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(0, vocab, (num_tokens,), generator=generator)
    return hidden.requires_grad_(), head.requires_grad_(), targets


def whole_logprobs(hidden, head, targets, temperature):
    whole = (hidden @ head.T / temperature).log_softmax(dim=-1)
    return whole.gather(-1, targets[:, None])[:, 0], -(whole.exp() * whole).sum(-1)


@pytest.mark.parametrize("temperature", [0.6, 1.4])
@pytest.mark.parametrize("chunk_tokens", [1, 3, 5, 100])
def test_chunked_logprobs_and_gradients_equal_those_of_whole_logits(chunk_tokens, temperature):
    hidden, head, targets = inputs(10)
    logprobs, entropies = token_logprobs(hidden, head, targets, temperature=temperature, chunk_tokens=chunk_tokens)
    expected, entropy = whole_logprobs(hidden, head, targets, temperature)
    assert torch.allclose(logprobs, expected, atol=1e-12)
    assert torch.allclose(entropies, entropy, atol=1e-12)
    gradients = torch.autograd.grad(logprobs.square().sum(), (hidden, head))
    for gradient, slow in zip(gradients, torch.autograd.grad(expected.square().sum(), (hidden, head)), strict=True):
        assert torch.allclose(gradient, slow, atol=1e-12)


def test_autograd_agrees_with_finite_differences():
    hidden, head, targets = inputs(5)

    def logprobs(hidden, head):
        return token_logprobs(hidden, head, targets, temperature=1.3, chunk_tokens=2)[0]

    assert torch.autograd.gradcheck(logprobs, (hidden, head))


def test_the_entropy_of_a_uniform_distribution_is_the_logarithm_of_the_vocabulary():
    _, entropies = token_logprobs(torch.zeros(2, 3), torch.ones(11, 3), torch.tensor([0, 5]), temperature=0.7)
    assert entropies.tolist() == pytest.approx([math.log(11)] * 2)


def test_logits_of_any_size_give_finite_logprobs_and_gradients():
    hidden, head, targets = inputs(4, scale=1e4, dtype=torch.float32)
    logprobs, entropies = token_logprobs(hidden, head, targets, temperature=0.5)
    logprobs.sum().backward()
    assert all(torch.isfinite(each).all() for each in (logprobs, entropies, hidden.grad, head.grad))


def test_no_targets_still_reach_the_parameters():
    hidden, head, targets = inputs(0, dtype=torch.float32)
    logprobs, _ = token_logprobs(hidden, head, targets, temperature=1.0)
    logprobs.sum().backward()
    assert logprobs.shape == (0,)
    assert torch.equal(head.grad, torch.zeros_like(head))


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_inputs_lose_nothing_in_the_logits(dtype):
    """The difference to exact arithmetic on the same inputs is that of float32; rounded logits would be far off."""
    hidden, head, targets = inputs(64, vocab=500, size=32, dtype=dtype)
    logprobs, entropies = token_logprobs(hidden, head, targets, temperature=1.2, chunk_tokens=7)
    exact = whole_logprobs(hidden.double(), head.double(), targets, 1.2)
    rounded = (hidden @ head.T).float().div(1.2).log_softmax(dim=-1).gather(-1, targets[:, None])[:, 0]
    assert logprobs.dtype == entropies.dtype == torch.float32
    assert (logprobs - exact[0]).abs().max() < 2e-5
    assert (entropies - exact[1]).abs().max() < 2e-5
    assert (rounded - exact[0]).abs().max() > 1e-3


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_half_precision_inputs_are_rounded_once(dtype):
    """Exact sums over all chunks, rounded to the precision of the inputs; sums kept in it would drift."""
    hidden, head, targets = inputs(1024, vocab=50, size=16, dtype=dtype)
    logprobs, _ = token_logprobs(hidden, head, targets, temperature=1.2, chunk_tokens=2)
    found = torch.autograd.grad(logprobs.sum(), (hidden, head))
    wide_hidden, wide_head = (each.detach().double().requires_grad_() for each in (hidden, head))
    exact_logprobs, _ = whole_logprobs(wide_hidden, wide_head, targets, 1.2)
    for gradient, exact in zip(found, torch.autograd.grad(exact_logprobs.sum(), (wide_hidden, wide_head)), strict=True):
        assert gradient.dtype == dtype
        assert torch.allclose(gradient.double(), exact, rtol=torch.finfo(dtype).eps, atol=2e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned, and all shapes."""

    def __init__(self):
        super().__init__()
        self.numel, self.shapes = 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
            self.shapes.add(result.shape)
        return result


@pytest.mark.parametrize("num_tokens", [64, 256])
def test_no_tensor_is_larger_than_a_chunk_of_logits(num_tokens):
    hidden, head, targets = inputs(num_tokens, vocab=1000, dtype=torch.float32)
    with LargestTensor() as largest:
        logprobs, _ = token_logprobs(hidden, head, targets, temperature=1.0, chunk_tokens=8)
        logprobs.sum().backward()
    assert largest.numel == 8 * 1000


def test_a_frozen_head_has_no_gradient_and_costs_none():
    hidden, head, targets = inputs(12, vocab=300, size=20, dtype=torch.float32)
    frozen = head.detach()
    expected, _ = torch.autograd.grad(token_logprobs(hidden, head, targets, temperature=1.2)[0].sum(), (hidden, head))
    logprobs, _ = token_logprobs(hidden, frozen, targets, temperature=1.2, chunk_tokens=5)
    with LargestTensor() as made:
        logprobs.sum().backward()
    assert torch.allclose(hidden.grad, expected, atol=1e-6) and frozen.grad is None
    assert (5, 300) in made.shapes and frozen.shape not in made.shapes
