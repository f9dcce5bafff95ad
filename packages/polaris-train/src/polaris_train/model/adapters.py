"""LoRA adapters (Hu et al., arXiv 2106.09685) through peft: trained beside frozen weights, merged for all readers.

The engine and an exported model get ``weight + alpha / rank * B @ A``, so neither knows of adapters.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from polaris_train.recipe_tables import Lora

_FACTORS = "lora_A", "lora_B"
_NAME = "default"


def add_adapters(model: nn.Module, lora: Lora) -> None:
    """Put adapters without memory beside the linear layers of a model, and freeze all else."""
    inject_adapter_in_model(_config(lora), model, adapter_name=_NAME, low_cpu_mem_usage=True)


def is_adapter(name: str) -> bool:
    """Return whether a parameter belongs to an adapter, by its name."""
    return any(f".{factor}." in name for factor in _FACTORS)


def checkpoint_name(name: str) -> str:
    """Return what a parameter beside an adapter is called in the files of the model."""
    return name.replace(".base_layer.", ".")


@torch.no_grad()
def start_adapters(model: nn.Module, *, seed: int) -> None:
    """Give adapters the values that they start with: B is 0, so the model is what it was; collective.

    Args:
        model: With adapters.
        seed: Of A, the same on any number of ranks.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            values = torch.zeros(parameter.shape)
            if f".{_FACTORS[0]}." in name:
                nn.init.kaiming_uniform_(values, a=math.sqrt(5), generator=generator)
            parameter.copy_(_like(values, parameter))


@torch.no_grad()
def merged_parameters(model: nn.Module, lora: Lora | None) -> Iterator[tuple[str, Tensor]]:
    """Yield the name in a checkpoint and the value of each parameter with its adapter merged; collective.

    Args:
        model: With adapters, or without where ``lora`` is ``None``.
        lora: Their settings.
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if is_adapter(name):
            continue
        value = parameter.detach()
        layer, beside, _ = name.partition(".base_layer.weight")
        if beside and lora is not None:
            a, b = (_whole(parameters[f"{layer}.{factor}.{_NAME}.weight"]) for factor in _FACTORS)
            value = value + _like(lora.scale * (b @ a), value)
        yield checkpoint_name(name), value


@torch.no_grad()
def save_adapters(model: nn.Module, lora: Lora, folder: Path, *, source: str, write: bool) -> None:
    """Write adapters alone as peft, vLLM and TRL load them; collective.

    Args:
        model: With adapters.
        lora: Their settings.
        folder: Target, created.
        source: The model that they belong beside.
        write: Whether this rank writes.
    """
    tensors = {
        f"base_model.model.{name.replace(f'.{_NAME}.', '.')}": _whole(parameter).cpu().contiguous()
        for name, parameter in model.named_parameters()
        if is_adapter(name)
    }
    if write:
        folder.mkdir(parents=True)
        save_file(tensors, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
        config = _config(lora)
        config.target_modules = {name.split(".")[-3] for name in tensors}
        config.base_model_name_or_path = str(source)
        config.inference_mode = True
        config.save_pretrained(str(folder))


def _config(lora: Lora) -> Any:
    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.scale * lora.rank,  # type: ignore[arg-type] # peft declares an integer and divides
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def _like(values: Tensor, other: Tensor) -> Tensor:
    """Return values that every rank has whole, sharded as another tensor is."""
    values = values.to(device=other.device, dtype=other.dtype)
    if isinstance(other, DTensor):
        return distribute_tensor(values, other.device_mesh, other.placements, src_data_rank=None)
    return values
