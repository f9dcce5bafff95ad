"""The parent's ends of the worker processes: the keeper, which forks the workers, and each worker."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

from polaris_reward.errors import GraderClosedError, WorkerStartError
from polaris_reward.workers.worker import READY, to_message

START_S = 120.0
"""Longest wait for the keeper to import its algebra; a loaded machine may take 10 s."""

CLOSE_S = 2.0
"""Longest wait for the keeper to end its workers and itself; then it is killed."""


class WorkerDiedError(Exception):
    """A worker has ended; whoever waits for its reply decides what that means."""


class Keeper:
    """The process that has loaded the algebra and forks workers; it starts when the first one is needed.

    Attributes:
        deadline_s: Longest time that a worker may take for one request.
        closed: Whether there will be no more workers.
    """

    def __init__(self, *, deadline_s: float, memory_gib: float) -> None:
        self.deadline_s = deadline_s
        self.closed = False
        self._memory_gib = memory_gib
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Process id, which is also that of the session its workers are in; ``None`` while there is no process."""
        return None if self._process is None else self._process.pid

    def fork(self, number: int) -> socket.socket:
        """Return the connection to a fresh worker; the one of that number, if there is one, is killed.

        Raises:
            GraderClosedError: If the keeper was closed.
            WorkerStartError: If no process can be started.
        """
        with self._lock:
            if self.closed:
                raise GraderClosedError("this grader is closed; make a new one")
            ours, theirs = socket.socketpair()
            ours.settimeout(self.deadline_s)
            with theirs:
                # Somebody may have killed the keeper; its workers end with their connections.
                if self._requests is None or not _send(self._requests, number, theirs):
                    self._stop()
                    _send(self._start(), number, theirs)
            return ours

    def notice_end(self) -> None:
        """Make way for a fresh keeper if this one has ended; a signal to all processes may reach a worker first."""
        with self._lock, suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(timeout=0.1)
                self._stop()

    def close(self) -> None:
        """End the keeper and all its workers for good."""
        with self._lock:
            self.closed = True
            self._stop()

    def forget(self) -> None:
        """Let go of processes that belong to the parent of a fork, where another thread may hold the lock."""
        if self._process is not None:
            # It is not our child: Popen must neither wait for it nor warn that it still runs.
            self._process.returncode = 0
        if self._requests is not None:
            self._requests.close()
        self._process = self._requests = None
        self._lock = threading.Lock()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(START_S)
        command = [sys.executable, "-P", "-m", "polaris_reward.workers.worker"]
        self._requests = ours
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(self.deadline_s), str(self._memory_gib)],
                stdin=theirs.fileno(),
                # Verdicts must not depend on the order of sympy's sets; Ctrl-C is for the parent alone.
                env={**os.environ, "PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        with ExitStack() as on_error:
            on_error.callback(self._stop)
            self._await_ready(ours, self._process)
            on_error.pop_all()
        return ours

    def _await_ready(self, requests: socket.socket, process: "subprocess.Popen[bytes]") -> None:
        try:
            is_ready = requests.recv(len(READY)) == READY
        except TimeoutError:
            raise self._start_error(f"did not answer within {START_S:.0f} s") from None
        if not is_ready:
            raise self._start_error(f"ended with status {process.wait()}")

    def _stop(self) -> None:
        """Let the keeper end its workers and itself, so that whoever inherits them finds no zombies."""
        if self._requests is not None:
            self._requests.close()
        if self._process is not None:
            try:
                self._process.wait(CLOSE_S)
            except subprocess.TimeoutExpired:
                # The keeper leads the group that its workers are in.
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._process = self._requests = None

    def _start_error(self, how: str) -> WorkerStartError:
        return WorkerStartError(
            f"the worker process ({sys.executable!r} -m polaris_reward.workers.worker) {how}; the reason is on "
            "standard error (is polaris-reward installed for this Python, and is "
            f"memory_gib={self._memory_gib!r} enough?)"
        )


class Worker:
    """One worker of a keeper, forked when it is first needed, and again after it has ended or was killed."""

    def __init__(self, keeper: Keeper, number: int) -> None:
        self._keeper = keeper
        self._number = number
        self._connection: socket.socket | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the reply.

        Raises:
            TimeoutError: If the deadline passed; the worker is killed.
            WorkerDiedError: If the request was the end of two workers.
            GraderClosedError: If the keeper was closed.
            WorkerStartError: If the worker cannot start.
        """
        line = json.dumps(request).encode() + b"\n"
        left_s = self._keeper.deadline_s
        # Once more, since somebody else may have killed the worker while it was idle, or for its memory.
        for _ in range(2):
            connection = self._connection or self._renew()
            started = time.monotonic()
            try:
                reply = _exchange(connection, line, due=started + left_s)
            except WorkerDiedError:
                left_s -= time.monotonic() - started
                self.forget()
                self._keeper.notice_end()
            except BaseException:
                # After Ctrl-C, too, it is at work on something that nobody waits for.
                self._renew()
                raise
            else:
                if reply["last"]:
                    self.forget()
                if "error" in reply:
                    raise WorkerStartError(f"a worker process cannot start: {reply['error']}")
                return reply
        raise WorkerDiedError

    def forget(self) -> None:
        """Let go of a process that has ended, or belongs to the parent of a fork."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _renew(self) -> socket.socket:
        self.forget()
        self._connection = self._keeper.fork(self._number)
        return self._connection


def _send(requests: socket.socket, number: int, connection: socket.socket) -> bool:
    try:
        socket.send_fds(requests, [to_message(number)], [connection.fileno()])
    except OSError:
        return False
    return True


def _exchange(connection: socket.socket, line: bytes, *, due: float) -> dict[str, Any]:
    received = b""
    try:
        # If nobody listens any more, there may still be a reply that says why.
        with suppress(ConnectionError):
            connection.sendall(line)
        while not received.endswith(b"\n"):
            # For a socket, 0 would mean something else.
            connection.settimeout(max(due - time.monotonic(), 0.001))
            chunk = connection.recv(65536)
            if not chunk:
                raise WorkerDiedError
            received += chunk
    except ConnectionError:
        raise WorkerDiedError from None
    return json.loads(received)
