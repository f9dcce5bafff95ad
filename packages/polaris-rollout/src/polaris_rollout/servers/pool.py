"""Sharing out completions among servers that may fail: who is free, who is down, who is back.

Lives in one event loop; everything here runs in that loop's thread.

One server as its pool sees it: what it was given, whether it works, and how long it is waited for.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TypeVar

from polaris_rollout.errors import EndpointError
from polaris_rollout.models import check_lengths
from polaris_rollout.records import Completion, Group, Prompt, SamplingParams, completion_seed
from polaris_rollout.servers.client import Endpoint, EndpointDownError, ServerLoad
from polaris_rollout.servers.identity import Contract, complaint, most_common, read_contract

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long servers are waited for."""

    open_timeout_s: float = 300.0
    """For looking at what a server holds, before it gets work; its other clients may keep it busy."""

    health_every_s: float = 5.0
    """Between two health checks of a server that works."""

    health_timeout_s: float = 30.0
    """A server that leaves a health check unanswered for this time is down."""

    first_wait_s: float = 0.5
    """Before a failed server is looked at again; doubled with every failure in a row."""

    longest_wait_s: float = 30.0
    """Between two looks at a server that stays down."""

    give_up_after_s: float = 300.0
    """Sampling ends with an error when all servers have been down for this time."""

    def wait_s(self, num_failures: int) -> float:
        """Return the wait before a server is looked at again, after so many failures in a row."""
        doublings = min(num_failures - 1, 20)  # A server may stay down for days, and a float has an end.
        return min(self.first_wait_s * 2**doublings, self.longest_wait_s)


