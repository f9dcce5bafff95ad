"""What each layer keeps for its backward pass, and whether it is compiled.

Layers are changed one by one: what is computed again is a layer's forward pass, inside what FSDP does before and after
it, and what is compiled is a layer, so that one program serves all of them at every length.
"""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._ops import OpOverload
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from polaris_train.recipe.tables import Activations

_Forward = Callable[..., Any]

_ATTENTION = (
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "torch_attn::_varlen_attn",
    "flex_attention",
)
"""Names of operators that attend; those of FlashAttention's own packages all have ``flash_attn`` in theirs."""

_PRODUCTS = "aten::mm", "aten::addmm"


def prepare_layers(layers: nn.ModuleList, activations: Activations, *, compiled: bool) -> None:
    """Set what the layers of a model keep for the backward pass, and compile them, before they are sharded.

    Args:
        layers: Of the model; changed.
        activations: ``keep`` all, or only the results of matrix products and attention (``selective``), of attention
            alone (``attention``), or nothing but a layer's input (``recompute``), in the memory of the host
            (``offload``); the rest is computed again. Gradients are the same.
        compiled: Whether ``torch.compile`` compiles each layer, for every length at once.
    """
    for layer in layers:
        layer.forward = _prepared(layer.forward, activations, compiled=compiled)


def can_compile() -> bool:
    """Return whether this machine has the C compiler that ``torch.compile`` needs."""
    return any(shutil.which(name) for name in ("cc", "gcc", "clang"))


def _prepared(forward: _Forward, activations: Activations, *, compiled: bool) -> _Forward:
    """Return a layer's forward pass that keeps less.

    What is kept of a layer's inside is chosen as it is compiled; a layer that keeps nothing is compiled by itself, as
    the copies to the host cannot be compiled.
    """
    compile_: Callable[[_Forward], _Forward] = partial(torch.compile, dynamic=True) if compiled else lambda each: each
    if activations == "keep":
        return compile_(forward)
    again = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    if activations in ("selective", "attention"):
        kept = _policy(products=activations == "selective")
        return compile_(partial(again, forward, context_fn=partial(create_selective_checkpoint_contexts, kept)))
    recomputed = partial(again, compile_(forward))
    return _offloaded(recomputed) if activations == "offload" else recomputed


def _offloaded(forward: _Forward) -> _Forward:
    """Return a forward pass whose saved tensors, a layer's input, wait in the memory of the host; pinned on a GPU."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with save_on_cpu(pin_memory=torch.cuda.is_available()):
            return forward(*args, **kwargs)

    return run


def _policy(*, products: bool) -> Callable[..., CheckpointPolicy]:
    def decide(_: Any, operator: Any, *__: Any, **___: Any) -> CheckpointPolicy:
        name = operator.name() if isinstance(operator, OpOverload) else str(operator)
        kept = name in _ATTENTION or "flash_attn" in name or (products and name in _PRODUCTS)
        return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE

    return decide
