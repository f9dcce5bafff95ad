"""The reward function that TRL's ``GRPOTrainer`` calls: ``GRPOTrainer(reward_funcs=accuracy_reward, ...)``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from polaris_reward.convention import DEFAULT, Convention
from polaris_reward.errors import ReferencesError
from polaris_reward.finding.references import to_references
from polaris_reward.grader import shared_grader
from polaris_reward.records import Outcome

REFERENCE_COLUMNS = ("solution", "answer", "references", "ground_truth")
"""Names of a data set's column of accepted answers; the first that is there counts."""

Message = Mapping[str, Any]


def accuracy_reward(
    completions: Sequence[str | Sequence[Message]],
    *,
    policy: Convention = DEFAULT,
    log_extra: Callable[[str, list[Any]], None] | None = None,
    **columns: Any,
) -> list[float | None]:
    """Reward each completion that gives the accepted answer.

    All calls of a process share one `Grader`, so that its workers start once in a run.

    Args:
        completions: Texts, or lists of messages, of which the last one counts if it is the assistant's.
        policy: What counts as an answer; set another one with ``functools.partial``.
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
    items = [(_text(one), accepted) for one, accepted in zip(completions, references, strict=True) if accepted]
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


def _text(completion: str | Sequence[Message]) -> str:
    if isinstance(completion, str):
        return completion
    # The output of a tool is not the model's answer.
    if not completion or completion[-1].get("role", "assistant") != "assistant":
        return ""
    content = completion[-1].get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text") or "" for part in content)
