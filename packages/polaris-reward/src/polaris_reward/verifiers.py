"""The reward function for the ``verifiers`` library, which prime-rl trains with: ``Rubric(funcs=[correct_answer])``."""

import logging
from functools import lru_cache
from typing import Any

from polaris_reward.convention import BOXED, Convention
from polaris_reward.errors import ReferencesError
from polaris_reward.finding.prefilled import prefilled_think
from polaris_reward.finding.references import to_references
from polaris_reward.grader import shared_grader
from polaris_reward.messages import response_text
from polaris_reward.records import Outcome

logger = logging.getLogger(__name__)


async def correct_answer(
    completion: Any,
    answer: Any,
    prompt: Any = None,
    *,
    policy: Convention = BOXED,
    prefilled: str = "",
    **columns: Any,
) -> float:
    """Reward a rollout that gives the accepted answer, without keeping the event loop waiting.

    A rubric calls what it is given by the names of its parameters, and reports it under its ``__name__``: for other
    settings give it an async function of your own that passes them on.

    Args:
        completion: What the model wrote: a text or messages, of which the last one of the assistant counts.
        answer: The task's accepted answer, or a list of them.
        prompt: As the environment sent it; a text may end with an opening think tag.
        policy: What counts as an answer.
        prefilled: What the chat template puts in front of every completion, such as ``<think>``: an environment that
            sends messages does not know.
        columns: Not used.

    Returns:
        1.0 if the answer is correct, else 0.0, also for an answer that cannot be read, which is logged: a rubric has no
        way to leave a rollout out.

    Raises:
        ReferencesError: If there is no answer, or it is something else. A rubric logs it and takes 0.0.
    """
    references, text = to_references(answer), response_text(completion)
    if not references or not all(references):
        raise ReferencesError(f"the task's answer is {answer!r}; give an answer or a list of answers")
    opened = prefilled or prefilled_think(prompt)
    (grade,) = await shared_grader().agrade_many([(opened + (text or ""), references)], convention=policy)
    if grade.outcome is Outcome.REFERENCE_REJECTED:
        _warn(references)
    return grade.reward


@lru_cache(maxsize=4096)
def _warn(references: tuple[str, ...]) -> None:
    logger.warning("answer %r cannot be read, its rollouts earn 0; see polaris-reward check", references)
