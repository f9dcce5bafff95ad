"""Log-probabilities of given tokens, asked of one ``vllm serve``: what a teacher says of another model's answers."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from polaris_rollout.errors import EndpointError
from polaris_rollout.servers.connection import Connection, EndpointDownError

MAX_IN_FLIGHT = 32
"""Requests at a time; a server computes the log-probabilities of a prompt in one pass."""

MAX_TRIES = 6
"""Of one request, each after twice the wait before it, half a second at first."""

Result = TypeVar("Result")


class TokenScorer:
    """Asks a server for the log-probabilities of tokens that it did not sample, at temperature 1.

    Every method raises `EndpointError` where the server refuses, stays down, or answers something else.
    """

    def __init__(self, address: str) -> None:
        """Ask nothing yet.

        Args:
            address: Such as ``http://host:8000``.
        """
        self._loop = asyncio.new_event_loop()
        self._connection = Connection(address)

    def close(self) -> None:
        """Close the connection."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    def tokens(self, text: str) -> list[int]:
        """Return what the server's tokenizer makes of a text, without tokens around it."""
        return self._loop.run_until_complete(self._tokens(text))

    def logprobs(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, ...]]:
        """Return the log-probability of each token of each completion.

        Args:
            sequences: Prompt and completion, as token ids.
        """
        return self._loop.run_until_complete(self._all(sequences))

    async def _tokens(self, text: str) -> list[int]:
        body = {"model": await self._name(), "prompt": text, "add_special_tokens": False}
        answer = await self._ask("POST", "/tokenize", body)
        return self._expected(lambda: [int(token) for token in answer["tokens"]], "/tokenize", answer)

    async def _all(self, sequences: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, ...]]:
        room, name = asyncio.Semaphore(MAX_IN_FLIGHT), await self._name()

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

        return self._expected(read, "prompt_logprobs", answer)

    async def _name(self) -> str:
        """Return the name of the model that the server holds."""
        answer = await self._ask("GET", "/v1/models", None)
        return self._expected(lambda: str(answer["data"][0]["id"]), "/v1/models", answer)

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        for attempt in range(MAX_TRIES):
            try:
                return await self._connection.ask(method, path, body)
            except EndpointDownError as error:
                if attempt == MAX_TRIES - 1:
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
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part) for part in parts]
    return [task.result() for task in tasks]
