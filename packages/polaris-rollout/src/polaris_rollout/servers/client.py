"""One ``vllm serve`` server over HTTP: user turns to tokens, tokens to completions, health and load.

Every sampling parameter is sent, since a server fills what is left out from the model's generation config.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from polaris_rollout.errors import EndpointError
from polaris_rollout.records import USER_TURN, ChatFormat, Completion, SamplingParams
from polaris_rollout.servers.answers import check_completion, read_choice, read_generated
from polaris_rollout.servers.connection import Connection, EndpointDownError

TOKEN_ROUTE = "/inference/v1/generate"
"""Tokens in, tokens out, with the version of the weights that drew each; a server has it with --enable-scale-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLoad:
    """What a server says it is doing, for all its clients together."""

    running: int
    """Requests that it works on."""

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


class Endpoint(Connection):
    """The HTTP client of one server of a model.

    Attributes:
        model_id: Name of the model that requests carry.
        chat: What stands around every user turn.
        has_chat_template: Whether the model's tokenizer has one; without, user turns are plain text.
        has_token_route: Whether it takes and gives tokens; otherwise completions are asked of OpenAI's route.
        vocabulary: Number of the model's token ids, where that is known.
    """

    def __init__(self, address: str, chat: ChatFormat = USER_TURN) -> None:
        """Prepare a client; nothing is sent.

        Args:
            address: See `Connection`.
            chat: What stands around every user turn.
        """
        super().__init__(address)
        self.model_id: str | None = None
        self.chat = chat
        self.has_chat_template = not chat.is_plain
        self.has_token_route = False
        self.vocabulary: int | None = None

    async def check_health(self) -> None:
        """Return if the server says that it works."""
        await self.request("GET", "/health")

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

    async def look_for_token_route(self) -> None:
        """Find out whether completions can be asked for by tokens: where that is so, an empty request is refused."""
        self.has_token_route = (await self.send("POST", TOKEN_ROUTE, {})).status_code in (400, 422)

    async def release(self) -> str | None:
        """Return the release of vLLM; ``None`` of a server that tells none."""
        try:
            return str((await self.ask("GET", "/version"))["version"])
        except (EndpointDownError, KeyError, TypeError):
            return None

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
            text = (await self.request("GET", "/metrics")).text
        except (EndpointDownError, EndpointError):
            return None
        if "\nvllm:generation_tokens_total{" not in text:
            return None
        return ServerLoad(
            running=_metric(text, "vllm:num_requests_running"),
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
        if self.has_token_route:
            body = {
                "model": self.model_id,
                "token_ids": list(prompt_token_ids),
                "output_mode": "text",
                "sampling_params": {**_sampling(params, seed=seed, max_tokens=max_tokens), "logprobs": 0},
            }
            completion = read_generated(await self.ask("POST", TOKEN_ROUTE, body), params.stop, self.address)
        else:
            choice = await self._choice(prompt_token_ids, params, seed=seed, max_tokens=max_tokens)
            completion = read_choice(choice, params.stop, self.address)
        check_completion(completion, max_tokens=max_tokens, vocabulary=self.vocabulary, address=self.address)
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
            **_sampling(params, seed=seed, max_tokens=max_tokens),
            "logprobs": logprobs,
            "return_token_ids": True,
            # Tokens of one text would otherwise hide each other.
            "return_tokens_as_token_ids": True,
        }
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


def _sampling(params: SamplingParams, *, seed: int, max_tokens: int) -> dict[str, Any]:
    """Return the parameters that both routes know by the same names."""
    sampling: dict[str, Any] = {
        "max_tokens": max_tokens,
        "seed": seed,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "min_p": params.min_p,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        # The end-of-sequence token is decoded as well, and left out again where it is a special one.
        "include_stop_str_in_output": True,
        "skip_special_tokens": True,
    }
    return sampling | ({"stop": list(params.stop)} if params.stop else {})


def _metric(text: str, name: str) -> int:
    """Add up a metric over the engines of a server."""
    lines = (line for line in text.splitlines() if line.startswith(f"{name}{{"))
    return int(sum(float(line.rsplit(" ", 1)[1]) for line in lines))
