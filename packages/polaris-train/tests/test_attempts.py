"""A step in which memory runs out is taken again in smaller parts, as if it had begun with them."""

import pytest
import torch
from polaris_train.embedded import tiny_model
from polaris_train.errors import MemoryExhaustedError, OptimizerMemoryError
from polaris_train.model import (
    StepSettings,
    TokenLosses,
    TrainingSequence,
    fitting,
    load_policy,
    policy_optimizer,
    sequence_logprobs,
    take_step,
)
from polaris_train.resolved import ResolvedStage
from polaris_train.stage import teacher
from polaris_train.stage.teacher import open_teacher

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
    optimizer, scaler = policy_optimizer(policy, learning_rate=0.01), torch.amp.GradScaler("cpu", enabled=False)
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


def moments(policy, optimizer):
    states = [optimizer.state[each] for each in policy.parameters()]
    return [state[name].to_local() for state in states for name in ("exp_avg", "exp_avg_sq")]


def test_an_optimizer_has_its_moments_before_the_first_step_which_is_as_without_them(make):
    policy, scaler = make(), torch.amp.GradScaler("cpu", enabled=False)
    optimizer = policy_optimizer(policy, learning_rate=0.01)
    before = [each.data_ptr() for each in moments(policy, optimizer)]
    assert not any(each.any() for each in moments(policy, optimizer))
    assert all(each.grad is None for each in policy.parameters())
    take_step(policy, optimizer, sequences(), surprise, StepSettings(max_tokens=LENGTH), scaler=scaler)
    assert [each.data_ptr() for each in moments(policy, optimizer)] == before
    other = make()
    lazy = torch.optim.AdamW(other.parameters(), lr=0.01, fused=True)
    take_step(other, lazy, sequences(), surprise, StepSettings(max_tokens=LENGTH), scaler=scaler)
    for one, two in zip(policy.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.full_tensor(), two.full_tensor())
    for one, two in zip(moments(policy, optimizer), moments(other, lazy), strict=True):
        assert torch.equal(one, two)


def test_moments_for_which_there_is_no_room_are_named_with_what_to_change(make):
    policy = make()
    own = sum(each.to_local().numel() for each in policy.parameters())
    policy.register_parameter("large", torch.nn.Parameter(torch.zeros(1).expand(2**50)))  # in the memory of one number
    with pytest.raises(OptimizerMemoryError, match=f"each of the {own + 2**50:,} parameters .* cpu_offload = true"):
        policy_optimizer(policy, learning_rate=0.01)


class BrokenOff(torch.optim.AdamW):
    """Changes the first parameter alone before memory runs out."""

    def step(self, closure=None):
        with torch.no_grad():
            self.param_groups[0]["params"][0].add_(1.0)
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_memory_that_runs_out_in_the_optimizer_starts_from_the_checkpoint_and_no_step_is_taken_twice(make):
    policy, settings = make(), StepSettings(max_tokens=4 * LENGTH)
    first = next(policy.parameters())
    before, scaler = first.full_tensor().clone(), torch.amp.GradScaler("cpu", enabled=False)
    with pytest.raises(MemoryExhaustedError) as ended:
        take_step(policy, BrokenOff(policy.parameters(), lr=0.01), sequences(), surprise, settings, scaler=scaler)
    assert (ended.value.max_tokens, ended.value.longest) == (4 * LENGTH, LENGTH)  # the next process gets half
    assert torch.equal(first.full_tensor(), before + 1.0)


def test_a_teacher_reads_in_smaller_parts_where_memory_runs_out(monkeypatch):
    model = str(tiny_model())
    config = ResolvedStage(
        run="run", stage="stage-1", model=model, problems="made up", problems_sha256="", context=64,
        max_prompt_tokens=6, temperature=1.0, steps=1, microbatch_tokens=64, distillation={"teacher": model},
    )  # fmt: skip
    expected = open_teacher(config, torch.device("cpu"), None)(sequences())
    loaded = []

    def load(*arguments, **settings):
        policy = load_policy(*arguments, **settings)
        room = LENGTH * policy.model.config.hidden_size // 16
        loaded.append(Exhausted(policy.model.model.layers[1], room=room, after=1, backward=False))
        return policy

    monkeypatch.setattr(teacher, "load_policy", load)
    found = open_teacher(config, torch.device("cpu"), None)(sequences())
    assert loaded[0].times == 2  # from four sequences to two, and to one
    assert found == [pytest.approx(row, abs=1e-5) for row in expected]
