"""The policy read from and written to Hugging Face folders, sharded over the ranks with FSDP2."""

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from accelerate import init_empty_weights
from polaris_rollout import ModelError, local_folder
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from polaris_train.model.adapters import (
    add_adapters,
    checkpoint_name,
    is_adapter,
    merged_parameters,
    save_adapters,
    start_adapters,
)
from polaris_train.model.architecture import TESTED, can_pack, check_architecture, name_in_files
from polaris_train.model.attention import OF_PACKS, SDPA, attention_implementation
from polaris_train.model.layers import can_compile, prepare_layers
from polaris_train.model.likeness import check_likeness
from polaris_train.model.policy import Policy
from polaris_train.model.ulysses import join_context_ranks
from polaris_train.recipe.tables import Activations, Lora

Precision = Literal["bfloat16", "float16", "float32"]

FILE_BYTES = 5 * 10**9
"""Of one file of an exported model, at most, unless a single tensor is larger."""

_LAYERS = {True: "compiled", False: "not compiled"}

_NAMES_OF_MODEL = "model.", "model.language_model.", "language_model.model."
"""What the layers stand under in checkpoints: of a language model, and of models that also see."""


def load_policy(
    model: str,
    *,
    device: torch.device,
    context: int,
    precision: Precision | None = None,
    cpu_offload: bool = False,
    activations: Activations | None = None,
    compile_layers: bool = False,
    lora: Lora | None = None,
    frozen: bool = False,
    context_parallel: int = 1,
    seed: int = 0,
) -> Policy:
    """Load a model, sharded over all ranks: what is trained in float32, the rest as it computes; collective.

    The model is built without memory, sharded, and then each rank reads its own part of the safetensors files.

    Args:
        model: A folder or a Hub id.
        device: Of this rank.
        context: Longest sequence; the configured positions are raised to it where they are fewer, which leaves
            the rotary frequencies as they are.
        precision: Of forward and backward passes, engine and exports; by default bfloat16 on a GPU, else float32.
        cpu_offload: Keep parameters, gradients and optimizer state in the memory of the host.
        activations: What layers keep for the backward pass; by default everything on a CPU and ``recompute`` on a GPU.
        compile_layers: Compile each layer, of models whose sequences can be packed; needs a C compiler.
        lora: Train adapters beside frozen weights.
        frozen: Train nothing: a reference or a teacher.
        context_parallel: Neighbouring ranks that hold a slice each of the same tokens; divides the number of ranks.
        seed: Of the adapters.

    Raises:
        ModelError: If the model would be trained wrongly.
    """
    on_gpu = device.type == "cuda"
    folder = local_folder(model)
    dtype = getattr(torch, precision or ("bfloat16" if on_gpu else "float32"))
    reader = HuggingFaceStorageReader(str(folder))
    if compile_layers and not can_compile():
        raise ModelError("compile_layers needs a C compiler, and there is neither cc, gcc nor clang; leave it out")
    attention = attention_implementation(device, dtype)
    if compile_layers and not on_gpu:
        attention = SDPA  # The other one splits at lengths that a compiler does not know.
    empty, in_files = _without_memory(folder, reader, context=context, attention=attention)
    check_architecture(empty.config.to_dict(), model=model, context_parallel=context_parallel)
    if lora is not None:
        add_adapters(empty, lora)
    if frozen:
        empty.requires_grad_(requires_grad=False)
    for parameter in empty.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)  # Nothing is added up in it: more digits would be cut off again.
    compile_layers = compile_layers and can_pack(empty.config.to_dict())
    activations = activations or ("recompute" if on_gpu else "keep")
    prepare_layers(empty.model.layers, activations, compiled=compile_layers)
    ranks = join_context_ranks(context_parallel) if context_parallel > 1 else None
    policy = Policy(empty, dtype=dtype, device=device, lora=lora, context_ranks=ranks, in_files=in_files)
    policy.train(not frozen)
    policy.computed = f"attention {policy.attention}, activations {activations}, layers {_LAYERS[compile_layers]}"
    shard = partial(
        fully_shard,
        mp_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32),
        offload_policy=CPUOffloadPolicy(pin_memory=on_gpu) if cpu_offload else OffloadPolicy(),
    )
    for layer in empty.model.layers:
        shard(layer)
    shard(policy)
    buffers = {name: buffer.clone() for name, buffer in policy.named_buffers()}
    policy.to_empty(device=torch.device("cpu") if cpu_offload else device)
    for name, buffer in buffers.items():
        owner, _, attribute = name.rpartition(".")
        setattr(policy.get_submodule(owner), attribute, buffer.to(device))
    names = {name: checkpoint_name(name) for name, _ in empty.named_parameters() if not is_adapter(name)}
    load(
        {name_in_files(names[name], in_files): each for name, each in empty.named_parameters() if name in names},
        storage_reader=reader,
    )
    if lora is not None:
        start_adapters(empty, seed=seed)
    if empty.config.model_type not in TESTED:
        check_likeness(policy, model=model)
    return policy


