"""The model being trained: sharded over the ranks with FSDP2, read and written in Hugging Face format.

Attention over packed sequences, each of which sees only itself.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from accelerate import init_empty_weights
from jaxtyping import Float
from polaris_rollout import local_folder
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils.import_utils import is_flash_attn_2_available

from polaris_train.model.logprobs import token_logprobs
from polaris_train.model.packing import MicroBatch
from polaris_train.recipe import Precision

PACKED_SDPA = "polaris_packed_sdpa"
"""Name under which transformers knows `packed_sdpa`."""


def attention_implementation(device: torch.device, dtype: torch.dtype) -> str:
    """Return the fastest attention for packed sequences: flash-attention where installed, else flex_attention.

    On a CPU, and in float32, it is `packed_sdpa`, which takes the sequences one by one.
    """
    if device.type != "cuda" or dtype == torch.float32:
        AttentionInterface.register(PACKED_SDPA, packed_sdpa)
        AttentionMaskInterface.register(PACKED_SDPA, _no_mask)
        return PACKED_SDPA
    return "flash_attention_2" if is_flash_attn_2_available() else "flex_attention"


def packed_sdpa(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    position_ids: Tensor,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of a packed batch: what a block-diagonal mask says, without its empty blocks.

    Args:
        module: The attention layer.
        query: [1, heads, length, head size]
        key: [1, key heads, length, head size]
        value: [1, key heads, length, head size]
        attention_mask: Not used; ``position_ids`` say where sequences begin.
        position_ids: [1, length] restarting at 0 with each sequence.
        scaling: Of the scores; ``None`` is one over the root of the head size.
        sliding_window: Must be ``None``.

    Returns:
        [1, length, heads, head size] and no attention weights.

    Raises:
        NotImplementedError: If the layer attends within a sliding window.
    """
    if sliding_window is not None:
        raise NotImplementedError(f"a layer with a sliding window of {sliding_window}; use a model without")
    starts = (position_ids[0] == 0).nonzero()[:, 0].tolist()
    sizes = [end - start for start, end in zip(starts, [*starts[1:], query.shape[2]], strict=True)]
    parts = zip(*(states.split(sizes, dim=2) for states in (query, key, value)), strict=True)
    grouped = query.shape[1] != key.shape[1]
    attended = [
        scaled_dot_product_attention(*part, is_causal=True, scale=scaling, enable_gqa=grouped) for part in parts
    ]
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Build no mask: `packed_sdpa` needs none."""


FILE_BYTES = 5 * 10**9
"""Of one file of an exported model, at most, unless a single tensor is larger."""


class Policy(nn.Module):
    """A causal language model that returns log-probabilities of given tokens instead of logits.

    Attributes:
        dtype: Of forward passes and exports; the parameters themselves are float32.
        device: Where the model computes.
        quadratic_length: Length of a sequence at which attention costs as much as all the rest.
    """

    def __init__(
        self, model: nn.Module, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.dtype = dtype
        self.device = torch.device(device)
        config = self.model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        attention = config.num_hidden_layers * config.num_attention_heads * head_dim
        self.quadratic_length = sum(each.numel() for each in model.parameters()) / attention

    def forward(
        self, batch: MicroBatch, *, temperature: float
    ) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
        """Return the log-probability and entropy at each of ``batch.targets``; see `token_logprobs`.

        Positions that predict no target, of prompts, are left out before the head.
        """
        hidden = self.model.model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        return token_logprobs(
            hidden[0, batch.predicting], self.model.lm_head.weight, batch.targets, temperature=temperature
        )

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each parameter's checkpoint name and whole tensor, one at a time.

        Every rank must iterate to the end: gathering a sharded parameter is collective.
        """
        for name, parameter in self.model.named_parameters():
            whole = parameter.detach().to(self.device)
            yield name, whole.full_tensor() if isinstance(whole, DTensor) else whole

    def save(self, folder: Path, *, source: str) -> None:
        """Write a Hugging Face folder that transformers and vLLM load as it is; collective.

        Every rank writes its own shards, and rank 0 joins them: no rank ever holds the whole model.

        Args:
            folder: Target; must not exist.
            source: The model that training started from, for tokenizer and generation config.
        """
        state = {name: each.detach().to(self.dtype) for name, each in self.model.named_parameters()}
        files: dict[str, int] = {}
        written = 0
        for name, each in state.items():
            written += each.numel() * each.element_size()
            files[name] = 1 + written // FILE_BYTES
        numbers = {number: index for index, number in enumerate(sorted(set(files.values())), start=1)}
        writer = HuggingFaceStorageWriter(
            str(folder),
            {name: numbers[number] for name, number in files.items()},
            save_distributed=True,
            enable_consolidation=True,
        )
        save(state, storage_writer=writer)
        if dist.get_rank() == 0:
            shutil.rmtree(folder / "sharded")
            self.model.config.dtype = self.dtype
            self.model.config.save_pretrained(folder)
            AutoTokenizer.from_pretrained(source).save_pretrained(folder)
            with suppress(OSError):  # A model need not have a generation config.
                GenerationConfig.from_pretrained(source).save_pretrained(folder)
        dist.barrier()


