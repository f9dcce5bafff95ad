"""The model being trained: log-probabilities of given tokens."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers.masking_utils import create_causal_mask

from polaris_train.model.adapters import adapters_off, merged_parameters
from polaris_train.model.architecture import FULL_ATTENTION, can_pack, layer_kinds, logit_scale, name_in_files
from polaris_train.model.attention import BLOCK, FLEX, sequence_bounds
from polaris_train.model.logprobs import token_logprobs
from polaris_train.model.packing import MicroBatch, PerToken, padded
from polaris_train.model.ulysses import ContextRanks, attend_across_ranks, everywhere, slice_of
from polaris_train.recipe.tables import Lora


class Policy(nn.Module):
    """A causal language model that returns log-probabilities of given tokens instead of logits.

    Attributes:
        dtype: Of forward passes and exports, and of parameters that are not trained; those that are are float32.
        device: Where the model computes.
        attention: Name under which transformers knows how its layers attend.
        computed: How its layers are computed, for people.
        lora: Of its adapters, where these are trained instead of its weights.
        context_ranks: That hold a slice each of every micro-batch, or ``None`` where each rank has its own.
        packs: Whether sequences may lie one after the other in a micro-batch; otherwise each is alone in its own.
        quadratic_length: Length of a sequence at which attention costs as much as all the rest.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        lora: Lora | None = None,
        context_ranks: ContextRanks | None = None,
        in_files: str = "",
    ) -> None:
        """Wrap a model.

        Args:
            model: With attention that keeps packed sequences apart, where its layers let that be done.
            dtype: See above.
            device: See above.
            lora: See above.
            context_ranks: See above.
            in_files: What ``model.`` is called in the checkpoint that the engine has loaded, where it is not that.
        """
        super().__init__()
        self.model: Any = model
        self.dtype = dtype
        self.device = torch.device(device)
        self.lora = lora
        self.context_ranks = context_ranks
        self.computed = ""
        self.attention: str = self.model.config._attn_implementation
        if context_ranks is not None:
            attend_across_ranks(self.attention)
        self._in_files = in_files
        config = self.model.config
        said: dict[str, Any] = config.to_dict()
        self.packs = can_pack(said)
        self._logit_scale = logit_scale(said)
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        num_layers = max(layer_kinds(said).count(FULL_ATTENTION), 1)
        attention = num_layers * config.num_attention_heads * head_dim
        self.quadratic_length = sum(each.numel() for each in model.parameters()) / attention

    @property
    def num_slices(self) -> int:
        """How many ranks share the tokens of a micro-batch."""
        return 1 if self.context_ranks is None else self.context_ranks.size

    @property
    def is_counted(self) -> bool:
        """Whether what this rank found in its micro-batches is counted: of ranks that share them, once."""
        return self.context_ranks is None or self.context_ranks.rank == 0

    def forward(self, batch: MicroBatch, *, temperature: float, from_logits: bool = False) -> tuple[PerToken, PerToken]:
        """Return the log-probability and entropy at each of ``batch.targets``; see `token_logprobs`.

        Positions that predict no target, of prompts, are left out before the head. Where ranks hold a slice each, each
        of them returns what all have found. ``from_logits`` takes the long way, through all of the model's own logits.
        """
        if not self.packs and (batch.position_ids == 0).sum() > 1:
            raise ValueError(f"sequences are packed, which {type(self.model).__name__} cannot keep apart; give one")
        if from_logits:
            logits = self.model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False).logits
            every = (logits[0, batch.predicting].float() / temperature).log_softmax(dim=-1)
            return every.gather(-1, batch.targets[:, None])[:, 0], -(every.exp() * every).sum(dim=-1)
        temperature, ranks = temperature / self._logit_scale, self.context_ranks
        if self.attention == FLEX:
            batch = padded(batch, to=BLOCK * self.num_slices)
        if ranks is None:
            hidden = self._hidden(batch.input_ids, batch.position_ids)[batch.predicting]
            return token_logprobs(hidden, self.model.lm_head.weight, batch.targets, temperature=temperature)
        part = slice_of(batch, ranks)
        hidden = self._hidden(part.input_ids, part.position_ids, part.every_position)[part.predicting]
        found = token_logprobs(hidden, self.model.lm_head.weight, batch.targets[part.here], temperature=temperature)
        logprobs, entropies = (everywhere(values, part.here, ranks) for values in found)
        return logprobs, entropies

    def _hidden(self, input_ids: Tensor, position_ids: Tensor, every_position: Tensor | None = None) -> Tensor:
        """Return the last hidden states; of a slice, given the positions of all slices."""
        positions = position_ids if every_position is None else every_position
        others: dict[str, Any] = sequence_bounds(self.attention, positions) if self.packs else {}
        if every_position is not None:
            tokens = torch.empty(*every_position.shape, 1, dtype=self.dtype, device=every_position.device)
            mask = create_causal_mask(self.model.config, tokens, None, None, every_position)
            others |= {"attention_mask": mask, "context_ranks": self.context_ranks, "every_position": every_position}
        return self.model.model(
            input_ids=input_ids, position_ids=position_ids, use_cache=False, **others
        ).last_hidden_state[0]

    @torch.no_grad()
    def frozen_logprobs(self, batch: MicroBatch, *, temperature: float, from_logits: bool = False) -> PerToken:
        """Return the log-probabilities without a gradient; collective where the policy is sharded."""
        logprobs, _ = self(batch, temperature=temperature, from_logits=from_logits)
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
            yield name_in_files(name, self._in_files), whole.full_tensor() if isinstance(whole, DTensor) else whole


class WithoutAdapters:
    """A policy as it was before its adapters were trained, with no second model in memory."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def frozen_logprobs(self, batch: MicroBatch, *, temperature: float) -> PerToken:
        """Return the log-probabilities without a gradient; collective where the policy is sharded."""
        with adapters_off(self._policy.model):
            return self._policy.frozen_logprobs(batch, temperature=temperature)
