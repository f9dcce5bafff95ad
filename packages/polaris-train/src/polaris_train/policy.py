"""The model being trained: sharded over the ranks with FSDP2, read and written in Hugging Face format."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from polaris_train.logprobs import token_logprobs
from polaris_train.packing import MicroBatch


class Policy(nn.Module):
    """A causal language model that returns log-probabilities of given tokens instead of logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(
        self, batch: MicroBatch, *, temperature: float
    ) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
        """Return the log-probability and entropy at each of ``batch.targets``; see `token_logprobs`."""
        hidden = self.model.model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False
        ).last_hidden_state
        return token_logprobs(
            hidden[0, batch.predicting], self.model.lm_head.weight, batch.targets, temperature=temperature
        )

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield each parameter's checkpoint name and whole tensor, one at a time.

        Every rank must iterate to the end: gathering a sharded parameter is collective.
        """
        for name, parameter in self.model.named_parameters():
            whole = parameter.detach()
            yield name, whole.full_tensor() if isinstance(whole, DTensor) else whole

    def save(self, folder: Path, *, source: str) -> None:
        """Write a Hugging Face folder that transformers and vLLM load as it is; collective.

        Args:
            folder: Target; its files are overwritten.
            source: The model that training started from, for tokenizer and generation config.
        """
        dtype = compute_dtype(self.device)
        state = {name: tensor.to("cpu", dtype) for name, tensor in self.weights()}
        if dist.get_rank() == 0:
            self.model.save_pretrained(folder, state_dict=state)
            AutoTokenizer.from_pretrained(source).save_pretrained(folder)
            with suppress(OSError):  # A model need not have a generation config.
                GenerationConfig.from_pretrained(source).save_pretrained(folder)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device


def compute_dtype(device: torch.device) -> torch.dtype:
    """Return the precision of forward passes, engine and exports: bfloat16 on GPU, float32 on CPU."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def load_policy(model: str, *, device: torch.device, context: int) -> Policy:
    """Load a model with float32 master weights and shard it over all ranks.

    Args:
        model: A folder or a Hub id.
        device: Of this rank.
        context: Longest sequence; the configured positions are raised to it where they are fewer, which leaves
            the rotary frequencies as they are.
    """
    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    loaded.config.max_position_embeddings = max(loaded.config.max_position_embeddings, context)
    if device.type == "cuda":
        loaded.gradient_checkpointing_enable()
    policy = Policy(loaded.to(device).train())
    precision = MixedPrecisionPolicy(param_dtype=compute_dtype(device), reduce_dtype=torch.float32)
    for layer in loaded.model.layers:
        fully_shard(layer, mp_policy=precision)
    fully_shard(policy, mp_policy=precision)
    return policy


def clip_grad_norm(policy: Policy, max_norm: float) -> float:
    """Scale the gradients down to ``max_norm`` and return their norm over all ranks before that."""
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters(), max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)


def sync_gradients(policy: Policy, *, now: bool) -> None:
    """Reduce gradients over the ranks in the next backward pass, or let them pile up on each rank."""
    cast(FSDPModule, policy).set_requires_gradient_sync(now)