def compute_dtype(device: torch.device, precision: Precision | None = None) -> torch.dtype:
    """Return the precision of forward passes, engine and exports: by default bfloat16 on GPU, float32 on CPU."""
    if precision is not None:
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[precision]
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load_policy(
    model: str,
    *,
    device: torch.device,
    context: int,
    precision: Precision | None = None,
    cpu_offload: bool = False,
    activation_checkpointing: bool | None = None,
) -> Policy:
    """Load a model with float32 master weights, sharded over all ranks; collective.

    The model is built without memory, sharded, and then each rank reads its own part of the safetensors files.

    Args:
        model: A folder or a Hub id.
        device: Of this rank.
        context: Longest sequence; the configured positions are raised to it where they are fewer, which leaves
            the rotary frequencies as they are.
        precision: Of forward and backward passes; see `compute_dtype`.
        cpu_offload: Keep parameters, gradients and optimizer state in the memory of the host.
        activation_checkpointing: Compute activations again in the backward pass instead of keeping them; by default on
            a GPU.
    """
    folder = local_folder(model)
    dtype = compute_dtype(device, precision)
    config = AutoConfig.from_pretrained(folder)
    config.max_position_embeddings = max(config.max_position_embeddings, context)
    with init_empty_weights(include_buffers=False):
        empty: Any = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention_implementation(device, dtype)
        )
    empty.tie_weights()
    if device.type == "cuda" if activation_checkpointing is None else activation_checkpointing:
        empty.gradient_checkpointing_enable()
    policy = Policy(empty.train(), dtype=dtype, device=device)
    shard = partial(
        fully_shard,
        mp_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        offload_policy=CPUOffloadPolicy(pin_memory=device.type == "cuda") if cpu_offload else OffloadPolicy(),
    )
    for layer in empty.model.layers:
        shard(layer)
    shard(policy)
    buffers = {name: buffer.clone() for name, buffer in policy.named_buffers()}
    policy.to_empty(device=torch.device("cpu") if cpu_offload else device)
    for name, buffer in buffers.items():
        owner, _, attribute = name.rpartition(".")
        setattr(policy.get_submodule(owner), attribute, buffer.to(device))
    load(dict(empty.named_parameters()), storage_reader=HuggingFaceStorageReader(str(folder)))
    return policy


def clip_grad_norm(policy: Policy, max_norm: float) -> float:
    """Scale the gradients down to ``max_norm`` and return their norm over all ranks before that."""
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def sync_gradients(policy: Policy, *, now: bool) -> None:
    """Reduce gradients over the ranks in the next backward pass, or let them pile up on each rank."""
    cast(FSDPModule, policy).set_requires_gradient_sync(now)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether an allocation failed, on a GPU or on the host."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
