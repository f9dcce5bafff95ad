"""What a recipe's values are called where a step uses them."""

import json
from collections.abc import Iterable
from typing import Any

import torch
from polaris_data import Problem
from polaris_rollout import model_digest

from polaris_train.grpo.batches import BatchSettings
from polaris_train.grpo.consensus import Consensuses
from polaris_train.grpo.loss import LossSettings
from polaris_train.grpo.rescue import RescueBuffer
from polaris_train.model.learning_rate import learning_rate_share
from polaris_train.model.loading import load_policy
from polaris_train.model.optimizer import policy_optimizer
from polaris_train.model.policy import Policy, WithoutAdapters
from polaris_train.model.step import StepSettings
from polaris_train.resolved import FREE_FIELDS, ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.training_state import TrainingState


def update_settings(config: ResolvedStage) -> tuple[BatchSettings, LossSettings, StepSettings]:
    """Return how a stage makes its batches, its loss, and its optimizer steps."""
    batches = BatchSettings(
        max_answer_tokens=config.max_answer_tokens,
        normalize_std=config.normalize_std,
        normalize_mean=config.normalize_mean,
        mgpo_lambda=config.mgpo_lambda,
        long2short=config.long2short,
        aggregation=config.aggregation,
        substitution=config.substitution,
        reward_weight=None if config.distillation is None else config.distillation.reward,
        mask_truncated=config.truncated == "masked",
        overlong_cache=config.overlong_cache,
        num_optimizer_steps=config.optimizer_steps_per_batch,
        max_lag=config.sampling_ahead,
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
        teacher_weight=0.0 if config.distillation is None else config.distillation.weight,
        max_lag=config.sampling_ahead,
    )
    steps = StepSettings(
        max_tokens=config.max_microbatch_tokens,
        temperature=config.temperature,
        max_grad_norm=config.max_grad_norm,
        reduce_each=config.reduce_each_microbatch,
    )
    return batches, loss, steps


def load_stage_policy(config: ResolvedStage, *, device: torch.device, frozen: bool = False) -> Policy:
    """Load the model that a stage starts from, to train it or to compare with it; collective."""
    return load_policy(
        config.model,
        device=device,
        context=config.context,
        precision=config.precision,
        cpu_offload=bool(config.cpu_offload),
        activations=config.activations,
        compile_layers=config.compile_layers,
        lora=config.lora,
        frozen=frozen,
        context_parallel=config.context_parallel or 1,
        seed=config.seed,
    )


def start_state(config: ResolvedStage, policy: Policy, folder: StageFolder) -> TrainingState:
    """Return everything that changes while a stage is trained, as it is before the first step; touches no file."""
    return TrainingState(
        policy=policy,
        optimizer=stage_optimizer(config, policy),
        scaler=torch.amp.GradScaler(policy.device.type, enabled=policy.dtype == torch.float16),
        rescue=RescueBuffer(
            folder.rescue, max_age=config.rescue_max_age, max_tokens=config.max_answer_tokens, seed=config.seed
        ),
    )


def start_core(config: ResolvedStage, problems: Iterable[Problem], folder: StageFolder) -> Consensuses | None:
    """Return what a stage with CORE knows of right answers before its first step; ``None`` for one without."""
    if config.core is None:
        return None
    core = Consensuses(problems, min_count=config.core.min_count)
    if config.consensus is not None:
        core.read(folder.first_consensus)
    return core


def stage_optimizer(config: ResolvedStage, policy: Policy) -> torch.optim.Optimizer:
    """Return the optimizer of what a stage trains, as it is before the first step."""
    return policy_optimizer(
        policy, learning_rate=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay
    )


def learning_rate(config: ResolvedStage, step: int) -> float:
    """Return the learning rate of a step, counted from 1."""
    return config.learning_rate * learning_rate_share(
        step,
        schedule=config.lr_schedule,
        warmup_steps=config.lr_warmup_steps,
        decay_steps=config.lr_decay_steps,
        min_ratio=config.lr_min_ratio,
    )


def load_reference(config: ResolvedStage, policy: Policy) -> Policy | WithoutAdapters | None:
    """Return the model that a stage's policy is kept close to, where it is; collective.

    It is loaded beside the policy, but for a policy with adapters, which is that model without them.
    """
    if not config.kl_coef:
        return None
    if config.lora is not None:
        return WithoutAdapters(policy)
    return load_stage_policy(config, device=policy.device, frozen=True)


def stage_identity(config: ResolvedStage) -> dict[str, Any]:
    """Return what a checkpoint of a stage belongs to: the values that alter what it computes, and the model's files."""
    values = config.model_dump(mode="json", exclude=set(FREE_FIELDS)) | {"digest": model_digest(config.model)}
    return json.loads(json.dumps(values))
