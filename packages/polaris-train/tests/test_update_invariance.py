"""A step has the loss and the gradient of the paper's formula, however it is cut into micro-batches, ranks and slices.

``torchrun ... test_update_invariance.py FOLDER DEGREE`` takes the steps of every case with real sharded policies and
writes losses and gradients (a single rank needs no launch); the tests compare them with a loop over padded completions
and whole logits in float64, and allow what rounding explains.
"""

import itertools
import math
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.grpo.batches import training_batches
from polaris_train.grpo.updating import update
from polaris_train.model.attention import attention_implementation
from polaris_train.model.loading import load_policy
from polaris_train.model.policy import Policy
from polaris_train.model.ulysses import join_context_ranks
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.settings import update_settings
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

pytestmark = pytest.mark.timeout(600)

LAYERS, HIDDEN, INTERMEDIATE, HEADS, HEAD = 2, 16, 32, 4, 8
VOCAB, MAX_PROMPT, MAX_ANSWER = 40, 6, 14
LEARNING_RATE = 0.5
"""Of plain gradient descent; large, so that the ratios of a second optimizer step leave the clip range."""

MICROBATCHES = (1, 2, 8)
RANKS = [
    pytest.param((1, 1), marks=pytest.mark.numerics),
    (2, 1),
    (2, 2),
    *(pytest.param((4, degree), marks=pytest.mark.slow) for degree in (1, 2, 4)),
]
"""And how many of them hold a slice each of the same tokens; four have more slices than there are key heads."""
DTYPES = (torch.float32, torch.float64)

LOSSES = {
    "grpo": {"loss": "grpo"},
    "gspo": {"loss": "gspo", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo": {"loss": "cispo", "clip_low": 1.0, "clip_high": 4.0},
}
CASES = {
    f"{loss}, {aggregation}": LOSSES[loss] | {"aggregation": aggregation}
    for loss, aggregation in itertools.product(LOSSES, ("token-mean", "sequence-mean", "constant"))
} | {
    "two optimizer steps": {"optimizer_steps_per_batch": 2},
    "two optimizer steps of gspo": LOSSES["gspo"] | {"optimizer_steps_per_batch": 2, "aggregation": "sequence-mean"},
    "masked, copied": {"truncated": "masked", "substitution": "copy", "mismatch_correction": "mask"},
    "geometric": {"mismatch_correction": "geometric", "mismatch_low": 0.8, "mismatch_high": 1.25},
    "divergence": {"kl_coef": 0.3},
    "shared out each time": {"reduce_each_microbatch": True},
}


def stage(**values):
    return ResolvedStage(
        **{"run": "run", "stage": "stage", "model": "tiny", "problems": "synthetic", "problems_sha256": ""}
        | {"context": MAX_PROMPT + MAX_ANSWER, "max_prompt_tokens": MAX_PROMPT, "temperature": 1.3, "steps": 1}
        | {"max_grad_norm": 1e9}
        | values
    )


def rollout():
    """Eight groups of four answers of every length; one teaches nothing, one has a rescued completion."""
    rng = random.Random(3)

    def completion():
        length = rng.choice((1, 2, 5, 9, MAX_ANSWER))
        return Completion(
            token_ids=tuple(rng.randrange(VOCAB) for _ in range(length)),
            logprobs=tuple(-math.log(VOCAB) + rng.gauss(0, 0.7) for _ in range(length)),
            text="",
            finish_reason="length" if length == MAX_ANSWER else "stop",
        )

    rewards = [(1, 0, 0, 0), (1, 1, 1, 0), (0, 0, 0, 0), (1, 1, 0, 0), (0, 1, 0, 1), (0, 0, 1, 0), (0, 1, 1, 1)]
    return [
        GradedGroup(
            group=Group(
                problem_id=str(index),
                prompt_token_ids=tuple(rng.randrange(VOCAB) for _ in range(1 + index % MAX_PROMPT)),
                completions=tuple(completion() for _ in row),
            ),
            outcomes=tuple(Outcome.CORRECT if reward else Outcome.INCORRECT for reward in row),
            answers=("1",) * 4,
            rescued=row.index(1) if index == 0 else None,
        )
        for index, row in enumerate([*rewards, (1, 0, 1, 0)])
    ]


def small_rollout():
    """Three answers that can teach: fewer than there are ranks."""
    return [GradedGroup(
        group=Group(problem_id="p", prompt_token_ids=(1, 2), completions=rollout()[0].group.completions[:3]),
        outcomes=(Outcome.CORRECT, Outcome.INCORRECT, Outcome.INCORRECT),
        answers=("1",) * 3,
    )]  # fmt: skip


def microbatch_tokens(num_microbatches, num_ranks):
    """A budget that gives at least so many micro-batches."""
    num_tokens = sum(
        len(each.group.prompt_token_ids) + len(one.token_ids)
        for each in rollout()
        if each.informative
        for one in each.group.completions
    )
    return num_tokens if num_microbatches == 1 else num_tokens // (num_microbatches * num_ranks)


# What every rank does.


def take_steps(folder, degree):
    found = {}
    for dtype in DTYPES:
        policy, reference = (start_policy(folder, dtype, degree) for _ in range(2))
        start = [each.detach().clone() for each in policy.parameters()]
        torch.set_default_dtype(dtype)  # of advantages, weights and known log-probabilities
        for name, options in CASES.items():
            for count in MICROBATCHES:
                config = stage(**options, microbatch_tokens=microbatch_tokens(count, dist.get_world_size()))
                taken = take_step(policy, start, rollout(), config, reference if config.kl_coef else None)
                found[name, count, dtype] = taken
        found["few answers", 1, dtype] = take_step(policy, start, small_rollout(), stage(), None)
        torch.set_default_dtype(torch.float32)
    if dist.get_rank() == 0:
        torch.save(found, folder / f"{dist.get_world_size()}-ranks-{degree}.pt")


def start_policy(folder, dtype, degree):
    """The policy as training loads it; in float64, which no recipe offers, without mixed precision."""
    device = torch.device("cpu")
    context = MAX_PROMPT + MAX_ANSWER
    if dtype == torch.float32:
        return load_policy(str(folder), device=device, context=context, precision="float32", context_parallel=degree)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention_implementation(device, dtype)
    )
    ranks = join_context_ranks(degree) if degree > 1 else None
    policy = Policy(exact_norms(model).train(), dtype=dtype, context_ranks=ranks)
    for layer in model.model.layers:
        fully_shard(layer)
    return fully_shard(policy)


