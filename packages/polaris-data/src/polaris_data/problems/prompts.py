r"""The question inside a prompt: out of chat messages and chat templates, and without another recipe's request.

A request such as "Please reason step by step, and put your final answer within \boxed{}." is no part of a problem:
training would add its own to it.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Any, cast

from polaris_data.files.documents import are_turns
from polaris_data.problems.columns import structured

ASKING = frozenset({"user", "human", "prompter", "question"})
"""Roles of whoever asks."""

ANSWERING = frozenset({"assistant", "gpt", "model", "bot", "chatbot", "answer"})
"""Roles of whoever answers."""

_IMAGE = re.compile(r"<image(?:_?\d+)?>|<img\b|!\[[^\]]*\]\([^)]*\)|\\includegraphics|<\|(?:image|vision)[^|>]*\|>")

_TURN = re.compile(
    r"(?:<\|im_start\|>user\n|<\|start_header_id\|>user<\|end_header_id\|>|<｜User｜>|<start_of_turn>user\n|<\|user\|>"
    r"|\[INST\]|### Instruction:\n"
    r"|(?:\A|\n|\. )(?:user\n(?=.*\nassistant\n)|(?:Human|User): ?(?=.*(?:\n|\s)Assistant:)))"
    r"(?P<question>.*?)"
    r"(?:<\|(?:im_end|eot_id|end|assistant)\|>|<｜(?:Assistant|end▁of▁sentence)｜>|<end_of_turn>|\[/INST\]"
    r"|\n+### Response:|\nassistant\n|\sAssistant:|\Z)",
    re.DOTALL,
)
_TEMPLATES = ("<|", "<｜", "<start_of_turn>", "[INST]", "assistant", "Assistant:", "### Instruction:")

_LABEL = re.compile(r"\A\s*(?:Question|Problem|Q)\s*:\s*(?=\S)|(?<=\S)\s*\n\s*(?:Answer|Solution|A)\s*:\s*\Z")
"""What stands around a question in a prompt of examples."""

_MARK = re.compile(
    r"\\boxed|\\fbox|#{4}|step[- ]by[- ]step|一步一步|逐步|<answer>|<think>|\bAnswer: ?\\?\$|\"Answer:|on its own line"
    r"|answer[^.]*\b(?:in|inside|within) (?:a |the )?box\b",
    re.IGNORECASE,
)
_IMPERATIVE = re.compile(
    r"(?:(?:and|then|also|finally|first|at|in|when|after|once|for|before)\b[^,.]{0,40}[,:]? )?"
    r"(?:请|让我们|并?[将把]|(?:please|let'?s|let us|think|reason|solve the (?:following|given|problem)|put|output"
    r"|present|give|return|write|provide|make sure|remember|your|the (?:last|final)|be (?:sure|careful)|ensure"
    r"|do(?: not|n't) forget|the answer (?:should|must)|enclose|box|end|answer|you (?:must|should|will|need)|finish"
    r"|conclude|show your|wrap|place|format|respond|explain your|report|submit|state|mark|work|note that)\b)",
    re.IGNORECASE,
)
_OF_AN_ANSWER = re.compile(r"answer|respon[ds]|result|solution|final|output|结果|答案", re.IGNORECASE)

_LEFT_OVER = re.compile(
    r"answer[^.\n]{0,60}\\boxed|\\boxed[^.\n]{0,40}answer|\\boxed\{\s*\}|<\|\w|<｜|\[INST\]|</?(?:think|answer)>",
    re.IGNORECASE,
)

_OPENER = re.compile(
    r"(?:please |your task is to )?(?:solve|answer) (?:the following|this|a|the) (?:math(?:ematics|ematical)? )?"
    r"(?:problem|question)(?: carefully| below)?[.:]?",
    re.IGNORECASE,
)
"""Says nothing; taken off where a request stands beside it."""

_FORM = re.compile(
    r"\b(?:decimal|fraction|round|nearest|simplif\w*|digit|significant|lowest|modulo|remainder|unit)", re.IGNORECASE
)
"""A request that also says what the answer looks like belongs to the problem."""

_SENTENCE_END = re.compile(r"(?<=[.!?])(?=\s|[A-Z])|(?<=[。！？])|\n")


def to_question(value: Any) -> str | None:
    """Return the question: text, or the last thing that is asked in a chat, as it stands there; else ``None``.

    A chat is a list of turns (``role`` and ``content``, or ``from`` and ``value``), or the text of one. Content that
    is a list of parts is their text.
    """
    value = structured(value)
    if are_turns(value):
        value = next((text for role, text in reversed(turns_of(value)) if role in ASKING), None)
    return value if isinstance(value, str) and value.strip() else None


def turns_of(value: Any) -> list[tuple[str, str | None]]:
    """Return the role and the text of each turn of a chat."""
    return [
        (str(turn.get("role", turn.get("from"))).casefold(), _content(turn))
        for turn in cast("list[dict[str, Any]]", value)
    ]


@lru_cache(maxsize=4096)  # the samples of a problem have the same prompt
def bare_question(text: str) -> str:
    """Take a question out of its chat template, and requests for a form of the answer off its ends.

    A text that consists of requests alone, or has none, stays as it is. Doing this twice changes nothing.
    """
    while (bare := _LABEL.sub("", _without_requests(_user_turn(text)))) != text:
        text = bare
    return text


def keeps_a_request(question: str) -> bool:
    r"""Return whether a question still speaks of ``\boxed{}`` or holds tokens of a chat template."""
    return bool(_LEFT_OVER.search(question))


def needs_a_picture(columns: Mapping[str, Any], question: Any) -> bool:
    """Return whether a row shows a picture: in a column of that name, in the question, or as a part of a message."""
    if any(columns[name] not in (None, "", False, [], {}, _NO_PICTURE) for name in _picture_columns(tuple(columns))):
        return True
    if isinstance(question, str) and _IMAGE.search(question):
        return True
    turns = structured(question)
    if not are_turns(turns):
        return False
    parts = [part for turn in turns if isinstance(turn.get("content"), list) for part in turn["content"]]
    return any(isinstance(part, dict) and "image" in str(part.get("type", part.keys())) for part in parts) or any(
        _IMAGE.search(text or "") for _, text in turns_of(turns)
    )


_PICTURE_COLUMN = re.compile(
    r"(?:decoded_)?(?:image|img|picture|photo)s?(?:_?\d+)?(?:_(?:path|url|file|name|bytes)s?)?", re.IGNORECASE
)
_NO_PICTURE = {"bytes": None, "path": None}


@lru_cache(maxsize=1024)
def _picture_columns(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if _PICTURE_COLUMN.fullmatch(name)]


def _content(turn: Mapping[str, Any]) -> str | None:
    value = next((turn[name] for name in ("content", "value", "text") if turn.get(name) is not None), None)
    if isinstance(value, list):
        texts = [part.get("text") if isinstance(part, dict) else part for part in cast("list[Any]", value)]
        value = "\n".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else None


def _user_turn(text: str) -> str:
    if not any(token in text for token in _TEMPLATES):
        return text
    turns = [found["question"].strip() for found in _TURN.finditer(text)]
    return turns[-1] if turns and turns[-1] else text


def _without_requests(text: str) -> str:
    if not _MARK.search(text):
        return text
    cuts = [0, *(found.end() for found in _SENTENCE_END.finditer(text)), len(text)]
    sentences = [(start, end) for start, end in pairwise(cuts) if text[start:end].strip()]
    while sentences and _is_request(text[slice(*sentences[-1])]):
        sentences.pop()
    while sentences and _is_request(text[slice(*sentences[0])]):
        sentences.pop(0)
    return text[sentences[0][0] : sentences[-1][1]].strip() if sentences else text


def _is_request(sentence: str) -> bool:
    words = sentence.strip(" \t\n*_-(\"'")
    if _OPENER.fullmatch(words):
        return True
    if not _MARK.search(words) or not _IMPERATIVE.match(words) or _FORM.search(words):
        return False
    return words.count("boxed") + words.count("fbox") == 0 or bool(_OF_AN_ANSWER.search(words))  # else it fills boxes
