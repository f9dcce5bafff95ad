"""From a conversation to token sequences, and which of their tokens the assistant says.

What is learned after a prompt is what the model would have to sample there: every turn of the assistant follows the
tokens that an engine gives the model for that turn, which is the chat template with its generation prompt, and ends
with the token that ends a turn. No tag in the template is needed: a turn is what the template adds to the prompt.

Templates that drop earlier thoughts from the history, as Qwen3's does, give a turn another context later on than at the
time when it was said. Such turns become sequences of their own; turns that a later one has in its context token for
token share its sequence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError

from polaris_train.errors import TrainError
from polaris_train.sft.marks import template_mark

ASSISTANT = "assistant"

_TEXTS = ("content", "reasoning_content")
"""What of a turn is text."""


class UnusableTraceError(TrainError, ValueError):
    """A conversation that nothing can be learned from; the message is the reason, the same for all of its kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """One sequence and what is learned of it."""

    token_ids: tuple[int, ...]
    """[L] all that the model reads."""

    spans: tuple[tuple[int, int], ...]
    """Beginning and end of every turn of the assistant in it, the token that ends the turn included."""


@dataclass(frozen=True, slots=True)
class _Turn:
    prompt: str
    """What stands before a turn of the assistant, the generation prompt included."""

    answer: str
    """What the template adds to it for the turn."""


