"""Opening whatever engine the caller has: vLLM in this process, or servers at addresses."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

from polaris_rollout.errors import ModelError
from polaris_rollout.models import model_config, model_digest, resolve_model, yarn_config
from polaris_rollout.records import Engine


def check_model(
    model: str, context: int | None, *, yarn_factor: float | None = None, endpoints: Sequence[str] = ()
) -> str | None:
    """Refuse a wrong model or context before an engine, which takes many seconds to import, is asked.

    Returns:
        Fingerprint of the model's files; ``None`` where they are not on this machine.

    Raises:
        ModelError: If the model cannot be used, or not with this context and factor. A name that is unknown here may
            still be one that servers know.
    """
    try:
        folder = resolve_model(model)
    except ModelError:
        if endpoints:
            return None
        raise
    if not endpoints and Path(folder).is_dir():
        yarn_config(model_config(folder), context, factor=yarn_factor)
    return model_digest(folder)


@contextmanager
def open_engine(
    model: str,
    *,
    context: int | None = None,
    yarn_factor: float | None = None,
    endpoints: Sequence[str] = (),
    tensor_parallel: int = 1,
    canary: bool = True,
) -> Generator[Engine]:
    """Open an engine for a model, and close it when the block ends.

    Args:
        model: A folder, a Hub id, or a carried name; see `resolve_model`.
        context: Longest prompt and completion together; ``None`` takes the model's positions, more than those
            derives YaRN.
        yarn_factor: Of YaRN, for any context; ``None`` derives it where the context needs it. Servers have their own.
        endpoints: Addresses of ``vllm serve`` servers such as ``http://host:8000``; none starts vLLM here.
        tensor_parallel: GPUs that share one copy of the model; for the engine in this process.
        canary: Compare the engine's log-probabilities with those of transformers before anything is sampled.

    Raises:
        RolloutError: If there is no engine, or it cannot be used for this model.
    """
    if endpoints:
        from polaris_rollout.servers.sampler import ServerSampler

        with ServerSampler(endpoints, model=model, context=context) as sampler:
            yield sampler
        return
    # Importing the engine takes many seconds, so it is done only where one is needed.
    from polaris_rollout.engines.vllm import VllmSampler

    with VllmSampler(model, context=context, yarn_factor=yarn_factor, tensor_parallel=tensor_parallel) as sampler:
        if canary:
            from polaris_rollout.engines.parity import check_parity, transformers_logprobs

            check_parity(sampler, transformers_logprobs(model, context=sampler.context, yarn_factor=yarn_factor))
        yield sampler
