"""The shape of a model, from its configuration alone: parameters, what an adapter adds, what a token keeps."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from polaris_rollout import ModelError, model_config, resolve_model, text_config

from polaris_train.errors import PlanError
from polaris_train.model.architecture import FULL_ATTENTION, layer_kinds
from polaris_train.planning.linear_attention import LinearAttention

_PLANNED = ("llama", "qwen2", "qwen3", "qwen3_5_text")
"""Types of models whose layers are attention, full or linear, then a gated MLP, each behind a norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What of a decoder without experts decides how much memory and time it takes."""

    layers: int
    hidden: int
    intermediate: int
    query: int
    """Width of all query heads together."""
    key: int
    """Width of all key heads together, as of all value heads."""
    heads: int
    key_heads: int
    vocabulary: int
    positions: int
    """Tokens that it was made for."""
    is_tied: bool
    """Whether the output head is the embedding."""
    has_biases: bool
    """Whether queries, keys and values have biases (Qwen2)."""
    head_norms: int
    """Parameters of a layer's norms of queries and keys (Qwen3), or 0."""
    has_gates: bool = False
    """Whether what comes out of attention is gated by a second half of the queries' projection (Qwen3.5)."""
    linear: LinearAttention | None = None
    """The layers without full attention (Qwen3.5)."""

    @property
    def full_layers(self) -> int:
        """How many layers have full attention."""
        return self.layers - (self.linear.layers if self.linear else 0)

    @property
    def packs(self) -> bool:
        """Whether sequences may lie one after the other in a micro-batch."""
        return self.linear is None

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers of one layer with full attention: q, k, v, o, gate, up, down."""
        query = (self.hidden, self.query * (2 if self.has_gates else 1))
        return query, (self.hidden, self.key), (self.hidden, self.key), (self.query, self.hidden), *self._mlp

    @property
    def other_linears(self) -> tuple[tuple[int, int], ...]:
        """As `linears`, of one layer with linear attention."""
        return (*self.linear.linears(self.hidden), *self._mlp) if self.linear else ()

    @property
    def _mlp(self) -> tuple[tuple[int, int], ...]:
        return *[(self.hidden, self.intermediate)] * 2, (self.intermediate, self.hidden)

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding, and so of the output head."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Of one layer, the largest."""
        return max(self._full_parameters, self._linear_parameters)

    @property
    def _full_parameters(self) -> int:
        biases = self.query + 2 * self.key if self.has_biases else 0
        return sum(a * b for a, b in self.linears) + biases + 2 * self.hidden + self.head_norms

    @property
    def _linear_parameters(self) -> int:
        if self.linear is None:
            return 0
        return sum(a * b for a, b in self.other_linears) + self.linear.other_parameters + 2 * self.hidden

    @property
    def root_parameters(self) -> int:
        """Outside the layers: embedding, last norm, and an output head of its own."""
        return self.embedding_parameters * (1 if self.is_tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        linear = self.layers - self.full_layers
        return self.full_layers * self._full_parameters + linear * self._linear_parameters + self.root_parameters

    def adapter_parameters(self, rank: int) -> int:
        """Of LoRA adapters beside all linear layers but the output head."""
        full, linear = (sum(a + b for a, b in each) for each in (self.linears, self.other_linears))
        return rank * (self.full_layers * full + (self.layers - self.full_layers) * linear)

    def cache_bytes(self, *, bytes_per_value: float) -> float:
        """Bytes of keys and values that a token leaves in the engine's cache."""
        return self.full_layers * 2 * self.key * bytes_per_value

    @property
    def state_bytes(self) -> int:
        """Bytes that an answer in flight takes of the cache besides, however long it is."""
        return self.linear.state_bytes if self.linear else 0


def shape_of(config: Mapping[str, Any], *, name: str) -> ModelShape:
    """Return the shape that a ``config.json`` describes.

    Args:
        config: As the file says it.
        name: Of the model, for messages.

    Raises:
        PlanError: If layers of this type are others, or a size is missing.
    """
    kind = config.get("model_type")
    if kind not in _PLANNED:
        raise PlanError(
            f"{name}: models of type {kind!r} cannot be planned, only {', '.join(_PLANNED)}; 'polaris-train plan "
            "--probe' measures a step"
        )
    try:
        heads = config["num_attention_heads"]
        head_dim = config.get("head_dim") or config["hidden_size"] // heads
        key_heads = config.get("num_key_value_heads") or heads
        return ModelShape(
            layers=config["num_hidden_layers"],
            hidden=config["hidden_size"],
            intermediate=config["intermediate_size"],
            query=heads * head_dim,
            key=key_heads * head_dim,
            heads=heads,
            key_heads=key_heads,
            vocabulary=config["vocab_size"],
            positions=config.get("max_position_embeddings", 0),
            is_tied=config.get("tie_word_embeddings", False),
            has_biases=kind == "qwen2",
            head_norms=2 * head_dim if kind in ("qwen3", "qwen3_5_text") else 0,
            has_gates=kind == "qwen3_5_text",
            linear=_linear_attention(config) if kind == "qwen3_5_text" else None,
        )
    except KeyError as error:
        raise PlanError(f"{name}: its config.json has no {error}; give a whole one") from error


def _linear_attention(config: Mapping[str, Any]) -> LinearAttention | None:
    kinds = layer_kinds(config)
    if not (layers := sum(kind != FULL_ATTENTION for kind in kinds)):
        return None
    return LinearAttention(
        layers=layers,
        heads=config["linear_num_value_heads"],
        key_heads=config["linear_num_key_heads"],
        key_width=config["linear_key_head_dim"],
        value_width=config["linear_value_head_dim"],
        kernel=config["linear_conv_kernel_dim"],
    )


def model_shape(model: str) -> ModelShape:
    """Return the shape of a model: a folder, a carried name, or a Hub id; known ones need no network.

    Raises:
        PlanError: If nothing says what it is like.
    """
    return shape_of(planned_config(model), name=model)


def planned_config(model: str) -> Mapping[str, Any]:
    """Return what there is of the configuration of a model, as `model_shape` takes it.

    Raises:
        PlanError: If nothing says what it is like.
    """
    known = known_configs()
    if model in known and not Path(model).is_dir():
        return known[model]
    try:
        config = model_config(resolve_model(model))
        is_tied = config.get("tie_word_embeddings", False)  # which a model that also sees says of the whole
        return {"tie_word_embeddings": is_tied} | dict(text_config(config))
    except ModelError as error:
        raise PlanError(f"{error}; without the network these can be planned: {', '.join(known)}") from error


def known_models() -> tuple[str, ...]:
    """Return the Hub ids whose shape this package knows."""
    return tuple(known_configs())


@cache
def known_configs() -> dict[str, dict[str, Any]]:
    """Return what of their ``config.json`` this package knows, by Hub id."""
    text = (files("polaris_train") / "planning" / "known_models.json").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return {name: table.get(each.get("like", ""), {}) | each for name, each in table.items()}
