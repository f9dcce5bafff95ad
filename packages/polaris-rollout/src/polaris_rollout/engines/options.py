"""What vLLM is told when it is started: derived from the model's configuration, the context and the platform."""

import os
from collections.abc import Mapping
from typing import Any

from polaris_rollout.errors import SettingError
from polaris_rollout.models import text_config
from polaris_rollout.records import EngineSpec
from polaris_rollout.yarn import yarn_config

GPU_MEMORY_SHARE = 0.8
"""Of each GPU, when the engine is awake; the published recipe's figure."""

MAX_IN_FLIGHT = 256
"""Completions that an engine works on at the same time, where nothing else is asked."""

CPU_BATCHED_TOKENS = 8192
"""Prompt tokens prefilled at once on CPU, at least."""


def vllm_options(
    config: Mapping[str, Any], spec: EngineSpec, *, per_rank: bool = False, on_cpu: bool
) -> dict[str, Any]:
    """Return keyword arguments of ``vllm.LLM`` that make it sample as this package promises.

    Args:
        config: The model's, as in ``config.json``.
        spec: Its own ``options`` win.
        per_rank: The processes that share a copy of the model are those of a ``torchrun`` launch.
        on_cpu: Whether vLLM runs on CPU.

    Raises:
        ModelError: If the model cannot be used with this context.
        SettingError: If the ranks cannot be shared out.
    """
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if spec.tensor_parallel < 1 or (per_rank and ranks % spec.tensor_parallel):
        wanted = f"a divisor of the {ranks} ranks" if per_rank else "1 or more"
        raise SettingError(f"tensor_parallel is {spec.tensor_parallel}; give {wanted}")
    text = text_config(config)
    positions: int = text.get("max_position_embeddings", 0)
    yarn = {} if spec.extend_positions else yarn_config(text, spec.context, factor=spec.yarn_factor)
    context = yarn.get("max_position_embeddings", spec.context)
    options: dict[str, Any] = {
        "max_model_len": context,
        "max_num_seqs": spec.max_in_flight or MAX_IN_FLIGHT,
        "tensor_parallel_size": spec.tensor_parallel,
        "seed": 0,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if context is not None and spec.extend_positions:
        yarn = {"max_position_embeddings": max(context, positions)}
    if yarn:
        options["hf_overrides"] = yarn if text is config else {"text_config": yarn}
    if text is not config:
        options["language_model_only"] = True  # Problems are text: what sees images needs no memory.
    if per_rank:
        options["distributed_executor_backend"] = "external_launcher"
    if not on_cpu:
        share = GPU_MEMORY_SHARE if spec.memory_share is None else spec.memory_share
        options |= {"dtype": spec.dtype, "gpu_memory_utilization": share, "enable_sleep_mode": True}
    else:
        # A seeded request whose prefill is split raises "CPU Generator does not use offset" (vLLM 0.32): prompts
        # are prefilled whole there, which needs room for the longest of them.
        options |= {
            "dtype": "float32",
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(context or positions, CPU_BATCHED_TOKENS),
        }
        if "linear_num_value_heads" in text:
            # vLLM 0.32 has linear attention on CPU in bfloat16 alone, and its states are cached in parts of a prefill.
            options |= {"dtype": "bfloat16", "enable_prefix_caching": False}
    return options | dict(spec.options)
