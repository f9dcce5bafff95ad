"""The custom reward function that verl calls: ``custom_reward_function.path`` is the path of this file."""

import logging
from functools import lru_cache
from typing import Any, TypedDict

from polaris_reward.convention import convention_named
from polaris_reward.errors import ReferencesError
from polaris_reward.finding.references import to_references
from polaris_reward.grader import grade
from polaris_reward.records import Outcome

logger = logging.getLogger(__name__)

MAX_PRED_CHARS = 200
"""verl puts the answers of a batch into one array, each as wide as the longest."""


class Score(TypedDict):
    """What verl collects from each completion; every one has the same keys, as its arrays need."""

    score: float
    """1.0 or 0.0; what is trained on."""

    acc: bool
    """Whether the answer is correct; verl reports its mean."""

    outcome: str
    """An `Outcome`, written with the completion where verl dumps them."""

    pred: str
    """The answer, by which verl takes majority votes; empty if there is none."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: dict[str, Any] | None = None,
    *,
    policy: str = "boxed",
    prefilled: str = "",
    **kwargs: Any,
) -> Score:
    """Grade one completion, from any thread or Ray worker; each process has one set of workers.

    verl needs a number for each completion and has no way to leave one out, so that a reference that cannot be
    read scores 0.0. Its whole group then scores alike, which has no advantage and teaches nothing; the outcome
    is ``reference_rejected``, and the reference is logged once as a warning.

    Args:
        data_source: Not used.
        solution_str: What the model wrote.
        ground_truth: The accepted answer, or a list of them: strings or numbers.
        extra_info: Not used.
        policy: Name of a convention; set it with ``custom_reward_function.reward_kwargs``.
        prefilled: What the chat template puts in front of every completion, such as ``<think>``; set like ``policy``,
            since verl gives the completion alone.
        kwargs: Not used.

    Raises:
        ReferencesError: If the ground truth is something else: the data set was prepared in another way.
        SettingsError: If there is no such convention.
    """
    convention = convention_named(policy)
    # A list in a Parquet file arrives as a numpy array.
    references = to_references(ground_truth.tolist() if hasattr(ground_truth, "tolist") else ground_truth)
    if not references:
        raise ReferencesError(f"reward_model.ground_truth is {ground_truth!r}; give an answer or a list of answers")
    result = grade(prefilled + solution_str, references, convention=convention)
    if result.outcome is Outcome.REFERENCE_REJECTED:
        _warn(references)
    return Score(
        score=result.reward,
        acc=result.outcome is Outcome.CORRECT,
        outcome=result.outcome.value,
        pred=(result.answer or "")[:MAX_PRED_CHARS],
    )


@lru_cache(maxsize=4096)
def _warn(references: tuple[str, ...]) -> None:
    """Log once for each reference; the completions of a group, and later epochs, have the same one."""
    logger.warning("reference %r cannot be read, its completions score 0; see polaris-reward check", references)
