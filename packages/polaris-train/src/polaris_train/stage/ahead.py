"""Sampling ahead: servers draw the groups of later steps while the policy is updated on those of an earlier one.

Steps are handed to the servers one after the other and consumed in that order, whichever is finished first: nothing
favours short answers, and nothing is discarded. Step ``s`` is begun when step ``s - ahead`` is asked for, or later; the
servers then hold weights that ``s - ahead - 1`` steps made, or newer ones. The policy that trains on it is made by
``s - 1`` steps. So the lag of a token is at most ``ahead``, by construction; `check_lags` makes sure of it.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event
from typing import Protocol, TypeVar

import torch.distributed as dist
from polaris_rollout import Sampler

from polaris_train.errors import WeightsError
from polaris_train.grpo.lag import spans
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.stage.rollouts import Rollout, StepSource, in_order

Item = TypeVar("Item")


class FedSampler(Protocol):
    """What samples while it is given new weights."""

    def feed(self, steps_done: int) -> Sampler | None:
        """Let it go on with the policy's current weights; collective.

        Args:
            steps_done: That made the weights; where they are held already, nothing is done.

        Returns:
            What to sample with, from any thread; ``None`` on all ranks but 0.
        """
        ...


class AheadRollouts:
    """Has the next steps sampled while the policy is updated; rank 0 samples for all.

    What a step is trained on is what was stored of it, so a step that a kill leaves on disk is replayed, and one that
    was in flight is drawn again.
    """

    def __init__(self, source: StepSource, config: ResolvedStage, *, servers: FedSampler, stack: ExitStack) -> None:
        """Sample nothing yet.

        Args:
            source: What the steps sample.
            config: Says how far ahead, and how weights are named.
            servers: Only asked when something must be sampled; closed before ``stack`` is.
            stack: Waits for the threads that sample.
        """
        self._source = source
        self._config = config
        self._servers = servers
        threads = ThreadPoolExecutor(max_workers=config.sampling_ahead + 1, thread_name_prefix="sampling-ahead")
        self._threads = stack.enter_context(threads)
        self._in_flight: dict[int, Future[None]] = {}
        self._handed_out = Event()  # whether all groups of the last step in flight have been taken
        self._handed_out.set()

    def next(self, step: int) -> Rollout:
        """Return the groups of a step, once the steps that may follow it are begun; collective.

        Raises:
            CircuitBreakerError: If too much of the step could not be graded.
            WeightsError: If a token was drawn with weights that are none of this stage's, or too old.
        """
        wanted = [self._to_begin(step)] if dist.get_rank() == 0 else [None]
        dist.broadcast_object_list(wanted, src=0)
        if wanted[0] is not None:
            sampler = self._servers.feed(step - 1)
            if sampler is not None:
                for each in wanted[0]:
                    self._begin(each, sampler)
        replayed = [step not in self._in_flight]
        if step in self._in_flight:
            self._in_flight.pop(step).result()
        dist.broadcast_object_list(replayed, src=0)
        return Rollout(groups=self._source.read(step), replayed=replayed[0])

    def position(self, step: int) -> dict[str, int]:
        """Return where a step begins; see `sampler_position`."""
        return self._source.position(step)

    def _to_begin(self, step: int) -> list[int] | None:
        """Return the steps to be begun when one is asked for; ``None`` if nothing is left to be sampled."""
        last = min(step + self._config.sampling_ahead, self._config.steps)
        known = self._in_flight
        new = [each for each in range(step, last + 1) if each not in known and not self._source.is_kept(each)]
        return new if new or not all(each.done() for each in known.values()) else None

    def _begin(self, step: int, sampler: Sampler) -> None:
        after, self._handed_out = self._handed_out, Event()
        self._in_flight[step] = self._threads.submit(self._sample, step, sampler, after, self._handed_out)

    def _sample(self, step: int, sampler: Sampler, after: Event, handed_out: Event) -> None:
        """Sample a step once all groups of the one before it are being sampled, and keep it."""
        try:
            after.wait()
            problems = _tell_when_taken(self._source.longest_first(step), handed_out)
            groups = in_order(self._source.problems(step), self._source.draw(step, problems, sampler))
            check_lags(groups, self._config, step=step)
            self._source.keep(step, groups)
        finally:
            handed_out.set()


def check_lags(groups: Iterable[GradedGroup], config: ResolvedStage, *, step: int) -> None:
    """Make sure that weights of this stage, and none that are too old, drew every token of a step.

    Raises:
        WeightsError: If that is not so: somebody else gave the servers weights.
    """
    drawn = {
        (each.group.problem_id, version)
        for each in groups
        for completion in each.group.completions
        for _, version in spans(each.group, completion)
    }
    oldest = max(0, step - 1 - config.sampling_ahead)
    allowed = tuple(config.weights_version(done) for done in range(oldest, step))
    for problem_id, version in sorted(drawn):
        if not version.endswith(allowed):
            raise WeightsError(
                f"step {step}: an answer to {problem_id!r} was drawn with the weights {version!r}, and only "
                f"{' and '.join(map(repr, allowed))} are expected; give the stage servers that no other run uses"
            )


def _tell_when_taken(items: Iterable[Item], taken: Event) -> Iterator[Item]:
    yield from items
    taken.set()
