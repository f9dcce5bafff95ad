"""The sharded policy on one rank: read and written in Hugging Face format, in any precision."""

import pytest
import torch
import torch.distributed as dist
from polaris_train.embedded import tiny_model
from polaris_train.model.attention import packed_sdpa
from polaris_train.model.loading import load_policy, save_policy
from polaris_train.model.packing import TrainingSequence, pack
from polaris_train.model.policy import Policy
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

pytestmark = pytest.mark.numerics

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def process_group():
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request, tmp_path_factory):
    """A small random model beside the embedded model's tokenizer."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=60, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=request.param,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


def sequences():
    generator = torch.Generator().manual_seed(1)
    return [
        TrainingSequence(
            prompt_token_ids=tuple(torch.randint(0, 60, (prompt,), generator=generator).tolist()),
            token_ids=tuple(torch.randint(0, 60, (answer,), generator=generator).tolist()),
            engine_logprobs=(0.0,) * answer,
            advantages=1.0,
        )
        for prompt, answer in [(3, 9), (1, 1), (7, 20)]
    ]


def test_every_weight_and_buffer_is_what_transformers_loads(folder):
    policy = load_policy(str(folder), device=CPU, context=64)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loaded = dict(policy.weights())
    assert loaded.keys() == dict(plain.named_parameters()).keys()
    for name, parameter in plain.named_parameters():
        assert torch.equal(loaded[name], parameter), name
    buffers = dict(policy.model.named_buffers())
    for name, buffer in plain.named_buffers():
        assert torch.equal(buffers[name], buffer), name
    assert (policy.model.lm_head.weight is policy.model.model.embed_tokens.weight) == plain.config.tie_word_embeddings


def test_log_probabilities_are_those_of_transformers(folder):
    policy = load_policy(str(folder), device=CPU, context=64)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    logprobs, _ = policy(pack(sequences()), temperature=1.3)
    expected = []
    for each in sequences():
        ids = torch.tensor([each.prompt_token_ids + each.token_ids])
        rows = (plain(input_ids=ids).logits[0] / 1.3).log_softmax(-1)
        expected += [rows[len(each.prompt_token_ids) - 1 + i, token] for i, token in enumerate(each.token_ids)]
    assert torch.allclose(logprobs, torch.stack(expected), atol=1e-5)


def test_a_saved_model_is_read_back_by_transformers_as_it_was(folder, tmp_path):
    policy = load_policy(str(folder), device=CPU, context=64)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)
    save_policy(policy, tmp_path / "out", source=tiny_model())
    assert not (tmp_path / "out" / "sharded").exists()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert plain.dtype == torch.float32
    saved = dict(plain.named_parameters())
    for name, weight in policy.weights():
        assert torch.equal(saved[name], weight), name


def test_a_bfloat16_policy_exports_bfloat16_and_keeps_float32_masters(folder, tmp_path):
    policy = load_policy(str(folder), device=CPU, context=64, precision="bfloat16")
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.float32}
    assert all(isinstance(parameter, DTensor) for parameter in policy.parameters())
    save_policy(policy, tmp_path / "out", source=tiny_model())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_half_precision_computes_the_same_up_to_its_rounding(folder, precision, tolerance):
    exact, _ = load_policy(str(folder), device=CPU, context=64)(pack(sequences()), temperature=1.0)
    rounded, _ = load_policy(str(folder), device=CPU, context=64, precision=precision)(
        pack(sequences()), temperature=1.0
    )
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).abs().max() < tolerance


def gradients(policy):
    logprobs, _ = policy(pack(sequences()), temperature=1.0)
    logprobs.sum().backward()
    return {name: parameter.grad.full_tensor() for name, parameter in policy.named_parameters()}


def test_offloading_leaves_the_gradient_as_it_is(folder):
    expected = gradients(load_policy(str(folder), device=CPU, context=64))
    found = gradients(load_policy(str(folder), device=CPU, context=64, cpu_offload=True))
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-6), name


def test_a_longer_context_raises_the_positions_and_leaves_the_frequencies(folder):
    short, long = (load_policy(str(folder), device=CPU, context=context) for context in (64, 10**6))
    assert long.model.config.max_position_embeddings == 10**6
    assert torch.equal(short.model.model.rotary_emb.inv_freq, long.model.model.rotary_emb.inv_freq)


def test_the_length_at_which_attention_costs_as_much_as_the_rest(folder):
    policy = load_policy(str(folder), device=CPU, context=64)
    num_parameters = sum(parameter.numel() for parameter in policy.parameters())
    assert policy.quadratic_length == num_parameters / (2 * 2 * 8)  # layers, heads, head size


@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_packed_attention_is_attention_with_a_block_diagonal_causal_mask(key_heads):
    generator = torch.Generator().manual_seed(0)
    sizes = [5, 1, 7]
    query = torch.randn(1, 4, 13, 8, generator=generator, dtype=torch.float64)
    key, value = (torch.randn(1, key_heads, 13, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    position_ids = torch.cat([torch.arange(size) for size in sizes])[None]
    attended, _ = packed_sdpa(torch.nn.Identity(), query, key, value, None, position_ids=position_ids, scaling=0.3)
    scores = 0.3 * query @ key.repeat_interleave(4 // key_heads, dim=1).mT
    blocks = torch.block_diag(*(torch.ones(size, size) for size in sizes)).tril().bool()
    expected = scores.masked_fill(~blocks, float("-inf")).softmax(-1) @ value.repeat_interleave(4 // key_heads, dim=1)
    assert torch.allclose(attended, expected.transpose(1, 2))


def test_a_sliding_window_is_refused():
    states = torch.zeros(1, 1, 2, 4)
    with pytest.raises(NotImplementedError, match="sliding window of 3"):
        packed_sdpa(
            torch.nn.Identity(), states, states, states, None, position_ids=torch.arange(2)[None], sliding_window=3
        )


def test_a_policy_outside_of_sharding_computes_too(folder):
    plain = Policy(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    sharded, _ = load_policy(str(folder), device=CPU, context=64)(pack(sequences()), temperature=1.0)
    logprobs, _ = plain(pack(sequences()), temperature=1.0)
    assert torch.allclose(logprobs, sharded, atol=1e-5)
