"""Models of other types than the embedded one: the policy says what transformers says of each sequence alone."""

import json
import re

import pytest
import torch
from polaris_rollout import ModelError
from polaris_train.embedded import tiny_model
from polaris_train.model.architecture import can_pack, check_architecture
from polaris_train.model.attention import packed_sdpa
from polaris_train.model.loading import load_policy, save_policy
from polaris_train.model.packing import TrainingSequence, pack
from polaris_train.model.step import StepSettings, TokenLosses, accumulate, optimizer_step, sequence_logprobs
from polaris_train.model.trainable import check_model
from transformers import (
    AttentionInterface,
    AutoConfig,
    AutoModelForCausalLM,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5TextConfig,
)

pytestmark = pytest.mark.numerics

CPU = torch.device("cpu")
VOCAB, CONTEXT, TEMPERATURE = 60, 64, 1.3
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "initializer_range": 0.3,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
WINDOW = 6

PACKED = {
    "llama, tied": LlamaConfig(**SIZES, tie_word_embeddings=True, rope_parameters=LLAMA3),
    "llama, untied": LlamaConfig(**SIZES, tie_word_embeddings=False),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "granite": GraniteConfig(**SIZES, logits_scaling=4.0, embedding_multiplier=3.0, residual_multiplier=0.5),
    "cohere": CohereConfig(**SIZES, logit_scale=0.25),
}
ALONE = {
    "qwen3.5": Qwen3_5TextConfig(**SIZES, **LINEAR, tie_word_embeddings=True),
    "mistral": MistralConfig(**SIZES, sliding_window=WINDOW),
    "gemma3": Gemma3TextConfig(
        **SIZES, sliding_window=WINDOW, layer_types=["sliding_attention", "full_attention"], query_pre_attn_scalar=8
    ),
}


pytestmark = pytest.mark.usefixtures("one_rank")


def saved(config, folder):
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=PACKED | ALONE)
def folder(request, tmp_path_factory):
    return saved((PACKED | ALONE)[request.param], tmp_path_factory.mktemp("model"))


def load(folder, **options):
    return load_policy(folder, device=CPU, context=CONTEXT, precision="float32", **options)


def sequences():
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randint(VOCAB, (length,), generator=generator).tolist() for length in (12, 4, 27, 9)]
    return [TrainingSequence(prompt_token_ids=tuple(row[:3]), token_ids=tuple(row[3:]), weight=0.01) for row in rows]


def slow_logprobs(model, sequence):
    """Of transformers alone: the whole logits of one sequence."""
    ids = torch.tensor([sequence.prompt_token_ids + sequence.token_ids])
    rows = (model(input_ids=ids).logits[0, len(sequence.prompt_token_ids) - 1 : -1] / TEMPERATURE).log_softmax(-1)
    return rows.gather(-1, torch.tensor(sequence.token_ids)[:, None])[:, 0]


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def cross_entropy(logprobs, entropies, batch):
    return TokenLosses(losses=-logprobs)


def test_log_probabilities_are_those_of_each_sequence_alone(folder):
    expected = [slow_logprobs(plain(folder), each) for each in sequences()]
    found = sequence_logprobs(load(folder), sequences(), StepSettings(max_tokens=1000, temperature=TEMPERATURE))
    for row, slow in zip(found, expected, strict=True):
        assert torch.allclose(torch.tensor(row), slow, atol=2e-5)


def test_a_step_has_the_gradient_of_each_sequence_alone_and_an_export_is_read_by_transformers(folder, tmp_path):
    settings = StepSettings(max_tokens=1000, temperature=TEMPERATURE, max_grad_norm=1e9)
    policy, model = load(folder), plain(folder)
    totals = accumulate(policy, sequences(), cross_entropy, settings)
    loss = sum(-0.01 * slow_logprobs(model, each).sum() for each in sequences())
    loss.backward()
    assert totals.sums["loss"].item() == pytest.approx(loss.item(), rel=1e-5)
    slow = {name: parameter.grad for name, parameter in model.named_parameters()}
    norm = torch.stack([each.norm() for each in slow.values()]).norm()
    for name, parameter in policy.model.named_parameters():
        assert (parameter.grad.full_tensor() - slow[name]).norm() < 1e-4 * norm, name

    optimizer = torch.optim.SGD(policy.parameters(), lr=0.01)
    optimizer_step(policy, optimizer, totals, settings)
    save_policy(policy, tmp_path / "out", source=tiny_model())
    again = plain(str(tmp_path / "out"))
    now = sequence_logprobs(policy, sequences(), settings)
    for row, each in zip(now, sequences(), strict=True):
        assert torch.allclose(slow_logprobs(again, each), torch.tensor(row), atol=2e-5)
    assert type(again) is type(model)


@pytest.mark.parametrize("name", PACKED)
def test_models_of_full_attention_are_packed(name, tmp_path):
    policy = load(saved(PACKED[name], tmp_path / "model"))
    together = policy.frozen_logprobs(pack(sequences()), temperature=TEMPERATURE)
    alone = [policy.frozen_logprobs(pack([each]), temperature=TEMPERATURE) for each in sequences()]
    assert policy.packs and torch.allclose(together, torch.cat(alone), atol=2e-5)


