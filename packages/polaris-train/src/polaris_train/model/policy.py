"""The model being trained: log-probabilities of given tokens, from attention that keeps packed sequences apart."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils.import_utils import is_flash_attn_2_available

from polaris_train.model.adapters import adapters_off, merged_parameters
from polaris_train.model.logprobs import token_logprobs
from polaris_train.model.packing import MicroBatch, PerToken
from polaris_train.recipe_tables import Lora

PACKED_SDPA = "polaris_packed_sdpa"
"""Name under which transformers knows `packed_sdpa`."""


class Policy(nn.Module):
    """A causal language model that returns log-probabilities of given tokens instead of logits.

    Attributes:
        dtype: Of forward passes and exports; the parameters themselves are float32.
        device: Where the model computes.
        lora: Of its adapters, where these are trained instead of its weights.
        quadratic_length: Length of a sequence at which attention costs as much as all the rest.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.dtype = dtype
        self.device = torch.device(device)
        self.lora = lora
        config = self.model.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        attention = config.num_hidden_layers * config.num_attention_heads * head_dim
        self.quadratic_length = sum(each.numel() for each in model.parameters()) / attention

    def forward(self, batch: MicroBatch, *, temperature: float) -> tuple[PerToken, PerToken]:
        """Return the log-probability and entropy at each of ``batch.targets``; see `token_logprobs`.

        Positions that predict no target, of prompts, are left out before the head.
        """
        hidden = self.model.model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        return token_logprobs(
            hidden[0, batch.predicting], self.model.lm_head.weight, batch.targets, temperature=temperature
        )

    @torch.no_grad()
    def frozen_logprobs(self, batch: MicroBatch, *, temperature: float) -> PerToken:
        """Return the log-probabilities without a gradient; collective where the policy is sharded."""
        logprobs, _ = self(batch, temperature=temperature)
        if isinstance(self, FSDPModule):
            self.reshard()  # no backward pass lets go of what the forward pass gathered
        return logprobs

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return what an optimizer changes: all parameters, or the adapters."""
        return [each for each in self.parameters() if each.requires_grad]

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each parameter's checkpoint name and whole tensor, its adapter merged, one at a time.

        Every rank must iterate to the end: gathering a sharded parameter is collective.
        """
        for name, parameter in merged_parameters(self.model, self.lora):
            whole = parameter.to(self.device)
            yield name, whole.full_tensor() if isinstance(whole, DTensor) else whole


class WithoutAdapters:
    """A policy as it was before its adapters were trained, with no second model in memory."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def frozen_logprobs(self, batch: MicroBatch, *, temperature: float) -> PerToken:
        """Return the log-probabilities without a gradient; collective where the policy is sharded."""
        with adapters_off(self._policy.model):
            return self._policy.frozen_logprobs(batch, temperature=temperature)


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
        NotImplementedError: If the layer attends within a sliding window.
    """
    if others.get("sliding_window") is not None:
        raise NotImplementedError(f"a layer with a sliding window of {others['sliding_window']}; use a model without")
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
