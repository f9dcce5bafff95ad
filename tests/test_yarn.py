"""Beyond a trained model's positions, vLLM and transformers compute the same, without attention temperature.

The model is the embedded one, which is trained. A copy of its folder says that it has few positions: its rotary
embedding has no parameters, so that only the declared original length differs.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from polaris_rollout import Prompt, SamplingParams, yarn_config
from polaris_rollout.engines import check_parity
from polaris_rollout.engines.parity import group_logprobs, transformers_logprobs
from polaris_rollout.errors import ParityError
from polaris_rollout.yarn import extended_config
from polaris_train.embedded import tiny_model
from transformers import AutoConfig, AutoModelForCausalLM

POSITIONS = 64
CONTEXT = 256
TEMPERATURE = 1.3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The trained model with 64 positions; it does not stop where answers end, so that they fill the context."""
    folder = tmp_path_factory.mktemp("model") / "short"
    shutil.copytree(tiny_model(), folder)
    for name, changes in {
        "config.json": {"max_position_embeddings": POSITIONS},
        "generation_config.json": {"eos_token_id": [0]},
        "tokenizer_config.json": {"eos_token": "<|endoftext|>"},
    }.items():
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))
    return str(folder)


@pytest.fixture(scope="module")
def sampler(folder):
    from polaris_rollout.engines import VllmSampler

    with VllmSampler(folder, context=CONTEXT) as sampler:
        yield sampler


@pytest.fixture(scope="module")
def groups(sampler):
    prompts = [Prompt(problem_id=str(number), text=f"What is {number} + 25?") for number in range(8)]
    return list(sampler.sample(prompts, SamplingParams(temperature=TEMPERATURE), n=4))


def load(folder, config):
    return AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)


def largest_gap(model, groups):
    return max(
        abs(ours - theirs)
        for group in groups
        for completion, expected in zip(group.completions, group_logprobs(model, group, TEMPERATURE), strict=True)
        for ours, theirs in zip(completion.logprobs, expected, strict=True)
    )


def without(config, key):
    config.rope_parameters = {name: value for name, value in config.rope_parameters.items() if name != key}
    return config


def test_logprobs_beyond_the_positions_are_those_of_transformers(folder, groups):
    lengths = [len(group.prompt_token_ids) + len(each.token_ids) for group in groups for each in group.completions]
    assert min(lengths) == CONTEXT == 4 * POSITIONS
    assert largest_gap(load(folder, extended_config(folder, context=CONTEXT)), groups) < 1e-4


def test_attention_temperature_would_be_seen(folder, groups):
    config = without(extended_config(folder, context=CONTEXT), "attention_factor")
    assert largest_gap(load(folder, config), groups) > 0.1


def test_plain_extrapolation_is_another_distribution(folder, groups):
    assert largest_gap(load(folder, AutoConfig.from_pretrained(folder)), groups) > 0.1


def test_the_canary_tells_yarn_from_plain_extrapolation(folder, sampler):
    check_parity(sampler, transformers_logprobs(folder, context=CONTEXT))
    with pytest.raises(ParityError, match="YaRN"):
        check_parity(sampler, transformers_logprobs(folder, context=None))


def test_both_rotary_tables_have_magnitude_one_and_are_equal(folder, sampler):
    config = extended_config(folder, context=CONTEXT)
    rotary = load(folder, config).model.rotary_emb
    cos, sin = (table[0, :, : config.head_dim // 2] for table in rotary(torch.zeros(1), torch.arange(CONTEXT)[None]))
    (table,) = sampler._llm.apply_model(lambda model: model.model.layers[0].self_attn.rotary_emb.cos_sin_cache)
    assert torch.allclose(cos**2 + sin**2, torch.ones_like(cos))
    assert torch.equal(table[:CONTEXT], torch.cat([cos, sin], dim=-1))


def test_the_attention_temperature_that_is_cancelled_is_there_by_default(folder):
    config = without(extended_config(folder, context=CONTEXT), "attention_factor")
    assert load(folder, config).model.rotary_emb.attention_scaling == pytest.approx(1.1386, abs=1e-4)


@pytest.mark.parametrize(
    "rope_scaling", [None, {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64}]
)
def test_an_older_configuration_is_extended_too(folder, tmp_path, rope_scaling):
    config = json.loads((Path(folder) / "config.json").read_text())
    del config["rope_parameters"]
    older = config | {"rope_theta": 10000.0, "rope_scaling": rope_scaling}
    shutil.copytree(folder, tmp_path / "older")
    (tmp_path / "older" / "config.json").write_text(json.dumps(older))
    extended = extended_config(str(tmp_path / "older"), context=CONTEXT)
    expected = yarn_config(older, CONTEXT)
    assert extended.max_position_embeddings == CONTEXT
    assert extended.rope_parameters == expected["rope_parameters"]
    assert load(tmp_path / "older", extended).model.rotary_emb.attention_scaling == 1.0
