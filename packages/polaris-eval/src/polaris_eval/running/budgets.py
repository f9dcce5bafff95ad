"""Token budgets: which ones, and what a completion cut to one would have been: its first tokens, decoded again."""

from collections.abc import Callable, Sequence
from typing import Any

from polaris_rollout import ModelError

from polaris_eval.errors import SettingError
from polaris_eval.running.protocol import model_folder

Decode = Callable[[Sequence[int]], str]
"""From token ids to text, special tokens left out."""

PUBLISHED_BUDGETS = tuple(1024 * thousands for thousands in (32, 48, 64, 80, 96))
"""Of the published scaling curve, in tokens."""


def default_budgets(longest: int | None) -> tuple[int, ...]:
    """Return the published budgets that are below the longest completion allowed, or sixths of it where none is.

    Args:
        longest: In tokens; ``None`` if nobody knows.
    """
    if longest is None:
        return PUBLISHED_BUDGETS
    published = tuple(budget for budget in PUBLISHED_BUDGETS if budget < longest)
    return published or tuple(sorted({longest * part // 6 for part in range(1, 6)} - {0}))


def parse_budgets(text: str) -> tuple[int, ...]:
    """Read ``32768,49152`` as budgets, ascending; ``none`` is none.

    Raises:
        SettingError: If a part is not a positive whole number.
    """
    parts = [] if text.strip() == "none" else text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise SettingError(f"--budgets is {text!r}; give token counts like 32768,49152, or none")
    return tuple(sorted({int(part) for part in parts}))


def open_decoder(model: str, *, endpoints: Sequence[str] = ()) -> Decode | None:
    """Return the decoder of a model's own tokenizer; ``None`` where its files are not on this machine."""
    try:
        folder = model_folder(model, endpoints=endpoints)
    except ModelError:
        return None
    if folder is None:
        return None
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)

    def decode(token_ids: Sequence[int]) -> str:
        return tokenizer.decode(list(token_ids), skip_special_tokens=True)

    return decode


def cut_texts(token_ids: Sequence[int], budgets: Sequence[int], decode: Decode) -> dict[str, str]:
    """Return the text of a completion at each budget that is shorter than it, by budget."""
    return {str(budget): decode(token_ids[:budget]) for budget in budgets if budget < len(token_ids)}
