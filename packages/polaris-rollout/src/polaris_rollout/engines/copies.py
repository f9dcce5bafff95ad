"""Several engines side by side, each in a process of its own on devices of its own.

The processes take prompts from one source, each when it has room, so none waits for the unluckiest. A completion
depends on seed, problem and number alone: how many engines there are changes nothing but the time.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Self, cast

from polaris_rollout.contracts import EngineSpec, EngineStatus
from polaris_rollout.devices import visible_devices
from polaris_rollout.engines.openmp import openmp_environment
from polaris_rollout.errors import EngineDiedError
from polaris_rollout.records import Group, Prompt, SamplingParams, distinct

_GRACE_S = 10.0

Message = tuple[str, Any]
"""What is meant, and what belongs to it; `polaris_rollout.engines.copy_process` holds the other end."""


class EngineCopies:
    """``data_parallel`` engines of one model, sampling as one; an `Engine`.

    Attributes:
        context: Longest prompt and completion together, in tokens.
        weights_version: Fingerprint of the model's files or its Hub id.
    """

    def __init__(self, spec: EngineSpec) -> None:
        """Start the processes, and wait until each has its engine open and compared.

        Args:
            spec: Of all engines together.

        Raises:
            RolloutError: What the first of them raised that could not open its engine.
        """
        self._processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection] = []
        self._status: list[list[EngineStatus]] = [[] for _ in range(spec.data_parallel)]
        with ExitStack() as stack:
            stack.callback(self.close)
            for place in range(spec.data_parallel):
                self._start(replace(spec, data_parallel=1), place, spec)
            opened = [self._receive(connection, "open") for connection in self._connections]
            stack.pop_all()  # All are open, and stay so.
        self.context, self.weights_version = cast(tuple[int, str], opened[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; may be called again."""
        for connection in self._connections:
            connection.close()  # Which they notice within a second, whatever they are doing.
        for process in self._processes:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._connections = []

    def status(self) -> list[EngineStatus]:
        """Say what every engine was doing a second ago; callable from another thread."""
        return [replace(status, name=f"engine {place}") for place, told in enumerate(self._status) for status in told]

    def check_prompts(self, prompts: Sequence[Prompt], max_tokens: int | None = None) -> None:
        """Refuse prompts that leave no room for an answer: for ``max_tokens``, or for one token.

        Raises:
            PromptTooLongError: Naming the prompts, their lengths, and the context they need.
        """
        first = self._open_connections()[0]
        first.send(("check", (list(prompts), max_tokens)))
        self._receive(first, "checked")

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield a group of ``n`` completions for each prompt, as groups finish; see `Sampler.sample`.

        Who stops before the end ends the engines: what they work on cannot be taken back.

        Raises:
            ValueError: If ``n`` is not positive.
            PromptTooLongError: If a prompt leaves no room for an answer.
            EngineDiedError: If a process ended.
        """
        if n < 1:
            raise ValueError(f"n is {n}; give 1 or more samples")
        source = distinct(prompts)
        busy = self._open_connections()
        try:
            for connection in busy:
                connection.send(("sample", (params, n)))
            while busy:
                for connection in cast(list[Connection], wait(busy)):
                    meaning, value = self._receive_any(connection)
                    if meaning == "next":
                        connection.send(("prompt", next(source, None)))
                    elif meaning == "group":
                        yield value
                    elif meaning == "done":
                        busy.remove(connection)
        finally:
            if busy:
                self.close()

    def _open_connections(self) -> list[Connection]:
        if not self._connections:
            raise RuntimeError("the engines have ended: an earlier sample() was not read to its end; open them anew")
        return list(self._connections)

    def _start(self, spec: EngineSpec, place: int, whole: EngineSpec) -> None:
        ours, theirs = Pipe()
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from polaris_rollout.engines.copy_process import serve; serve()",
                str(theirs.fileno()),
            ],
            env=os.environ | _place_in_machine(place, whole),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the command, which ends them.
        )
        theirs.close()
        self._processes.append(process)
        self._connections.append(ours)
        ours.send(("open", spec))

    def _receive(self, connection: Connection, wanted: str) -> Any:
        """Return what a message of this meaning brings; what comes before it says how engines are."""
        while True:
            meaning, value = self._receive_any(connection)
            if meaning == wanted:
                return value

    def _receive_any(self, connection: Connection) -> Message:
        place = self._connections.index(connection)
        try:
            meaning, value = cast(Message, connection.recv())
        except (EOFError, ConnectionError) as error:
            code = self._processes[place].wait()
            raise EngineDiedError(
                f"the process of engine {place} ended with exit code {code}; the same command continues with what is "
                "finished"
            ) from error
        if meaning == "error":
            raise value
        if meaning == "status":
            self._status[place] = value
        return meaning, value


def _place_in_machine(place: int, spec: EngineSpec) -> dict[str, str]:
    """Return the variables that give one process its share of the devices and of the processor."""
    first = place * spec.tensor_parallel
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = map(str, range(spec.data_parallel * spec.tensor_parallel))
    # Without nvidia-smi nobody says what there is; the engine looks for itself (`require_devices`).
    names = visible_devices() or [*(numbers if visible is None else visible.split(","))]
    devices = names[first : first + spec.tensor_parallel]
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices), **openmp_environment(spec.data_parallel)}
