"""A training step that is tried again, where what stopped it can be mended: nothing that was sampled is thrown away."""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from polaris_train.errors import MemoryExhaustedError
from polaris_train.model.exhaustion import give_back_memory
from polaris_train.model.packing import TrainingSequence
from polaris_train.model.policy import Policy, WithoutAdapters
from polaris_train.model.step import (
    OptimizerStep,
    StepSettings,
    TokenLoss,
    accumulate,
    named_if_out_of_memory,
    optimizer_step,
)

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_MOST_OVERFLOWS = 16
"""Halvings from the scale that float16 starts with, 65,536, down to 1."""


def take_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    sequences: Sequence[TrainingSequence],
    token_loss: TokenLoss,
    settings: StepSettings,
    *,
    scaler: torch.amp.GradScaler,
    reference: Policy | WithoutAdapters | None = None,
) -> OptimizerStep:
    """Take an optimizer step on sequences; collective, every rank passes the same.

    Where gradients overflow in float16 the same sequences are trained on at half the scale of the loss. The step is
    left out, as `optimizer_step` does it, where the loss itself is not finite, or gradients are not at a scale of 1.
    Where memory runs out they go through the model in smaller parts, as `fitting` says; not where it runs out in the
    optimizer's own step, which may have changed some of the parameters: the stage starts again from its checkpoint.

    Args:
        policy: Changed in place.
        optimizer: Of the policy.
        sequences: As for `accumulate`.
        token_loss: As for `accumulate`.
        settings: Of the step; its micro-batches become smaller where memory runs out.
        scaler: Of the loss; disabled but for float16.
        reference: What the loss goes through as well.

    Raises:
        MemoryExhaustedError: As `fitting` does, or if the optimizer's step was broken off.
    """
    overflows = 0
    while True:
        scale = scaler.get_scale()
        totals = fitting(
            (policy, reference), settings, lambda: accumulate(policy, sequences, token_loss, settings, scaler=scaler)
        )
        with named_if_out_of_memory(policy, sequences, settings):
            step = optimizer_step(policy, optimizer, totals, settings, scaler=scaler)
        overflowed = not step.finite and math.isfinite(step.sums["loss"]) and 1 <= scaler.get_scale() < scale
        if not overflowed or overflows == _MOST_OVERFLOWS:
            return replace(step, overflows=overflows)
        overflows += 1


def fitting(
    models: Sequence[Policy | WithoutAdapters | None], settings: StepSettings, attempt: Callable[[], _Result]
) -> _Result:
    """Return what an attempt returns; where memory runs out, of one with micro-batches of half as many tokens.

    That is for a single rank: others would wait for the one whose memory ran out in the middle of a collective.

    Args:
        models: That the attempt goes through.
        settings: Of the attempt; changed in place, so that what comes after it has the smaller micro-batches, too.
        attempt: Leaves nothing behind but gradients, which are dropped.

    Raises:
        MemoryExhaustedError: If there are several ranks, or the longest sequence alone does not fit.
    """
    while True:
        try:
            return attempt()
        except MemoryExhaustedError as error:
            is_alone = not dist.is_initialized() or dist.get_world_size() == 1
            if not is_alone or error.max_tokens <= error.longest:
                raise
            settings.max_tokens = max(error.max_tokens // 2, error.longest)
            logger.warning(
                "out of memory with micro-batches of at most %d tokens: once more with %d",
                error.max_tokens,
                settings.max_tokens,
            )
        # The error is gone by now, and with it its traceback, which held what the attempt had allocated.
        for model in models:
            if isinstance(model, Policy):
                _forget(model)
        give_back_memory()


def _forget(policy: Policy) -> None:
    """Drop gradients and what a pass that was broken off has left; `FSDPModule.reset_iter_state` keeps gradients."""
    if isinstance(policy, FSDPModule):
        policy.reset_iter_state()
        for module in policy.modules():
            if isinstance(module, FSDPModule):
                _drop_unsharded_gradients(module)
    policy.zero_grad()


def _drop_unsharded_gradients(module: FSDPModule) -> None:
    for group in module._get_fsdp_state()._fsdp_param_groups:  # pyright: ignore[reportPrivateUsage]
        for parameter in group.fsdp_params:
            parameter.unsharded_accumulated_grad = None
            if hasattr(parameter, "_unsharded_param"):  # not before it has been gathered once
                parameter._unsharded_param.grad = None  # pyright: ignore[reportPrivateUsage]