def take_step(policy, start, groups, config, reference):
    """Train from the start; return losses, gradients, and each rank's number of forward and of backward passes."""
    with torch.no_grad():
        for parameter, value in zip(policy.parameters(), start, strict=True):
            parameter.copy_(value)
    optimizer = torch.optim.SGD(policy.parameters(), lr=LEARNING_RATE)
    gradients, passes = [], torch.zeros(2, dtype=torch.long)

    def note_pass(_module, _arguments, outputs):
        passes[0] += 1
        passes[1] += int(outputs[0].requires_grad)

    hooks = [
        policy.register_forward_hook(note_pass),
        optimizer.register_step_pre_hook(lambda *_: gradients.append(whole_gradient(policy))),
    ]
    batching, loss, stepping = update_settings(config)
    batches = training_batches(groups, batching, step=1)
    stats = update(policy, optimizer, batches, loss, stepping, reference=reference).stats
    for hook in hooks:
        hook.remove()
    every = [torch.zeros_like(passes) for _ in range(dist.get_world_size())]
    dist.all_gather(every, passes)
    return {"stats": stats, "gradients": gradients, "passes": torch.stack(every).tolist()}


def whole_gradient(policy):
    parts = [each.grad for each in policy.parameters()]
    return torch.cat([(each.full_tensor() if isinstance(each, DTensor) else each).flatten() for each in parts])


def exact_norms(model):
    """Let the norms keep the precision of a float64 model: those of transformers round to float32."""
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, Qwen3RMSNorm):
                exact = torch.nn.RMSNorm(norm.weight.shape, eps=norm.variance_epsilon)
                exact.weight = norm.weight
                setattr(parent, name, exact)
    return model


# What the step should be, one completion after the other.


@dataclass(frozen=True, kw_only=True)
class SlowStep:
    """One optimizer step in float64; a size is the sum of what the completions have, which may cancel in the step."""

    loss: float
    loss_size: float
    gradient: torch.Tensor
    gradient_size: float
    num_tokens: int
    deviation: float
    """Of a ratio from 1, the largest."""