def test_a_state_that_is_carried_along_leaks_into_what_is_packed_behind(tmp_path):
    policy = load(saved(ALONE["qwen3.5"], tmp_path / "model"))
    alone = [policy.frozen_logprobs(pack([each]), temperature=TEMPERATURE) for each in sequences()]
    with pytest.raises(ValueError, match="packed, which Qwen3_5ForCausalLM cannot keep apart"):
        policy.frozen_logprobs(pack(sequences()), temperature=TEMPERATURE)
    policy.packs = True
    leaking = policy.frozen_logprobs(pack(sequences()), temperature=TEMPERATURE)
    first = len(sequences()[0].token_ids)
    assert torch.allclose(leaking[:first], alone[0], atol=2e-5)
    assert (leaking[first:] - torch.cat(alone[1:])).abs().mean() > 0.05


def test_packed_attention_without_the_window_is_another_model(tmp_path):
    def unaware(*states, sliding_window=None, **others):
        return packed_sdpa(*states, **others)

    AttentionInterface.register("unaware", unaware)
    folder = saved(ALONE["mistral"], tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="unaware")
    long, short = sequences()[2], shortened(sequences()[2], WINDOW)
    for sequence, is_same in ((long, False), (short, True)):
        ids = torch.tensor([sequence.prompt_token_ids + sequence.token_ids])
        positions = torch.arange(ids.shape[1])[None]
        gap = (model(ids, position_ids=positions).logits - plain(folder)(ids).logits).abs().max()
        assert (gap < 1e-4) == is_same


def shortened(sequence, length):
    answer = sequence.token_ids[: length - len(sequence.prompt_token_ids)]
    return TrainingSequence(prompt_token_ids=sequence.prompt_token_ids, token_ids=answer)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A model that also sees, of which only the language model is trained."""
    torch.manual_seed(0)
    text = ALONE["qwen3.5"].to_dict()
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
        "num_position_embeddings": 16,
    }  # fmt: skip
    model = Qwen3_5ForConditionalGeneration(
        Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=True)
    )
    folder = tmp_path_factory.mktemp("seeing")
    model.save_pretrained(folder)
    return str(folder)


def test_of_a_model_that_also_sees_the_language_model_is_trained(seeing, tmp_path):
    policy = load(seeing)
    expected = [slow_logprobs(plain(seeing), each) for each in sequences()]
    found = sequence_logprobs(policy, sequences(), StepSettings(max_tokens=1000, temperature=TEMPERATURE))
    assert torch.allclose(torch.tensor(sum(found, ())), torch.cat(expected), atol=2e-5)
    names = {name for name, _ in policy.weights()}
    assert "model.language_model.embed_tokens.weight" in names  # as in the files that the engine has loaded
    save_policy(policy, tmp_path / "out", source=tiny_model())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "qwen3_5_text" and config["architectures"] == ["Qwen3_5ForCausalLM"]
    again = [slow_logprobs(plain(str(tmp_path / "out")), each) for each in sequences()]
    assert torch.allclose(torch.cat(again), torch.cat(expected), atol=2e-5)


def test_logits_with_a_soft_cap_are_refused(tmp_path):
    folder = saved(Gemma2Config(**SIZES), tmp_path / "model")
    with pytest.raises(ModelError, match=re.escape("has final_logit_softcapping = 30.0, and logits with a soft cap")):
        load(folder)


def test_a_model_that_is_built_otherwise_is_refused(tmp_path):
    sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}
    folder = saved(PhiConfig(**sizes), tmp_path / "model")
    message = "PhiForCausalLM, which is not layers under an output head without a bias"
    with pytest.raises(ModelError, match=message):
        load(folder)
    with pytest.raises(ModelError, match=message):  # Without its weights as well.
        check_model(folder)


@pytest.mark.parametrize("config", (PACKED | ALONE).values(), ids=PACKED | ALONE)
def test_what_can_be_trained_passes_by_its_configuration_alone(config, tmp_path):
    config.save_pretrained(tmp_path)
    check_model(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gemma2", "final_logit_softcapping": 30.0}, "final_logit_softcapping = 30.0, and logits with"),
        ({"model_type": "none-such"}, "transformers cannot build some/model .*`none-such`"),
        ({"model_type": "whisper"}, "some/model is a WhisperForCausalLM, which is not layers under"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_configuration_alone(config, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        check_model(str(tmp_path), name="some/model")


class DoubledConfig(LlamaConfig):
    model_type = "doubled"


class DoubledForCausalLM(LlamaForCausalLM):
    """A model of a type that nobody here knows, whose head does something else as well."""

    config_class = DoubledConfig

    def forward(self, *states, **others):
        found = super().forward(*states, **others)
        found.logits = 2 * found.logits
        return found


def test_a_head_that_nobody_knows_is_refused(tmp_path):
    AutoConfig.register("doubled", DoubledConfig)
    AutoModelForCausalLM.register(DoubledConfig, DoubledForCausalLM)
    folder = saved(DoubledConfig(**SIZES), tmp_path / "model")
    with pytest.raises(ModelError, match="'doubled', gives tokens other log-probabilities than its trainer would"):
        load(folder)


@pytest.mark.parametrize(
    ("config", "degree", "message"),
    [
        ({"num_attention_heads": 6}, 4, "the 6 attention heads of some/model; give one of 1, 2, 3, 6"),
        ({"num_attention_heads": 4, "layer_types": ["linear_attention"]}, 2, "layers with linear attention, whose"),
    ],
)  # fmt: skip
def test_ranks_that_cannot_share_a_model_are_refused(config, degree, message):
    check_architecture(config, model="some/model")
    with pytest.raises(ModelError, match=message):
        check_architecture(config, model="some/model", context_parallel=degree)


def test_a_window_that_is_switched_off_is_none():
    older = {"num_hidden_layers": 2, "sliding_window": 4096}
    assert can_pack(older | {"use_sliding_window": False})
    assert not can_pack(older)
