"""Weights in files that a trainer and its servers both see: written once, read by every server, by a late one too."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any

from polaris_rollout.errors import SettingError
from polaris_rollout.models import model_config

if TYPE_CHECKING:
    import torch

BACKEND = "polaris_files"
"""Name of this way in vLLM's --weight-transfer-config."""

_SHARD_BYTES = 2**30
"""In memory at a time, besides one tensor."""

_HEADER_SIZE = Struct("<Q")

Shapes = Mapping[str, tuple[int, ...]]
"""Of parameters, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredWeights:
    """One version of a model's weights, on disk."""

    version: str
    """Their name."""

    folder: Path
    """Holds nothing else."""

    shards: tuple[tuple[str, str], ...]
    """Name and SHA-256 of each safetensors file."""

    def update_info(self) -> dict[str, Any]:
        """Return what a server is told to load, fit for JSON."""
        return {"folder": str(self.folder), "shards": [list(shard) for shard in self.shards]}


def store_weights(
    weights: "Iterable[tuple[str, torch.Tensor]]", folder: Path, *, version: str, expected: Shapes | None
) -> StoredWeights:
    """Write weights to a new folder. The iterator is read to its end even if a tensor is wrong: it may be collective.

    Args:
        weights: Names and whole tensors, one at a time.
        folder: To be created; what is there is removed.
        version: Name of these weights.
        expected: What the model has; ``None`` where that is not known.

    Raises:
        SettingError: If a parameter is missing or has another shape, or the files cannot be written.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    shards: list[tuple[str, str]] = []
    failure: OSError | None = None
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    except OSError as error:
        failure = error
    for shard in _shards(weights):
        shapes |= {name: tuple(tensor.shape) for name, tensor in shard.items()}
        if failure is None:
            try:
                shards.append(_write_shard(shard, folder / f"{len(shards):05d}.safetensors"))
            except OSError as error:
                failure = error
    if failure is not None:
        raise SettingError(
            f"weights {version!r} cannot be written to {folder} ({failure.strerror or failure}); free space there or "
            "give another folder that the servers see"
        ) from failure
    if expected is not None:
        require_all(shapes, expected, version)
    return StoredWeights(version=version, folder=folder, shards=tuple(shards))


def read_weights(folder: str, shards: Sequence[Sequence[str]]) -> "Iterator[tuple[str, torch.Tensor]]":
    """Check the files of stored weights, all before the first tensor is given, and yield names and tensors.

    Raises:
        ValueError: If a file is missing or is not as it was written.
    """
    for name, written in shards:
        path = Path(folder) / name
        if not path.is_file():
            raise ValueError(f"there is no file {path}; give a folder that the trainer and this server both see")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != written:
            raise ValueError(f"{path} has SHA-256 {found[:12]} and was written with {written[:12]}")
    return _tensors(Path(folder), [name for name, _ in shards])


def with_tied_head(weights: "Iterable[tuple[str, torch.Tensor]]") -> "Iterator[tuple[str, torch.Tensor]]":
    """Name a tied head as well: vLLM 0.32 on CPU packs a copy of it, which the embedding alone does not renew."""
    for name, tensor in weights:
        yield name, tensor
        if name.endswith("embed_tokens.weight"):
            yield "lm_head.weight", tensor


def require_all(given: Shapes, expected: Shapes, version: str) -> None:
    """Refuse weights that leave a parameter out or give it another shape.

    Raises:
        SettingError: Naming the parameters.
    """
    if missing := sorted(expected.keys() - given.keys()):
        raise SettingError(
            f"weights {version!r} lack {len(missing)} of the model's {len(expected)} parameters: "
            f"{', '.join(missing[:3])}; give all of them, as named_parameters() does"
        )
    if wrong := sorted(name for name, shape in expected.items() if given[name] != shape):
        name = wrong[0]
        raise SettingError(
            f"weights {version!r} give {name} the shape {given[name]} and the model has {expected[name]}; "
            "give the weights of the model that the servers hold"
        )


def checkpoint_shapes(folder: Path) -> Shapes | None:
    """Return the parameters of a model's folder by the headers of its safetensors files; ``None`` without such files.

    A tied head is left out: it is no parameter of its own.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            (size,) = _HEADER_SIZE.unpack(file.read(_HEADER_SIZE.size))
            header = json.loads(file.read(size))
        shapes |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
    if model_config(str(folder)).get("tie_word_embeddings"):
        shapes.pop("lm_head.weight", None)
    return shapes or None


def _shards(weights: "Iterable[tuple[str, torch.Tensor]]") -> "Iterator[dict[str, torch.Tensor]]":
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in weights:
        shard[name] = tensor.detach().to("cpu").contiguous()
        size += tensor.nbytes
        if size >= _SHARD_BYTES:
            yield shard
            shard, size = {}, 0
    if shard:
        yield shard


def _write_shard(shard: "dict[str, torch.Tensor]", path: Path) -> tuple[str, str]:
    from safetensors.torch import save

    data = save(shard)
    path.write_bytes(data)
    return path.name, hashlib.sha256(data).hexdigest()


def _tensors(folder: Path, names: Iterable[str]) -> "Iterator[tuple[str, torch.Tensor]]":
    from safetensors.torch import load_file

    for name in names:
        yield from load_file(folder / name).items()
