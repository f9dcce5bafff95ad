"""Which servers there are and which of them may work: looked at, watched, given the current weights, come and gone.

Lives in one event loop; everything here runs in that loop's thread.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress

from polaris_rollout.errors import EndpointError
from polaris_rollout.records import ChatFormat
from polaris_rollout.servers.answers import BadAnswerError
from polaris_rollout.servers.client import Endpoint
from polaris_rollout.servers.connection import EndpointDownError
from polaris_rollout.servers.identity import Contract, complaint, most_common, read_contract, read_weights_again
from polaris_rollout.servers.inventory import Inventory
from polaris_rollout.servers.renewal import load_weights, other_sums, require_transfer
from polaris_rollout.servers.server import Patience, Server
from polaris_rollout.transfer.files import StoredWeights

logger = logging.getLogger(__name__)


class Roster:
    """Servers of one model, each with a watch.

    Attributes:
        servers: The servers.
        contract: What every one of them must hold; set by `open`.
        context: Longest prompt and completion together; set by `open`.
        weights_version: Name of the weights that they hold; set by `open`.
        changed: Called when a server may have room that had none.
        failed: Called with an error that ends a watch.
    """

    contract: Contract
    context: int
    weights_version: str

    def __init__(
        self, inventory: Inventory, *, model: str | None, chat: ChatFormat, patience: Patience, takes_weights: bool
    ) -> None:
        """Look at nothing yet.

        Args:
            inventory: Says which servers there are.
            model: What each of them must serve.
            chat: What stands around every user turn.
            patience: How long they are waited for.
            takes_weights: Whether they will be given weights, so that it does not matter which they hold.
        """
        self._inventory, self._model, self._chat = inventory, model, chat
        self._patience, self._takes_weights = patience, takes_weights
        self.servers = [Server(endpoint=Endpoint(address, chat)) for address in inventory.addresses()]
        self.changed: Callable[[], None] = lambda: None
        self.failed: Callable[[Exception], None] = lambda _: None
        self._current: StoredWeights | None = None
        self._held: tuple[Contract, Mapping[str, str]] | None = None
        self._names: dict[str, str] = {}
        self._last_up = time.monotonic()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, context: int | None) -> None:
        """Check every server and begin to watch them.

        Raises:
            EndpointError: Naming the servers that cannot be used; of an inventory that may change, if none can.
        """
        outcomes = await self._look_at_all(context)
        contracts = [outcome for outcome in outcomes if isinstance(outcome, Contract)]
        refused = [str(outcome) for outcome in outcomes if isinstance(outcome, EndpointError)]
        if refused and not (self._inventory.files and contracts):
            raise EndpointError("; ".join(refused))
        self.contract = most_common(contracts)
        if refused := [said for each in contracts if (said := self._complaint(each))]:
            raise EndpointError("; ".join(refused))
        self.context = context or min(contract.max_model_len for contract in contracts)
        self.weights_version = self.contract.weights_version
        self._names = {each.trained_version or "default": each.weights_version for each in contracts}
        for server, outcome in zip(self.servers, outcomes, strict=True):
            if isinstance(outcome, Contract):
                server.verified.set()
                server.note_load(await server.endpoint.load())
            else:
                server.set_aside(str(outcome))
            self._begin(self._watch(server))
        if self._inventory.files:
            self._begin(self._follow_inventory())

    async def close(self) -> None:
        """Stop the watches and close the connections."""
        await cancel(self._tasks)
        await asyncio.gather(*(server.endpoint.close() for server in self.servers))

    async def renew(self, weights: StoredWeights) -> None:
        """Give every server that works other weights. One that fails is tried again by its watch, as is one that is
        down, and gets no work before it holds them; if all do, the first that succeeds is waited for.

        Raises:
            EndpointError: If none of them takes the first weights, or none takes later ones for long.
        """
        first, began = self._current is None, time.monotonic()
        self._current, self._held = weights, None
        self._names[weights.version] = self.weights_version = weights.version
        for server in self.servers:
            server.verified.clear()
        working = [server for server in self.servers if server.works]
        outcomes = await asyncio.gather(*(self._load(server) for server in working), return_exceptions=True)
        for server, outcome in zip(working, outcomes, strict=True):
            if isinstance(outcome, EndpointDownError | EndpointError):
                self._fail(server, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
        taken = [(each, sums) for each, sums in zip(working, outcomes, strict=True) if isinstance(sums, dict)]
        if taken:
            reference = most_common([server.contract for server, _ in taken if server.contract])
            self._held = reference, next(sums for server, sums in taken if server.contract is reference)
            for server, sums in taken:
                try:
                    self._verify(server, sums)
                except EndpointError as error:
                    self._fail(server, error)
        elif first and working:
            raise EndpointError(f"no endpoint took the weights {weights.version!r}: {self.errors()}")
        while not any(server.works and server.verified.is_set() for server in self.servers):
            self.require_hope(began)
            await asyncio.sleep(self._patience.first_wait_s)
        self.changed()

    def name_weights(self, label: str) -> str | None:
        """Return the name of weights by the label that servers put on them; ``None`` if nobody here gave it."""
        return self._names.get(label)

    def free_server(self, home: Server | None, max_in_flight: int) -> Server | None:
        """Return the server with least to do; ``home`` as long as it has room, ``None`` if none has."""
        free = [each for each in self.servers if each.works and each.in_flight < each.room(max_in_flight)]
        return home if home in free else min(free, key=lambda server: server.in_flight, default=None)

    def require_hope(self, waiting_since: float) -> None:
        """Raise once no server has worked for the stated time, of which all was spent waiting, or none ever will."""
        if any(server.works for server in self.servers):
            return
        if not self._inventory.files and all(server.is_left_out for server in self.servers):
            raise EndpointError(f"no endpoint is left that answers properly: {self.errors()}; restart the servers")
        waited = time.monotonic() - max(self._last_up, waiting_since)
        if waited > self._patience.give_up_after_s:
            raise EndpointError(f"no endpoint has worked for {waited:.0f} s: {self.errors()}")

    def errors(self) -> str:
        """Return the latest failure of each server."""
        found = "; ".join(server.last_error for server in self.servers if server.last_error)
        files = " and ".join(map(str, self._inventory.files))
        return found or f"{files} lists no servers; add the address of one"

    async def _look_at_all(self, context: int | None) -> list[Contract | EndpointError]:
        """Find out what every server holds; those of an inventory may still be starting, so one is waited for."""
        began = time.monotonic()
        while True:
            outcomes = await asyncio.gather(
                *(self._look(each, context) for each in self.servers), return_exceptions=True
            )
            found: list[Contract | EndpointError] = []
            for outcome in outcomes:
                if not isinstance(outcome, Contract | EndpointError):
                    raise outcome
                found.append(outcome)
            over = time.monotonic() - began > self._patience.give_up_after_s
            if over or not self._inventory.files or any(isinstance(each, Contract) for each in found):
                return found
            logger.warning("no server works yet: %s", "; ".join(map(str, found)))
            await asyncio.sleep(self._patience.health_every_s)

    async def _load(self, server: Server) -> dict[str, str]:
        """Give a server the current weights and look at what it samples then; returns its checksums."""
        assert self._current is not None
        deadline = asyncio.timeout(self._patience.open_timeout_s)
        server.deadlines.add(deadline)  # Its watch ends this if the server does not live.
        try:
            async with deadline:
                sums = await load_weights(server.endpoint, self._current)
                if server.contract is not None:
                    server.contract = await read_weights_again(server.endpoint, server.contract)
        except TimeoutError:
            why = f" ({server.last_error})" if server.down_since is not None else ""
            raise EndpointDownError(
                f"{server.endpoint.address} did not take the weights {self._current.version!r} in time{why}"
            ) from None
        finally:
            server.deadlines.discard(deadline)
        return sums

    def _verify(self, server: Server, sums: Mapping[str, str]) -> None:
        """Let a server's answers through.

        Raises:
            EndpointError: If it holds something else than the others.
        """
        assert server.contract is not None
        if self._held is None:
            self._held = server.contract, sums
        self.contract, expected = self._held
        if said := complaint(server.contract, self.contract):
            raise EndpointError(said)
        if other := other_sums(sums, expected):
            raise EndpointError(
                f"{server.endpoint.address} and {self.contract.address} hold other bytes in {other} after both took "
                f"the weights {self.weights_version!r}"
            )
        server.verified.set()

    def _fail(self, server: Server, error: Exception) -> None:
        server.set_aside(str(error))
        server.take_back()

    def _complaint(self, contract: Contract) -> str | None:
        return complaint(contract, self.contract, weights=not self._takes_weights)

    async def _look(self, server: Server, context: int | None) -> Contract:
        """Find out what a server holds."""
        address, patience = server.endpoint.address, self._patience
        try:
            async with asyncio.timeout(patience.open_timeout_s):
                await server.endpoint.check_health()
                await server.endpoint.look_for_token_route()
                if self._takes_weights:
                    await require_transfer(server.endpoint)
                server.contract = await read_contract(server.endpoint, model=self._model, context=context)
                return server.contract
        except TimeoutError:
            error = f"{address} left a request unanswered for {patience.open_timeout_s:g} s"
        except EndpointDownError as down:
            error = str(down)
        raise EndpointError(
            f"{error}; start a server of {self._model or 'the model'} there or leave the endpoint out; of servers "
            "other than `vllm serve` `polaris-eval run --text-only` takes the texts"
        )

    async def _watch(self, server: Server) -> None:
        """Check a server's health as long as it is of use; after a failure, what it holds before it gets work again."""
        while not server.is_left_out and not (server.is_leaving and not server.in_flight):
            if server.down_since is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(server.failed.wait(), self._patience.health_every_s)
            if server.down_since is not None:
                await asyncio.sleep(self._patience.wait_s(server.num_failures))
            try:
                await self._check(server)
            except BadAnswerError as error:
                server.blame(str(error))
                server.take_back()
            except (EndpointDownError, EndpointError) as error:
                if server.down_since is not None:
                    server.num_failures += 1
                self._fail(server, error)
            else:
                server.bring_back()
                self._last_up = time.monotonic()
            self.changed()
        server.take_back()
        if server.is_leaving:
            self.servers = [each for each in self.servers if each is not server]
            await server.endpoint.close()

    async def _check(self, server: Server) -> None:
        patience = self._patience
        try:
            async with asyncio.timeout(patience.health_timeout_s):
                await server.endpoint.check_health()
                load = await server.endpoint.load()
        except TimeoutError:
            raise EndpointDownError(
                f"{server.endpoint.address} left a health check unanswered for {patience.health_timeout_s:g} s"
            ) from None
        server.note_load(load)
        is_waited_for = server.in_flight > 0 and server.verified.is_set()
        if load and (said := server.lease.note(load, is_waited_for=is_waited_for, length_s=patience.lease_s)):
            raise BadAnswerError(f"{server.endpoint.address} {said}")
        # What survived on its connections shows that the server was not restarted.
        if server.down_since is not None and not (server.in_flight and server.verified.is_set()):
            await self._admit(server)

    async def _admit(self, server: Server) -> None:
        """Look at a server that was down or is new, and give it the current weights if it has others."""
        contract = await self._look(server, self.context)
        if said := self._complaint(contract):
            raise EndpointError(said)
        if self._current is not None:
            weights = self._current
            sums = await self._load(server)
            if weights is not self._current:
                raise EndpointDownError(f"{server.endpoint.address} was given weights that others followed meanwhile")
            self._verify(server, sums)
        elif not self._takes_weights:
            server.verified.set()

    async def _follow_inventory(self) -> None:
        """Take servers in that the inventory names, and let those go that it names no more."""
        while True:
            await asyncio.sleep(self._patience.health_every_s)
            addresses = self._inventory.addresses()
            known = {server.endpoint.address for server in self.servers if not server.is_leaving}
            for server in self.servers:
                server.is_leaving |= server.endpoint.address not in addresses
            for address in addresses:
                if address not in known:
                    server = Server(endpoint=Endpoint(address, self._chat), down_since=time.monotonic())
                    server.failed.set()
                    self.servers = [*self.servers, server]
                    self._begin(self._watch(server))
            self.changed()  # Whoever waits is told if no server is left.

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.failed(error)


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they have ended."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
