"""One server as its pool sees it: what it was given, whether it works, and how long it is waited for."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from polaris_rollout.servers.client import Endpoint, ServerLoad

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
