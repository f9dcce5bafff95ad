"""Shapes and types of the numeric functions are checked at run time while they are tested."""

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

install_import_hook(
    [
        "polaris_train.grpo.advantage",
        "polaris_train.grpo.loss",
        "polaris_train.grpo.weights",
        "polaris_train.model.logprobs",
    ],
    "beartype.beartype",
)

# How long an example takes says something about the machine only.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")


@pytest.fixture(scope="module")
def one_rank():
    """This process alone, as the only rank of a launch."""
    import torch.distributed as dist  # the hook above comes before everything that needs torch

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def small_qwen3(tmp_path_factory):
    """A Qwen3 of a few thousand random weights."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    config = Qwen3Config(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, tie_word_embeddings=True, max_position_embeddings=128,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder
