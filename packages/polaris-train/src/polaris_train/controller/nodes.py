"""Several nodes: the first one does the steps of the recipe, the others train with it in every stage.

Every node is given the same ``polaris run``. torchrun's own variables say who is who: ``PET_NNODES`` how many nodes
there are, ``PET_NODE_RANK`` which one this is, ``PET_RDZV_ENDPOINT`` at which ``host:port`` the first is met. There the
others are told, a line of JSON at a time, which stage begins; they lose nothing but the connection when the first ends.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from polaris_train.errors import NodesError
from polaris_train.stage.launch import run_stage

logger = logging.getLogger(__name__)

MEETING_TIMEOUT_S = 600.0
"""For which a node looks for the first one: as long as torchrun waits for all of them."""

_RETRY_S = 1.0

_CONNECT_TIMEOUT_S = 10.0

_SILENT_FOR_S = 60
"""After which the system asks whether the other end of a silent connection is still there."""


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of a run, as one of them sees them."""

    num: int
    """How many there are."""

    rank: int
    """Which of them this one is; 0 leads."""

    host: str
    """Where the first is met."""

    port: int
    """Of the first; torchrun's stores are at others."""


def read_nodes() -> Nodes | None:
    """Return what torchrun's variables say of the nodes; ``None`` where there is only one.

    Raises:
        NodesError: If a variable is missing or no number.
    """
    num, rank = _number("PET_NNODES", "1"), _number("PET_NODE_RANK", "0")
    if num == 1:
        return None
    endpoint = os.environ.get("PET_RDZV_ENDPOINT", "")
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal():
        raise NodesError(
            f"PET_NNODES is {num} and PET_RDZV_ENDPOINT is {endpoint!r}; set it on every node to HOST:PORT of the "
            "first, e.g. node-1:29400"
        )
    if not 0 <= rank < num:
        raise NodesError(f"PET_NODE_RANK is {rank} of {num} nodes; give each its own number from 0 to {num - 1}")
    return Nodes(num, rank, host, int(port))


class Leader:
    """The first node: tells the others, whenever they come, which stage is being trained, and how the run ended.

    Attributes:
        exit_code: What the others end with.
    """

    def __init__(self, nodes: Nodes) -> None:
        """Begin to listen.

        Raises:
            NodesError: If this machine cannot be met there.
        """
        try:
            self._server = socket.create_server((nodes.host, nodes.port))
        except OSError as error:
            raise NodesError(
                f"the other nodes cannot be met at {nodes.host}:{nodes.port} ({error}); set PET_RDZV_ENDPOINT to an "
                "address of the node with PET_NODE_RANK=0 and a free port"
            ) from error
        self.exit_code = 1
        self._nodes = nodes
        self._followers: list[socket.socket] = []
        self._news: bytes | None = None
        self._telling = threading.Lock()
        threading.Thread(target=self._welcome, name="polaris-nodes", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tell({"exit_code": self.exit_code})
        self._server.shutdown(socket.SHUT_RDWR)  # Which ends the waiting thread, as closing alone would not.
        self._server.close()
        for follower in self._followers:
            follower.close()

    @contextmanager
    def training(self, stage: Path) -> Generator[None]:
        """Let all nodes train a prepared stage together with what this process starts within the block."""
        with socket.create_server((self._nodes.host, 0)) as free:
            port = free.getsockname()[1]
        meeting = {
            "PET_RDZV_BACKEND": "c10d",
            "PET_RDZV_ENDPOINT": f"{self._nodes.host}:{port}",
            "PET_RDZV_ID": stage.name,
        }
        os.environ.update(meeting)
        self._tell({"stage": str(stage.absolute()), "environment": meeting})
        try:
            yield
        finally:
            self._news = None  # Who comes now waits for the next stage.

    def _welcome(self) -> None:
        while True:
            try:
                follower, _ = self._server.accept()
            except OSError:  # Closed: the run has ended.
                return
            with self._telling:
                self._followers.append(follower)
                if self._news is not None:
                    self._send(follower, self._news)

    def _tell(self, news: dict[str, Any]) -> None:
        with self._telling:
            self._news = json.dumps(news).encode() + b"\n"
            for follower in list(self._followers):
                self._send(follower, self._news)

    def _send(self, follower: socket.socket, news: bytes) -> None:
        try:
            follower.sendall(news)
        except OSError as error:
            self._followers.remove(follower)
            logger.warning("a node has gone (%s); a stage begins when all %d are there", error, self._nodes.num)


def follow(nodes: Nodes) -> int:
    """Train with the first node in every stage that it begins; return what its run ended with.

    Raises:
        NodesError: If it is not met, or ends without a word.
    """
    with _meet(nodes) as leader:
        logger.warning("node %d of %d: waiting for the stages of %s", nodes.rank, nodes.num, nodes.host)
        os.environ.pop("PET_NODE_RANK", None)  # Which ranks it has, the nodes agree on when they meet for a stage.
        for told in _news(leader):
            if "exit_code" in told:
                return told["exit_code"]
            os.environ.update(told["environment"])
            run_stage(_shared(Path(told["stage"])))  # If it fails here it fails on the first node, which says so.
    raise NodesError(
        f"the first node, {nodes.host}, has gone; see what it printed, and give the same command on every node again"
    )


def _news(leader: socket.socket) -> Iterator[dict[str, Any]]:
    """Yield what the first node says, until it ends or cannot be reached any more."""
    with leader.makefile("rb") as lines:
        while True:
            try:
                line = lines.readline()
            except OSError as error:
                logger.warning("the connection to the first node failed: %s", error)
                return
            if not line:
                return
            yield json.loads(line)


def _meet(nodes: Nodes) -> socket.socket:
    deadline = time.monotonic() + MEETING_TIMEOUT_S
    while True:
        try:
            leader = socket.create_connection((nodes.host, nodes.port), timeout=_CONNECT_TIMEOUT_S)
        except OSError as error:
            if time.monotonic() > deadline:
                raise NodesError(
                    f"the first node was not met at {nodes.host}:{nodes.port} within {MEETING_TIMEOUT_S:.0f} s "
                    f"({error}); give the same command there with PET_NODE_RANK=0"
                ) from error
            time.sleep(_RETRY_S)
        else:
            leader.settimeout(None)  # A stage may be hours away.
            leader.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            leader.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_FOR_S)
            return leader


def _shared(stage: Path) -> Path:
    if not stage.is_dir():
        raise NodesError(f"{stage} is not there on this node; give --out a folder that all nodes share")
    return stage


def _number(name: str, default: str) -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise NodesError(f"{name} is {value!r}; give a number: a stage is trained by as many nodes as it began with")
    return int(value)
