"""A step has the loss and the gradient of the paper's formula, however it is cut into micro-batches and ranks.

``torchrun ... test_update_invariance.py FOLDER`` takes the steps of every case with real sharded policies and writes
losses and gradients; the tests compare them with a loop over padded completions and whole logits.
"""

import itertools
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.grpo.batches import training_batches, update
from polaris_train.model.loading import load_policy
from polaris_train.model.policy import Policy, attention_implementation
from polaris_train.recipe import ResolvedStage
from polaris_train.records import GradedGroup
from polaris_train.stage.settings import update_settings
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

VOCAB, MAX_PROMPT, MAX_ANSWER = 40, 6, 14
LEARNING_RATE = 0.5
"""Of plain gradient descent; large, so that the ratios of a second optimizer step leave the clip range."""

MICROBATCHES = (1, 2, 8)
TOLERANCES = {torch.float32: 1e-6, torch.float64: 1e-10}

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
    "divergence": {"kl_coef": 0.3},
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


def main(folder):
    dist.init_process_group("gloo")
    found = {}
    for dtype in TOLERANCES:
        policy, reference = (start_policy(folder, dtype) for _ in range(2))
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
        torch.save(found, folder / f"{dist.get_world_size()}-ranks.pt")
    dist.destroy_process_group()


def start_policy(folder, dtype):
    """The policy as training loads it; in float64, which no recipe offers, without mixed precision."""
    device = torch.device("cpu")
    if dtype == torch.float32:
        return load_policy(str(folder), device=device, context=MAX_PROMPT + MAX_ANSWER, precision="float32")
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention_implementation(device, dtype)
    )
    policy = Policy(model.train(), dtype=dtype)
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
    stats = update(policy, optimizer, batches, loss, stepping, reference=reference)
    for hook in hooks:
        hook.remove()
    every = [torch.zeros_like(passes) for _ in range(dist.get_world_size())]
    dist.all_gather(every, passes)
    return {"stats": stats, "gradients": gradients, "passes": torch.stack(every).tolist()}


def whole_gradient(policy):
    parts = [each.grad for each in policy.parameters()]
    return torch.cat([(each.full_tensor() if isinstance(each, DTensor) else each).flatten() for each in parts])


# What the step should be, one completion after the other.


