"""What vLLM is told when it is started: derived from the model's configuration, the context and the platform."""

import ast
import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from polaris_rollout.contracts import EngineSpec
from polaris_rollout.errors import SettingError
from polaris_rollout.models import text_config
from polaris_rollout.yarn import yarn_config

GPU_MEMORY_SHARE = 0.9
"""Of each GPU that an engine has for itself. One beside a trainer is told what this leaves it; see `EngineSpec`."""

MAX_IN_FLIGHT = 256
"""Completions that an engine works on at the same time, where nothing else is asked."""

HELD_SHARE = 0.375
"""Of its context that an answer in flight holds on the average: it began with nothing, and few reach the end."""

CPU_BATCHED_TOKENS = 8192
"""Prompt tokens prefilled at once on CPU, at least."""

_OWN = {
    "model": "name the model itself",
    "max_model_len": "it is the context",
    "tensor_parallel_size": "it is tensor_parallel (--tensor-parallel)",
    "data_parallel_size": "engines side by side are ranks (--data-parallel)",
    "dtype": "it is the recipe's precision, or the model's own",
    "seed": "every completion has a seed of its own",
    "logprobs_mode": "log-probabilities are those of the temperature that is sampled at",
    "generation_config": "what is sampled with is said by the caller alone",
    "hf_overrides": "positions follow from the context",
    "enable_sleep_mode": "an engine must be able to sleep while a model is trained",
    "distributed_executor_backend": "it follows from tensor_parallel",
}
"""Options of vLLM that are derived, and what to do in their place."""


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
        if "quantization_config" in config:
            options["dtype"] = "bfloat16"  # vLLM 0.32 has kernels for four bits on CPU in no other.
    return options | dict(spec.options)


def check_engine_options(options: Mapping[str, Any]) -> None:
    """Refuse options that the installed vLLM does not know, or that are derived here.

    Where no vLLM is installed every name passes: it is the engine that will be missed.

    Raises:
        SettingError: Naming the option and what it is like.
    """
    for name in options:
        if name in _OWN:
            raise SettingError(f"engine option {name!r} cannot be set: {_OWN[name]}")
        known = engine_option_names()
        if known and name not in known:
            near = get_close_matches(name, sorted(known), n=3) or [each for each in sorted(known) if name in each][:3]
            hint = f"; near it are {', '.join(near)}" if near else ""
            raise SettingError(
                f"vLLM has no engine option {name!r}{hint}: give the name of an argument of 'vllm serve', with _ for -"
            )


@cache
def engine_option_names() -> frozenset[str]:
    """Return the names of vLLM's ``EngineArgs``, read from its source: to import it takes many seconds."""
    found = find_spec("vllm")
    if found is None or found.origin is None:
        return frozenset()
    source = (Path(found.origin).parent / "engine" / "arg_utils.py").read_text(encoding="utf-8")
    (arguments,) = (
        node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "EngineArgs"
    )
    fields = (node.target for node in arguments.body if isinstance(node, ast.AnnAssign))
    return frozenset(field.id for field in fields if isinstance(field, ast.Name))


def answers_within(cache_tokens: int, context: int) -> int:
    """Return how many answers in flight a cache of so many tokens holds, each with `HELD_SHARE` of its context.

    With more of them the engine would throw caches away and compute them again.
    """
    return max(1, int(cache_tokens / (HELD_SHARE * context)))
