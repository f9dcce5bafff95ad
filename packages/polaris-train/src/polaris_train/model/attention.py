"""Attention that keeps the sequences of a micro-batch apart, and which kind of it a machine computes fastest.

Sequences lie one after the other, and positions restart at 0 where one begins: that alone says which tokens see each
other. FlashAttention is given the bounds, which are found once for a micro-batch and not in every layer;
flex_attention a mask of blocks, once too, for lengths that are multiples of its block, so that few programs are
compiled; on a CPU each sequence is attended to by itself.
"""

from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils.import_utils import is_flash_attn_2_available, is_flash_attn_3_available

FLASH_3, FLASH_2, FLEX, SDPA = "flash_attention_3", "flash_attention_2", "flex_attention", "sdpa"
"""Names of transformers' own kinds."""

PACKED_SDPA, PACKED_VARLEN = "polaris_packed_sdpa", "polaris_packed_varlen"
"""Names under which transformers knows `packed_sdpa` and `packed_varlen`."""

OF_PACKS = PACKED_SDPA, PACKED_VARLEN
"""Kinds that know full attention only."""

BLOCK = 128
"""Tokens of a block of flex_attention's mask."""

_NOT_ATTENDED = "sliding_window", "softcap", "s_aux", "position_bias", "context_ranks"
"""Arguments that an attention of another kind is given."""

_HOPPER, _AMPERE = 9, 8
"""Compute capabilities: FlashAttention 3 is written for the first, 2 needs at least the second."""


def attention_implementation(device: torch.device, dtype: torch.dtype) -> str:
    """Return the fastest attention for packed sequences on a device, as `fastest_attention` says.

    FlashAttention is taken from the packages ``flash-attn-3`` and ``flash-attn``, or, where ``kernels`` is installed,
    as transformers gets it with that.
    """
    _register()
    if device.type != "cuda":
        return PACKED_SDPA
    capability, _ = torch.cuda.get_device_capability(device)
    available: list[str] = []
    if capability == _HOPPER and is_flash_attn_3_available(kernels_fallback_ok=True):
        available.append(FLASH_3)
    if capability >= _AMPERE and is_flash_attn_2_available(kernels_fallback_ok=True):
        available.append(FLASH_2)
    return fastest_attention(capability, dtype, available)


def fastest_attention(capability: int, dtype: torch.dtype, available: Collection[str]) -> str:
    """Return the name of the fastest attention for packed sequences on a GPU.

    FlashAttention 3 or 2 where available; else the FlashAttention 2 that torch brings, for cards from Ampere on; else
    flex_attention. None of these computes in float32, which `packed_sdpa` does.

    Args:
        capability: Major compute capability of the card.
        dtype: Of the forward pass.
        available: Which of transformers' kinds of FlashAttention the card and the installed packages allow.
    """
    if dtype == torch.float32:
        return PACKED_SDPA
    for name in (FLASH_3, FLASH_2):
        if name in available:
            return name
    return PACKED_VARLEN if capability >= _AMPERE else FLEX


def _register() -> None:
    for name, attend in ((PACKED_SDPA, packed_sdpa), (PACKED_VARLEN, packed_varlen)):
        if name not in AttentionInterface():
            AttentionInterface.register(name, attend)
            AttentionMaskInterface.register(name, _no_mask)


def sequence_bounds(attention: str, position_ids: Int[Tensor, "1 length"]) -> dict[str, Any]:
    """Return where sequences begin and end and how long the longest is, as FlashAttention takes it, by argument.

    Nothing for other kinds. Found here once, where every layer would find it again and wait for the device.
    """
    if attention not in (FLASH_3, FLASH_2, PACKED_VARLEN):
        return {}
    starts = (position_ids[0] == 0).nonzero()[:, 0]
    bounds = torch.cat([starts, starts.new_tensor([position_ids.shape[1]])]).int()
    longest = int(bounds.diff().max())
    return {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}


def packed_varlen(
    module: nn.Module,
    query: Float[Tensor, "1 heads length size"],
    key: Float[Tensor, "1 key_heads length size"],
    value: Float[Tensor, "1 key_heads length size"],
    attention_mask: Tensor | None,
    *,
    cu_seq_lens_q: Int[Tensor, " bounds"],
    max_length_q: int,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 length heads size"], None]:
    """Attend within each sequence of a packed batch, with the FlashAttention that torch brings.

    As `packed_sdpa`, given what `sequence_bounds` says.

    Raises:
        NotImplementedError: As `packed_sdpa`.
    """
    _require_full(others)
    rows = [states[0].transpose(0, 1).contiguous() for states in (query, key, value)]
    bounds = (cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q)
    grouped = query.shape[1] != key.shape[1]
    attended = varlen_attn(rows[0], rows[1], rows[2], *bounds, scale=scaling, window_size=(-1, 0), enable_gqa=grouped)
    assert isinstance(attended, Tensor), "nothing else was asked for"
    return attended[None], None


def packed_sdpa(
    module: nn.Module,
    query: Float[Tensor, "1 heads length size"],
    key: Float[Tensor, "1 key_heads length size"],
    value: Float[Tensor, "1 key_heads length size"],
    attention_mask: Tensor | None,
    *,
    position_ids: Tensor,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 length heads size"], None]:
    """Attend within each sequence of a packed batch: what a block-diagonal mask says, without its empty blocks.

    Has the signature that transformers asks for; ``position_ids``, which restart at 0, say where sequences begin, and
    there are no attention weights to return.

    Raises:
        NotImplementedError: If the layer attends in a way that this does not: within a sliding window, for example.
    """
    _require_full(others)
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


def _require_full(others: dict[str, Any]) -> None:
    for name in _NOT_ATTENDED:
        if others.get(name) is not None:
            what = f"{name.replace('_', ' ')} of {others[name]}" if isinstance(others[name], int | float) else name
            raise NotImplementedError(f"a layer with a {what}; use a model without")
