"""Log-probabilities of given tokens, asked of one ``vllm serve``: what a teacher says of another model's answers."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from polaris_rollout.errors import EndpointError
from polaris_rollout.servers.answers import is_logprob
from polaris_rollout.servers.connection import Connection, EndpointDownError

MAX_IN_FLIGHT = 32
"""Requests at a time; a server computes the log-probabilities of a prompt in one pass."""

MAX_TRIES = 6
"""Of one request, each after twice the wait before it, half a second at first."""

_NOT_FOUND = 404

Result = TypeVar("Result")


class TokenScorer:
    """Asks a server for the log-probabilities of tokens that it did not sample, at temperature 1.

    Every method raises `EndpointError` where the server refuses, stays down, or answers something else.
    """

    def __init__(self, address: str, *, num_tries: int = MAX_TRIES, deadline_s: float | None = None) -> None:
        """Ask nothing yet.

        Args:
            address: Such as ``http://host:8000``.
            num_tries: Of one request while the server is down.
            deadline_s: For each of the methods below; by default they wait as long as the server works.
        """
        self._connection = Connection(address)
        self._loop = asyncio.new_event_loop()
        self._num_tries, self._deadline_s = num_tries, deadline_s

    def close(self) -> None:
        """Close the connection."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    def tokens(self, text: str) -> list[int]:
        """Return what the server's tokenizer makes of a text, without tokens around it."""
        return self._finish(self._tokens(text))

    def context(self) -> int | None:
        """Return how many tokens a request may have with what is sampled for it; ``None`` where the server hides it."""
        return self._finish(self._model())[1]

    def logprobs(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, ...]]:
        """Return the log-probability of each token of each completion.

        Args:
            sequences: Prompt and completion, as token ids.
        """
        return self._finish(self._all(sequences))

    def _finish(self, asked: Coroutine[Any, Any, Result]) -> Result:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(asked, self._deadline_s))
        except TimeoutError:  # Of the deadline; those of connections are other errors by now.
            raise EndpointError(
                f"{self._connection.address} has not answered for {self._deadline_s:g} s; start the server again, and "
                "the same command continues"
            ) from None

    async def _tokens(self, text: str) -> list[int]:
        name, _ = await self._model()
        body = {"model": name, "prompt": text, "add_special_tokens": False}
        answer = await self._ask("POST", "/tokenize", body)
        return self._expected(lambda: [int(token) for token in answer["tokens"]], "/tokenize", answer)

    async def _all(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, ...]]:
        room, (name, _) = asyncio.Semaphore(MAX_IN_FLIGHT), await self._model()

        async def one(prompt: Sequence[int], completion: Sequence[int]) -> tuple[float, ...]:
            async with room:
                return await self._score(name, [*prompt, *completion], num_prompt=len(prompt))

        return await _together([one(*each) for each in sequences])

    async def _score(self, name: str, tokens: list[int], *, num_prompt: int) -> tuple[float, ...]:
        # Servers do not take 0 for max_tokens; the one token is left alone.
        body = {"model": name, "prompt": tokens, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        answer = await self._ask("POST", "/v1/completions", body)

        def read() -> tuple[float, ...]:
            places = answer["choices"][0]["prompt_logprobs"][num_prompt : len(tokens)]
            return tuple(
                float(place[str(token)]["logprob"]) for place, token in zip(places, tokens[num_prompt:], strict=True)
            )

        found = self._expected(read, "prompt_logprobs", answer)
        for token, logprob in zip(tokens[num_prompt:], found, strict=True):
            if not is_logprob(logprob):
                raise EndpointError(
                    f"{self._connection.address} gives token {token} the log-probability {logprob}, which is none: "
                    "the model that it serves computes no finite numbers; serve it with --dtype float32 or bfloat16"
                )
        return found

    async def _model(self) -> tuple[str, int | None]:
        """Return the name of the model that the server holds, and how many tokens a request may have."""
        answer = await self._ask("GET", "/v1/models", None)

        def read() -> tuple[str, int | None]:
            served = answer["data"][0]
            most = served.get("max_model_len")
            return str(served["id"]), None if most is None else int(most)

        return self._expected(read, "/v1/models", answer)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        for attempt in range(self._num_tries):
            try:
                return await self._connection.ask(method, path, body)
            except EndpointDownError as error:
                if error.status == _NOT_FOUND:
                    raise EndpointError(f"{error}; give the address of a 'vllm serve', which has {path}") from error
                if attempt == self._num_tries - 1:
                    raise EndpointError(f"{error}; start the server again, and the same command continues") from error
                await asyncio.sleep(0.5 * 2**attempt)
        raise AssertionError

    def _expected(self, read: Callable[[], Result], what: str, answer: object) -> Result:
        try:
            return read()
        except (LookupError, TypeError, ValueError) as error:
            raise EndpointError(
                f"{self._connection.address} did not answer {what} as 'vllm serve' does: {str(answer)[:200]!r}; give "
                "the address of one"
            ) from error


async def _together(parts: Sequence[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Return the results in order; where one fails the others are cancelled."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part) for part in parts]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