def slow_steps(folder, dtype, groups, config):
    """Return loss, gradient and largest deviation of a ratio from 1 of each optimizer step."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    torch.set_default_dtype(dtype)
    batches = training_batches(groups, update_settings(config)[0], step=1)
    with torch.no_grad():
        starts = [padded_logprobs(model, batch.sequences, config.temperature) for batch in batches]
    results = []
    for batch, old in zip(batches, starts, strict=True):
        logprobs = padded_logprobs(model, batch.sequences, config.temperature)
        if batch is batches[0]:
            old = [each.detach() for each in logprobs]
        pairs = list(zip(batch.sequences, logprobs, old, strict=True))
        loss = sum(slow_loss(*pair, config) for pair in pairs)
        deviation = max(float((new.detach() - before).expm1().abs().max()) for _, new, before in pairs)
        model.zero_grad()
        loss.backward()
        gradient = torch.cat([each.grad.flatten() for each in model.parameters()])
        with torch.no_grad():
            for each in model.parameters():
                each -= LEARNING_RATE * each.grad
        results.append((loss.item(), gradient, deviation))
    torch.set_default_dtype(torch.float32)
    return results


def padded_logprobs(model, sequences, temperature):
    """Of each answer, from one batch that is padded on the right and its whole logits."""
    width = max(each.length for each in sequences)
    rows = [[*each.prompt_token_ids, *each.token_ids] for each in sequences]
    logits = model(
        input_ids=torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        attention_mask=torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
    ).logits
    whole = (logits / temperature).log_softmax(dim=-1)
    return [
        torch.stack([
            whole[index, len(each.prompt_token_ids) - 1 + position, token]
            for position, token in enumerate(each.token_ids)
        ])
        for index, each in enumerate(sequences)
    ]  # fmt: skip


def slow_loss(sequence, logprobs, old, config):
    """The weighted loss of one completion, token by token."""
    total = logprobs.new_zeros(())
    old = torch.tensor(sequence.engine_logprobs) if sequence.off_policy else old
    mean_ratio = (logprobs.detach() - old).mean().exp()
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
        else:
            loss = loss * min(rho, config.mismatch_high)
        total = total + loss
    if config.kl_coef:
        # Of an optimizer step that starts at the reference: its value and its slope are zero there.
        assert config.optimizer_steps_per_batch == 1
        frozen = logprobs.detach()
        total = total + config.kl_coef * ((frozen - logprobs).exp() - (frozen - logprobs) - 1).sum()
    return sequence.weight * total


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        initializer_range=0.2,
        tie_word_embeddings=True,
    )
    Qwen3ForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module", params=[1, 2, pytest.param(4, marks=pytest.mark.slow)], ids="{} ranks".format)
def taken(request, folder):
    """What real processes computed: ``[case, micro-batches, precision]``."""
    program = [str(Path(sys.executable).with_name("torchrun")), "--standalone", f"--nproc-per-node={request.param}"]
    subprocess.run(
        [*program, __file__, str(folder)], env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=600, check=True
    )
    return torch.load(folder / f"{request.param}-ranks.pt", weights_only=False)


@pytest.fixture(scope="module")
def expected(folder):
    """What the formula gives: ``[case, precision]``."""
    return {
        (name, dtype): slow_steps(folder, dtype, groups, stage(**options))
        for dtype in TOLERANCES
        for name, options, groups in (
            *((name, options, rollout()) for name, options in CASES.items()),
            ("few answers", {}, small_rollout()),
        )
    }


def same_step(step, slow, tolerance):
    """Whether loss and gradient are those of the formula, differences relative to their size."""
    losses, gradients, _ = zip(*slow, strict=True)
    assert step["stats"].loss == pytest.approx(sum(losses) / len(losses), abs=tolerance)
    assert len(step["gradients"]) == len(gradients)
    for gradient, reference in zip(step["gradients"], gradients, strict=True):
        assert (gradient - reference).norm() <= tolerance * reference.norm()
    assert step["stats"].grad_norm == pytest.approx(max(float(each.norm()) for each in gradients), rel=tolerance)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_neither_micro_batches_nor_ranks_nor_packing_change_loss_and_gradient(name, dtype, taken, expected):
    for count in MICROBATCHES:
        same_step(taken[name, count, dtype], expected[name, dtype], TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_ranks_without_an_answer_change_nothing(dtype, taken, expected):
    same_step(taken["few answers", 1, dtype], expected["few answers", dtype], TOLERANCES[dtype])


def test_the_cases_have_gradients_and_more_micro_batches_than_one(taken):
    counts = {count: taken["grpo, token-mean", count, torch.float32]["passes"][0][0] for count in MICROBATCHES}
    assert counts[1] == 1
    assert counts[2] >= 2
    assert counts[8] >= 8
    assert all(step["stats"].grad_norm > 0.01 for step in taken.values())


def test_a_single_optimizer_step_costs_no_pass_for_old_logprobs(taken):
    for (name, _, _), step in taken.items():
        for forward, backward in step["passes"]:
            if name.startswith("two"):
                assert backward < forward < 2 * backward
            else:
                assert forward == backward


@pytest.mark.parametrize("name", ["two optimizer steps", "two optimizer steps of gspo"])
def test_a_second_optimizer_step_has_ratios_to_the_policy_that_started_the_step(name, taken, expected):
    deviations = [deviation for _, _, deviation in expected[name, torch.float64]]
    assert deviations[0] < 1e-12
    assert deviations[1] > 0.3
    assert all(taken[name, count, torch.float64]["stats"].clipped_share > 0.1 for count in MICROBATCHES)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