class Conversations:
    """Turns conversations into sequences with the chat template of a model."""

    def __init__(self, tokenizer: Any, *, stop_token_ids: Sequence[int]) -> None:
        """Remember the template.

        Args:
            tokenizer: A Hugging Face tokenizer with a chat template.
            stop_token_ids: Tokens with which the model ends its turn.

        Raises:
            UnusableTraceError: If the tokenizer has no chat template or does not say where its tokens stand.
        """
        if tokenizer.chat_template is None:
            raise UnusableTraceError("the tokenizer has no chat template; save one with it (chat_template.jinja)")
        if not tokenizer.is_fast:
            raise UnusableTraceError(
                "the tokenizer does not say where tokens stand; save its fast form (tokenizer.json)"
            )
        self._tokenizer = tokenizer
        self._stop = {*stop_token_ids, tokenizer.eos_token_id} - {None}
        special = {str(each) for each in tokenizer.added_tokens_decoder.values() if each.special}
        self._special = sorted(special | set(tokenizer.all_special_tokens))
        self._own = {str(each) for each in tokenizer.added_tokens_decoder.values()}

    def learn(self, messages: Any) -> list[Learned]:
        """Return what is learned from a conversation.

        Args:
            messages: Turns with ``role`` and ``content`` and whatever else the template knows.

        Raises:
            UnusableTraceError: If it is no conversation, nobody answers in it, or the template does not show a turn of
                the assistant as what follows its generation prompt.
        """
        turns = self._turns(self._checked(messages))
        return _joined([self._tokens(turn) for turn in turns])

    def _checked(self, messages: Any) -> list[dict[str, Any]]:
        if not isinstance(messages, Sequence) or isinstance(messages, str) or not len(messages):
            raise UnusableTraceError("no 'messages': a list of turns with role and content")
        checked: list[dict[str, Any]] = []
        for turn in messages:
            if not isinstance(turn, Mapping) or not isinstance(turn.get("role"), str):
                raise UnusableTraceError("a turn without a role; write it as {'role': ..., 'content': ...}")
            if not all(isinstance(turn.get(name) or "", str) for name in _TEXTS):
                raise UnusableTraceError("the content of a turn is no text")
            said = [str(turn.get(name) or "") for name in (*_TEXTS, "tool_calls")]
            if turn["role"] == ASSISTANT and not any(each.strip() for each in said):
                raise UnusableTraceError("the assistant says nothing in a turn, which would teach to end at once")
            for each in (turn["role"], *said):
                self._require_plain(each)
            checked.append({name: value for name, value in turn.items() if value is not None})
        if not any(turn["role"] == ASSISTANT for turn in checked):
            raise UnusableTraceError(f"no turn of the role {ASSISTANT!r}, so there is nothing to learn")
        if checked[0]["role"] == ASSISTANT:
            raise UnusableTraceError(f"it begins with the role {ASSISTANT!r}, before there is anything to answer")
        return checked

    def _require_plain(self, text: str) -> None:
        """Refuse what a chat template has put into a text, of this model or of another."""
        for token in self._special:
            if token in text:
                raise UnusableTraceError(
                    f"its text holds {token!r}, which a chat template puts there; give the plain text of each turn"
                )
        mark = template_mark(text, own=self._own)
        if mark is not None:
            raise UnusableTraceError(
                f"its text holds {mark!r}, a mark of another chat template; give the plain text of each turn"
            )

    def _turns(self, messages: list[dict[str, Any]]) -> list[_Turn]:
        turns: list[_Turn] = []
        for index, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            prompt = self._render(messages[:index], asks=True)
            whole = self._render(messages[: index + 1], asks=False)
            if not whole.startswith(prompt):
                raise UnusableTraceError(
                    "the chat template does not show the assistant's turn as what follows its generation prompt; use a "
                    "template that keeps the whole turn, thoughts included"
                )
            turns.append(_Turn(prompt, whole.removeprefix(prompt)))
            _require_whole(message, prompt, turns[-1].answer)
            silent = {**message, "tool_calls": None}
            if message.get("tool_calls") and self._render([*messages[:index], silent], asks=False) == whole:
                raise UnusableTraceError(
                    "the chat template leaves out the assistant's tool_calls; use one that has them"
                )
        return turns

    def _render(self, messages: list[dict[str, Any]], *, asks: bool) -> str:
        try:
            return self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=asks)
        except (TemplateError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise UnusableTraceError(f"the chat template refuses it ({reason:.120})") from error

    def _tokens(self, turn: _Turn) -> Learned:
        """Encode the prompt as an engine does, and after it the turn as it is encoded where it stands."""
        prompt = self._encode(turn.prompt)
        encoded = self._tokenizer(turn.prompt + turn.answer, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = encoded["input_ids"]
        end = encoded["offset_mapping"][len(prompt) - 1][1] if len(prompt) <= len(ids) else -1
        if ids[: len(prompt)] != prompt or end > len(turn.prompt):
            # A token across the border, which no engine could sample: the turn is encoded by itself.
            ids = prompt + self._encode(turn.answer)
            if self._tokenizer.decode(ids, clean_up_tokenization_spaces=False) != turn.prompt + turn.answer:
                raise UnusableTraceError("the tokenizer joins the prompt and the assistant's turn into other tokens")
        stops = [place for place in range(len(prompt), len(ids)) if ids[place] in self._stop]
        after = ids[stops[-1] + 1 :] if stops else ids
        if not stops or self._tokenizer.decode(after).strip():
            names = ", ".join(repr(self._tokenizer.decode([each])) for each in sorted(self._stop))
            raise UnusableTraceError(
                f"the chat template does not end the assistant's turn with {names}, so the model would not learn to "
                "stop; correct the template, or eos_token_id in generation_config.json"
            )
        end = stops[-1] + 1
        return Learned(token_ids=tuple(ids[:end]), spans=((len(prompt), end),))

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


def _joined(turns: Sequence[Learned]) -> list[Learned]:
    """Put turns into one sequence where the later one has the earlier one in its context token for token."""
    joined: list[Learned] = []
    for turn in turns:
        earlier = joined[-1] if joined else None
        if earlier is not None and turn.token_ids[: len(earlier.token_ids)] == earlier.token_ids:
            joined[-1] = replace(turn, spans=earlier.spans + turn.spans)
        else:
            joined.append(turn)
    return joined


def _require_whole(message: Mapping[str, Any], prompt: str, answer: str) -> None:
    """Refuse a template that leaves out a part of what the assistant says or thinks; space between words may change."""
    said = _squeezed(prompt[-_PREFILL:]) + _squeezed(answer)
    for name in _TEXTS:
        if _squeezed(str(message.get(name, ""))) not in said:
            raise UnusableTraceError(
                f"the chat template leaves out a part of the assistant's {name}; use one that keeps the whole turn"
            )


_PREFILL = 32
"""Characters of a generation prompt in which a turn may have begun, such as an opening think tag."""


def _squeezed(text: str) -> str:
    return "".join(text.split())