@dataclass(slots=True, eq=False, kw_only=True)
class Lane:
    """One server and what we have given it."""

    endpoint: Endpoint
    """Its client."""

    in_flight: int = 0
    """Requests of ours that it works on."""

    down_since: float | None = None
    """Monotonic time of its failure; ``None`` while it gets work."""

    last_error: str = ""
    """Its latest failure."""

    finished_tokens: int = 0
    """Of completions that we received from it."""

    load: ServerLoad | None = None
    """As it told at the latest health check; ``None`` where it tells none."""

    sampled_tokens: int = 0
    """By its own count since it was opened, restarts included."""

    num_failures: int = 0
    """In a row, since it last finished a completion."""

    deadlines: set[asyncio.Timeout] = field(default_factory=set[asyncio.Timeout])
    """Of the requests in flight: none, until they are taken back."""

    failed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it is down."""

    def set_aside(self, error: str) -> None:
        """Give it no more work until it is brought back; what it works on may still finish."""
        self.last_error = error
        if self.down_since is None:
            self.down_since = time.monotonic()
            self.num_failures += 1
            self.failed.set()
            logger.warning("an endpoint is set aside: %s", error)

    def bring_back(self) -> None:
        """Let it have work again."""
        if self.down_since is not None:
            logger.warning("%s is back after %.0f s", self.endpoint.address, time.monotonic() - self.down_since)
            self.down_since = None
            self.failed.clear()

    def take_back(self) -> None:
        """End what it works on, for others to begin anew."""
        deadlines, self.deadlines = self.deadlines, set()
        for deadline in deadlines:
            deadline.reschedule(asyncio.get_running_loop().time())

    def note_load(self, load: ServerLoad | None) -> None:
        """Keep what the server told; its count begins anew when it is restarted."""
        if load is not None and self.load is not None:
            grown = load.sampled_tokens - self.load.sampled_tokens
            self.sampled_tokens += grown if grown >= 0 else load.sampled_tokens
        self.load = load or self.load


Answer = TypeVar("Answer")


MAX_ATTEMPTS = 10
"""Failures of servers while they work on one completion; then it is taken for the cause."""


@dataclass(slots=True, eq=False, kw_only=True)
class Job:
    """One call of `sample`."""

    params: SamplingParams
    """Of the request."""

    num_samples: int
    """Completions of each prompt."""

    events: SimpleQueue[Group | Exception | None] = field(default_factory=SimpleQueue[Group | Exception | None])
    """Finished groups, or what ended the job, or ``None`` where there is room for another prompt."""

    num_open: int = 0
    """Completions of drawn prompts that are not finished."""

    offered: bool = False
    """Whether it was told of room and has not answered with a prompt."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """One for each open group."""


class EndpointPool:
    """Servers of one model that share work.

    Attributes:
        lanes: The servers.
        contract: What every one of them must hold; set by `open`.
        context: Longest prompt and completion together; set by `open`.
    """

    contract: Contract
    context: int

    def __init__(self, endpoints: Sequence[Endpoint], *, max_in_flight: int, patience: Patience) -> None:
        self.lanes = [Lane(endpoint=endpoint) for endpoint in endpoints]
        self._max_in_flight = max_in_flight
        self._patience = patience
        self._last_up = time.monotonic()
        self._freed = asyncio.Event()
        self._jobs: set[Job] = set()
        self._watches: list[asyncio.Task[None]] = []

    async def open(self, *, model: str, context: int | None) -> None:
        """Check every server and begin to watch them.

        Raises:
            EndpointError: Naming the servers that cannot be used.
        """
        outcomes = await asyncio.gather(
            *(self._read_contract(lane, model, context) for lane in self.lanes), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, EndpointError):
                raise outcome
        if refused := [str(outcome) for outcome in outcomes if isinstance(outcome, EndpointError)]:
            raise EndpointError("; ".join(refused))
        contracts = [outcome for outcome in outcomes if isinstance(outcome, Contract)]
        self.contract = most_common(contracts)
        if refused := [said for each in contracts if (said := complaint(each, self.contract))]:
            raise EndpointError("; ".join(refused))
        self.context = context or min(contract.max_model_len for contract in contracts)
        for lane in self.lanes:
            lane.note_load(await lane.endpoint.load())
        self._watches = [asyncio.create_task(self._watch(lane, model)) for lane in self.lanes]
        for watch in self._watches:
            watch.add_done_callback(self._watch_ended)

    async def close(self) -> None:
        """Stop everything and close the connections."""
        for job in self._jobs:
            job.events.put(EndpointError("the sampler was closed while it was sampling"))
        tasks = [*self._watches, *(task for job in self._jobs for task in job.tasks)]
        await _cancel(tasks)
        await asyncio.gather(*(lane.endpoint.close() for lane in self.lanes))

    async def begin(self, params: SamplingParams, num_samples: int) -> Job:
        """Open a job and ask for its first prompt."""
        job = Job(params=params, num_samples=num_samples)
        self._jobs.add(job)
        self._offer_room()
        return job

    def add(self, job: Job, prompt: Prompt) -> None:
        """Start on a prompt, and ask for the next one if there is room."""
        job.num_open += job.num_samples
        task = asyncio.create_task(self._sample_group(job, prompt))
        job.tasks.add(task)
        task.add_done_callback(lambda task: _settle(job, task))
        job.offered = False
        self._offer_room()

    async def end(self, job: Job) -> None:
        """Cancel what is left of a job, on the servers too."""
        self._jobs.discard(job)
        await _cancel(job.tasks)
        self._offer_room()

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the prompt that the model sees for a user turn, by whichever server is free."""
        return await self._run(lambda endpoint: endpoint.encode(text), name="encoding a prompt")

    async def _sample_group(self, job: Job, prompt: Prompt) -> None:
        token_ids = await self.encode(prompt.text)
        check_lengths({prompt.problem_id: len(token_ids)}, context=self.context, max_tokens=None)
        home = self._free_lane(None)  # One server for the whole group, as long as it can: it computes the prompt once.
        try:
            async with asyncio.TaskGroup() as tasks:
                completions = [
                    tasks.create_task(self._sample_one(job, prompt.problem_id, token_ids, sample, home))
                    for sample in range(prompt.first_sample, prompt.first_sample + job.num_samples)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        job.events.put(
            Group(
                problem_id=prompt.problem_id,
                prompt_token_ids=token_ids,
                completions=tuple(completion.result() for completion in completions),
                weights_version=self.contract.weights_version,
            )
        )

    async def _sample_one(
        self, job: Job, problem_id: str, token_ids: tuple[int, ...], sample: int, home: Lane | None
    ) -> Completion:
        room = self.context - len(token_ids)
        completion = await self._run(
            lambda endpoint: endpoint.complete(
                token_ids,
                job.params,
                seed=completion_seed(job.params.seed, problem_id, sample),
                max_tokens=min(room, job.params.max_tokens or room),
            ),
            name=f"completion {sample} of {problem_id!r}",
            home=home,
        )
        job.num_open -= 1
        self._offer_room()
        return completion

    async def _run(
        self, call: Callable[[Endpoint], Awaitable[Answer]], *, name: str, home: Lane | None = None
    ) -> Answer:
        """Give a request to a free server, and to another one whenever a server fails."""
        for _ in range(MAX_ATTEMPTS):
            lane = await self._take_lane(home)
            deadline = asyncio.timeout(None)  # Moved to now by a failed health check.
            lane.deadlines.add(deadline)
            try:
                async with deadline:
                    answer = await call(lane.endpoint)
            except EndpointDownError as error:
                lane.set_aside(str(error))
            except TimeoutError:
                logger.debug("%s is taken back from %s", name, lane.endpoint.address)
            else:
                if isinstance(answer, Completion):
                    lane.num_failures = 0
                    lane.finished_tokens += len(answer.token_ids)
                return answer
            finally:
                lane.deadlines.discard(deadline)
                lane.in_flight -= 1
                self._freed.set()
        raise EndpointError(f"{name} failed {MAX_ATTEMPTS} times, and is taken for the cause: {self._errors()}")

    async def _take_lane(self, home: Lane | None) -> Lane:
        began = time.monotonic()
        while (lane := self._free_lane(home)) is None:
            self._require_hope(began)
            self._freed.clear()
            await self._freed.wait()
        lane.in_flight += 1
        return lane

    def _free_lane(self, home: Lane | None) -> Lane | None:
        free = [lane for lane in self.lanes if lane.down_since is None and lane.in_flight < self._max_in_flight]
        return home if home in free else min(free, key=lambda lane: lane.in_flight, default=None)

    def _offer_room(self) -> None:
        num_up = sum(lane.down_since is None for lane in self.lanes)
        # While none is up, one prompt may wait for it: whoever waits is told when waiting has no end.
        if sum(job.num_open for job in self._jobs) < max(1, num_up * self._max_in_flight):
            for job in self._jobs:
                if not job.offered:
                    job.offered = True
                    job.events.put(None)

    async def _watch(self, lane: Lane, model: str) -> None:
        """Check a server's health for ever; after a failure, its contract too before it gets work again."""
        while True:
            if lane.down_since is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(lane.failed.wait(), self._patience.health_every_s)
            if lane.down_since is not None:
                await asyncio.sleep(self._patience.wait_s(lane.num_failures))
            try:
                await self._check(lane, model)
            except (EndpointDownError, EndpointError) as error:
                if lane.down_since is not None:
                    lane.num_failures += 1
                lane.set_aside(str(error))
                lane.take_back()
            else:
                lane.bring_back()
                self._last_up = time.monotonic()
                self._offer_room()
            self._freed.set()

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and isinstance(error := watch.exception(), Exception):
            for job in self._jobs:
                job.events.put(error)

    async def _check(self, lane: Lane, model: str) -> None:
        try:
            async with asyncio.timeout(self._patience.health_timeout_s):
                await lane.endpoint.check_health()
                lane.note_load(await lane.endpoint.load())
        except TimeoutError:
            raise EndpointDownError(
                f"{lane.endpoint.address} left a health check unanswered for {self._patience.health_timeout_s:g} s"
            ) from None
        # What survived on its connections shows that the server was not restarted.
        if lane.down_since is not None and not lane.in_flight:
            contract = await self._read_contract(lane, model, self.context)
            if said := complaint(contract, self.contract):
                raise EndpointError(said)

    async def _read_contract(self, lane: Lane, model: str, context: int | None) -> Contract:
        try:
            async with asyncio.timeout(self._patience.open_timeout_s):
                return await read_contract(lane.endpoint, model=model, context=context)
        except TimeoutError:
            error = f"{lane.endpoint.address} left a request unanswered for {self._patience.open_timeout_s:g} s"
        except EndpointDownError as down:
            error = str(down)
        raise EndpointError(f"{error}; start a server of {model} there or leave the endpoint out")

    def _require_hope(self, waiting_since: float) -> None:
        """Raise once no server has worked for the stated time, of which all was spent waiting."""
        waited = time.monotonic() - max(self._last_up, waiting_since)
        if waited > self._patience.give_up_after_s and all(lane.down_since is not None for lane in self.lanes):
            raise EndpointError(f"no endpoint has worked for {waited:.0f} s: {self._errors()}")

    def _errors(self) -> str:
        return "; ".join(lane.last_error for lane in self.lanes if lane.last_error)


def _settle(job: Job, task: asyncio.Task[None]) -> None:
    job.tasks.discard(task)
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        job.events.put(error)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
