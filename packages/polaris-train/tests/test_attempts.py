"""A step in which memory runs out is taken again in smaller parts, as if it had begun with them."""

import pytest
import torch
from polaris_train.errors import MemoryExhaustedError
from polaris_train.model import (
    StepSettings,
    TokenLosses,
    TrainingSequence,
    fitting,
    load_policy,
    sequence_logprobs,
    take_step,
)

LENGTH, COUNT = 16, 8


pytestmark = pytest.mark.usefixtures("one_rank")


@pytest.fixture(params=["float32", "bfloat16"])
def make(small_qwen3, request):
    """Policies whose gradients between micro-batches are the parameters' own, and those that are kept beside them."""
    return lambda: load_policy(str(small_qwen3), device=torch.device("cpu"), context=64, precision=request.param)


def sequences():
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, 64, (COUNT, LENGTH), generator=generator).tolist()
    return [
        TrainingSequence(prompt_token_ids=tuple(row[:4]), token_ids=tuple(row[4:]), weight=1 / (COUNT * (LENGTH - 4)))
        for row in rows
    ]


def surprise(logprobs, entropies, batch):
    return TokenLosses(losses=-logprobs)


def stepped(policy, settings, *, taken_before=0):
    """Take steps; return the last, the weights after it, and gradients that are left."""
    optimizer, scaler = torch.optim.AdamW(policy.parameters(), lr=0.01), torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(1 + taken_before):
        step = take_step(policy, optimizer, sequences(), surprise, settings, scaler=scaler)
    return step, torch.cat([each.full_tensor().flatten() for each in policy.parameters()])


class Exhausted:
    """Lets memory run out at a pass through a layer that has more tokens than there is room for."""

    def __init__(self, layer, *, room, after, backward):
        self.room, self.left, self.times = room, after, 0
        layer.register_forward_hook(self.note, prepend=True)
        self.backward = backward

    def note(self, layer, arguments, output):
        hidden = output[0] if isinstance(output, tuple) else output
        if self.backward and hidden.requires_grad:
            hidden.register_hook(self.check)
        elif not self.backward:
            self.check(hidden)

    def check(self, values):
        if values.numel() // 16 > self.room:
            self.left -= 1
            if self.left < 0:
                self.times += 1
                raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("after", [0, 1])
def test_a_step_in_which_memory_runs_out_is_that_with_smaller_micro_batches(make, after, backward):
    """Also in the second of the micro-batches, when gradients of the first are there, and in the step after it."""
    few, policy = StepSettings(max_tokens=4 * LENGTH), make()
    exhausted = Exhausted(policy.model.model.layers[1], room=LENGTH, after=after, backward=backward)
    step, weights = stepped(policy, few, taken_before=1)
    assert exhausted.times == 2  # from four sequences to two, and to one
    assert few.max_tokens == LENGTH
    expected, same = stepped(make(), StepSettings(max_tokens=LENGTH), taken_before=1)
    assert (step.sums, step.grad_norm) == (expected.sums, expected.grad_norm)
    assert torch.equal(weights, same)


def test_log_probabilities_are_those_of_smaller_micro_batches(make):
    policy, settings = make(), StepSettings(max_tokens=4 * LENGTH)
    exhausted = Exhausted(policy.model.model.layers[1], room=LENGTH, after=1, backward=False)
    found = fitting([policy], settings, lambda: sequence_logprobs(policy, sequences(), settings))
    assert exhausted.times == 2 and settings.max_tokens == LENGTH
    assert found == sequence_logprobs(make(), sequences(), settings)


def test_a_sequence_that_does_not_fit_alone_is_named(make):
    policy, settings = make(), StepSettings(max_tokens=4 * LENGTH)
    Exhausted(policy.model.model.layers[1], room=0, after=0, backward=False)
    with pytest.raises(MemoryExhaustedError, match=f"at most {LENGTH} tokens; the longest .* has {LENGTH}"):
        stepped(policy, settings)
