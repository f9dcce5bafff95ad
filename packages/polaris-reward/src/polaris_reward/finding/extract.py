r"""Find the final answer of a response.

The text after the thinking is searched for, in this order: the last ``\boxed{}`` or ``\fbox{}``, ``<answer>`` tags, a
line ``#### answer``, an ``"answer"`` field of JSON, a phrase such as "the final answer is", and the last value of the
text. A box wins over everything else: when the last one is empty or unclosed, there is no answer. All of this takes
time linear in the length of the text.
"""

from polaris_reward.convention import DEFAULT, Convention
from polaris_reward.finding.boxes import Extracted, boxed_answer, first_box, last_box
from polaris_reward.finding.channels import THINK_CLOSE, THINK_OPEN, in_one_form, turn_parts


def final_answer(response: str, *, convention: Convention = DEFAULT) -> str | None:
    r"""Return what the response gives as its answer, or ``None``.

    Only the text after the last ``</think>`` counts, and nothing after a ``<think>`` that never closes. The last box
    wins; a box within a box is part of the outer one. There is no answer when the last box is empty, or when it never
    closes: then the response was cut, and an earlier box is not its answer.

    Args:
        response: What the model wrote, without the prompt.
        convention: Whether an answer may stand without a box, and without ``</think>``.
    """
    found = find_answer(response, convention=convention)
    return None if found is None else found.text


def find_answer(response: str, *, convention: Convention = DEFAULT) -> Extracted | None:
    """Return the final answer of a response with where it was found; see `final_answer`."""
    _, close, rest = in_one_form(response).rpartition(THINK_CLOSE)
    if convention.require_think and not close:
        return None
    text = _until_next_turn(rest.partition(THINK_OPEN)[0])
    if first_box(text):
        return boxed_answer(text)
    if convention.require_box:
        return None
    # Prompts ask for boxes; the patterns for everything else are not loaded before they are needed.
    from polaris_reward.finding.prose import find_in_prose

    return find_in_prose(text)


def _until_next_turn(text: str) -> str:
    """Drop chat tokens, and what follows one: the model went on with the user's turn."""
    parts = turn_parts(text)
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return ""
    # The token may stand within a box: the stop string was printed before the closing brace.
    return "".join(parts) if first_box(parts[0]) and last_box(parts[0]) is None else parts[0]
