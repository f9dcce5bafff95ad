"""A training step that is tried again, where what stopped it can be mended: nothing that was sampled is thrown away."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from polaris_train.model.packing import TrainingSequence
from polaris_train.model.policy import Policy
from polaris_train.model.step import OptimizerStep, StepSettings, TokenLoss, accumulate, optimizer_step

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
) -> OptimizerStep:
    """Take an optimizer step on sequences; collective, every rank passes the same.

    Where gradients overflow in float16 the same sequences are trained on at half the scale of the loss. The step is
    left out, as `optimizer_step` does it, where the loss itself is not finite, or gradients are not at a scale of 1.

    Args:
        policy: Changed in place.
        optimizer: Of the policy.
        sequences: As for `accumulate`.
        token_loss: As for `accumulate`.
        settings: Of the step.
        scaler: Of the loss; disabled but for float16.
    """
    overflows = 0
    while True:
        scale = scaler.get_scale()
        totals = accumulate(policy, sequences, token_loss, settings, scaler=scaler)
        step = optimizer_step(policy, optimizer, totals, settings, scaler=scaler)
        overflowed = not step.finite and math.isfinite(step.sums["loss"]) and 1 <= scaler.get_scale() < scale
        if not overflowed or overflows == _MOST_OVERFLOWS:
            return replace(step, overflows=overflows)
        overflows += 1
