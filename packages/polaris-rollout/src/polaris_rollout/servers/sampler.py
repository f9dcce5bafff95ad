"""Sampling with ``vllm serve`` servers, near or far, as many as there are.

A background thread holds the connections. Servers come and go: what a failed one had not finished is given to
the others, and since every completion has its own seed, the answers do not tell who gave them.
"""

import asyncio
import resource
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

from polaris_rollout.errors import EndpointError
from polaris_rollout.models import check_lengths
from polaris_rollout.records import USER_TURN, ChatFormat, EngineStatus, Group, Prompt, SamplingParams, distinct
from polaris_rollout.servers.client import Endpoint
from polaris_rollout.servers.pool import EndpointPool
from polaris_rollout.servers.server import Patience, Server

Answer = TypeVar("Answer")

_ENCODED_AT_ONCE = 64

_OTHER_FILES = 256


class ServerSampler:
    """Servers that sample one model for us.

    Attributes:
        context: Longest prompt and completion together, in tokens.
        weights_version: Digest of the model's folder where the servers' folder is on this machine, else the name
            they loaded it by; followed by ``+`` and the version that a trainer gave the weights, if any.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        model: str,
        context: int | None = None,
        chat: ChatFormat = USER_TURN,
        max_in_flight: int = 256,
        patience: Patience | None = None,
    ) -> None:
        """Connect to the servers and check what they serve.

        Args:
            endpoints: Addresses such as ``http://host:8000``.
            model: Name that the servers serve it by, or what they loaded: a folder, a Hub id, a carried name.
            context: Longest prompt and completion together; ``None`` takes the least of the servers'. Beyond the
                model's positions the servers must have been started with it.
            chat: What stands around every user turn.
            max_in_flight: Completions that each server works on at the same time.
            patience: How long servers are waited for.

        Raises:
            EndpointError: If a server cannot be reached, serves another model, holds other weights than the
                others, has a shorter context, or gives log-probabilities of another distribution than it samples;
                if this process may not open as many connections.
        """
        clients = [Endpoint(address, chat) for address in endpoints]
        addresses = [client.address for client in clients]
        if not addresses or len(set(addresses)) < len(addresses):
            raise EndpointError(f"endpoints are {addresses}; give one or more addresses, each once")
        _allow_connections(len(clients) * max_in_flight)
        self._pool = EndpointPool(clients, max_in_flight=max_in_flight, patience=patience or Patience())
        self._calling = threading.RLock()  # Nothing is asked of the loop while it is being closed.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="polaris-endpoints", daemon=True)
        self._thread.start()
        with ExitStack() as on_error:
            on_error.callback(self.close)
            self._call(self._pool.open(model=model, context=context))
            on_error.pop_all()
        self.context: int = self._pool.context
        self.weights_version: str = self._pool.contract.weights_version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is in flight and close the connections; may be called again."""
        with self._calling:
            if self._loop.is_closed():
                return
            self._call(self._pool.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the prompt that the model sees for a user turn, chat template included."""
        return self._call(self._pool.encode(text))

    def check_prompts(self, prompts: Sequence[Prompt], max_tokens: int | None = None) -> None:
        """Refuse prompts that leave no room for an answer: for ``max_tokens``, or for one token.

        Raises:
            PromptTooLongError: Naming the prompts, their lengths, and the context they need.
            EndpointError: If no server can be asked.
        """
        lengths: dict[str, int] = {}
        for start in range(0, len(prompts), _ENCODED_AT_ONCE):
            batch = prompts[start : start + _ENCODED_AT_ONCE]
            encoded = self._call(self._encode_all([prompt.text for prompt in batch]))
            lengths |= {prompt.problem_id: len(tokens) for prompt, tokens in zip(batch, encoded, strict=True)}
        check_lengths(lengths, context=self.context, max_tokens=max_tokens)

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield a group of ``n`` completions for each prompt, as groups finish; see `Sampler.sample`.

        Raises:
            ValueError: If ``n`` is not positive.
            PromptTooLongError: If a prompt leaves no room for an answer.
            EndpointError: If no server has worked for long, or one refuses a request.
        """
        if n < 1:
            raise ValueError(f"n is {n}; give 1 or more samples")
        source = distinct(prompts)
        call = self._call(self._pool.begin(params, n))
        num_open, exhausted = 0, False
        try:
            while num_open or not exhausted:
                event = call.events.get()
                if event is None:
                    if (prompt := next(source, None)) is None:
                        exhausted = True
                    else:
                        num_open += 1
                        self._loop.call_soon_threadsafe(self._pool.add, call, prompt)
                elif isinstance(event, Group):
                    num_open -= 1
                    yield event
                else:
                    raise event
        finally:
            # The caller may have stopped early: the servers must be free for the next call.
            if not self._loop.is_closed():
                self._call(self._pool.end(call))

    def status(self) -> list[EngineStatus]:
        """Say what every server is doing, as of its latest health check; callable from another thread."""
        return [_status(server) for server in self._pool.servers]

    async def _encode_all(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return await asyncio.gather(*(self._pool.encode(text) for text in texts))

    def _call(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        with self._calling:
            if self._loop.is_closed():
                work.close()
                raise EndpointError("the sampler was closed while it was sampling")
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _allow_connections(num: int) -> None:
    """Raise this process's limit on open files: each completion in flight has its connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = num + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise EndpointError(
            f"{num} completions in flight need as many connections and only {hard} files may be open; lower "
            f"max_in_flight or raise the limit: ulimit -Hn {needed}"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _status(server: Server) -> EngineStatus:
    down_since, running = server.down_since, server.in_flight
    if down_since is not None:
        state = f"down since {time.monotonic() - down_since:.0f} s"
    else:
        state = "sampling" if running else "idle"
    waiting = min(running, server.load.waiting) if server.load else 0
    return EngineStatus(
        name=server.endpoint.address,
        state=state,
        running=running - waiting,
        waiting=waiting,
        longest_running=None,
        sampled_tokens=max(server.sampled_tokens, server.finished_tokens),
    )
