"""The verdict for a resources server of NeMo-Gym: what its ``verify`` adds to the request that it answers."""

from typing import Any, TypedDict

from polaris_reward.convention import BOXED, Convention
from polaris_reward.errors import ReferencesError
from polaris_reward.finding.references import to_references
from polaris_reward.grader import shared_grader
from polaris_reward.messages import field_of, response_text
from polaris_reward.records import Outcome

REFERENCE_FIELDS = ("expected_answer", "answer", "references", "ground_truth")
"""Names of the request's field with the accepted answers; the first that is there counts."""


class Verdict(TypedDict):
    """Fields of a verify response besides those of its request."""

    reward: float
    """1.0 or 0.0."""

    mask_sample: bool
    """Whether the reward says nothing about the model: the accepted answer cannot be read."""

    outcome: str
    """An `Outcome`."""

    extracted_answer: str | None
    """The answer."""


async def verify(body: Any, *, policy: Convention = BOXED, prefilled: str = "") -> Verdict:
    """Grade the response of a verify request, without keeping the event loop waiting.

    Args:
        body: The request: ``response`` holds the items of a Responses API output, of which the last message counts, and
            one of `REFERENCE_FIELDS` the accepted answer or a list of them.
        policy: What counts as an answer.
        prefilled: What the chat template puts in front of every response, such as ``<think>``, where the server of the
            model leaves thoughts in the text.

    Raises:
        ReferencesError: If the request has no accepted answer.
    """
    name = next((name for name in REFERENCE_FIELDS if field_of(body, name) is not None), None)
    if name is None:
        wanted = " or ".join(map(repr, REFERENCE_FIELDS))
        raise ReferencesError(f"the request needs a field {wanted} with the accepted answer; add it to the task")
    references = to_references(field_of(body, name))
    if not references or not all(references):
        raise ReferencesError(f"field {name!r} is {field_of(body, name)!r}; give an answer or a list of answers")
    items = field_of(field_of(body, "response"), "output") or ()
    messages = [item for item in items if field_of(item, "type") in (None, "message")]
    text = prefilled + (response_text(messages) or "")
    (grade,) = await shared_grader().agrade_many([(text, references)], convention=policy)
    return Verdict(
        reward=grade.reward,
        mask_sample=grade.outcome is Outcome.REFERENCE_REJECTED,
        outcome=grade.outcome.value,
        extracted_answer=grade.answer,
    )
