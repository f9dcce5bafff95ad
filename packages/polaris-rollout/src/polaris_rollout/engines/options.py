"""What vLLM is told when it is started: derived from the model's configuration, the context and the platform."""

import os
from collections.abc import Mapping
from typing import Any

from polaris_rollout.errors import SettingError
from polaris_rollout.models import yarn_config

GPU_MEMORY_SHARE = 0.8
"""Of each GPU, when the engine is awake; the published recipe's figure."""

CPU_BATCHED_TOKENS = 8192
"""Prompt tokens prefilled at once on CPU, at least."""


def engine_options(
    config: Mapping[str, Any],
    *,
    context: int | None,
    yarn_factor: float | None = None,
    extend_positions: bool = False,
    tensor_parallel: int = 1,
    per_rank: bool = False,
    dtype: str = "auto",
    on_cpu: bool,
) -> dict[str, Any]:
    """Return keyword arguments of ``vllm.LLM`` that make it sample as this package promises.

    Args:
        config: The model's, as in ``config.json``.
        context: Longest prompt and completion together; ``None`` takes the model's positions, more than those
            derives YaRN.
        yarn_factor: Of YaRN, for any context; ``None`` derives it where the context needs it.
        extend_positions: Raise the positions and leave the rotary frequencies, rather than use YaRN.
        tensor_parallel: Processes that share one copy of the model.
        per_rank: These are the processes of a ``torchrun`` launch.
        dtype: Of the weights on a GPU, ``auto`` the model's own; a CPU computes in float32.
        on_cpu: Whether vLLM runs on CPU.

    Raises:
        ModelError: If the model cannot be used with this context.
        SettingError: If the ranks cannot be shared out.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if tensor_parallel < 1 or (per_rank and ranks % tensor_parallel):
        wanted = f"a divisor of the {ranks} ranks" if per_rank else "1 or more"
        raise SettingError(f"tensor_parallel is {tensor_parallel}; give {wanted}")
    positions: int = config.get("max_position_embeddings", 0)
    yarn = {} if extend_positions else yarn_config(config, context, factor=yarn_factor)
    context = yarn.get("max_position_embeddings", context)
    options: dict[str, Any] = {
        "max_model_len": context,
        "tensor_parallel_size": tensor_parallel,
        "seed": 0,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if context is not None and extend_positions:
        options["hf_overrides"] = {"max_position_embeddings": max(context, positions)}
    elif yarn:
        options["hf_overrides"] = yarn
    if per_rank:
        options["distributed_executor_backend"] = "external_launcher"
    if not on_cpu:
        return options | {"dtype": dtype, "gpu_memory_utilization": GPU_MEMORY_SHARE, "enable_sleep_mode": True}
    # A seeded request whose prefill is split raises "CPU Generator does not use offset" (vLLM 0.32): prompts
    # are prefilled whole there, which needs room for the longest of them.
    return options | {
        "dtype": "float32",
        "enforce_eager": True,
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context or positions, CPU_BATCHED_TOKENS),
    }
