"""How long a prompt is, as the model to be trained sees it."""

from polaris_rollout import encode_prompt, resolve_model

from polaris_data.problems.check import PromptLimit
from polaris_data.records import PROMPT_SUFFIX, Problem, to_prompt


def prompt_limit(model: str, max_tokens: int, *, suffix: str = PROMPT_SUFFIX) -> PromptLimit:
    """Return a limit that `polaris_data.problems.check_problems` takes.

    Args:
        model: A folder, a Hub id or a carried name.
        max_tokens: Of a prompt, chat template included.
        suffix: Appended to every question.

    Raises:
        ModelError: If there is no such model.
    """
    from transformers import AutoTokenizer  # seconds to import

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(model), model_max_length=10**9)  # it warns beyond it

    def count_tokens(problem: Problem) -> int:
        return len(encode_prompt(tokenizer, to_prompt(problem, suffix=suffix)))

    return PromptLimit(max_tokens=max_tokens, count_tokens=count_tokens, model=model, suffix=suffix)
