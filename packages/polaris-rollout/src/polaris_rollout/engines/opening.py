"""Opening whatever engine the caller has: vLLM in this process, copies of it in others, or servers at addresses."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from polaris_rollout.contracts import Engine, EngineSpec
from polaris_rollout.digest import model_digest
from polaris_rollout.engines.options import MAX_IN_FLIGHT
from polaris_rollout.errors import ModelError
from polaris_rollout.models import chat_template, check_chat, model_config, resolve_model
from polaris_rollout.yarn import yarn_config


def check_model(spec: EngineSpec) -> str | None:
    """Refuse a wrong model or context before an engine, which takes many seconds to import, is asked.

    Returns:
        Fingerprint of the model's files; ``None`` where they are not on this machine.

    Raises:
        ModelError: If the model cannot be used, or not with this context and factor. A name that is unknown here may
            still be one that servers know.
    """
    try:
        folder = resolve_model(spec.model)
    except ModelError:
        if spec.endpoints:
            return None
        raise
    if not spec.endpoints and not spec.extend_positions and Path(folder).is_dir():
        yarn_config(model_config(folder), spec.context, factor=spec.yarn_factor)
    if Path(folder).is_dir():
        check_chat(spec.model, chat_template(Path(folder)), spec.chat)
    return model_digest(folder)


@contextmanager
def open_engine(spec: EngineSpec) -> Generator[Engine]:
    """Open an engine for a model, and close it when the block ends.

    Raises:
        RolloutError: If there is no engine, or it cannot be used for this model.
    """
    in_flight = spec.max_in_flight or MAX_IN_FLIGHT
    if spec.text_only:
        from polaris_rollout.servers.texts import TextSampler

        with TextSampler(spec.endpoints, model=spec.model, chat=spec.chat, max_in_flight=in_flight) as sampler:
            yield sampler
        return
    if spec.endpoints:
        from polaris_rollout.servers.sampler import ServerSampler

        with ServerSampler(
            spec.endpoints, model=spec.model, context=spec.context, chat=spec.chat, max_in_flight=in_flight
        ) as sampler:
            yield sampler
        return
    if spec.data_parallel > 1:
        from polaris_rollout.engines.copies import EngineCopies

        with EngineCopies(spec) as sampler:
            yield sampler
        return
    # Importing the engine takes many seconds, so it is done only where one is needed.
    from polaris_rollout.engines.vllm import VllmSampler

    with VllmSampler(spec) as sampler:
        if spec.canary:
            from polaris_rollout.engines.parity import check_parity, transformers_logprobs

            context = None if spec.extend_positions else sampler.context
            check_parity(sampler, transformers_logprobs(spec.model, context=context, yarn_factor=spec.yarn_factor))
        yield sampler
