"""One server as its pool sees it: what it was given, whether it works, and how long it is waited for."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from polaris_rollout.servers.client import Endpoint, ServerLoad
from polaris_rollout.servers.identity import Contract
from polaris_rollout.servers.lease import Lease

logger = logging.getLogger(__name__)

MAX_FAULTS = 3
"""Faults of one server in a row, with no good answer between them, after which it is left out."""


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

    lease_s: float = 120.0
    """A server that samples less than a token of each completion that it works on in this time loses them."""

    give_up_after_s: float = 300.0
    """Sampling ends with an error when all servers have been down for this time."""

    def wait_s(self, num_failures: int) -> float:
        """Return the wait before a server is looked at again, after so many failures in a row."""
        doublings = min(num_failures - 1, 20)  # A server may stay down for days, and a float has an end.
        return min(self.first_wait_s * 2**doublings, self.longest_wait_s)


@dataclass(slots=True, eq=False, kw_only=True)
class Server:
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

    num_faults: int = 0
    """Answers in a row that cannot be right and leases that ran out, since it last finished a completion."""

    deadlines: set[asyncio.Timeout] = field(default_factory=set[asyncio.Timeout])
    """Of the requests in flight: none, until they are taken back."""

    lease: Lease = field(default_factory=Lease)
    """How long what it works on has been without a token."""

    failed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it is down."""

    is_leaving: bool = False
    """Whether it is no longer in the inventory; what it works on may still finish."""

    contract: Contract | None = None
    """What it was found to hold."""

    verified: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it is known to hold the weights that it should: what it answers before is kept back."""

    @property
    def works(self) -> bool:
        """Whether it may be given work."""
        return self.down_since is None and not self.is_leaving

    @property
    def is_left_out(self) -> bool:
        """Whether it gets no work any more, whatever it says."""
        return self.num_faults >= MAX_FAULTS

    def room(self, max_in_flight: int) -> int:
        """Return how many requests it may work on: after a fault one, until it finishes a completion."""
        return 1 if self.num_faults else max_in_flight

    def finish(self, num_tokens: int) -> None:
        """Count a completion that it finished."""
        self.num_failures = self.num_faults = 0
        self.finished_tokens += num_tokens

    def blame(self, error: str) -> None:
        """Set it aside for a fault; after several in a row for good."""
        self.num_faults += 1
        if self.num_faults == MAX_FAULTS:
            logger.error("%s is left out: %d faults in a row", self.endpoint.address, MAX_FAULTS)
        self.set_aside(error)

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
