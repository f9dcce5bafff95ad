"""One ``vllm serve`` server over HTTP: user turns to tokens, tokens to completions, health and load.

Every sampling parameter is sent, since a server fills what is left out from the model's generation config.
"""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from polaris_rollout.errors import EndpointError
from polaris_rollout.records import USER_TURN, ChatFormat, Completion, SamplingParams, cut_at_stop

CONNECT_TIMEOUT_S = 10.0
"""For the connection alone: an answer may take an hour, so requests themselves have no time-out."""

OUR_FAULT = frozenset({400, 401, 403, 413, 422})
"""Statuses that no other server and no later try would change."""

_KEEP_ALIVE: list[tuple[int, int, int]] = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
if hasattr(socket, "TCP_KEEPIDLE"):
    # Routers forget a silent connection after minutes, and the answer would never arrive.
    _KEEP_ALIVE.append((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60))


class EndpointDownError(Exception):
    """The server failed, is busy, or cannot be reached: another may do, or this one later.

    Attributes:
        status: Of its HTTP answer; ``None`` where there was none.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLoad:
    """What a server says it is doing, for all its clients together."""

    waiting: int
    """Requests that have not begun."""

    sampled_tokens: int
    """Since the server was started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """One line of a server's list of models."""

    model_id: str
    """Name that requests carry."""

    root: str
    """Folder or Hub id that it was loaded from."""

    max_model_len: int | None
    """Longest prompt and completion together, in tokens; ``None`` for an adapter."""


