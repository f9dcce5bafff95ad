"""From a user turn to the tokens that the model sees."""

from typing import Any


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