def slow_steps(folder, groups, config):
    model = exact_norms(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="sdpa"))
    parameters = list(model.parameters())
    torch.set_default_dtype(torch.float64)
    batches = training_batches(groups, update_settings(config)[0], step=1)
    with torch.no_grad():
        starts = [[padded_logprobs(model, each, config.temperature) for each in batch.sequences] for batch in batches]
    steps = []
    for batch, old in zip(batches, starts, strict=True):
        losses, gradients, deviations = [], [], []
        for sequence, before in zip(batch.sequences, old, strict=True):
            logprobs = padded_logprobs(model, sequence, config.temperature)
            loss = slow_loss(sequence, logprobs, before, config)
            losses.append(loss.item())
            gradients.append(torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters)]))
            deviations.append(float((logprobs.detach() - before).expm1().abs().max()))
        gradient = sum(gradients)
        with torch.no_grad():
            for each, part in zip(parameters, gradient.split([each.numel() for each in parameters]), strict=True):
                each -= LEARNING_RATE * part.view_as(each)
        steps.append(SlowStep(
            loss=sum(losses),
            loss_size=sum(abs(each) for each in losses),
            gradient=gradient,
            gradient_size=sum(float(each.norm()) for each in gradients),
            num_tokens=sum(len(each.token_ids) for each in batch.sequences),
            deviation=max(deviations),
        ))  # fmt: skip
    torch.set_default_dtype(torch.float32)
    return steps


def padded_logprobs(model, sequence, temperature):
    """Of an answer, from a row that is padded on the right and its whole logits."""
    row = [*sequence.prompt_token_ids, *sequence.token_ids]
    padding = [0] * (MAX_PROMPT + MAX_ANSWER - len(row))
    logits = model(
        input_ids=torch.tensor([row + padding]), attention_mask=torch.tensor([[1] * len(row) + padding])
    ).logits[0]
    whole = (logits / temperature).log_softmax(dim=-1)
    first = len(sequence.prompt_token_ids) - 1
    return torch.stack([whole[first + position, token] for position, token in enumerate(sequence.token_ids)])


def slow_loss(sequence, logprobs, old, config):
    """The weighted loss of one completion, token by token."""
    total = logprobs.new_zeros(())
    old = torch.tensor(sequence.engine_logprobs) if sequence.off_policy else old
    mean_ratio = (logprobs.detach() - old).mean().exp()
    mean_mismatch = (old - torch.tensor(sequence.engine_logprobs)).mean().exp().item()
    for token, new in enumerate(logprobs):
        ratio = (new - old[token]).exp()
        if config.loss == "gspo":
            ratio = mean_ratio * (new - new.detach()).exp()
        clipped = ratio.clamp(1 - config.clip_low, 1 + config.clip_high)
        if config.loss == "cispo":
            loss = -clipped.detach() * sequence.advantages * new
        else:
            loss = -torch.minimum(ratio * sequence.advantages, clipped * sequence.advantages)
            if config.loss == "grpo" and sequence.advantages < 0:
                loss = loss.clamp(max=-config.dual_clip * sequence.advantages)
        rho = (old[token] - sequence.engine_logprobs[token]).exp().item()
        if config.mismatch_correction == "mask":
            loss = loss * (rho if config.mismatch_low <= rho <= config.mismatch_high else 0.0)
        elif config.mismatch_correction == "geometric":
            is_kept = config.mismatch_low <= mean_mismatch <= config.mismatch_high
            loss = loss * (min(rho, 2.0) if is_kept else 0.0)
        else:
            loss = loss * min(rho, config.mismatch_high)
        total = total + loss
    if config.kl_coef:
        # Of an optimizer step that starts at the reference: its value and its slope are zero there.
        assert config.optimizer_steps_per_batch == 1
        frozen = logprobs.detach()
        total = total + config.kl_coef * ((frozen - logprobs).exp() - (frozen - logprobs) - 1).sum()
    return sequence.weight * total


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors this small are ready before a second thread would be."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        head_dim=HEAD,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=RANKS, ids="{0[0]} ranks, {0[1]} slices".format)
def taken(request, folder):
    """What the ranks computed, a single one in this process: ``[case, micro-batches, precision]``."""
    num_ranks, degree = request.param
    if num_ranks == 1:
        dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
        try:
            take_steps(folder, degree)
        finally:
            dist.destroy_process_group()
    else:
        program = [str(Path(sys.executable).with_name("torchrun")), "--standalone", f"--nproc-per-node={num_ranks}"]
        command, one_thread = [*program, __file__, str(folder), str(degree)], os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(command, env=one_thread, timeout=600, check=True)
    return torch.load(folder / f"{num_ranks}-ranks-{degree}.pt", weights_only=False)


