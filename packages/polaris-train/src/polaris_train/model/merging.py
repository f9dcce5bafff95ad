"""Merging two models of the same form: ``alpha * A + (1 - alpha) * B``, weight by weight.

As POLARIS V2 makes its largest model: the base and what was distilled into it, 0.5 of each (best between 0.3 and 0.5).
Wortsman et al., "Model soups", 2022. https://arxiv.org/abs/2203.05482
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME
from polaris_data.files import write_json
from polaris_rollout import local_folder, model_digest, resolve_model
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from polaris_train.errors import MergeError
from polaris_train.model.adapters import read_adapters

logger = logging.getLogger(__name__)

FILE_BYTES = 2**30
"""Of one file of the merged model, at most, unless a single tensor is larger; as much is in memory."""

_INDEX = "model.safetensors.index.json"
_HEAD = "lm_head.weight"

_MAY_DIFFER = {
    *("_name_or_path", "architectures", "bos_token_id", "dtype", "eos_token_id", "max_position_embeddings"),
    *("pad_token_id", "torch_dtype", "transformers_version", "use_cache"),
}
"""Values of a config that say nothing about what the weights mean."""


def merge_models(first: str, second: str, out: Path, *, alpha: float) -> None:
    """Write the average of two models, with everything but the weights from the first.

    A folder of LoRA adapters stands for the model that they belong beside with the adapters merged. The files are read
    and written a gibibyte at a time.

    Args:
        first: A model folder, a Hub id, a carried model, or a folder of adapters.
        second: Another of the same form.
        out: Folder to write.
        alpha: Share of the first; that of the second is ``1 - alpha``.

    Raises:
        MergeError: If the two are not of the same form or have other tokens, or there is something at ``out``.
        ModelError: If there is no such model.
    """
    if not 0 <= alpha <= 1:
        raise MergeError(f"alpha is {alpha:g}; give the share of the first model, from 0 to 1")
    if out.exists():
        raise MergeError(f"{out} exists, and is not overwritten: give another folder with --out, or remove it")
    with ExitStack() as stack:
        one, other = (stack.enter_context(_Weights(name)) for name in (first, second))
        _require_same_form(one, other)
        incoming = out.with_name(f"{out.name}.partial")
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir(parents=True)
        _write(incoming, _averaged(one, other, alpha))
        for path in one.folder.iterdir():
            if path.is_file() and path.suffix in (".json", ".jinja", ".model", ".txt") and not _is_ours(path):
                shutil.copyfile(path, incoming / path.name)
        parts = [one.provenance(share=alpha), other.provenance(share=1 - alpha)]
        write_json(incoming / "merged.json", {"parts": parts})
        incoming.replace(out)


def _is_ours(path: Path) -> bool:
    return path.name in (_INDEX, "trained.json", "merged.json")


class _Weights:
    """The weights of a model, read one at a time, its adapters merged.

    Attributes:
        folder: Of the model.
        adapters: Folder of the adapters beside it, if there are such.
    """

    def __init__(self, name: str) -> None:
        self._stack = ExitStack()
        self.name, self.adapters = name, None
        self._factors: dict[str, Tensor] = {}
        self._scale = 1.0
        if (Path(name) / CONFIG_NAME).is_file():
            base, lora = read_adapters(Path(name))
            self.adapters, self._scale = name, lora.scale
            self.folder = local_folder(resolve_model(base))
        else:
            self.folder = local_folder(resolve_model(name))

    def __enter__(self) -> "_Weights":
        self._files: dict[str, Any] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            opened: Any = self._stack.enter_context(safe_open(path, framework="pt"))
            self._files |= dict.fromkeys(opened.keys(), opened)
        if self.config().get("tie_word_embeddings"):
            self._files.pop(_HEAD, None)  # Some libraries write it twice.
        if self.adapters is not None:
            path = Path(self.adapters) / SAFETENSORS_WEIGHTS_NAME
            opened = self._stack.enter_context(safe_open(path, framework="pt"))
            self._factors = {key.removeprefix("base_model.model."): opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            self._require_known_adapters()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def config(self) -> Mapping[str, Any]:
        return json.loads((self.folder / "config.json").read_text(encoding="utf-8"))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(file.get_slice(name).get_shape()) for name, file in self._files.items()}

    def tensor(self, name: str) -> Tensor:
        """Return one weight in its own precision, with its adapter in float32."""
        value: Tensor = self._files[name].get_tensor(name)
        layer = name.removesuffix(".weight")
        a, b = (self._factors.get(f"{layer}.lora_{factor}.weight") for factor in "AB")
        if a is None or b is None:
            return value
        return value.float() + self._scale * (b.float() @ a.float())

    def precision(self, name: str) -> torch.dtype:
        return self._files[name].get_tensor(name).dtype

    def provenance(self, *, share: float) -> dict[str, Any]:
        """Return what is to be written down of it."""
        adapters = self.adapters and str(Path(self.adapters).absolute())
        return {"model": self.name, "share": share, "digest": model_digest(str(self.folder)), "adapters": adapters}

    def _require_known_adapters(self) -> None:
        for key in self._factors:
            layer = key.rpartition(".lora_")[0]
            if f"{layer}.weight" not in self._files:
                raise MergeError(
                    f"{self.adapters} has an adapter for {layer!r}, which {self.folder} does not have: they belong "
                    f"beside another model; correct base_model_name_or_path in {CONFIG_NAME}"
                )


def _require_same_form(one: _Weights, other: _Weights) -> None:
    """Refuse models whose weights do not mean the same, and warn where they were asked in different forms.

    Raises:
        MergeError: Naming the first difference.
    """
    from transformers import AutoTokenizer

    remedy = "only models that were trained from the same one can be merged"
    shapes, others = one.shapes(), other.shapes()
    for name in sorted(shapes.keys() | others.keys()):
        if shapes.get(name) != others.get(name):
            found = [str(each.get(name, "missing")) for each in (shapes, others)]
            raise MergeError(f"{name} is {found[0]} in {one.name} and {found[1]} in {other.name}; {remedy}")
    config, beside = one.config(), other.config()
    for name in sorted((config.keys() | beside.keys()) - _MAY_DIFFER):
        if config.get(name) != beside.get(name):
            raise MergeError(
                f"{name} is {config.get(name)!r} in {one.name} and {beside.get(name)!r} in {other.name}; {remedy}"
            )
    tokenizers = [AutoTokenizer.from_pretrained(each.folder) for each in (one, other)]
    words: list[dict[str, int]] = [each.get_vocab() for each in tokenizers]
    if different := sorted(words[0].items() ^ words[1].items(), key=lambda item: (item[1], item[0])):
        raise MergeError(
            f"the tokenizers of {one.name} and {other.name} differ in {len(different)} entries, such as "
            f"{different[0][0]!r}; {remedy}, with the same tokenizer"
        )
    if tokenizers[0].chat_template != tokenizers[1].chat_template:
        logger.warning(
            "the chat templates of %s and %s differ, and the merged model has that of the first; if the other one is "
            "meant, give its model first, with 1 - alpha",
            *(one.name, other.name),
        )


def _averaged(one: _Weights, other: _Weights, alpha: float) -> Iterator[tuple[str, Tensor]]:
    """Yield each weight in the precision of the first model, averaged in float32."""
    for name in one.shapes():
        mixed = alpha * one.tensor(name).float() + (1 - alpha) * other.tensor(name).float()
        yield name, mixed.to(one.precision(name)).contiguous()


def _write(folder: Path, weights: Iterator[tuple[str, Tensor]]) -> None:
    """Write safetensors files of at most `FILE_BYTES` and the index of what is where."""
    parts: list[list[str]] = []
    held: dict[str, Tensor] = {}
    total = size = 0
    for name, value in weights:
        num_bytes = value.numel() * value.element_size()
        if held and size + num_bytes > FILE_BYTES:
            parts.append(_flush(folder, held, len(parts)))
            held, size = {}, 0
        held[name] = value
        size += num_bytes
        total += num_bytes
    parts.append(_flush(folder, held, len(parts)))
    names = [f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)]
    names = ["model.safetensors"] if len(parts) == 1 else names
    for number, name in enumerate(names):
        _part(folder, number).rename(folder / name)
    if len(parts) > 1:
        places = {weight: name for name, part in zip(names, parts, strict=True) for weight in part}
        write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def _flush(folder: Path, held: Mapping[str, Tensor], number: int) -> list[str]:
    save_file(dict(held), _part(folder, number), metadata={"format": "pt"})
    return list(held)


def _part(folder: Path, number: int) -> Path:
    return folder / f"part-{number}"
