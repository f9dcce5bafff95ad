"""LoRA adapters (Hu et al., arXiv 2106.09685) through peft: trained beside frozen weights, merged for all readers.

The engine and an exported model get ``weight + alpha / rank * B @ A``, so neither knows of adapters.
"""

import json
import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from polaris_train.errors import AdapterError
from polaris_train.recipe.tables import Lora

_FACTORS = "lora_A", "lora_B"
_NAME = "default"

_PLAIN = {"bias": "none", "use_dora": False, "use_rslora": False, "rank_pattern": {}, "alpha_pattern": {}}
"""What an adapter's settings say where it is ``alpha / rank * B @ A`` and nothing else."""


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


@contextmanager
def adapters_off(model: nn.Module) -> Generator[None]:
    """Let a model compute in the block what it did before it had adapters."""
    layers = [each for each in model.modules() if isinstance(each, LoraLayer)]
    try:
        for layer in layers:
            layer.set_scale(_NAME, 0.0)
        yield
    finally:
        for layer in layers:
            layer.set_scale(_NAME, 1.0)


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
            value = value.float()
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
        _file_name(name): _whole(parameter).cpu().contiguous()
        for name, parameter in model.named_parameters()
        if is_adapter(name)
    }
    if write:
        folder.mkdir(parents=True)
        save_file(tensors, folder / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
        config = _config(lora)
        config.target_modules = sorted({name.split(".")[-3] for name in tensors})  # the same bytes in every process
        config.base_model_name_or_path = str(source)
        config.inference_mode = True
        config.save_pretrained(str(folder))


def read_adapters(folder: Path) -> tuple[str, Lora]:
    """Return the model that a folder's adapters belong beside, as they name it, and their settings.

    Raises:
        AdapterError: If they are no plain LoRA adapters.
    """
    path = folder / CONFIG_NAME
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        base, lora = str(config["base_model_name_or_path"]), Lora(rank=config["r"], alpha=config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise AdapterError(f"{path} does not say what its adapters are ({reason}); save them again") from error
    if config.get("peft_type") != "LORA" or config.get("modules_to_save"):
        raise AdapterError(f"{path}: only LoRA is known here, with no other layers beside it; merge it with peft")
    if other := {name: config[name] for name, usual in _PLAIN.items() if config.get(name, usual) not in (usual, None)}:
        raise AdapterError(f"{path} asks for {other}, which is not known here; merge it with peft")
    return base, lora


@torch.no_grad()
def load_adapters(model: nn.Module, folder: Path) -> None:
    """Give adapters the values that `save_adapters`, peft or TRL wrote; layers that had none keep theirs. Collective.

    Raises:
        AdapterError: If they are of another model or another rank.
    """
    stored = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    own = {_file_name(name): parameter for name, parameter in model.named_parameters() if is_adapter(name)}
    if strange := sorted(stored.keys() - own.keys()):
        raise AdapterError(
            f"{folder} has an adapter {strange[0]!r}, for which the model has no linear layer: they belong beside "
            f"another model; correct base_model_name_or_path in {CONFIG_NAME}"
        )
    for name, values in stored.items():
        if values.shape != own[name].shape:
            raise AdapterError(
                f"{folder}: {name!r} is {tuple(values.shape)}, but the model and the rank in {CONFIG_NAME} ask for "
                f"{tuple(own[name].shape)}; correct r or base_model_name_or_path there"
            )
        own[name].copy_(_like(values, own[name]))


def _file_name(name: str) -> str:
    """Return what peft calls a parameter of an adapter in its files."""
    return f"base_model.model.{name.replace(f'.{_NAME}.', '.')}"


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
