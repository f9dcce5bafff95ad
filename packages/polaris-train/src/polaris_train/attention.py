"""Attention over packed sequences, each of which sees only itself."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils.import_utils import is_flash_attn_2_available

PACKED_SDPA = "polaris_packed_sdpa"
"""Name under which transformers knows `packed_sdpa`."""


def attention_implementation(device: torch.device, dtype: torch.dtype) -> str:
    """Return the fastest attention for packed sequences: flash-attention where installed, else flex_attention.

    On a CPU, and in float32, it is `packed_sdpa`, which takes the sequences one by one.
    """
    if device.type != "cuda" or dtype == torch.float32:
        AttentionInterface.register(PACKED_SDPA, packed_sdpa)
        AttentionMaskInterface.register(PACKED_SDPA, _no_mask)
        return PACKED_SDPA
    return "flash_attention_2" if is_flash_attn_2_available() else "flex_attention"


def packed_sdpa(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    position_ids: Tensor,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence of a packed batch: what a block-diagonal mask says, without its empty blocks.

    Args:
        module: The attention layer.
        query: [1, heads, length, head size]
        key: [1, key heads, length, head size]
        value: [1, key heads, length, head size]
        attention_mask: Not used; ``position_ids`` say where sequences begin.
        position_ids: [1, length] restarting at 0 with each sequence.
        scaling: Of the scores; ``None`` is one over the root of the head size.
        sliding_window: Must be ``None``.

    Returns:
        [1, length, heads, head size] and no attention weights.

    Raises:
        NotImplementedError: If the layer attends within a sliding window.
    """
    if sliding_window is not None:
        raise NotImplementedError(f"a layer with a sliding window of {sliding_window}; use a model without")
    starts = (position_ids[0] == 0).nonzero()[:, 0].tolist()
    sizes = [end - start for start, end in zip(starts, [*starts[1:], query.shape[2]], strict=True)]
    parts = zip(*(states.split(sizes, dim=2) for states in (query, key, value)), strict=True)
    grouped = query.shape[1] != key.shape[1]
    attended = [
        scaled_dot_product_attention(*part, is_causal=True, scale=scaling, enable_gqa=grouped) for part in parts
    ]
    return torch.cat(attended, dim=2).transpose(1, 2).contiguous(), None


def _no_mask(*_: Any, **__: Any) -> None:
    """Build no mask: `packed_sdpa` needs none."""