def _without_memory(folder: Path, reader: HuggingFaceStorageReader, *, context: int, attention: str) -> tuple[Any, str]:
    """Return the language model of a folder without its weights, and what ``model.`` is called in its files.

    Raises:
        ModelError: If it is not made of the parts that a policy is.
    """
    whole = AutoConfig.from_pretrained(folder)
    config = whole.get_text_config()  # Of a model that also sees, the part that reads and writes.
    names = reader.read_metadata().state_dict_metadata.keys()
    in_files = next((prefix for prefix in _NAMES_OF_MODEL if f"{prefix}embed_tokens.weight" in names), "")
    config.max_position_embeddings = max(config.max_position_embeddings, context)
    config.tie_word_embeddings = config.tie_word_embeddings or "lm_head.weight" not in names
    if not can_pack(config.to_dict()) and attention in OF_PACKS:
        attention = SDPA
    with init_empty_weights(include_buffers=False):
        empty: Any = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention)
    _refuse_other_parts(empty, name=str(folder))
    empty.tie_weights()
    return empty, in_files


def check_parts(model: str, *, name: str) -> None:
    """Refuse a model that is not made of the parts that a policy is; its weights are not read.

    Args:
        model: A folder or a Hub id.
        name: For the message.

    Raises:
        ModelError: If it is made of others, or transformers cannot build it.
    """
    try:
        config = AutoConfig.from_pretrained(model).get_text_config()
        with init_empty_weights():
            empty = AutoModelForCausalLM.from_config(config)
    except (ValueError, ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"transformers cannot build {name} ({reason}); choose a model of type {', '.join(TESTED)}"
        ) from error
    _refuse_other_parts(empty, name=name)


def _refuse_other_parts(empty: Any, *, name: str) -> None:
    head = getattr(empty, "lm_head", None)
    if not hasattr(getattr(empty, "model", None), "layers") or getattr(head, "bias", head) is not None:
        raise ModelError(
            f"{name} is a {type(empty).__name__}, which is not layers under an output head without a bias; choose a "
            f"model of type {', '.join(TESTED)}, or one that is built like these"
        )


def save_policy(policy: Policy, folder: Path, *, source: str, adapters: Path | None = None) -> None:
    """Write a Hugging Face folder that transformers and vLLM load as it is; collective.

    Every rank writes its own shards, and rank 0 joins them: no rank ever holds the whole model. Adapters are merged.

    Args:
        policy: Written in its precision.
        folder: Target; must not exist.
        source: The model that training started from, for tokenizer and generation config.
        adapters: Folder for the adapters alone; without it they are only merged.
    """
    state = {name: each.to(policy.dtype) for name, each in merged_parameters(policy.model, policy.lora)}
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
        policy.model.config.dtype = policy.dtype
        policy.model.config.architectures = [type(policy.model).__name__]
        policy.model.config.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        with suppress(OSError):  # A model need not have a generation config.
            GenerationConfig.from_pretrained(source).save_pretrained(folder)
    if policy.lora is not None and adapters is not None:
        save_adapters(policy.model, policy.lora, adapters, source=source, write=dist.get_rank() == 0)
    dist.barrier()
