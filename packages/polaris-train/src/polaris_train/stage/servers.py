"""Servers that sample for a stage alone: rank 0 asks them and gives them the policy's weights."""

import logging
import shutil
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch.distributed as dist
from polaris_rollout import Group, ParityError, Prompt, Sampler, SamplingParams, encode_prompt
from polaris_rollout.engines import measure_parity
from polaris_rollout.servers import ServerSampler
from transformers import AutoTokenizer

from polaris_train.errors import WeightsError
from polaris_train.model.policy import Policy
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.engine import MAX_IN_FLIGHT, policy_logprobs
from polaris_train.stage.heartbeat import Heartbeat

logger = logging.getLogger(__name__)

_PROBE = "What is 17 + 25? Put the answer in \\boxed{}."


class StageServers:
    """The stage's servers: asked for the first time when something must be sampled."""

    def __init__(
        self, config: ResolvedStage, policy: Policy, stack: ExitStack, heart: Heartbeat, *, weights: Path
    ) -> None:
        """Connect to nothing yet.

        Args:
            config: The stage.
            policy: Gives the weights.
            stack: Ends the connections.
            heart: Sees what the servers do.
            weights: Folder that the servers see too, for weights on their way; removed in the end.
        """
        self._config = config
        self._folder = weights
        self._heart = heart
        self._policy = policy
        self._stack = stack
        self._opened: ServerSampler | None = None
        self._held: int | None = None

    @contextmanager
    def awake(self, steps_done: int) -> Generator[Sampler]:
        """Hold the policy's current weights until the block ends; rank 0 samples, the others get nothing. Collective.

        Raises:
            EndpointError: If no server can be used.
            ParityError: If the servers' log-probabilities are not the policy's even when they were given the weights
                twice, and the recipe does not say ``canary = false``.
        """
        sampler = self.feed(steps_done)
        yield _NothingSampler() if sampler is None else sampler

    def feed(self, steps_done: int) -> ServerSampler | None:
        """Let the servers go on with the policy's current weights, in the middle of what they sample; collective.

        The weights are named by the steps that made them, the same after a resume.

        Returns:
            What to sample with; ``None`` on all ranks but 0.

        Raises:
            EndpointError: If no server can be used.
            ParityError: If the servers' log-probabilities are not the policy's even when they were given the weights
                twice, and the recipe does not say ``canary = false``.
            WeightsError: If the servers have another tokenizer or chat template.
        """
        if dist.get_rank() == 0 and self._opened is None:
            self._opened = self._heart.engine = self._open()
        if self._held != steps_done:
            self._give(self._config.weights_version(steps_done))
            self._held = steps_done
        return self._opened

    def _open(self) -> ServerSampler:
        config = self._config
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        # A stage starts from a model that the servers of an earlier stage cannot have loaded: its weights are given.
        sampler = self._stack.enter_context(
            ServerSampler(
                config.endpoints,
                model=None,
                context=config.context,
                max_in_flight=MAX_IN_FLIGHT,
                weights_folder=self._folder.absolute(),
            )
        )
        expected = encode_prompt(AutoTokenizer.from_pretrained(config.model), _PROBE)
        if sampler.encode(_PROBE) != expected:
            raise WeightsError(
                f"the servers {', '.join(config.endpoints)} make other tokens of a prompt than {config.model} does; "
                "serve this model, or one with its tokenizer and chat template"
            )
        return sampler

    def _give(self, version: str) -> None:
        fault = self._update(version) and self._update(version)
        if fault and self._config.canary:
            raise ParityError(fault)

    def _update(self, version: str) -> str | None:
        """Give the servers the policy's weights; return what is wrong if they have others."""
        weights = ((name, whole.to(self._policy.dtype)) for name, whole in self._policy.weights())
        reference = policy_logprobs(self._policy)
        found: list[str | None] = [None]
        if self._opened is None:
            deque(weights, maxlen=0)
            reference([], 1.0)
        else:
            self._opened.update_weights(weights, version=version)
            found = [measure_parity(self._opened, reference).fault]
        dist.broadcast_object_list(found, src=0)
        if found[0] and dist.get_rank() == 0:
            logger.warning("%s", found[0])
        return found[0]


class _NothingSampler:
    """What the ranks sample with that leave sampling to rank 0."""

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        return iter(())
