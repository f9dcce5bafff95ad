"""Marks of chat templates in what should be plain text: a trace that holds them was rendered for another model.

Such a mark is no special token of the model that is trained, so it would be learned letter by letter. Mathematics and
programs hold `|`, `<` and `[...]` too; only what is never either of these is a mark, and code that is quoted may show
anything.
"""

import re
from collections.abc import Collection

_QUOTED = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
"""Code in a text; a fence that is never closed is none."""

_MARK = re.compile(
    # <|eot_id|>, <｜end▁of▁sentence｜>, [|assistant|]: a name of more than three letters, since <|x|>, <|sin|> and
    # <|v_0|> are mathematics, or one of the few short ones. <|begin_of_thought|> is what answers of
    # Open-Thoughts and Sky-T1 say.
    r"<([|｜])(?!(?:begin|end)_of_(?:thought|solution)\|)/?(?:[A-Za-z]{2}[\w▁.-]{2,}|[be]o[mst]|end|pad|sep)\1>"
    r"|\[\|/?[a-z]{4,}\|\]"
    r"|\[/?INST\]|<</?SYS>>|\[/?SYSTEM_PROMPT\]|\[AVAILABLE_TOOLS\]|\[TOOL_CALLS\]|\[gMASK\]"
    r"|</?(?:start|end)_of_(?:turn|utterance)>|<\|turn>|<turn\|>"
)

_OPENS, _CLOSES = "<s>", "</s>"
"""Of Llama 2 and many after it, and of HTML, where the one strikes out what stands before the other."""

_FIRST, _LAST = (_OPENS, "<bos>"), (_CLOSES, "<eos>", "<pad>")
"""What a template puts around a whole text; elsewhere it is spoken of."""


def template_mark(text: str, *, own: Collection[str] = ()) -> str | None:
    """Return a mark of a chat template in a text, as it stands there; ``None`` if there is none.

    Args:
        text: What a turn says.
        own: Marks that the model itself says, such as those around a box.
    """
    bare = _QUOTED.sub(" ", text).strip()
    found = (match[0] for match in _MARK.finditer(bare))
    return next((mark for mark in (*found, *_around(bare)) if mark not in own), None)


def _around(text: str) -> list[str]:
    """Return what a template has put around a text; tags that strike out a part of it are none."""
    found = [mark for mark in _FIRST if text.startswith(mark)] + [mark for mark in _LAST if text.endswith(mark)]
    inside = text.removesuffix(_CLOSES)
    strikes = {
        _OPENS: 0 <= text.find(_CLOSES) < len(inside),
        _CLOSES: inside.rfind(_OPENS) > max(inside.rfind(_CLOSES), 0),
    }
    return [mark for mark in found if not strikes.get(mark)]
