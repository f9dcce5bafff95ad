"""The marks that chat formats put around thinking and answers, brought into one form.

Whatever a format calls its thinking, it becomes ``<think> ... </think>``, so that one rule decides what counts.
"""

import re

THINK_OPEN = "<think>"
THINK_CLOSE = "</think>"

_MARK = re.compile(r"<(?!/?think>)|◁|\[/?THINK\]", re.IGNORECASE)
_OPENS = re.compile(
    r"<(?:thinking|thought|thoughts|reasoning|seed:think|reason)>|\[THINK\]|◁think▷|<\|(?:begin_of_thought|START_THINKING"
    r"|thinking|begin_of_thinking|think_start|thought_begin)\|>|<\|channel\|>(?:analysis|commentary)[^<>]{0,60}<\|message\|>",
    re.IGNORECASE,
)
_CLOSES = re.compile(
    r"</(?:thinking|thought|thoughts|reasoning|seed:think|reason)>|\[/THINK\]|◁/think▷|<\|(?:end_of_thought|END_THINKING"
    r"|/thinking|end_of_thinking|think_end|thought_end)\|>|<\|channel\|>final[^<>]{0,60}<\|message\|>",
    re.IGNORECASE,
)
_AROUND_ANSWERS = re.compile(
    r"<\|(?:begin_of_solution|end_of_solution|START_RESPONSE|END_RESPONSE|begin_of_box|end_of_box)\|>", re.IGNORECASE
)
_ENDS = re.compile(r"(?:</s>|<eos>|<end_of_turn>|<end_of_text>|<EOT>).*", re.DOTALL)
_CHAT_TOKEN = re.compile(r"<[|｜][^<>|｜]{1,40}[|｜]>")


def in_one_form(response: str) -> str:
    """Return a response with the marks of all known formats written as ``<think>`` and ``</think>``."""
    if ("<" not in response and "◁" not in response and "THINK]" not in response) or not _MARK.search(response):
        return response
    response = _CLOSES.sub(THINK_CLOSE, _OPENS.sub(THINK_OPEN, response))
    return _AROUND_ANSWERS.sub("\n", response)


def turn_parts(text: str) -> list[str]:
    """Cut a text at the tokens that end a turn; blank parts are left out."""
    text = _ENDS.sub("", text)
    if "<|" not in text and "<｜" not in text:
        return [text]
    return [part for part in _CHAT_TOKEN.split(text) if part.strip()]
