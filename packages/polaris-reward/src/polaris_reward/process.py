"""The parent's end of one worker process: start it, send it an item, hear its verdict, stop it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from polaris_reward.errors import WorkerStartError

START_S = 120.0
"""Longest wait for a worker to import its algebra; a loaded machine may take 10 s."""


class WorkerDiedError(Exception):
    """The process has ended; whoever waits for its verdict decides what that means."""


class WorkerProcess:
    """One worker, started when it is first needed and again after it was killed.

    Attributes:
        ready: Whether it can take an item.
        job: Number of the item that was sent to it.
        taken: Whether it has read that item.
        sent: When that item was sent, on the monotonic clock.
        due: When the current item, or the start, has taken too long.
    """

    def __init__(self, *, deadline_s: float, memory_gib: float) -> None:
        self._deadline_s = deadline_s
        self._memory_gib = memory_gib
        self._keeper: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._received = b""
        self.ready = self.taken = False
        self.job: int | None = None
        self.sent = self.due = 0.0

    @property
    def pid(self) -> int | None:
        """Process id of the keeper; ``None`` while there is no process."""
        return None if self._keeper is None else self._keeper.pid

    @property
    def started(self) -> bool:
        """Whether there is something to wait on, if only for the news that the process has ended."""
        return self._socket is not None

    @property
    def alive(self) -> bool:
        """Whether the process runs, be it still starting."""
        return self._keeper is not None and self._keeper.poll() is None

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        assert self._socket is not None
        return self._socket.fileno()

    def start(self) -> None:
        """Start a fresh process; it says when it is ready."""
        self.kill()
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "polaris_reward.worker"]
        self._socket = ours
        with theirs:
            self._keeper = subprocess.Popen(
                [*command, str(self._deadline_s), str(self._memory_gib)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                # Verdicts must not depend on the order of sympy's sets; Ctrl-C is for the parent alone.
                env={**os.environ, "PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
        self.due = time.monotonic() + START_S

    def send(self, job: int, request: dict[str, Any]) -> None:
        """Hand over one item.

        Raises:
            WorkerDiedError: If nobody listens any more; the item is not to blame.
        """
        assert self._socket is not None
        self._socket.settimeout(self._deadline_s)
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise WorkerDiedError from None
        self.job, self.taken, self.sent = job, False, time.monotonic()
        self.due = self.sent + self._deadline_s

    def receive(self) -> list[dict[str, Any]]:
        """Return the messages that have come in; call this only when there is something to read.

        Raises:
            WorkerDiedError: If the worker closed its end.
        """
        assert self._socket is not None
        try:
            received = self._socket.recv(65536)
        except OSError:
            received = b""
        if not received:
            raise WorkerDiedError
        *lines, self._received = (self._received + received).split(b"\n")
        return [json.loads(line) for line in lines]

    def interrupt(self) -> None:
        """Stop the work on the current item; a fresh child of the keeper says when it is ready."""
        if self._keeper is None or not self.alive:
            self.kill()
            return
        self._keeper.send_signal(signal.SIGUSR1)
        self.ready, self.due = False, time.monotonic() + START_S

    def kill(self) -> None:
        """End the processes, whatever they are doing."""
        if self._keeper is not None:
            # The keeper leads the group that its child is in.
            with suppress(ProcessLookupError):
                os.killpg(self._keeper.pid, signal.SIGKILL)
            self._keeper.wait()
        self._drop()

    def forget(self) -> None:
        """Let go of a process that belongs to the parent of a fork."""
        if self._keeper is not None:
            # It is not our child: Popen must neither wait for it nor warn that it still runs.
            self._keeper.returncode = 0
        self._drop()

    def give_up(self) -> WorkerStartError:
        """Kill a process that failed to start, and describe the failure."""
        assert self._keeper is not None
        try:
            how = f"ended with status {self._keeper.wait(timeout=1.0)}"
        except subprocess.TimeoutExpired:
            how = f"did not answer within {START_S:.0f} s"
        self.kill()
        return WorkerStartError(
            f"the worker process ({sys.executable!r} -m polaris_reward.worker) {how}; the reason is on "
            "standard error (is polaris-reward installed for this Python, and is "
            f"memory_gib={self._memory_gib!r} enough?)"
        )

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._keeper = self._socket = self.job = None
        self._received = b""
        self.ready = self.taken = False
