"""Fewer bits for a model's linear layers, in the format of compressed-tensors, which vLLM and transformers load.

Weights are rounded to the nearest of the values that their scale allows; there is no calibration, so that nothing has
to be sampled and the same model gives the same files. Scales are minima and maxima of each output channel, or of each
group of inputs. Embedding and output head keep their precision.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from polaris_train.errors import ReleaseError

SCHEMES: dict[str, str] = {"w8a8": "W8A8", "w4a16": "W4A16"}
"""Names of the schemes here and in compressed-tensors: weights and activations of 8 bits (a scale for each output
channel and token), or weights of 4 bits (a scale for each group of inputs)."""

_GROUPS = (128, 64, 32)
"""Inputs that share a scale of four bits: the largest that divides every layer."""

_FILES = "*.safetensors", "model.safetensors.index.json"


def check_scheme(folder: Path, scheme: str) -> None:
    """Refuse what cannot be quantised before anything is copied or loaded.

    Raises:
        ReleaseError: If there is no such scheme, compressed-tensors is not installed, or the model in the folder is
            quantised already.
    """
    if scheme not in SCHEMES:
        raise ReleaseError(f"no scheme {scheme!r} for --quantize; give one of {', '.join(SCHEMES)}")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if "quantization_config" in config:
        raise ReleaseError(f"{folder} is quantised already; quantise the model that it was made from")
    if find_spec("compressed_tensors") is None:
        raise ReleaseError("--quantize needs compressed-tensors: pip install 'polaris-train[quantize]>=2026.11'")


def quantize(folder: Path, scheme: str) -> None:
    """Quantise the model in a folder, in place.

    Args:
        folder: A Hugging Face folder with safetensors; its config says afterwards how it is quantised.
        scheme: One of `SCHEMES`.

    Raises:
        ReleaseError: If its layers do not divide into groups.
    """
    from compressed_tensors.compressors import ModelCompressor
    from compressed_tensors.quantization import QuantizationStatus, apply_quantization_config

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    apply_quantization_config(model, _config(model, SCHEMES[scheme]))
    for module in model.modules():
        if getattr(module, "quantization_scheme", None) is not None:
            _set_scale(module)
            module.quantization_status = QuantizationStatus.FROZEN
    compressor = ModelCompressor.from_pretrained_model(model)
    compressor.compress_model(model)
    generation = (folder / "generation_config.json").read_bytes()
    for pattern in _FILES:
        for path in folder.glob(pattern):
            path.unlink()
    model.save_pretrained(folder)
    compressor.update_config(str(folder))
    # It is written anew, and in other words, by the library.
    (folder / "generation_config.json").write_bytes(generation)


def _config(model: Any, preset: str) -> Any:
    from compressed_tensors.quantization import QuantizationConfig, QuantizationStatus, preset_name_to_scheme

    scheme = preset_name_to_scheme(preset, ["Linear"])
    weights: Any = scheme.weights
    if weights.group_size:
        weights.group_size = _group_size(model)
    return QuantizationConfig(
        config_groups={"group_0": scheme}, ignore=["lm_head"], quantization_status=QuantizationStatus.INITIALIZED
    )


def _group_size(model: Any) -> int:
    widths = {
        name: module.in_features
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "lm_head"
    }
    for size in _GROUPS:
        if all(width % size == 0 for width in widths.values()):
            return size
    name, width = next((name, width) for name, width in widths.items() if width % _GROUPS[-1])
    raise ReleaseError(
        f"{name} has {width} inputs, which do not divide into groups of {_GROUPS[-1]}; use --quantize w8a8"
    )


def _set_scale(module: Any) -> None:
    from compressed_tensors.quantization.utils import calculate_qparams

    arguments = module.quantization_scheme.weights
    weight = module.weight.detach().float()
    groups = weight.unflatten(1, (-1, arguments.group_size)) if arguments.group_size else weight[:, None]
    scale, zero_point = calculate_qparams(groups.amin(-1), groups.amax(-1), arguments)
    module.weight_scale.data.copy_(scale)
    if hasattr(module, "weight_zero_point"):
        module.weight_zero_point.data.copy_(zero_point)
