"""How long a prompt is, as the model to be trained sees it."""

from polaris_rollout import prompt_counter

from polaris_data.problems.check import PromptLimit
from polaris_data.records import PROMPT_SUFFIX, to_prompt


def prompt_limit(model: str, max_tokens: int, *, suffix: str = PROMPT_SUFFIX) -> PromptLimit:
    """Return a limit that `polaris_data.problems.check_problems` takes.

    Args:
        model: A folder, a Hub id or a carried name.
        max_tokens: Of a prompt, chat template included.
        suffix: Appended to every question.

    Raises:
        ModelError: If there is no such model.
    """
    count = prompt_counter(model)
    return PromptLimit(
        max_tokens=max_tokens,
        count_tokens=lambda problem: count(to_prompt(problem, suffix=suffix)),
        model=model,
        suffix=suffix,
    )