@pytest.fixture(scope="module")
def expected(folder):
    """What the formula gives: ``[case]``."""
    return {name: slow_steps(folder, rollout(), stage(**options)) for name, options in CASES.items()} | {
        "few answers": slow_steps(folder, small_rollout(), stage())
    }


def tolerance(dtype, slow):
    """What rounding may change, relative to the sizes of what is summed.

    A token's share of the gradient passes through the sums of every layer (two norms, a head norm, four products,
    attention's scores, normalizer and mean), of the last norm, the head and the vocabulary's normalizer, and through as
    many on its way back; then it is added to those of all tokens. A later optimizer step begins with the roundings of
    those before. Each of these ``n`` additions rounds by at most ``eps / 2`` of its result, and roundings that do not
    know of each other add up like the steps of a random walk, to ``sqrt(n) * eps / 2`` (Higham and Mary, "A New
    Approach to Probabilistic Rounding Error Analysis", 2019). Twice that is allowed.
    """
    layer = 4 * HIDDEN + 2 * HEAD + 2 * (MAX_PROMPT + MAX_ANSWER) + HEADS * HEAD + INTERMEDIATE
    num_sums = len(slow) * 2 * (LAYERS * layer + 2 * HIDDEN + VOCAB) + sum(each.num_tokens for each in slow)
    return num_sums**0.5 * torch.finfo(dtype).eps


def same_step(step, slow, dtype):
    """Whether loss and gradient are those of the formula, up to rounding."""
    allowed = tolerance(dtype, slow)
    loss, size = (sum(each) / len(slow) for each in zip(*((each.loss, each.loss_size) for each in slow), strict=True))
    assert step["stats"].loss == pytest.approx(loss, abs=allowed * size)
    assert len(step["gradients"]) == len(slow)
    for gradient, each in zip(step["gradients"], slow, strict=True):
        assert (gradient - each.gradient).norm() <= allowed * each.gradient_size
    norms = [float(each.gradient.norm()) for each in slow]
    assert step["stats"].grad_norm == pytest.approx(max(norms), abs=allowed * max(each.gradient_size for each in slow))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_neither_micro_batches_nor_ranks_nor_packing_change_loss_and_gradient(name, dtype, taken, expected):
    for count in MICROBATCHES:
        same_step(taken[name, count, dtype], expected[name], dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ranks_without_an_answer_change_nothing(dtype, taken, expected):
    same_step(taken["few answers", 1, dtype], expected["few answers"], dtype)


def test_the_cases_have_gradients_and_more_micro_batches_than_one(taken):
    counts = {count: taken["grpo, token-mean", count, torch.float32]["passes"][0][0] for count in MICROBATCHES}
    assert counts[1] == 1
    assert counts[2] >= 2
    assert counts[8] >= 8
    assert all(step["stats"].grad_norm > 0.01 for step in taken.values())
    assert 0.1 < taken["geometric", 1, torch.float32]["stats"].mismatch_share < 0.9


def test_a_single_optimizer_step_costs_no_pass_for_old_logprobs(taken):
    for (name, _, _), step in taken.items():
        for forward, backward in step["passes"]:
            if name.startswith("two"):
                assert backward < forward < 2 * backward
            else:
                assert forward == backward


@pytest.mark.parametrize("name", ["two optimizer steps", "two optimizer steps of gspo"])
def test_a_second_optimizer_step_has_ratios_to_the_policy_that_started_the_step(name, taken, expected):
    deviations = [each.deviation for each in expected[name]]
    assert deviations[0] < 1e-12
    assert deviations[1] > 0.3
    assert all(taken[name, count, torch.float64]["stats"].clipped_share > 0.1 for count in MICROBATCHES)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    take_steps(Path(sys.argv[1]), int(sys.argv[2]))
    dist.destroy_process_group()
