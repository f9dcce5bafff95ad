"""The reward function that TRL's ``GRPOTrainer`` calls: ``GRPOTrainer(reward_funcs=accuracy_reward, ...)``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polaris_reward.convention import BOXED, Convention
from polaris_reward.errors import ReferencesError
from polaris_reward.finding.prefilled import prefilled_think
from polaris_reward.finding.references import to_references
from polaris_reward.grader import shared_grader
from polaris_reward.messages import response_text
from polaris_reward.records import Outcome

REFERENCE_COLUMNS = ("solution", "answer", "references", "ground_truth")
"""Names of a data set's column of accepted answers; the first that is there counts."""

Message = Mapping[str, Any]


def accuracy_reward(
    completions: Sequence[str | Sequence[Message]],
    *,
    policy: Convention = BOXED,
    prefilled: str = "",
    prompts: Sequence[object] = (),
    log_extra: Callable[[str, list[Any]], None] | None = None,
    **columns: Any,
) -> list[float | None]:
    """Reward each completion that gives the accepted answer.

    All calls of a process share one `Grader`, so that its workers start once in a run.

    Args:
        completions: Texts, or lists of messages, of which the last one of the assistant counts.
        policy: What counts as an answer. For another one give TRL a function of your own that passes it on: TRL
            reports a reward under its function's ``__name__``, which a ``functools.partial`` lacks.
        prefilled: What the chat template puts in front of every completion, such as ``<think>``: TRL passes prompts
            of messages without it.
        prompts: Given by the trainer, one for each completion; a text may end with an opening think tag.
        log_extra: Given by the trainer; receives the columns ``extracted`` and ``outcome`` of its completions table.
        columns: The data set's columns, one value for each completion. One of `REFERENCE_COLUMNS` holds
            the accepted answers, each a string, a number, or a list of them; ``None`` if there is nothing to grade.

    Returns:
        1.0 if the answer is correct, else 0.0; ``None``, which the trainer leaves out of its group, if there is
        no reference or it cannot be read.

    Raises:
        ReferencesError: If there is no such column, or one of its values is something else.
        CircuitBreakerError: If too much of the batch could not be graded; training on it would teach nothing.
    """
    references = _references(columns)
    opened = [prefilled or prefilled_think(prompt) for prompt in prompts] or [prefilled] * len(completions)
    texts = [tag + (response_text(one) or "") for tag, one in zip(opened, completions, strict=True)]
    items = [(text, accepted) for text, accepted in zip(texts, references, strict=True) if accepted]
    remaining = iter(shared_grader().grade_many(items, convention=policy))
    grades = [next(remaining) if accepted else None for accepted in references]
    if log_extra is not None:
        log_extra("extracted", [grade and grade.answer for grade in grades])
        log_extra("outcome", [grade and grade.outcome.value for grade in grades])
    return [None if grade is None or grade.outcome is Outcome.REFERENCE_REJECTED else grade.reward for grade in grades]


def _references(columns: Mapping[str, Any]) -> list[tuple[str, ...] | None]:
    name = next((name for name in REFERENCE_COLUMNS if name in columns), None)
    if name is None:
        wanted = " or ".join(map(repr, REFERENCE_COLUMNS))
        found = ", ".join(repr(column) for column, values in columns.items() if isinstance(values, list)) or "no column"
        raise ReferencesError(f"the data set needs a column {wanted} with the accepted answers; it has {found}")
    return [None if value is None else _accepted(name, value) for value in columns[name]]


def _accepted(name: str, value: object) -> tuple[str, ...]:
    accepted = to_references(value)
    if not accepted:
        raise ReferencesError(f"column {name!r} holds {value!r}; give an answer or a list of answers")
    return accepted
