"""The engine of one rank of a stage."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from polaris_rollout import Group, Sampler
from polaris_rollout.engines import Reference, check_parity
from polaris_rollout.sharing import SharedSampler, WorkStore, fair_share

from polaris_train.model.packing import TrainingSequence, pack
from polaris_train.model.policy import Policy
from polaris_train.recipe import ResolvedStage


class StageEngine:
    """The rank's engine: started when something must be sampled, asleep while the policy is trained."""

    def __init__(self, config: ResolvedStage, policy: Policy, stack: ExitStack, store: WorkStore) -> None:
        self._config = config
        self._policy = policy
        self._stack = stack
        self._store = store
        self._sampler: Any = None
        self._shared: Any = None

    @contextmanager
    def awake(self, step: int) -> Generator[Sampler]:
        """Hold the policy's current weights until the block ends, and share what is sampled with the other ranks.

        The weights are named by the steps that made them, the same after a resume.

        Raises:
            ParityError: If the engine's log-probabilities are not the policy's.
        """
        if self._sampler is None:
            self._sampler = self._stack.enter_context(self._start())
            self._shared = SharedSampler(
                self._sampler, self._store, rank=dist.get_rank(), tensor_parallel=self._config.tensor_parallel
            )
        self._sampler.wake()
        version = f"{self._config.run}/{self._config.stage}+{step - 1}"
        self._sampler.update_weights(self._policy.weights(), version=version)
        exact = self._policy.dtype == torch.float32
        check_parity(self._sampler, policy_logprobs(self._policy), exact=exact)
        yield self._shared
        self._sampler.sleep()

    def _start(self) -> Any:
        from polaris_rollout.engines import VllmSampler  # takes many seconds; a replayed step needs none

        config = self._config
        num_completions = config.prompts_per_step * config.samples_per_prompt
        num_engines = dist.get_world_size() // config.tensor_parallel
        return VllmSampler(
            config.model,
            context=config.context,
            extend_positions=config.extend_positions,
            max_in_flight=min(fair_share(num_completions, num_engines), MAX_IN_FLIGHT),
            per_rank=dist.get_world_size() > 1,
            tensor_parallel=config.tensor_parallel,
            dtype=str(self._policy.dtype).removeprefix("torch."),
        )


def policy_logprobs(policy: Policy) -> Reference:
    """Return a function that gives the policy's own log-probabilities of sampled tokens.

    That function is collective: every rank calls it as often, each with the groups of its own engine.
    """

    def logprobs(groups: Sequence[Group], temperature: float) -> list[list[list[float]]]:
        completions = [(group.prompt_token_ids, each) for group in groups for each in group.completions]
        sequences = [
            TrainingSequence(prompt_token_ids=prompt, token_ids=each.token_ids) for prompt, each in completions
        ]
        values = policy.frozen_logprobs(pack(sequences).to(policy.device), temperature=temperature)
        rows = iter(values.split([len(each.token_ids) for _, each in completions]))
        return [[next(rows).tolist() for _ in group.completions] for group in groups]

    return logprobs


MAX_IN_FLIGHT = 256
"""Completions that one engine works on at the same time, at most."""
