"""Texts from any server that speaks OpenAI's protocol: nothing but the text is known of an answer.

There are no tokens and no log-probabilities, the server's chat template and defaults are its own, and what it does with
a seed cannot be checked. Enough to grade answers with; not to train on them.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import httpx

from polaris_rollout.contracts import EngineStatus
from polaris_rollout.errors import EndpointError, ModelError
from polaris_rollout.models import chat_template, prefilled_think, render_prompt, resolve_model
from polaris_rollout.records import (
    USER_TURN,
    ChatFormat,
    Completion,
    Group,
    Prompt,
    SamplingParams,
    completion_seed,
    cut_at_stop,
    distinct,
)
from polaris_rollout.servers.client import Endpoint
from polaris_rollout.servers.connection import CONNECT_TIMEOUT_S, EndpointDownError
from polaris_rollout.servers.inventory import Inventory
from polaris_rollout.servers.server import Patience

logger = logging.getLogger(__name__)

UNKNOWN_CONTEXT = 0
"""Such servers do not tell theirs."""

_SEED_BITS = 31
"""Of the seeds that are sent: not every server takes more."""

_MISSING = (404, 405, 422, 501)
"""Statuses of a page that is not there, or is another one under the same name."""


def are_text_only(endpoints: Sequence[str]) -> bool:
    """Return whether one of these servers answers, and has no page that turns texts into tokens as `vllm serve` has."""
    return any(_lacks_tokens(address) for address in Inventory(endpoints).addresses())


class TextSampler:
    """Servers that answer with texts.

    Attributes:
        context: Always 0: nobody tells it.
        weights_version: The model's name.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        model: str,
        chat: ChatFormat = USER_TURN,
        max_in_flight: int = 256,
        patience: Patience | None = None,
    ) -> None:
        """Connect to the servers and look for the model in their lists, where they have one.

        Args:
            endpoints: Addresses such as ``http://host:8000``.
            model: Name that the servers know it by.
            chat: What stands around every user turn.
            max_in_flight: Completions that each server works on at the same time.
            patience: How long servers are waited for.

        Raises:
            EndpointError: If a server cannot be reached, or has a list of models without this one.
        """
        self.context, self.weights_version = UNKNOWN_CONTEXT, model
        self._servers = [Endpoint(address, chat) for address in Inventory(endpoints).addresses()]
        self._model, self._chat, self._patience = model, chat, patience or Patience()
        self._prefilled = _opening_tag(model, chat)
        self._room = max_in_flight * len(self._servers)
        self._in_flight = dict.fromkeys([server.address for server in self._servers], 0)
        self._finished = dict(self._in_flight)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="polaris-texts", daemon=True).start()
        for server in self._servers:
            asyncio.run_coroutine_threadsafe(self._look_for_model(server), self._loop).result()
        logger.warning(
            "%s: texts only: no tokens, no log-probabilities, nothing is compared; what a seed does is theirs",
            " and ".join(self._in_flight),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for server in self._servers:
            asyncio.run_coroutine_threadsafe(server.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def status(self) -> list[EngineStatus]:
        """Say what every server is doing for us; callable from another thread."""
        return [
            EngineStatus(
                name=address,
                state="sampling" if running else "idle",
                running=running,
                waiting=0,
                longest_running=None,
                sampled_tokens=self._finished[address],
            )
            for address, running in self._in_flight.items()
        ]

    def check_prompts(self, prompts: Sequence[Prompt], max_tokens: int | None = None) -> None:
        """Do nothing: how long a prompt is, such servers do not tell before they are asked to answer it."""

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        """Yield a group of ``n`` completions for each prompt, as groups finish; they have a text and no tokens.

        Raises:
            ValueError: If ``n`` is not positive.
            EndpointError: If a server refuses a request, or none has worked for long.
        """
        if n < 1:
            raise ValueError(f"n is {n}; give 1 or more samples")
        source = distinct(prompts)
        answers: SimpleQueue[tuple[Prompt, dict[int, Completion], int, Future[Completion]]] = SimpleQueue()
        open_calls: set[Future[Completion]] = set()
        try:
            while True:
                while len(open_calls) < self._room and (prompt := next(source, None)) is not None:
                    group: dict[int, Completion] = {}
                    for index in range(n):
                        call = self._begin(prompt, params, index)
                        open_calls.add(call)
                        call.add_done_callback(lambda call, at=(prompt, group, index): answers.put((*at, call)))
                if not open_calls:
                    return
                prompt, group, index, call = answers.get()
                open_calls.discard(call)
                group[index] = call.result()
                if len(group) == n:
                    yield Group(
                        problem_id=prompt.problem_id,
                        prompt_token_ids=(),
                        completions=tuple(group[index] for index in range(n)),
                        weights_version=self.weights_version,
                        prefilled=self._opened(group.values()),
                    )
        finally:
            for call in open_calls:
                call.cancel()

    def _opened(self, completions: Iterable[Completion]) -> str:
        """Return the think tag that stood before these answers; none where a server tells what was thought."""
        told = any(each.text.lstrip().startswith(self._prefilled.strip()) for each in completions)
        return "" if told else self._prefilled

    def _begin(self, prompt: Prompt, params: SamplingParams, index: int) -> Future[Completion]:
        seed = completion_seed(params.seed, prompt.problem_id, prompt.first_sample + index)
        path, body = _request(self._model, prompt.text, params, self._chat, seed=seed % 2**_SEED_BITS)
        return asyncio.run_coroutine_threadsafe(self._answer(path, body, params), self._loop)

    async def _answer(self, path: str, body: dict[str, Any], params: SamplingParams) -> Completion:
        """Ask whichever server has least to do, and again after a failure, for as long as there is patience."""
        loop = asyncio.get_running_loop()
        failures, began = 0, loop.time()
        while True:
            server = min(self._servers, key=lambda each: self._in_flight[each.address])
            self._in_flight[server.address] += 1
            try:
                completion = _completion(await server.ask("POST", path, body), params.stop, server.address)
            except EndpointDownError as error:
                failures += 1
                if error.status == 404 or loop.time() - began > self._patience.give_up_after_s:
                    raise EndpointError(
                        f"{error}; give an address that answers {path}, and the same command continues"
                    ) from error
                if failures == 1:
                    logger.warning("a request is sent again: %s", error)
            else:
                # A server that counts no tokens shows by its answers that it is alive.
                self._finished[server.address] += completion.num_tokens or 1
                return completion
            finally:
                self._in_flight[server.address] -= 1
            await asyncio.sleep(self._patience.wait_s(failures))

    async def _look_for_model(self, server: Endpoint) -> None:
        try:
            served = [each.model_id for each in await server.served_models()]
        except EndpointDownError as error:
            if error.status == 404:  # It has no list.
                return
            raise EndpointError(f"{error}; start the server or leave the endpoint out") from error
        if self._model not in served:
            raise EndpointError(
                f"{server.address} serves {', '.join(map(repr, served)) or 'no model'} and {self._model!r} was asked "
                "for; give one of these names as --model"
            )


def join_reasoning(reasoning: str, content: str) -> str:
    """Return one text of what a server's reasoning parser took apart: the thought between think tags, the answer.

    A thought without an answer is not closed: it was cut, and what it holds is none.
    """
    if not reasoning:
        return content
    return f"<think>\n{reasoning}\n</think>\n\n{content}" if content else f"<think>\n{reasoning}"


def _request(
    model: str, text: str, params: SamplingParams, chat: ChatFormat, *, seed: int
) -> tuple[str, dict[str, Any]]:
    """Return path and body of a request; what not every server knows is only sent where it is set."""
    body: dict[str, Any] = {
        "model": model,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "seed": seed,
        "max_tokens": params.max_tokens,
        "top_k": params.top_k,
        "min_p": params.min_p,
        "stop": list(params.stop),
        "chat_template_kwargs": dict(chat.arguments),
    }
    always = ("model", "temperature", "top_p", "seed")
    body = {name: value for name, value in body.items() if name in always or value}
    if chat.is_plain:
        return "/v1/completions", body | {"prompt": text}
    return "/v1/chat/completions", body | {"messages": chat.messages(text)}


def _completion(answer: Any, stop: Sequence[str], address: str) -> Completion:
    try:
        choice = answer["choices"][0]
        message: Mapping[str, Any] = choice.get("message") or {"content": choice["text"]}
        content = cut_at_stop(_text(message.get("content")), stop)
        reasoning = _text(message.get("reasoning_content") or message.get("reasoning"))
        count = (answer.get("usage") or {}).get("completion_tokens")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndpointDownError(f"{address} answered with something else than a completion: {answer!r:.200}") from error
    return Completion(
        token_ids=(),
        logprobs=(),
        text=join_reasoning(reasoning, content),
        finish_reason="length" if choice.get("finish_reason") in ("length", "max_tokens") else "stop",
        reported_tokens=count if isinstance(count, int) else None,
    )


def _text(content: Any) -> str:
    """Return a message's text, which may be in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content)
    return content or ""


def _opening_tag(model: str, chat: ChatFormat) -> str:
    """Return the think tag that a model's chat template ends with, where its files are on this machine."""
    try:
        folder = resolve_model(model)
    except ModelError:  # A name that only the servers know.
        return ""
    if chat.is_plain or not Path(folder).is_dir() or chat_template(Path(folder)) is None:
        return ""
    from transformers import AutoTokenizer

    return prefilled_think(render_prompt(AutoTokenizer.from_pretrained(folder), "1 + 1 = ?", chat))


def _lacks_tokens(address: str) -> bool:
    try:
        response = httpx.post(f"{address}/tokenize", json={"prompt": "1 + 1"}, timeout=CONNECT_TIMEOUT_S)
        if response.status_code != 200:
            return response.status_code in _MISSING
        return not response.json().get("tokens")
    except httpx.HTTPError:  # It is down: that is said when it is needed.
        return False
    except (ValueError, AttributeError):
        return True
