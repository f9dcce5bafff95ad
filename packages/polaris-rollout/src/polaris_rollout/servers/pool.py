"""Sharing out completions among servers that may fail.

Lives in one event loop; everything here runs in that loop's thread.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import TypeVar

from polaris_rollout.errors import EndpointError
from polaris_rollout.models import check_lengths, prefilled_think
from polaris_rollout.records import Completion, Group, Prompt, SamplingParams, completion_seed
from polaris_rollout.servers.answers import BadAnswerError
from polaris_rollout.servers.client import Endpoint
from polaris_rollout.servers.connection import EndpointDownError
from polaris_rollout.servers.roster import Roster, cancel
from polaris_rollout.servers.server import Server

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

MAX_ATTEMPTS = 10
"""Failures of servers while they work on one completion; then it is taken for the cause."""


@dataclass(slots=True, eq=False, kw_only=True)
class SampleCall:
    """One call of `sample`."""

    params: SamplingParams
    """Of the request."""

    num_samples: int
    """Completions of each prompt."""

    events: SimpleQueue[Group | Exception | None] = field(default_factory=SimpleQueue[Group | Exception | None])
    """Finished groups, or what ended the call, or ``None`` where there is room for another prompt."""

    num_open: int = 0
    """Completions of drawn prompts that are not finished."""

    offered: bool = False
    """Whether it was told of room and has not answered with a prompt."""

    tasks: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])
    """One for each open group."""


class EndpointPool:
    """Servers of one model that share work."""

    def __init__(self, roster: Roster, *, max_in_flight: int) -> None:
        """Share out nothing yet.

        Args:
            roster: The servers, opened.
            max_in_flight: Completions that each of them works on at the same time.
        """
        self._roster = roster
        self._max_in_flight = max_in_flight
        self._freed = asyncio.Event()
        self._calls: set[SampleCall] = set()
        roster.changed = self._on_change
        roster.failed = self._on_failure

    async def close(self) -> None:
        """Stop everything that is in flight."""
        for call in self._calls:
            call.events.put(EndpointError("the sampler was closed while it was sampling"))
        await cancel([task for call in self._calls for task in call.tasks])

    async def begin(self, params: SamplingParams, num_samples: int) -> SampleCall:
        """Begin a call and ask for its first prompt."""
        call = SampleCall(params=params, num_samples=num_samples)
        self._calls.add(call)
        self._offer_room()
        return call

    def add(self, call: SampleCall, prompt: Prompt) -> None:
        """Start on a prompt, and ask for the next one if there is room."""
        call.num_open += call.num_samples
        task = asyncio.create_task(self._sample_group(call, prompt))
        call.tasks.add(task)
        task.add_done_callback(lambda task: _settle(call, task))
        call.offered = False
        self._offer_room()

    async def end(self, call: SampleCall) -> None:
        """Cancel what is left of a call, on the servers too."""
        self._calls.discard(call)
        await cancel(call.tasks)
        self._offer_room()

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the prompt that the model sees for a user turn, by whichever server is free."""
        return await self._run(lambda endpoint: endpoint.encode(text), name="encoding a prompt")

    async def _sample_group(self, call: SampleCall, prompt: Prompt) -> None:
        token_ids = await self.encode(prompt.text)
        check_lengths({prompt.problem_id: len(token_ids)}, context=self._roster.context, max_tokens=None)
        # One server for the whole group, as long as it can: it computes the prompt once.
        home = self._roster.free_server(None, self._max_in_flight)
        try:
            async with asyncio.TaskGroup() as tasks:
                completions = [
                    tasks.create_task(self._sample_one(call, prompt.problem_id, token_ids, sample, home))
                    for sample in range(prompt.first_sample, prompt.first_sample + call.num_samples)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        call.events.put(self._group(prompt, token_ids, [completion.result() for completion in completions]))

    def _group(self, prompt: Prompt, token_ids: tuple[int, ...], completions: Sequence[Completion]) -> Group:
        """Put a group together; its version is the first completion's first, and those of it alone need not say so."""
        weights = completions[0].weights
        version = weights[0][1] if weights else self._roster.weights_version
        contract = self._roster.contract
        return Group(
            problem_id=prompt.problem_id,
            prompt_token_ids=token_ids,
            completions=tuple(
                replace(each, weights=()) if each.weights == ((0, version),) else each for each in completions
            ),
            weights_version=version,
            prefilled=contract.prefilled if contract.has_chat_template else prefilled_think(prompt.text),
        )

    async def _sample_one(
        self, call: SampleCall, problem_id: str, token_ids: tuple[int, ...], sample: int, home: Server | None
    ) -> Completion:
        room = self._roster.context - len(token_ids)
        completion = await self._run(
            lambda endpoint: endpoint.complete(
                token_ids,
                call.params,
                seed=completion_seed(call.params.seed, problem_id, sample),
                max_tokens=min(room, call.params.max_tokens or room),
            ),
            name=f"completion {sample} of {problem_id!r}",
            home=home,
        )
        call.num_open -= 1
        self._offer_room()
        return completion

    async def _run(
        self, ask: Callable[[Endpoint], Awaitable[Answer]], *, name: str, home: Server | None = None
    ) -> Answer:
        """Give a request to a free server, and to another one whenever a server fails."""
        for _ in range(MAX_ATTEMPTS):
            server = await self._take_server(home)
            deadline = asyncio.timeout(None)  # Moved to now when its work is taken back.
            server.deadlines.add(deadline)
            try:
                async with deadline:
                    answer = await ask(server.endpoint)
                    if isinstance(answer, Completion):
                        # What was drawn since an update is kept back until the server is known to hold the weights.
                        await server.verified.wait()
                        answer = self._named(answer, server)
                        server.finish(len(answer.token_ids))
                    return answer
            except BadAnswerError as error:
                server.blame(str(error))
            except EndpointDownError as error:
                server.set_aside(str(error))
            except TimeoutError:
                logger.debug("%s is taken back from %s", name, server.endpoint.address)
            finally:
                server.deadlines.discard(deadline)
                server.in_flight -= 1
                self._freed.set()
        raise EndpointError(f"{name} failed {MAX_ATTEMPTS} times, and is taken for the cause: {self._roster.errors()}")

    def _named(self, completion: Completion, server: Server) -> Completion:
        """Put the names of weights in the place of the labels that the server knows them by."""
        spans = [(start, self._roster.name_weights(label)) for start, label in completion.weights]
        if None in (name for _, name in spans):
            raise BadAnswerError(
                f"{server.endpoint.address} sampled with the weights {completion.weights!r}, some of which another "
                "trainer gave it"
            )
        return replace(completion, weights=tuple(spans))

    async def _take_server(self, home: Server | None) -> Server:
        began = time.monotonic()
        while (server := self._roster.free_server(home, self._max_in_flight)) is None:
            self._roster.require_hope(began)
            self._freed.clear()
            await self._freed.wait()
        server.in_flight += 1
        return server

    def _offer_room(self) -> None:
        num_up = sum(server.works for server in self._roster.servers)
        # While none is up, one prompt may wait for it: whoever waits is told when waiting has no end.
        if sum(call.num_open for call in self._calls) < max(1, num_up * self._max_in_flight):
            for call in self._calls:
                if not call.offered:
                    call.offered = True
                    call.events.put(None)

    def _on_change(self) -> None:
        self._offer_room()
        self._freed.set()

    def _on_failure(self, error: Exception) -> None:
        for call in self._calls:
            call.events.put(error)


def _settle(call: SampleCall, task: asyncio.Task[None]) -> None:
    call.tasks.discard(task)
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        call.events.put(error)