class Endpoint:
    """The HTTP client of one server.

    Every method raises `EndpointDownError` where another server or a later try may succeed, and `EndpointError`
    where the request itself is refused.

    Attributes:
        address: Scheme, host and port.
        model_id: Name of the model that requests carry.
        chat: What stands around every user turn.
        has_chat_template: Whether the model's tokenizer has one; without, user turns are plain text.
    """

    def __init__(self, address: str, chat: ChatFormat = USER_TURN) -> None:
        """Prepare a client; nothing is sent.

        Args:
            address: Such as ``http://host:8000``. The key in ``VLLM_API_KEY``, where servers look for it too,
                is sent along.
            chat: What stands around every user turn.

        Raises:
            EndpointError: If the address is not a URL of a server.
        """
        self.address = address.rstrip("/").removesuffix("/v1")
        if not self.address.startswith(("http://", "https://")) or not httpx.URL(self.address).host:
            raise EndpointError(f"endpoint {address!r} is no address; give one like http://host:8000")
        self.model_id: str | None = None
        self.chat = chat
        self.has_chat_template = not chat.is_plain
        key = os.environ.get("VLLM_API_KEY")
        # A connection for each request: beside an answer it costs nothing, and none is closed under a request for
        # having been idle.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._client = httpx.AsyncClient(
            base_url=self.address,
            transport=httpx.AsyncHTTPTransport(
                verify=self.address.startswith("https"),  # Plain HTTP has no certificates to read.
                limits=limits,
                socket_options=_KEEP_ALIVE,
            ),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def check_health(self) -> None:
        """Return if the server says that it works."""
        await self._request("GET", "/health")

    async def served_models(self) -> list[ServedModel]:
        """List what the server serves."""
        answer = await self.ask("GET", "/v1/models")
        try:
            return [
                ServedModel(
                    model_id=card["id"],
                    root=card.get("root") or card["id"],
                    max_model_len=card.get("max_model_len"),
                )
                for card in answer["data"]
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise EndpointDownError(
                f"{self.address} answered /v1/models with something else than models: {answer!r:.200}"
            ) from error

    async def weight_version(self) -> str | None:
        """Return the name that a trainer gave the server's weights; ``None`` where it tells none."""
        try:
            name = (await self.ask("GET", "/weight_info"))["weight_version"]
        except (EndpointDownError, KeyError, TypeError):  # Only a server in development mode has this page.
            return None
        return None if name == "default" else str(name)

    async def load(self) -> ServerLoad | None:
        """Return what the server is doing; ``None`` where it keeps no statistics."""
        try:
            text = (await self._request("GET", "/metrics")).text
        except (EndpointDownError, EndpointError):
            return None
        if "\nvllm:generation_tokens_total{" not in text:
            return None
        return ServerLoad(
            waiting=_metric(text, "vllm:num_requests_waiting"),
            sampled_tokens=_metric(text, "vllm:generation_tokens_total"),
        )

    async def encode(self, text: str) -> tuple[int, ...]:
        """Return the prompt that the model sees for a user turn, chat template included."""
        if not self.has_chat_template:
            return await self.tokenize(text)
        turn: dict[str, Any] = {"messages": self.chat.messages(text), "add_generation_prompt": True}
        if self.chat.arguments:
            turn["chat_template_kwargs"] = dict(self.chat.arguments)
        return await self._tokenize({**turn, "add_special_tokens": False})

    async def tokenize(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a plain text."""
        return await self._tokenize({"prompt": text, "add_special_tokens": True})

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        """Return the text of tokens, special ones included."""
        answer = await self.ask("POST", "/detokenize", {"model": self.model_id, "tokens": list(token_ids)})
        try:
            return str(answer["prompt"])
        except (KeyError, TypeError) as error:
            raise EndpointDownError(
                f"{self.address} answered /detokenize with something else than a text: {answer!r:.200}"
            ) from error

    async def complete(
        self, prompt_token_ids: Sequence[int], params: SamplingParams, *, seed: int, max_tokens: int
    ) -> Completion:
        """Sample one completion.

        Args:
            prompt_token_ids: [P] the prompt.
            params: Its temperature and truncation.
            seed: Of this completion.
            max_tokens: Longest completion.
        """
        choice = await self._choice(prompt_token_ids, params, seed=seed, max_tokens=max_tokens)
        try:
            completion = Completion(
                token_ids=tuple(choice["token_ids"]),
                logprobs=tuple(choice["logprobs"]["token_logprobs"]),
                text=cut_at_stop(choice["text"], params.stop),
                finish_reason=choice["finish_reason"],
            )
        except (KeyError, TypeError) as error:
            raise EndpointDownError(f"{self.address} answered without token ids and log-probabilities") from error
        # A server that is shut down ends what it was sampling with another reason.
        if completion.finish_reason not in ("stop", "length") or len(completion.logprobs) != len(completion.token_ids):
            raise EndpointDownError(f"{self.address} ended a completion with {completion.finish_reason!r}")
        if completion.finish_reason == "length" and len(completion.token_ids) < max_tokens:
            raise EndpointError(
                f"{self.address} cut a completion at {len(completion.token_ids)} tokens where {max_tokens} were asked "
                "for; restart it without max_new_tokens in --override-generation-config"
            )
        return completion

    async def top_logprobs(self, prompt_token_ids: Sequence[int], params: SamplingParams, num: int) -> list[float]:
        """Return the highest log-probabilities of the token after a prompt, in falling order."""
        choice = await self._choice(prompt_token_ids, params, seed=0, max_tokens=1, logprobs=num)
        try:
            return sorted(choice["logprobs"]["top_logprobs"][0].values(), reverse=True)[:num]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise EndpointDownError(f"{self.address} answered without log-probabilities") from error

    async def prompt_logprobs(self, prompt_token_ids: Sequence[int]) -> list[float]:
        """Return the log-probability of every token of a prompt but the first."""
        choice = await self._choice(prompt_token_ids, SamplingParams(), seed=0, max_tokens=1, prompt_logprobs=0)
        try:
            rows = zip(prompt_token_ids[1:], choice["prompt_logprobs"][1:], strict=True)
            return [float(row[str(token)]["logprob"]) for token, row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise EndpointDownError(f"{self.address} answered without log-probabilities of the prompt") from error

    async def _choice(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        *,
        seed: int,
        max_tokens: int,
        logprobs: int = 0,
        **more: Any,
    ) -> Any:
        body: dict[str, Any] = {
            "model": self.model_id,
            "prompt": list(prompt_token_ids),
            "max_tokens": max_tokens,
            "seed": seed,
            "temperature": params.temperature,
            "top_p": params.top_p,
            "top_k": params.top_k,
            "min_p": params.min_p,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "logprobs": logprobs,
            "return_token_ids": True,
            # Tokens of one text would otherwise hide each other.
            "return_tokens_as_token_ids": True,
            # The end-of-sequence token is decoded as well, and left out again where it is a special one.
            "include_stop_str_in_output": True,
            "skip_special_tokens": True,
        }
        if params.stop:
            body["stop"] = list(params.stop)
        answer = await self.ask("POST", "/v1/completions", {**body, **more})
        try:
            return answer["choices"][0]
        except (KeyError, IndexError, TypeError) as error:
            raise EndpointDownError(
                f"{self.address} answered with something else than a completion: {answer!r:.200}"
            ) from error

    async def _tokenize(self, body: dict[str, Any]) -> tuple[int, ...]:
        answer = await self.ask("POST", "/tokenize", {"model": self.model_id, **body})
        try:
            return tuple(answer["tokens"])
        except (KeyError, TypeError) as error:
            raise EndpointDownError(
                f"{self.address} answered /tokenize with something else than tokens: {answer!r:.200}"
            ) from error

    async def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and return what the JSON of the answer holds."""
        response = await self._request(method, path, body)
        try:
            return response.json()
        except ValueError as error:
            raise EndpointDownError(
                f"{self.address} answered {path} with something else than JSON: {response.text!r:.200}"
            ) from error

    async def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            response = await self._client.request(method, path, json=body)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise EndpointDownError(
                f"{self.address} cannot be reached ({str(error) or type(error).__name__})"
            ) from error
        except httpx.HTTPError as error:
            raise EndpointDownError(
                f"{self.address} broke off an answer ({str(error) or type(error).__name__})"
            ) from error
        if response.status_code == 200:
            return response
        said = f"{path} with status {response.status_code}: {_message(response)}"
        if response.status_code in OUR_FAULT:
            raise EndpointError(f"{self.address} refused {said}")
        raise EndpointDownError(f"{self.address} answered {said}", response.status_code)


def _message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return " ".join(response.text.split())[:200] or response.reason_phrase


def _metric(text: str, name: str) -> int:
    """Add up a metric over the engines of a server."""
    lines = (line for line in text.splitlines() if line.startswith(f"{name}{{"))
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
