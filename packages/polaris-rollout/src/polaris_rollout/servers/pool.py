"""Sharing out completions among servers that may fail: who is free, who is down, who is back.

Lives in one event loop; everything here runs in that loop's thread.
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
from polaris_rollout.models import check_lengths, prefilled_think
from polaris_rollout.records import Completion, Group, Prompt, SamplingParams, completion_seed
from polaris_rollout.servers.client import Endpoint, EndpointDownError
from polaris_rollout.servers.identity import Contract, complaint, most_common, read_contract
from polaris_rollout.servers.server import Patience, Server

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
    """Servers of one model that share work.

    Attributes:
        servers: The servers.
        contract: What every one of them must hold; set by `open`.
        context: Longest prompt and completion together; set by `open`.
    """

    contract: Contract
    context: int

    def __init__(self, endpoints: Sequence[Endpoint], *, max_in_flight: int, patience: Patience) -> None:
        self.servers = [Server(endpoint=endpoint) for endpoint in endpoints]
        self._max_in_flight = max_in_flight
        self._patience = patience
        self._last_up = time.monotonic()
        self._freed = asyncio.Event()
        self._calls: set[SampleCall] = set()
        self._watches: list[asyncio.Task[None]] = []

    async def open(self, *, model: str, context: int | None) -> None:
        """Check every server and begin to watch them.

        Raises:
            EndpointError: Naming the servers that cannot be used.
        """
        outcomes = await asyncio.gather(
            *(self._read_contract(server, model, context) for server in self.servers), return_exceptions=True
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
        for server in self.servers:
            server.note_load(await server.endpoint.load())
        self._watches = [asyncio.create_task(self._watch(server, model)) for server in self.servers]
        for watch in self._watches:
            watch.add_done_callback(self._watch_ended)

    async def close(self) -> None:
        """Stop everything and close the connections."""
        for call in self._calls:
            call.events.put(EndpointError("the sampler was closed while it was sampling"))
        tasks = [*self._watches, *(task for call in self._calls for task in call.tasks)]
        await _cancel(tasks)
        await asyncio.gather(*(server.endpoint.close() for server in self.servers))

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
        await _cancel(call.tasks)
        self._offer_room()

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the prompt that the model sees for a user turn, by whichever server is free."""
        return await self._run(lambda endpoint: endpoint.encode(text), name="encoding a prompt")

    async def _sample_group(self, call: SampleCall, prompt: Prompt) -> None:
        token_ids = await self.encode(prompt.text)
        check_lengths({prompt.problem_id: len(token_ids)}, context=self.context, max_tokens=None)
        # One server for the whole group, as long as it can: it computes the prompt once.
        home = self._free_server(None)
        try:
            async with asyncio.TaskGroup() as tasks:
                completions = [
                    tasks.create_task(self._sample_one(call, prompt.problem_id, token_ids, sample, home))
                    for sample in range(prompt.first_sample, prompt.first_sample + call.num_samples)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        has_template = self.servers[0].endpoint.has_chat_template
        call.events.put(
            Group(
                problem_id=prompt.problem_id,
                prompt_token_ids=token_ids,
                completions=tuple(completion.result() for completion in completions),
                weights_version=self.contract.weights_version,
                prefilled=self.contract.prefilled if has_template else prefilled_think(prompt.text),
            )
        )

    async def _sample_one(
        self, call: SampleCall, problem_id: str, token_ids: tuple[int, ...], sample: int, home: Server | None
    ) -> Completion:
        room = self.context - len(token_ids)
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
            deadline = asyncio.timeout(None)  # Moved to now by a failed health check.
            server.deadlines.add(deadline)
            try:
                async with deadline:
                    answer = await ask(server.endpoint)
            except EndpointDownError as error:
                server.set_aside(str(error))
            except TimeoutError:
                logger.debug("%s is taken back from %s", name, server.endpoint.address)
            else:
                if isinstance(answer, Completion):
                    server.num_failures = 0
                    server.finished_tokens += len(answer.token_ids)
                return answer
            finally:
                server.deadlines.discard(deadline)
                server.in_flight -= 1
                self._freed.set()
        raise EndpointError(f"{name} failed {MAX_ATTEMPTS} times, and is taken for the cause: {self._errors()}")

    async def _take_server(self, home: Server | None) -> Server:
        began = time.monotonic()
        while (server := self._free_server(home)) is None:
            self._require_hope(began)
            self._freed.clear()
            await self._freed.wait()
        server.in_flight += 1
        return server

    def _free_server(self, home: Server | None) -> Server | None:
        free = [
            server for server in self.servers if server.down_since is None and server.in_flight < self._max_in_flight
        ]
        return home if home in free else min(free, key=lambda server: server.in_flight, default=None)

    def _offer_room(self) -> None:
        num_up = sum(server.down_since is None for server in self.servers)
        # While none is up, one prompt may wait for it: whoever waits is told when waiting has no end.
        if sum(call.num_open for call in self._calls) < max(1, num_up * self._max_in_flight):
            for call in self._calls:
                if not call.offered:
                    call.offered = True
                    call.events.put(None)

    async def _watch(self, server: Server, model: str) -> None:
        """Check a server's health for ever; after a failure, its contract too before it gets work again."""
        while True:
            if server.down_since is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(server.failed.wait(), self._patience.health_every_s)
            if server.down_since is not None:
                await asyncio.sleep(self._patience.wait_s(server.num_failures))
            try:
                await self._check(server, model)
            except (EndpointDownError, EndpointError) as error:
                if server.down_since is not None:
                    server.num_failures += 1
                server.set_aside(str(error))
                server.take_back()
            else:
                server.bring_back()
                self._last_up = time.monotonic()
                self._offer_room()
            self._freed.set()

    def _watch_ended(self, watch: asyncio.Task[None]) -> None:
        if not watch.cancelled() and isinstance(error := watch.exception(), Exception):
            for call in self._calls:
                call.events.put(error)

    async def _check(self, server: Server, model: str) -> None:
        try:
            async with asyncio.timeout(self._patience.health_timeout_s):
                await server.endpoint.check_health()
                server.note_load(await server.endpoint.load())
        except TimeoutError:
            raise EndpointDownError(
                f"{server.endpoint.address} left a health check unanswered for {self._patience.health_timeout_s:g} s"
            ) from None
        # What survived on its connections shows that the server was not restarted.
        if server.down_since is not None and not server.in_flight:
            contract = await self._read_contract(server, model, self.context)
            if said := complaint(contract, self.contract):
                raise EndpointError(said)

    async def _read_contract(self, server: Server, model: str, context: int | None) -> Contract:
        try:
            async with asyncio.timeout(self._patience.open_timeout_s):
                return await read_contract(server.endpoint, model=model, context=context)
        except TimeoutError:
            error = f"{server.endpoint.address} left a request unanswered for {self._patience.open_timeout_s:g} s"
        except EndpointDownError as down:
            error = str(down)
        raise EndpointError(
            f"{error}; start a server of {model} there or leave the endpoint out; of servers other than `vllm serve` "
            "`polaris-eval run --text-only` takes the texts"
        )

    def _require_hope(self, waiting_since: float) -> None:
        """Raise once no server has worked for the stated time, of which all was spent waiting."""
        waited = time.monotonic() - max(self._last_up, waiting_since)
        if waited > self._patience.give_up_after_s and all(server.down_since is not None for server in self.servers):
            raise EndpointError(f"no endpoint has worked for {waited:.0f} s: {self._errors()}")

    def _errors(self) -> str:
        return "; ".join(server.last_error for server in self.servers if server.last_error)


def _settle(call: SampleCall, task: asyncio.Task[None]) -> None:
    call.tasks.discard(task)
    if not task.cancelled() and isinstance(error := task.exception(), Exception):
        call.events.put(error)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
