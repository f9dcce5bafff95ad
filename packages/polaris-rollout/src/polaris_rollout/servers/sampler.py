"""Sampling with ``vllm serve`` servers, near or far, as many as there are, which may take weights from a trainer.

A background thread holds the connections. Servers come and go: what a failed one had not finished is given to
the others, and since every completion has its own seed, the answers do not tell who gave them.
"""

import asyncio
import resource
import threading
import time
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from polaris_rollout.contracts import EngineStatus
from polaris_rollout.errors import EndpointError, SettingError
from polaris_rollout.models import check_lengths
from polaris_rollout.records import USER_TURN, ChatFormat, Group, Prompt, SamplingParams, distinct
from polaris_rollout.servers.inventory import Inventory
from polaris_rollout.servers.pool import EndpointPool
from polaris_rollout.servers.roster import Roster
from polaris_rollout.servers.server import Patience, Server
from polaris_rollout.transfer.files import checkpoint_shapes, store_weights

if TYPE_CHECKING:
    import torch

Answer = TypeVar("Answer")

_ENCODED_AT_ONCE = 64

_OTHER_FILES = 256


class ServerSampler:
    """Servers that sample one model for us; an `Engine` and, with a folder for weights, a `WeightSink`.

    Attributes:
        context: Longest prompt and completion together, in tokens.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        model: str | None,
        context: int | None = None,
        chat: ChatFormat = USER_TURN,
        max_in_flight: int = 256,
        patience: Patience | None = None,
        weights_folder: Path | None = None,
    ) -> None:
        """Connect to the servers and check what they serve.

        Args:
            endpoints: Addresses such as ``http://host:8000``, or files that list addresses, one a line. Such a file may
                change while the sampler is open: servers that it names get work once they hold the model and its
                current weights, and those that it names no more get none.
            model: Name that the servers serve it by, or what they loaded: a folder, a Hub id, a carried name. ``None``
                takes the only model of each, which is of use where they are given weights.
            context: Longest prompt and completion together; ``None`` takes the least of the servers'. Beyond the
                model's positions the servers must have been started with it.
            chat: What stands around every user turn.
            max_in_flight: Completions that each server works on at the same time.
            patience: How long servers are waited for.
            weights_folder: Where `update_weights` puts weights, seen by the servers under the same path. Which weights
                they hold at first does then not matter, and they must have been started for a trainer.

        Raises:
            EndpointError: If a server cannot be reached, serves another model, holds other weights than the others, is
                of another release of vLLM, has a shorter context, or gives log-probabilities of another distribution
                than it samples; if this process may not open as many connections.
        """
        inventory = Inventory(endpoints)
        _allow_connections(len(inventory.addresses()) * max_in_flight, may_grow=bool(inventory.files))
        takes_weights = weights_folder is not None
        roster = Roster(inventory, model=model, chat=chat, patience=patience or Patience(), takes_weights=takes_weights)
        self._roster, self._pool = roster, EndpointPool(roster, max_in_flight=max_in_flight)
        self._weights_folder, self._num_updates = weights_folder, 0
        self._calling = threading.RLock()  # Nothing is asked of the loop while it is being closed.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="polaris-endpoints", daemon=True)
        self._thread.start()
        with ExitStack() as on_error:
            on_error.callback(self.close)
            self._call(roster.open(context))
            on_error.pop_all()
        self.context: int = roster.context
        self._first_version = roster.weights_version
        root = Path(roster.contract.root)
        self._expected = checkpoint_shapes(root) if root.is_dir() else None

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
            self._call(self._roster.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    @property
    def weights_version(self) -> str:
        """Name of the weights: as the trainer gave it, or the digest of the model's folder where that is on this
        machine, else the name the servers loaded it by, followed by ``+`` and the version that they tell, if any."""
        return self._roster.weights_version

    def update_weights(self, weights: "Iterable[tuple[str, torch.Tensor]]", *, version: str | None = None) -> None:
        """Give the servers other weights; see `WeightSink.update_weights`. Callable while another thread samples.

        What is in flight is kept: its later tokens are drawn with the new weights, and `Completion.weights` says from
        which token on. A server that fails gets no work until it holds them. Of a model whose folder is on this machine
        every parameter must be given.

        Raises:
            SettingError: If the sampler was opened without a folder for weights, a parameter is missing or has another
                shape, or the files cannot be written; the servers keep the weights they have.
            EndpointError: If no server took the weights.
        """
        if self._weights_folder is None:
            raise SettingError("servers are given weights through files; open them with a weights_folder")
        version = f"{self._first_version}+{self._num_updates + 1}" if version is None else version
        # In the other folder are those that a server may be reading, or may yet have to.
        folder = self._weights_folder / f"weights-{self._num_updates % 2}"
        stored = store_weights(weights, folder, version=version, expected=self._expected)
        self._num_updates += 1
        self._call(self._roster.renew(stored))

    def sleep(self) -> None:
        """Do nothing: the servers' memory is theirs."""

    def wake(self) -> None:
        """Do nothing; see `sleep`."""

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
        return [_status(server) for server in self._roster.servers]

    async def _encode_all(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        return await asyncio.gather(*(self._pool.encode(text) for text in texts))

    def _call(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        with self._calling:
            if self._loop.is_closed():
                work.close()
                raise EndpointError("the sampler was closed while it was sampling")
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _allow_connections(num: int, *, may_grow: bool) -> None:
    """Raise this process's limit on open files: each completion in flight has its connection.

    Args:
        num: Completions in flight.
        may_grow: Whether servers may join, so that it is raised as far as it can be.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = num + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise EndpointError(
            f"{num} completions in flight need as many connections and only {hard} files may be open; lower "
            f"max_in_flight or raise the limit: ulimit -Hn {needed}"
        )
    if may_grow and hard != resource.RLIM_INFINITY:
        needed = hard
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _status(server: Server) -> EngineStatus:
    down_since, running = server.down_since, server.in_flight
    if server.is_left_out:
        state = "left out"
    elif down_since is not None:
        state = f"down since {time.monotonic() - down_since:.0f} s"
    elif not server.verified.is_set():
        state = "taking weights"
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
