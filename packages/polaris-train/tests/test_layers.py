"""What layers keep changes memory alone, and lengths of packs few programs: gradients and log-probabilities stay."""

import shutil

import pytest
import torch
from polaris_train.model.attention import (
    FLASH_2,
    FLASH_3,
    FLEX,
    PACKED_SDPA,
    PACKED_VARLEN,
    fastest_attention,
    sequence_bounds,
)
from polaris_train.model.layers import prepare_layers
from polaris_train.model.loading import load_policy
from polaris_train.model.packing import TrainingSequence, pack, padded
from polaris_train.recipe.tables import Lora
from torch._dynamo.utils import counters
from transformers import Qwen3Config, Qwen3ForCausalLM

pytestmark = pytest.mark.usefixtures("one_rank")

CPU = torch.device("cpu")
SHAPE = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "head_dim": 16}
CONFIG = Qwen3Config(**SHAPE, num_key_value_heads=1, num_hidden_layers=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    Qwen3ForCausalLM(CONFIG).save_pretrained(folder)
    return str(folder)


def batch(*lengths):
    generator = torch.Generator().manual_seed(sum(lengths))
    rows = [tuple(torch.randint(0, 60, (length,), generator=generator).tolist()) for length in lengths]
    return pack([TrainingSequence(prompt_token_ids=row[:2], token_ids=row[2:]) for row in rows])


def gradients(policy, *lengths):
    policy.zero_grad()
    policy(batch(*lengths), temperature=1.0)[0].sum().backward()
    return {name: each.grad.full_tensor() for name, each in policy.named_parameters() if each.requires_grad}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-5), name


@pytest.mark.parametrize("lora", [None, Lora(rank=2)])
@pytest.mark.parametrize("activations", ["selective", "attention", "recompute", "offload"])
def test_what_layers_keep_leaves_the_gradient_as_it_is(folder, activations, lora):
    expected = gradients(load_policy(folder, device=CPU, context=64, lora=lora), 9, 20)
    policy = load_policy(folder, device=CPU, context=64, activations=activations, lora=lora)
    assert f"activations {activations}" in policy.computed
    assert_same(gradients(policy, 9, 20), expected)


def kept_bytes(activations):
    """Bytes that autograd holds between the passes, of all that layers were given and computed."""
    torch.manual_seed(0)
    model = Qwen3ForCausalLM._from_config(CONFIG, attn_implementation="sdpa").train()
    prepare_layers(model.model.layers, activations, compiled=False)
    held = {}

    def note(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(input_ids=batch(40).input_ids, use_cache=False).logits.sum()
    loss.backward()
    return sum(held.values())


def test_less_is_held_by_autograd_when_it_is_computed_again():
    assert kept_bytes("recompute") < 0.5 * kept_bytes("keep")


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
@pytest.mark.parametrize("activations", ["keep", "selective", "recompute", "offload"])
def test_compiled_layers_give_the_same_gradients_at_every_length_from_few_programs(folder, activations):
    expected = load_policy(folder, device=CPU, context=64)
    compiled = load_policy(folder, device=CPU, context=64, activations=activations, compile_layers=True)
    torch._dynamo.reset()
    counters.clear()
    for lengths in ((9, 20), (33,), (5, 6, 40), (17, 50), (64,)):
        assert_same(gradients(compiled, *lengths), gradients(expected, *lengths))
    assert 0 < counters["stats"]["unique_graphs"] <= 4
    assert not counters["graph_break"]


@pytest.mark.parametrize(
    ("capability", "dtype", "available", "expected"),
    [
        (9, torch.bfloat16, [FLASH_3, FLASH_2], FLASH_3),
        (9, torch.bfloat16, [FLASH_2], FLASH_2),
        (8, torch.bfloat16, [], PACKED_VARLEN),
        (7, torch.float16, [], FLEX),
        (9, torch.float32, [FLASH_3], PACKED_SDPA),
    ],
)
def test_the_fastest_attention_that_a_card_has_is_taken(capability, dtype, available, expected):
    assert fastest_attention(capability, dtype, available) == expected


def test_bounds_are_found_in_positions_alone():
    found = sequence_bounds(FLASH_3, batch(3, 5, 4).position_ids)
    assert found["cu_seq_lens_q"].tolist() == found["cu_seq_lens_k"].tolist() == [0, 3, 8, 12]
    assert found["cu_seq_lens_q"].dtype == torch.int32 and found["max_length_q"] == found["max_length_k"] == 5
    assert sequence_bounds(PACKED_SDPA, batch(3).position_ids) == {}


def test_padding_changes_no_log_probability(folder):
    policy = load_policy(folder, device=CPU, context=64)
    whole = padded(batch(9, 20), to=128)
    assert whole.input_ids.shape == whole.position_ids.shape == (1, 128)
    assert torch.equal(padded(whole, to=128).input_ids, whole.input_ids)
    expected, _ = policy(batch(9, 20), temperature=1.0)
    assert torch.allclose(policy(whole, temperature=1.0)[0], expected, atol=1e-6)
