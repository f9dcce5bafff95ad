"""YaRN from one argument: what a model's configuration must say for a context beyond its positions.

Low rotary frequencies are interpolated so that the longer context spans the angles the model was trained on; high ones
stay. The factor is the context divided by the positions that the model was made for. YaRN's attention temperature
is cancelled (``attention_factor`` 1.0): it multiplies cosines and sines by more than one and so sharpens attention,
which the published recipe found harmful in long reasoning. vLLM 0.32 and transformers 5 read the same keys with the
same meaning; the older key ``attn_factor`` is read by neither.

References:
    Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023.
    https://arxiv.org/abs/2309.00071
"""

from collections.abc import Mapping
from typing import Any

from polaris_rollout.errors import ModelError
from polaris_rollout.models import model_config, resolve_model

ATTENTION_FACTOR = 1.0
"""Multiplies cosines and sines; 1 means no attention temperature. A float: transformers warns at an integer."""

_KEPT = ("partial_rotary_factor", "beta_fast", "beta_slow", "truncate")


def yarn_config(config: Mapping[str, Any], context: int) -> dict[str, Any]:
    """Derive the entries that a model's configuration must change to cover a context.

    A model that uses YaRN already keeps the positions it was made for, and a factor that is larger than needed.

    Args:
        config: As in ``config.json``, with ``rope_parameters`` or the older ``rope_theta`` and ``rope_scaling``.
        context: Longest prompt and completion together, in tokens.

    Returns:
        ``rope_parameters`` and ``max_position_embeddings``; nothing where the context is within the model's
        positions or the configuration does not say how many it has.

    Raises:
        ModelError: If the context is not positive, or the model's rotary embedding is of a kind that YaRN
            cannot replace.
    """
    if context < 1:
        raise ModelError(f"context is {context}; give a positive number of tokens")
    positions: int | None = config.get("max_position_embeddings")
    if positions is None or context <= positions:
        return {}
    rope = _rope_parameters(config, context, positions)
    original: int = rope.get("original_max_position_embeddings", positions)
    return {
        "rope_parameters": {key: rope[key] for key in _KEPT if key in rope}
        | {
            "rope_type": "yarn",
            "rope_theta": rope["rope_theta"],
            "factor": max(float(rope.get("factor", 1.0)), context / original),
            "original_max_position_embeddings": original,
            "attention_factor": ATTENTION_FACTOR,
        },
        "max_position_embeddings": context,
    }


def extended_config(model: str, *, context: int | None) -> Any:
    """Return the transformers configuration under which a model computes what `VllmSampler` computes.

    Args:
        model: A folder, a Hub id, or a carried name.
        context: As given to the engine; ``None`` leaves the configuration as it is.

    Raises:
        ModelError: As `yarn_config`.
    """
    from transformers import AutoConfig

    folder = resolve_model(model)
    config = AutoConfig.from_pretrained(folder)
    # Set afterwards, as vLLM does: while it is loaded, an older rope_scaling would win.
    for key, value in ({} if context is None else yarn_config(model_config(folder), context)).items():
        setattr(config, key, value)
    return config


def _rope_parameters(config: Mapping[str, Any], context: int, positions: int) -> dict[str, Any]:
    """Return the rotary parameters in one flat table, whichever generation of configuration they come from."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    older = {key: config[key] for key in ("rope_theta", "partial_rotary_factor") if config.get(key) is not None}
    rope = older | dict(found)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if any(isinstance(value, dict) for value in rope.values()):
        kind = "one table for each kind of layer"
    if kind not in ("default", "yarn") or "mscale" in rope or "rope_theta" not in rope:
        raise ModelError(
            f"context is {context} tokens but the model has {positions} positions, and its rotary parameters "
            f"({kind!r}: {', '.join(map(str, found)) or 'none'}) cannot be extended by YaRN, which needs a plain or a "
            f"YaRN rotary embedding with its rope_theta; give a context of at most {positions}"
        )
    return rope
