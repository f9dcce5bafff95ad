"""What a server must be before it gets work: the wanted model and weights, and honest log-probabilities."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from polaris_rollout.digest import model_digest
from polaris_rollout.errors import EndpointError, ModelError
from polaris_rollout.models import PREFILLED_TOKENS, model_config, prefilled_think, resolve_model
from polaris_rollout.records import SamplingParams
from polaris_rollout.servers.client import Endpoint, ServedModel

WEIGHTS_BAND = 0.05
"""Nats by which log-probabilities of the probe texts may differ on average between servers of one model.

Two servers of one kind agree far better; the band leaves room for other devices and other kernels. Between
float32 and bfloat16 a small model differed by 0.017. Weights one training step apart may lie within the band: those
are told apart by their files or by the version that the trainer gave them.
"""

PROBE_TEXTS = (
    "What is 17 + 25? Think step by step and put the final answer in \\boxed{}.",
    "Let f(x) = x^2 - 5x + 6. The roots are x = 2 and x = 3, because (x - 2)(x - 3) = 0.",
    "A train leaves at noon and travels 180 kilometres in 2 hours, so its speed is 90 kilometres per hour.",
)
"""Texts whose log-probabilities tell one set of weights from another."""

_TOP_K = 5
_NUM_TOP_LOGPROBS = 10
_HIGH_TEMPERATURE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a server was found to hold."""

    address: str
    """Of the server."""

    max_model_len: int
    """Longest prompt and completion together, in tokens."""

    prompt_token_ids: tuple[int, ...]
    """[P] the first probe text as a user turn: tells tokenizers and chat templates apart."""

    has_chat_template: bool
    """Whether the tokenizer has one that is used."""

    prefilled: str
    """Opening think tag with which the chat template ends every prompt; empty with most."""

    probe_token_ids: tuple[tuple[int, ...], ...]
    """Tokens of each probe text."""

    probe_logprobs: tuple[float, ...]
    """Log-probabilities of all their tokens but the first ones, in nats."""

    root: str
    """Folder or Hub id that the model was loaded from."""

    digest: str | None
    """Of that folder's files, where it is on this machine."""

    trained_version: str | None
    """Name that a trainer gave the weights, where the server tells one."""

    release: str | None
    """Of vLLM, where the server tells it."""

    @property
    def weights_version(self) -> str:
        """Name of the weights: by content where that is known, else by where they came from."""
        return (self.digest or self.root) + (f"+{self.trained_version}" if self.trained_version else "")


async def read_contract(endpoint: Endpoint, *, model: str | None, context: int | None) -> Contract:
    """Look at a server, and tell the endpoint how to address the model.

    Args:
        endpoint: The server's client.
        model: What it must serve: the name it is served by, or the folder, Hub id or carried name it was loaded from;
            ``None`` takes the only model that it serves.
        context: What its context must hold at least; ``None`` takes any.

    Raises:
        EndpointDownError: If it cannot be reached or does not work.
        EndpointError: Naming the endpoint, what it has, what was expected, and what to do.
    """
    await endpoint.check_health()
    served = _find(await endpoint.served_models(), model, endpoint.address)
    max_model_len = served.max_model_len or context or 0
    if context is not None and max_model_len < context:
        raise EndpointError(
            f"{endpoint.address} has a context of {max_model_len} tokens and {context} were asked for; restart it "
            f"with --max-model-len {context} or lower --context to {max_model_len}"
        )
    endpoint.model_id = served.model_id
    endpoint.vocabulary = _vocabulary(served.root)
    probes = tuple([await endpoint.tokenize(text) for text in PROBE_TEXTS])
    prompt = await _encode_first_prompt(endpoint)
    await _check_processed_logprobs(endpoint, prompt, served.root)
    return Contract(
        address=endpoint.address,
        max_model_len=max_model_len,
        prompt_token_ids=prompt,
        has_chat_template=endpoint.has_chat_template,
        prefilled=prefilled_think(await endpoint.detokenize(prompt[-PREFILLED_TOKENS:])),
        probe_token_ids=probes,
        probe_logprobs=await _probe_logprobs(endpoint, probes),
        root=served.root,
        digest=model_digest(served.root),
        trained_version=await endpoint.weight_version(),
        release=await endpoint.release(),
    )


async def read_weights_again(endpoint: Endpoint, contract: Contract) -> Contract:
    """Look at a server that was given other weights since it was looked at: its folder does not tell them any more."""
    return replace(
        contract,
        digest=None,
        probe_logprobs=await _probe_logprobs(endpoint, contract.probe_token_ids),
        trained_version=await endpoint.weight_version(),
    )


