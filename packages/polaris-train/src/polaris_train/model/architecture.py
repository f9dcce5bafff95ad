"""What a model's configuration says of how it can be trained, and what is refused because it would be trained wrongly.

A model that trains is a stack of layers in ``model.layers`` under an output head ``lm_head``. Where all of its layers
have full attention, sequences are packed. Where some have a sliding window, or carry a state from token to token
(linear attention), what comes before a sequence in a micro-batch would leak into it: then each sequence is a
micro-batch of its own.
"""

from collections.abc import Mapping
from typing import Any

from polaris_rollout import ModelError

FULL_ATTENTION = "full_attention"
"""Kind of a layer whose tokens attend to all before them."""

_LINEAR_ATTENTION = "linear_attention"

_INTERVALS = {"qwen3_5_text": 4}
"""Every so many layers one has full attention, by type of model, where a configuration does not say which."""

TESTED = ("llama", "qwen2", "qwen3", "qwen3_5_text")
"""Types of models that every part of this package is tested with."""

_SOFT_CAPS = "final_logit_softcapping", "attn_logit_softcapping"


def layer_kinds(config: Mapping[str, Any]) -> list[str]:
    """Return the kind of each layer, by transformers' names.

    Args:
        config: Of the language model, as transformers completes it.
    """
    if kinds := config.get("layer_types") or config.get("layers_block_type"):
        return list(kinds)
    if interval := config.get("full_attention_interval") or _INTERVALS.get(config.get("model_type", "")):
        numbers = range(1, config.get("num_hidden_layers", 0) + 1)
        return [_LINEAR_ATTENTION if each % interval else FULL_ATTENTION for each in numbers]
    windowed = config.get("sliding_window") is not None and config.get("use_sliding_window", True)
    kind = "sliding_attention" if windowed else FULL_ATTENTION
    return [kind] * config.get("num_hidden_layers", 1)


def can_pack(config: Mapping[str, Any]) -> bool:
    """Return whether sequences may lie one after the other in a micro-batch."""
    return set(layer_kinds(config)) == {FULL_ATTENTION}


def logit_scale(config: Mapping[str, Any]) -> float:
    """Return what the output head's products are multiplied with: 1 but for Cohere's models, Granite and Falcon H1."""
    scale = config.get("logit_scale") or 1.0
    return scale * (config.get("lm_head_multiplier") or 1.0) / (config.get("logits_scaling") or 1.0)


def check_architecture(config: Mapping[str, Any], *, model: str, context_parallel: int | None = None) -> None:
    """Refuse a model that would be trained wrongly, or whose layers ranks cannot share.

    Args:
        config: Of the language model, as its file states it or as transformers completes it.
        model: Its name, for the message.
        context_parallel: Ranks that hold a slice each of the same tokens; ``None``: only as many as can.

    Raises:
        ModelError: Saying what to do instead.
    """
    if capped := [name for name in _SOFT_CAPS if config.get(name)]:
        raise ModelError(
            f"{model} has {capped[0]} = {config[capped[0]]}, and logits with a soft cap are not trained; choose a "
            f"model without, for example of type {', '.join(TESTED)}"
        )
    if context_parallel is None or context_parallel == 1:
        return
    heads = config.get("num_attention_heads", 1)
    if heads % context_parallel:
        degrees = ", ".join(str(each) for each in range(1, heads + 1) if heads % each == 0)
        raise ModelError(
            f"context_parallel is {context_parallel}, which does not divide the {heads} attention heads of {model}; "
            f"give one of {degrees}"
        )
    if not can_pack(config):
        raise ModelError(
            f"context_parallel is {context_parallel}, but {model} has layers with {_other_kinds(config)}, whose "
            "tokens cannot be shared out among ranks; set it to 1"
        )


def one_by_one(config: Mapping[str, Any], *, model: str) -> str | None:
    """Say that, and why, the sequences of a model are trained one by one; ``None`` where they are packed."""
    if can_pack(config):
        return None
    return (
        f"{model} has layers with {_other_kinds(config)}, where packed sequences would see each other: each is trained "
        "in a micro-batch of its own, which takes longer"
    )


def _other_kinds(config: Mapping[str, Any]) -> str:
    return ", ".join(sorted(set(layer_kinds(config)) - {FULL_ATTENTION})).replace("_", " ")


def name_in_files(name: str, prefix: str) -> str:
    """Return what a parameter is called in a checkpoint in which ``model.`` is called something else.

    Args:
        name: As in ``named_parameters`` of the language model alone.
        prefix: What ``model.`` is called, or nothing.
    """
    return prefix + name.removeprefix("model.") if prefix and name.startswith("model.") else name
