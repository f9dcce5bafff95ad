"""Sampling groups of completions from a reasoning model.

The engine is in `polaris_rollout.vllm_sampler`, imported on its own because it takes seconds to load.
"""

from polaris_rollout.errors import (
    EngineMissingError,
    ModelError,
    PromptTooLongError,
    RolloutError,
    StoreError,
)
from polaris_rollout.records import (
    Completion,
    Group,
    Prompt,
    Sampler,
    SamplingParams,
    completion_seed,
    derive_seed,
)

__all__ = [
    "Completion",
    "EngineMissingError",
    "Group",
    "ModelError",
    "Prompt",
    "PromptTooLongError",
    "RolloutError",
    "Sampler",
    "SamplingParams",
    "StoreError",
    "completion_seed",
    "derive_seed",
]
