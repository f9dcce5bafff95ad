"""The engine of one rank of a stage: asleep while the policy is trained."""

import logging
from collections.abc import Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

import torch
import torch.distributed as dist
from polaris_rollout import Engine, EngineSpec, Group, ParityError, Sampler, WeightSink
from polaris_rollout.engines import Reference, measure_parity
from polaris_rollout.sharing import SharedSampler, WorkStore, fair_share
from torch import nn
from torch.distributed.tensor import DTensor

from polaris_train.model.attempts import fitting
from polaris_train.model.packing import TrainingSequence
from polaris_train.model.policy import Policy
from polaris_train.model.step import StepSettings, sequence_logprobs
from polaris_train.planning import DEVICE_RESERVE, engine_share, transfer_bytes
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.heartbeat import ENGINE_START, Heartbeat

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 256
"""Completions that one engine works on at the same time, at most."""


class TrainedEngine(Engine, WeightSink, Protocol):
    """An engine that takes the weights of the model being trained."""


class StageEngine:
    """The rank's engine: started when something must be sampled, asleep while the policy is trained."""

    def __init__(
        self, config: ResolvedStage, policy: Policy, stack: ExitStack, store: WorkStore, heart: Heartbeat
    ) -> None:
        """Start nothing yet.

        Args:
            config: The stage.
            policy: Gives the weights.
            stack: Ends the engine.
            store: Reached by all ranks and used for nothing else.
            heart: Sees what the engine does.
        """
        self._config = config
        self._policy = policy
        self._stack = stack
        self._store = store
        self._heart = heart
        self._opened: tuple[TrainedEngine, Sampler] | None = None

    @contextmanager
    def awake(self, steps_done: int) -> Generator[Sampler]:
        """Hold the policy's current weights until the block ends, and share what is sampled with the other ranks.

        The weights are named by the steps that made them, the same after a resume.

        Raises:
            ParityError: If a rank's engine has other log-probabilities than the policy even when it was given the
                weights twice, and the recipe does not say ``canary = false``.
        """
        if self._opened is None:
            with self._heart.phase(ENGINE_START):
                engine = self._stack.enter_context(_open_engine(self._config, self._policy))
            self._heart.engine = engine
            parallel = self._config.tensor_parallel
            self._opened = engine, SharedSampler(engine, self._store, rank=dist.get_rank(), tensor_parallel=parallel)
        engine, shared = self._opened
        if self._policy.device.type == "cuda":
            torch.cuda.empty_cache()  # What the update left unused is the engine's.
        engine.wake()
        version = self._config.weights_version(steps_done)
        fault = self._update(engine, version) and self._update(engine, version)
        if fault and self._config.canary:
            raise ParityError(fault)
        yield shared
        engine.sleep()

    def _update(self, engine: TrainedEngine, version: str) -> str | None:
        """Give the engine the policy's weights; return what is wrong with the first engine that has others."""
        engine.update_weights(self._policy.weights(), version=version)
        exact = self._policy.dtype == torch.float32
        own = measure_parity(engine, policy_logprobs(self._policy), exact=exact).fault
        if own:
            logger.warning("rank %d: %s", dist.get_rank(), own)
        faults: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(faults, own)
        return next(filter(None, faults), None)


def _open_engine(config: ResolvedStage, policy: Policy) -> AbstractContextManager[TrainedEngine]:
    from polaris_rollout.engines import VllmSampler  # takes many seconds; a replayed step needs none

    num_ranks = dist.get_world_size()
    num_completions = config.prompts_per_step * config.samples_per_prompt
    spec = EngineSpec(
        config.model,
        context=config.context,
        extend_positions=config.extend_positions,
        max_in_flight=min(fair_share(num_completions, num_ranks // config.tensor_parallel), MAX_IN_FLIGHT),
        tensor_parallel=config.tensor_parallel,
        memory_share=_memory_share(policy),
        dtype=str(policy.dtype).removeprefix("torch."),
        options=config.engine | config.engine_room,
    )
    return VllmSampler(spec, per_rank=num_ranks > 1)


def _memory_share(policy: Policy) -> float | None:
    """Return the share of the GPU that an engine may have beside this trainer, the least of all ranks'; collective.

    What the trainer keeps there is what it holds by now, or what it will hold once its optimizer has stepped, whichever
    is more: an engine is first opened before that.
    """
    if policy.device.type != "cuda":
        return None
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(policy.device)
    shares = torch.tensor(share_beside(policy.parameters(), device=policy.device.type, free=free, total=total))
    dist.all_reduce(shares, op=dist.ReduceOp.MIN)
    return float(shares)


def share_beside(parameters: Iterable[nn.Parameter], *, device: str, free: int, total: int) -> float:
    """Return the share of a device that an engine may have beside one rank's part of a policy.

    Args:
        parameters: Of the policy; only those on the device count, with two moments where they are trained.
        device: Its type.
        free: Bytes of it that nobody has by now.
        total: Bytes of it.
    """
    every = list(parameters)
    kept = sum(_local(each).nbytes * (3 if each.requires_grad else 1) for each in every if each.device.type == device)
    reserve = DEVICE_RESERVE + transfer_bytes(max(each.numel() for each in every))
    return engine_share(memory=total, resident=max(total - free, kept), reserve=reserve)


def _local(parameter: nn.Parameter) -> torch.Tensor:
    data = parameter.detach()
    return data.to_local() if isinstance(data, DTensor) else data


def policy_logprobs(policy: Policy) -> Reference:
    """Return a function that gives the policy's own log-probabilities of sampled tokens.

    That function is collective: every rank calls it as often, each with the groups of its own engine.
    """

    def logprobs(groups: Sequence[Group], temperature: float) -> list[list[list[float]]]:
        own = [
            TrainingSequence(prompt_token_ids=group.prompt_token_ids, token_ids=each.token_ids)
            for group in groups
            for each in group.completions
        ]
        parts: list[list[TrainingSequence]] = [[] for _ in range(dist.get_world_size())]
        dist.all_gather_object(parts, own)
        every = [each for part in parts for each in part]
        settings = StepSettings(max_tokens=sum(each.length for each in every), temperature=temperature)
        first = sum(len(part) for part in parts[: dist.get_rank()])
        found = fitting([policy], settings, lambda: sequence_logprobs(policy, every, settings))
        rows = iter(found[first : first + len(own)])
        return [[list(next(rows)) for _ in group.completions] for group in groups]

    return logprobs
