"""What ``vllm serve`` loads by itself where this package is installed: an engine that takes weights from files.

A server started with ``--weight-transfer-config '{"backend": "polaris_files"}'`` has it, on any device. That all files
are there and whole is checked before the model is touched: a transfer that stops half-way leaves it as it was.
"""

from dataclasses import dataclass, field
from typing import Any

from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from polaris_rollout.transfer.files import BACKEND, read_weights, with_tied_head


def register() -> None:
    """Make the engine known to vLLM, in each of its processes."""
    WeightTransferEngineFactory.register_engine(BACKEND, FileWeightTransferEngine)


@dataclass
class FileInitInfo(WeightTransferInitInfo):
    """Files need no rendezvous: this only tells a trainer that it has found the engine it looks for."""

    backend: str


@dataclass
class FileUpdateInfo(WeightTransferUpdateInfo):
    """Where the weights are; see `StoredWeights.update_info`."""

    folder: str
    shards: list[list[str]] = field(default_factory=list[list[str]])


class FileWeightTransferEngine(WeightTransferEngine[FileInitInfo, FileUpdateInfo]):
    """Takes a whole model from safetensors files in one call, between vLLM's calls that begin and end an update."""

    init_info_cls = FileInitInfo
    update_info_cls = FileUpdateInfo

    def init_transfer_engine(self, init_info: FileInitInfo) -> None:
        """Do nothing."""

    def start_weight_update(self) -> None:
        """Do nothing: the model is touched only once all files were found to be whole."""

    def finish_weight_update(self) -> None:
        """Do nothing: all was done when the weights were received."""

    def receive_weights(self, update_info: FileUpdateInfo) -> None:
        """Replace the weights.

        Raises:
            ValueError: If a file is missing or damaged, or the files leave a parameter out.
        """
        weights = read_weights(update_info.folder, update_info.shards)
        if self.model_config.hf_text_config.tie_word_embeddings:
            weights = with_tied_head(weights)
        model: Any = self.model
        parameters = {name for name, _ in model.named_parameters()}
        initialize_layerwise_reload(model)
        loaded = model.load_weights(weights)
        finalize_layerwise_reload(model, self.model_config)
        if missing := sorted(parameters - (parameters if loaded is None else loaded)):
            raise ValueError(f"{update_info.folder} leaves out {', '.join(missing)}; give all of the model's weights")

    def shutdown(self) -> None:
        """Do nothing."""
