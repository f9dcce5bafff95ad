"""What servers answer, read and checked: a completion that cannot have been sampled is refused."""

from collections.abc import Sequence
from typing import Any

from polaris_rollout.errors import EndpointError
from polaris_rollout.records import Completion, cut_at_stop
from polaris_rollout.servers.connection import EndpointDownError

_IMPOSSIBLE = -9999.0
"""What vLLM sends in place of NaN and of minus infinity: the log-probability of no token that was sampled."""

_ROUNDING = 1e-4
"""In nats, by which a log-probability may exceed 0."""


class BadAnswerError(EndpointDownError):
    """An answer that cannot be right: its server is left out if it keeps giving such."""


def read_choice(choice: Any, stop: Sequence[str], address: str) -> Completion:
    """Return the completion in an answer of OpenAI's route."""
    try:
        return _completion(choice, choice["logprobs"]["token_logprobs"], stop)
    except (KeyError, TypeError, AttributeError) as error:
        raise BadAnswerError(f"{address} answered without token ids and log-probabilities") from error


def read_generated(answer: Any, stop: Sequence[str], address: str) -> Completion:
    """Return the completion in an answer of vLLM's token route, with the versions of the weights that drew it."""
    try:
        choice = answer["choices"][0]
        logprobs = [each["logprob"] for each in choice["logprobs"]["content"]]
        spans = [(span["start"], span["version"]) for span in choice["weight_versions"] or ()]
        return _completion(choice, logprobs, stop, spans)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadAnswerError(f"{address} answered without token ids, log-probabilities or weight versions") from error


def check_completion(completion: Completion, *, max_tokens: int, vocabulary: int | None, address: str) -> None:
    """Refuse a completion that no server of this model can have sampled.

    Args:
        completion: As read from the answer.
        max_tokens: Longest that was asked for.
        vocabulary: Number of token ids; ``None`` where it is not known.
        address: Of the server, for the message.

    Raises:
        EndpointDownError: If the server broke it off.
        BadAnswerError: Naming what is wrong with it.
        EndpointError: If the server cuts completions short.
    """
    # A server that is shut down ends what it was sampling with another reason.
    if completion.finish_reason not in ("stop", "length"):
        raise EndpointDownError(f"{address} ended a completion with {completion.finish_reason!r}")
    if fault := _fault(completion, max_tokens, vocabulary):
        raise BadAnswerError(f"{address} answered with {fault}")
    if completion.finish_reason == "length" and len(completion.token_ids) < max_tokens:
        raise EndpointError(
            f"{address} cut a completion at {len(completion.token_ids)} tokens where {max_tokens} were asked for; "
            "restart it without max_new_tokens in --override-generation-config"
        )


def is_logprob(value: float) -> bool:
    """Whether a number can be the log-probability of a token, and is not what vLLM sends in place of none."""
    return _IMPOSSIBLE < value <= _ROUNDING


def _completion(
    choice: Any, logprobs: Sequence[Any], stop: Sequence[str], spans: Sequence[tuple[int, str]] = ()
) -> Completion:
    return Completion(
        token_ids=tuple(choice["token_ids"]),
        logprobs=tuple(logprobs),
        text=cut_at_stop(choice["text"], stop),
        finish_reason=choice["finish_reason"],
        weights=tuple(spans),
    )


def _fault(completion: Completion, max_tokens: int, vocabulary: int | None) -> str | None:
    tokens, logprobs = completion.token_ids, completion.logprobs
    if not tokens:
        return "an empty completion"
    if len(tokens) > max_tokens:
        return f"{len(tokens)} tokens where {max_tokens} were asked for"
    if len(logprobs) != len(tokens):
        return f"{len(logprobs)} log-probabilities for {len(tokens)} tokens"
    for place, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
        if type(token) is not int or not 0 <= token < (vocabulary or 2**31):
            return f"the token id {token!r} at place {place}, of a vocabulary of {vocabulary or 'unknown size'}"
        if type(logprob) not in (int, float) or not is_logprob(logprob):
            return f"the log-probability {logprob!r} at place {place}"
    return _fault_of_spans(completion)


def _fault_of_spans(completion: Completion) -> str | None:
    starts = [start for start, _ in completion.weights]
    if starts and (starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= len(completion.token_ids)):
        return f"the weight versions {completion.weights!r} for {len(completion.token_ids)} tokens"
    return None
