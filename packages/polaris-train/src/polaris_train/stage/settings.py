"""What a recipe's values are called where a step uses them."""

import torch

from polaris_train.grpo.batches import BatchSettings
from polaris_train.grpo.loss import LossSettings
from polaris_train.model.loading import load_policy
from polaris_train.model.policy import Policy
from polaris_train.model.step import StepSettings
from polaris_train.recipe import ResolvedStage


def update_settings(config: ResolvedStage) -> tuple[BatchSettings, LossSettings, StepSettings]:
    """Return how a stage makes its batches, its loss, and its optimizer steps."""
    batches = BatchSettings(
        max_answer_tokens=config.max_answer_tokens,
        normalize_std=config.normalize_std,
        aggregation=config.aggregation,
        substitution=config.substitution,
        mask_truncated=config.truncated == "masked",
        overlong_cache=config.overlong_cache,
        num_optimizer_steps=config.optimizer_steps_per_batch,
        seed=config.seed,
    )
    loss = LossSettings(
        loss=config.loss,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        dual_clip=config.dual_clip,
        mismatch_correction=config.mismatch_correction,
        mismatch_low=config.mismatch_low,
        mismatch_high=config.mismatch_high,
        kl_coef=config.kl_coef,
    )
    steps = StepSettings(
        max_tokens=config.max_microbatch_tokens, temperature=config.temperature, max_grad_norm=config.max_grad_norm
    )
    return batches, loss, steps


def load_stage_policy(config: ResolvedStage, *, device: torch.device) -> Policy:
    """Load the model that a stage starts from; collective."""
    return load_policy(
        config.model,
        device=device,
        context=config.context,
        precision=config.precision,
        cpu_offload=config.cpu_offload,
        lora=config.lora,
        seed=config.seed,
    )
