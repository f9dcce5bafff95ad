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

_DENSE = ("llama", "qwen2", "qwen3")
"""Types of models whose layers are all alike: attention, then a gated MLP, each behind a norm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What of a dense decoder decides how much memory and time it takes."""

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

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers of one layer: q, k, v, o, gate, up, down."""
        query = (self.hidden, self.query), (self.hidden, self.key), (self.hidden, self.key), (self.query, self.hidden)
        return *query, *[(self.hidden, self.intermediate)] * 2, (self.intermediate, self.hidden)

    @property
    def embedding_parameters(self) -> int:
        """Of the embedding, and so of the output head."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Of one layer."""
        biases = self.query + 2 * self.key if self.has_biases else 0
        return sum(a * b for a, b in self.linears) + biases + 2 * self.hidden + self.head_norms

    @property
    def root_parameters(self) -> int:
        """Outside the layers: embedding, last norm, and an output head of its own."""
        return self.embedding_parameters * (1 if self.is_tied else 2) + self.hidden

    @property
    def parameters(self) -> int:
        """Of the whole model."""
        return self.layers * self.layer_parameters + self.root_parameters

    def adapter_parameters(self, rank: int) -> int:
        """Of LoRA adapters beside all linear layers but the output head."""
        return self.layers * rank * sum(a + b for a, b in self.linears)

    def cache_bytes(self, *, bytes_per_value: float) -> float:
        """Bytes of keys and values that a token leaves in the engine's cache."""
        return self.layers * 2 * self.key * bytes_per_value


def shape_of(config: Mapping[str, Any], *, name: str) -> ModelShape:
    """Return the shape that a ``config.json`` describes.

    Args:
        config: As the file says it.
        name: Of the model, for messages.

    Raises:
        PlanError: If layers of this type are not all alike, or a size is missing.
    """
    kind = config.get("model_type")
    if kind not in _DENSE:
        raise PlanError(
            f"{name}: models of type {kind!r} cannot be planned, only {', '.join(_DENSE)}; 'polaris-train plan "
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
            head_norms=2 * head_dim if kind == "qwen3" else 0,
        )
    except KeyError as error:
        raise PlanError(f"{name}: its config.json has no {error}; give a whole one") from error


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
        return text_config(model_config(resolve_model(model)))
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