def complaint(contract: Contract, reference: Contract, *, weights: bool = True) -> str | None:
    """Say in a sentence how a server differs from another one; ``None`` if both may share the work.

    Args:
        contract: Of the server.
        reference: Of the other one.
        weights: Whether the weights count; not of servers that are about to be given others.
    """
    pair = f"{contract.address} and {reference.address}"
    remedy = "serve one model on every endpoint or leave one of them out"
    if contract.probe_token_ids != reference.probe_token_ids:
        return f"{pair} have different tokenizers; {remedy}"
    if contract.prompt_token_ids != reference.prompt_token_ids:
        return f"{pair} have different chat templates; {remedy}"
    if _differ(contract.release, reference.release):
        return (
            f"{contract.address} runs vLLM {contract.release} and {reference.address} runs {reference.release}, whose "
            "kernels may sample other tokens; install one release for every endpoint or leave one of them out"
        )
    return _other_weights(contract, reference, remedy) if weights else None


def most_common(contracts: Sequence[Contract]) -> Contract:
    """Return a server that most of the others agree with; the first of equals."""
    return min(contracts, key=lambda one: sum(complaint(other, one) is not None for other in contracts))


def _other_weights(contract: Contract, reference: Contract, remedy: str) -> str | None:
    gap = _mean_gap(contract.probe_logprobs, reference.probe_logprobs)
    if not gap <= WEIGHTS_BAND:
        return (
            f"{contract.address} holds other weights than {reference.address}: log-probabilities of fixed texts differ "
            f"by {gap:.2g} nats on average where {WEIGHTS_BAND} is allowed; {remedy}"
        )
    if _differ(contract.digest, reference.digest) or _differ(contract.trained_version, reference.trained_version):
        return (
            f"{contract.address} holds weights {contract.weights_version!r} and {reference.address} "
            f"{reference.weights_version!r}; {remedy}"
        )
    return None


def _find(served: Sequence[ServedModel], model: str | None, address: str) -> ServedModel:
    if model is None:
        found = served if len(served) == 1 else ()
    else:
        found = [each for each in served if model in (each.model_id, each.root) or _same_folder(model, each.root)]
    if found:
        return found[0]
    wanted = "one model alone" if model is None else repr(model)
    names = ", ".join(
        repr(each.model_id) + (f" (from {each.root!r})" if each.root != each.model_id else "") for each in served
    )
    raise EndpointError(
        f"{address} serves {names or 'no model'} and {wanted} was asked for; give one of these names as --model or "
        "the address of a server of that model"
    )


def _same_folder(model: str, root: str) -> bool:
    try:
        folder = Path(resolve_model(model))
    except ModelError:  # A name that only the servers know.
        return False
    return str(folder) == root or (folder.is_dir() and folder.resolve() == Path(root).resolve())


async def _probe_logprobs(endpoint: Endpoint, probes: Sequence[Sequence[int]]) -> tuple[float, ...]:
    return tuple([value for probe in probes for value in await endpoint.prompt_logprobs(probe)])


def _vocabulary(root: str) -> int | None:
    if not (Path(root) / "config.json").is_file():
        return None
    config = model_config(root)
    return config.get("vocab_size") or config.get("text_config", {}).get("vocab_size")


async def _encode_first_prompt(endpoint: Endpoint) -> tuple[int, ...]:
    """Encode a probe as a user turn, finding out whether the model has a chat template."""
    endpoint.has_chat_template = not endpoint.chat.is_plain
    try:
        return await endpoint.encode(PROBE_TEXTS[0])
    except EndpointError as error:
        if endpoint.chat.settings() or "chat template" not in str(error):
            raise
    endpoint.has_chat_template = False
    return await endpoint.encode(PROBE_TEXTS[0])


async def _check_processed_logprobs(endpoint: Endpoint, prompt: Sequence[int], root: str) -> None:
    """Refuse a server whose log-probabilities are not those of the distribution that it samples from.

    Of the few tokens that top-k keeps, the true ones add up to 1, and a higher temperature draws them together.
    """
    cold, hot = [
        await endpoint.top_logprobs(prompt, SamplingParams(temperature=temperature, top_k=_TOP_K), _NUM_TOP_LOGPROBS)
        for temperature in (1.0, _HIGH_TEMPERATURE)
    ]
    drawn_together = hot[0] - hot[_TOP_K - 1] < 0.75 * (cold[0] - cold[_TOP_K - 1]) + 0.01
    if not (_add_up_to_1(cold) and _add_up_to_1(hot) and drawn_together):
        raise EndpointError(
            f"{endpoint.address} gives log-probabilities of another distribution than the one it samples from; "
            f"restart it with: vllm serve {root} --logprobs-mode processed_logprobs"
        )


def _add_up_to_1(logprobs: Sequence[float]) -> bool:
    return max(logprobs) < 0.01 and abs(sum(map(math.exp, logprobs)) - 1) < 0.01


def _differ(ours: str | None, theirs: str | None) -> bool:
    """Whether both are known and are not the same."""
    return None not in (ours, theirs) and ours != theirs


def _mean_gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return sum(abs(one - other) for one, other in zip(ours, theirs, strict=True)) / len(ours)
