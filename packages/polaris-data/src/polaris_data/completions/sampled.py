"""One form for every row of completions, and what is known of a single one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from polaris_reward import response_text, thoughts_apart

from polaris_data.files.documents import are_turns
from polaris_data.problems.prompts import ANSWERING

TEXT_KEYS = ("text", "response", "completion", "output", "generation", "generated_text", "content", "answer")
"""Where the text of a completion that is an object may stand."""

FINISH_KEYS = ("finish_reason", "stop_reason", "finish_reasons")
"""Where it may say why it ended."""

_LENGTH_KEYS = (
    *("num_tokens", "num_generated_tokens", "completion_tokens", "output_tokens", "num_output_tokens", "res_length"),
)
_ID_LIST_KEYS = ("token_ids", "output_token_ids", "output_tokens", "output_ids")
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "max_length"})
_ENDED = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed"})
_THOUGHT_PARTS = frozenset({"reasoning", "thinking", "redacted_thinking", "cot", "summary"})
"""Types of the parts of a message, or of whole messages, that are thoughts."""


Columns = Mapping[str, Any]
"""A row, by the names of its columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What one row says: which problem it is of, and completions of it."""

    problem: Mapping[str, Any]
    """The columns of the problem, with names that `take_fields` knows."""

    completions: Sequence[Mapping[str, Any]]
    """As `to_completion` returns them; none where the row has no column for them."""

    prompts: Any = None
    """Values of which one may be the prompt as the model saw it, to its end."""

    model: str | None = None
    """Who wrote the completions."""

    step: int | None = None
    """Of the training, where the row is of its log."""

    variant: str | None = None
    """Which of several ways to look at the same completions the row is."""

    is_request: bool = False
    """Whether the row only says what was asked under its id."""

    is_ours: bool = False
    """Whether the id is that of the problem for certain."""


def to_completion(value: Any, **beside: Any) -> dict[str, Any]:
    """Return one completion as a mapping.

    Args:
        value: A text, a message or several, a choice of a chat response, or any object that holds a text.
        beside: What else is known of it; ``None`` is nothing.

    Returns:
        What the object holds, with ``text`` (``None`` where there is no response: then ``error`` may say what the tool
        says of it, or ``defect`` what is wrong with the file), ``finish_reason`` (``length``, ``stop``, or what stands
        there) and ``num_tokens`` where they are known. Thoughts that stand beside the text are under
        ``reasoning_content``.
    """
    known = {name: each for name, each in beside.items() if each is not None}
    if isinstance(value, str) or value is None:
        return {"text": value} | known
    if isinstance(value, Mapping):
        return _from_object(cast("Mapping[str, Any]", value)) | known
    if isinstance(value, list) and (are_turns(value) or are_parts(value)):
        return _from_message(value if are_turns(value) else {"content": value}) | known
    return {"text": None, "defect": f"a completion is {value!r:.60}; expected its text"} | known


def facts_of(fields: Mapping[str, Any], *, of_one: bool = True) -> dict[str, Any]:
    """Return why a completion ended and how long it is, as far as what stands beside its text says it.

    Args:
        fields: A choice, a whole response, or the columns of a row.
        of_one: Whether there is only one completion, so that a count of tokens is its own.
    """
    more = as_object(fields.get("meta_info"))
    reason = next((each for name in FINISH_KEYS if (each := fields.get(name, more.get(name))) is not None), None)
    facts: dict[str, Any] = {"finish_reason": to_finish_reason(reason)}
    if of_one:
        facts["num_tokens"] = _num_tokens(fields, more, fields.get("usage"))
    return {name: each for name, each in facts.items() if each is not None}


def to_finish_reason(value: Any) -> str | None:
    """Return ``length`` or ``stop``, however it is written; another text as it stands."""
    if isinstance(value, Mapping):
        value = cast("Mapping[str, Any]", value).get("type")
    if not isinstance(value, str):
        return None
    word = value.rpartition(".")[2].casefold()  # FinishReason.MAX_TOKENS
    return "length" if word in _CUT else "stop" if word in _ENDED else value


def as_object(value: Any) -> Columns:
    """Return an object as it is, and an empty one for anything else."""
    return cast("Columns", value) if isinstance(value, Mapping) else {}


def error_text(value: Any) -> str | None:
    """Return what an error says, in one line; ``None`` where there is none."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        inner = next((fields[name] for name in ("message", "error", "code", "type") if fields.get(name)), None)
        return error_text(inner) if inner is not None else (str(dict(fields)) if fields else None)
    return " ".join(str(value).split())[:300] if value not in (None, "", False) else None


def are_parts(value: Any) -> bool:
    """Return whether a value is a list of the parts of one message."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, Mapping) and "type" in part for part in cast("list[Any]", value))
    )


def _from_object(value: Mapping[str, Any]) -> dict[str, Any]:
    message = value.get("message")
    if isinstance(message, Mapping):
        rest = {name: each for name, each in value.items() if name != "message"}
        return rest | _from_message(cast("Mapping[str, Any]", message)) | facts_of(value)
    if "role" in value or thoughts_apart(value) or are_parts(value.get("content")):
        return dict(value) | _from_message(value) | facts_of(value)
    found = next((value[name] for name in TEXT_KEYS if value.get(name) is not None), None)
    if isinstance(found, str):
        return dict(value) | {"text": found} | facts_of(value)
    if found is not None:
        return dict(value) | to_completion(found) | facts_of(value)
    if error := error_text(value.get("error")):
        return dict(value) | {"text": None, "error": error}
    if any(name in value for name in TEXT_KEYS):
        return dict(value) | {"text": None}
    return dict(value) | {"text": None, "defect": f"a completion is {dict(value)!r:.60}; expected its text"}


def _from_message(message: Mapping[str, Any] | list[Any]) -> dict[str, Any]:
    """Return what a message says, or the last of several by the assistant; one without content says nothing."""
    turns = cast("list[Mapping[str, Any]]", message if isinstance(message, list) else [message])
    role = _role(turns[-1])
    if role is not None and role not in ANSWERING:
        return {"text": None, "defect": f"the conversation ends with the role {role!r}, without a response"}
    said = [turn for turn in turns if turn.get("type") not in _THOUGHT_PARTS]
    last = said[-1] if said else {}
    content = last.get("content", last.get("value"))
    has_thoughts = thoughts_apart(last) or len(said) < len(turns)
    if isinstance(content, list):
        parts = cast("list[Any]", content)
        has_thoughts |= any(isinstance(part, Mapping) and part.get("type") in _THOUGHT_PARTS for part in parts)
    if content is None:
        content = next((last[name] for name in TEXT_KEYS if isinstance(last.get(name), str)), "")
    text = response_text({"content": content})
    if text is None:
        return {"text": None, "defect": f"the content of a message is {content!r:.60}; expected its text"}
    return {"text": text} | ({"reasoning_content": last.get("reasoning_content") or ""} if has_thoughts else {})


def _role(turn: Mapping[str, Any]) -> str | None:
    role = turn.get("role", turn.get("from"))
    return None if role is None else str(role).casefold()


def _num_tokens(*places: Any) -> int | None:
    for place in places:
        known = as_object(place)
        for name in _LENGTH_KEYS:
            if type(known.get(name)) is int:
                return known[name]
        for name in _ID_LIST_KEYS:
            if isinstance(known.get(name), list):
                return len(known[name])
    return None
