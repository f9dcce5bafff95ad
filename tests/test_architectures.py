"""Models of other types, in the real engine: sampled from, trained on that, given back, exported and read again."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from polaris_rollout import Prompt, SamplingParams
from polaris_rollout.engines import VllmSampler, check_parity
from polaris_rollout.engines.parity import transformers_logprobs
from polaris_train.embedded import tiny_model
from polaris_train.model import StepSettings, TokenLosses, TrainingSequence, accumulate, optimizer_step
from polaris_train.model.loading import load_policy, save_policy
from polaris_train.stage.engine import policy_logprobs
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3_5Config,
    Qwen3_5ForCausalLM,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5TextConfig,
)

POSITIONS, CONTEXT, TEMPERATURE = 256, 128, 1.3
SIZES = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": POSITIONS, "initializer_range": 0.2,
    "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": None, "tie_word_embeddings": True,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "layer_types": ["linear_attention", "full_attention"],
    "partial_rotary_factor": 1.0,
}  # fmt: skip
VISION = {
    "depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 64,
    "num_position_embeddings": 16,
}  # fmt: skip
HYBRID = Qwen3_5TextConfig(**SIZES, **LINEAR)
SEEING = Qwen3_5Config(text_config=HYBRID.to_dict(), vision_config=VISION, tie_word_embeddings=True)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A model of a type, and how far from each other rounding takes its engine and its trainer."""

    model: type[PreTrainedModel]
    config: object
    rounding: float = 1e-4
    """Of a log-probability, in nats, on average; vLLM has linear attention on a CPU in bfloat16 alone."""


KINDS = {
    "llama3, tied": Kind(model=LlamaForCausalLM, config=LlamaConfig(**SIZES, rope_parameters=LLAMA3)),
    "qwen3.5": Kind(model=Qwen3_5ForCausalLM, config=HYBRID, rounding=0.03),
    "llama, untied": Kind(model=LlamaForCausalLM, config=LlamaConfig(**SIZES | {"tie_word_embeddings": False})),
    "qwen2": Kind(model=Qwen2ForCausalLM, config=Qwen2Config(**SIZES | {"hidden_size": 128})),
    "qwen3.5 that sees": Kind(model=Qwen3_5ForConditionalGeneration, config=SEEING, rounding=0.03),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in list(KINDS)[2:]]


@pytest.fixture
def process_group():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    if dist.is_initialized():  # An engine that ends leaves it.
        dist.destroy_process_group()


def saved(kind, folder):
    torch.manual_seed(0)
    kind.model(kind.config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copy(Path(tiny_model()) / name, folder)
    return str(folder)


def sampled(engine):
    prompts = [Prompt(problem_id=str(number), text=f"What is {number} + 25?") for number in range(4)]
    return list(engine.sample(prompts, SamplingParams(temperature=TEMPERATURE, max_tokens=48, seed=1), n=2))


def mean_gap(groups, reference):
    """Of a log-probability between the engine that sampled and a reference, in nats."""
    found = [each for group in groups for completion in group.completions for each in completion.logprobs]
    right = [each for rows in reference(groups, TEMPERATURE) for row in rows for each in row]
    return float((torch.tensor(found) - torch.tensor(right)).abs().mean())


def train(policy, groups):
    """One step towards what was sampled first of each problem, away from the rest."""
    sequences = [
        TrainingSequence(
            prompt_token_ids=group.prompt_token_ids, token_ids=each.token_ids, weight=0.01 if index else -0.01
        )
        for group in groups
        for index, each in enumerate(group.completions)
    ]
    settings = StepSettings(max_tokens=CONTEXT, temperature=TEMPERATURE)
    totals = accumulate(policy, sequences, lambda logprobs, *_: TokenLosses(losses=logprobs), settings)
    taken = optimizer_step(policy, torch.optim.AdamW(policy.parameters(), lr=0.02), totals, settings)
    assert taken.finite and taken.grad_norm > 1e-3


@pytest.mark.parametrize("name", [*list(KINDS)[:2], *SLOW])
def test_a_model_is_sampled_from_trained_and_exported(name, tmp_path, process_group):
    kind = KINDS[name]
    folder, exported = saved(kind, tmp_path / "model"), str(tmp_path / "exported")
    policy = load_policy(folder, device=torch.device("cpu"), context=CONTEXT)
    reference = policy_logprobs(policy)
    with VllmSampler(folder, context=CONTEXT) as engine:
        check_parity(engine, reference)
        groups = sampled(engine)
        assert mean_gap(groups, reference) < kind.rounding
        train(policy, groups)
        assert mean_gap(groups, reference) > 5 * kind.rounding  # which stale weights would show
        engine.update_weights(policy.weights())
        check_parity(engine, reference)
        assert mean_gap(sampled(engine), reference) < kind.rounding
        save_policy(policy, Path(exported), source=folder)
        expected = reference(groups, TEMPERATURE)
    # As transformers reads it, as vLLM reads it.
    exact = transformers_logprobs(exported, context=CONTEXT)
    again = exact(groups, TEMPERATURE)
    pairs = [
        (one, two) for ours, theirs in zip(expected, again, strict=True) for one, two in zip(ours, theirs, strict=True)
    ]
    assert all(torch.allclose(torch.tensor(one), torch.tensor(two), atol=1e-4) for one, two in pairs)
    with VllmSampler(exported, context=CONTEXT) as engine:
        assert mean_gap(sampled(engine), exact) < kind.rounding


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama, untied", "qwen2", "qwen3.5", "qwen3.5 that sees"])
def test_beyond_its_positions_a_model_is_extended_by_yarn(name, tmp_path):
    folder = saved(KINDS[name], tmp_path / "model")
    with VllmSampler(folder, context=4 * POSITIONS) as engine:
        params = SamplingParams(temperature=TEMPERATURE, seed=1)
        groups = list(engine.sample([Prompt(problem_id="0", text="What is 1 + 25?")], params, n=12))
    assert max(len(each.token_ids) for each in groups[0].completions) > 1.5 * POSITIONS
    extended, plain = (transformers_logprobs(folder, context=each) for each in (4 * POSITIONS, None))
    assert mean_gap(groups, extended) < KINDS[name].rounding
    assert mean_gap(groups, plain) > 1.5 * mean_gap(groups, extended)
