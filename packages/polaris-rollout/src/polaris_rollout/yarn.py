"""YaRN from one argument: what a model's configuration must say for a context beyond its positions.

Low rotary frequencies are interpolated so that the longer context spans the angles the model was trained on; high ones
stay. The factor is the context divided by the positions that the model was made for, or a given one. YaRN's attention
temperature is cancelled (``attention_factor`` 1.0): it multiplies cosines and sines by more than one and so sharpens
attention, which the published recipe found harmful in long reasoning. vLLM 0.32 and transformers 5 read the same keys
with the same meaning; the older key ``attn_factor`` is read by neither.

References:
    Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models", 2023.
    https://arxiv.org/abs/2309.00071
"""

import math
from collections.abc import Mapping
from typing import Any

from polaris_rollout.errors import ModelError
from polaris_rollout.models import model_config, resolve_model, text_config

ATTENTION_FACTOR = 1.0
"""Multiplies cosines and sines; 1 means no attention temperature. A float: transformers warns at an integer."""

MOST_DERIVED = 4.0
"""Largest factor that a context alone may ask for: the model cards of Qwen2.5, Qwen3 and Ling 2.0 extend 32,768
positions to 131,072; the recipe uses 1.5."""

_KEPT = ("partial_rotary_factor", "mrope_section", "mrope_interleaved", "beta_fast", "beta_slow", "truncate")


def yarn_config(config: Mapping[str, Any], context: int | None, *, factor: float | None = None) -> dict[str, Any]:
    """Derive the entries that a model's configuration must change to cover a context.

    A model that uses YaRN already keeps the positions it was made for, and a factor that is larger than needed.

    Args:
        config: As in ``config.json``, with ``rope_parameters`` or the older ``rope_theta`` and ``rope_scaling``.
        context: Longest prompt and completion together, in tokens; ``None`` is the model's positions, or all that
            ``factor`` allows.
        factor: Of YaRN, used as it is and for any context; ``None`` derives it where the context needs it.

    Returns:
        ``rope_parameters`` and ``max_position_embeddings``; nothing where the context is within the model's
        positions or the configuration does not say how many it has, and no factor is given.

    Raises:
        ModelError: If the context is not positive, or longer than model and factor allow, or so far beyond the
            positions that the factor must be given, or the model's rotary embedding is of a kind that YaRN cannot
            replace.
    """
    if context is not None and context < 1:
        raise ModelError(f"context is {context}; give a positive number of tokens")
    if factor is not None and not 1 < factor < math.inf:
        raise ModelError(f"the factor of YaRN is {factor:g}; give a number above 1, or none")
    positions: int | None = config.get("max_position_embeddings")
    if positions is None:
        if factor is None:
            return {}
        raise ModelError("YaRN needs max_position_embeddings, which the model does not have; give no factor")
    longest = context or positions
    if factor is None and longest <= positions:
        return {}
    rope = _rope_parameters(config, longest, positions)
    original: int = rope.get("original_max_position_embeddings", positions)
    if factor is None:
        factor = _derived_factor(longest, original, own=float(rope.get("factor", 1.0)))
    else:
        longest = context or int(factor * original)
        _check_factor(factor, longest, original)
    return {
        "rope_parameters": {key: rope[key] for key in _KEPT if key in rope}
        | {
            "rope_type": "yarn",
            "rope_theta": rope["rope_theta"],
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": ATTENTION_FACTOR,
        },
        "max_position_embeddings": longest,
    }


def extended_config(model: str, *, context: int | None, factor: float | None = None) -> Any:
    """Return the transformers configuration under which a model computes what `VllmSampler` computes.

    Args:
        model: A folder, a Hub id, or a carried name.
        context: As given to the engine.
        factor: As given to the engine.

    Raises:
        ModelError: As `yarn_config`.
    """
    from transformers import AutoConfig

    folder = resolve_model(model)
    config = AutoConfig.from_pretrained(folder).get_text_config()
    # Set afterwards, as vLLM does: while it is loaded, an older rope_scaling would win.
    for key, value in yarn_config(text_config(model_config(folder)), context, factor=factor).items():
        setattr(config, key, value)
    return config


def _derived_factor(context: int, original: int, *, own: float) -> float:
    needed, most = context / original, max(own, MOST_DERIVED)
    if needed > most:
        raise ModelError(
            f"context is {context} tokens, {needed:.1f} times the {original} positions that the model was made for, "
            f"and YaRN is derived up to {most:g} times, as far as models are published with it; give a context of at "
            f"most {int(most * original)}, or to polaris-eval run --yarn-factor {math.ceil(1000 * needed) / 1000}"
        )
    return max(own, needed)


def _check_factor(factor: float, context: int, original: int) -> None:
    if context > factor * original:
        needed = math.ceil(1000 * context / original) / 1000
        raise ModelError(
            f"context is {context} tokens but YaRN with factor {factor:g} over the model's {original} positions allows "
            f"{int(factor * original)}; give at most that, or a factor of at least {needed}"
        )


def _rope_parameters(config: Mapping[str, Any], context: int, positions: int) -> dict[str, Any]:
    """Return the rotary parameters in one flat table, whichever generation of configuration they come from."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    older = {key: config[key] for key in ("rope_theta", "partial_rotary_factor") if config.get(key) is not None}
    rope = older | dict(found)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if any(isinstance(value, dict) for value in rope.values()):
        kind = "one table for each kind of layer"
    if kind not in ("default", "yarn") or "mscale" in rope or "rope_theta" not in rope:
        more = context > positions
        asked = f"context is {context} tokens but the model has {positions} positions" if more else "a factor is given"
        raise ModelError(
            f"{asked}, and the model's rotary parameters ({kind!r}: {', '.join(map(str, found)) or 'none'}) cannot be "
            "extended by YaRN, which needs a plain or a YaRN rotary embedding with its rope_theta; give a context of "
            f"at most {positions}, and no factor"
        )
    return rope
