"""From a user turn to the tokens that the model sees, and whether they leave room for an answer."""

from collections.abc import Mapping
from typing import Any

from polaris_rollout.errors import PromptTooLongError


def encode_prompt(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Put the chat template and the generation prompt around a user turn.

    Args:
        tokenizer: A Hugging Face tokenizer; without a chat template the text itself is encoded.
        text: The turn as a person would type it.
    """
    if tokenizer.chat_template is None:
        return tuple(tokenizer.encode(text))
    chat: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    return tuple(tokenizer.encode(chat, add_special_tokens=False))


def check_lengths(lengths: Mapping[str, int], *, context: int, max_tokens: int | None = None) -> None:
    """Refuse prompts that leave no room for an answer: for ``max_tokens``, or for one token.

    Args:
        lengths: Tokens of each prompt, chat template included, by problem.
        context: Longest prompt and completion together, in tokens.
        max_tokens: Longest completion; ``None`` fills the context.

    Raises:
        PromptTooLongError: Naming the prompts, their lengths, and the context they need.
    """
    answer = max_tokens or 1
    if too_long := {problem_id: length for problem_id, length in lengths.items() if length > context - answer}:
        examples = ", ".join(f"{key!r} ({length} tokens)" for key, length in list(too_long.items())[:5])
        raise PromptTooLongError(
            f"{len(too_long)} of {len(lengths)} prompts leave no room for {answer} answer tokens "
            f"in a context of {context}: {examples}{', ...' if len(too_long) > 5 else ''}; raise "
            f"--context to {max(too_long.values()) + answer}, lower --max-tokens, or remove them"
        )
