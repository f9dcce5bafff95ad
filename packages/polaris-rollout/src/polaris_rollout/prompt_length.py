"""Prompts that leave no room for an answer are refused by name."""

from collections.abc import Mapping

from polaris_rollout.errors import PromptTooLongError


def check_lengths(lengths: Mapping[str, int], *, context: int, max_tokens: int | None) -> None:
    """Refuse prompts that leave no room for an answer: for ``max_tokens``, or for one token.

    Args:
        lengths: Tokens of each prompt, by problem.
        context: Longest prompt and completion together, in tokens.
        max_tokens: Longest completion.

    Raises:
        PromptTooLongError: Naming the prompts, their lengths, and the context they need.
    """
    answer = max_tokens or 1
    if too_long := {key: length for key, length in lengths.items() if length > context - answer}:
        examples = ", ".join(f"{key!r} ({length} tokens)" for key, length in list(too_long.items())[:5])
        raise PromptTooLongError(
            f"{len(too_long)} of {len(lengths)} prompts leave no room for {answer} answer tokens in a context of "
            f"{context}: {examples}{', ...' if len(too_long) > 5 else ''}; raise --context to "
            f"{max(too_long.values()) + answer}, lower --max-tokens, or remove them"
        )
