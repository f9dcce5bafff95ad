r"""Questions that are no single problem: tasks that ask for a proof, and questions of several parts.

References are alternatives, any of which is right, so the answers to several parts cannot be several references: half
an answer would count. They are set aside, or kept as one reference, the tuple of all of them: ``(5, 6)``.
"""

import re

from polaris_data.problems.answers import Reason, is_sentence

# "(1) Find the range of f. (2) Find its maximum." asks twice; a list of conditions asks once, at its end.
_PART = re.compile(
    r"(?:^|(?<=[\s.;:,>$]))\$?\(\s*(?P<bracketed>[a-h]|[1-9]|i{1,3}|iv|v)\s*\)\$?(?=[\s\\$A-Z])"
    r"|^\s*(?P<bare>[a-h]|[1-9])[.)]\s",
    re.MULTILINE,
)
_SECOND_LABELS = ("b)", "2)", "ii)", "b.", "2.")
_FIRST_LABELS = (("a", "b"), ("1", "2"), ("i", "ii"))
# A question mark, or an imperative: "If we write them in order" asks for nothing.
_REQUEST = re.compile(
    r"\?|(?:[.,;:>$\n]|\b(?:and|then|please|try to))\s*(?:find|determine|compute|calculate|evaluate|solve|simplify|use"
    r"|prove|express|write|describe|state|draw|complete)\b",
    re.IGNORECASE,
)
_ANSWER_PART = re.compile(r"(?:^|[\s,;.$])\((a|b|i|ii|1|2)\)(?=[\s\\$])")

_ANSWER_LABEL = re.compile(r"(?:^|(?<=[\s,;.$]))\((?:[a-h]|[1-9]|i{1,3}|iv|v)\)(?=[\s\\$])")

_PROVE = re.compile(r"\bprove\b|\bshow that\b", re.IGNORECASE)
_ASKS_FOR_A_VALUE = re.compile(
    r"\?|\b(?:find|determine|compute|calculate|evaluate|what|how|which|who|when|where|value|express|solve|simplify|use"
    r"|give|number of|maximum|minimum|smallest|largest|list|name|answer|state|choose)\b",
    re.IGNORECASE,
)


def refuse_parts(question: str, references: tuple[str, ...]) -> tuple[str, ...] | Reason:
    """Return the references, or why the problem cannot be trained on although it has a question and an answer."""
    return refusal(question, references) or references


def join_parts(question: str, references: tuple[str, ...]) -> tuple[str, ...] | Reason:
    """Return the references as `refuse_parts` does; of several parts, with one answer to each, the tuple of these.

    The answers are labelled in one reference, ``(a) 5, (b) 6``, or are as many references as there are parts.
    """
    reason = refusal(question, references)
    if reason is not Reason.SEVERAL_PARTS:
        return reason or references
    answers = list(references) if len(references) > 1 else _labelled("".join(references))
    if len(answers) < 2 or _num_requests(question) not in (0, len(answers)) or not all(map(_is_one_value, answers)):
        return reason
    return (f"({', '.join(answers)})",)


def refusal(question: str, references: tuple[str, ...]) -> Reason | None:
    """Return why a problem cannot be trained on although it has a question and an answer.

    A question that only asks for a proof has no answer that could be compared, whatever its answer column says.
    Of a question with several parts that each ask for something, an answer is at most one.
    """
    folded = question.lower()
    if (
        ("prove" in folded or "show that" in folded)
        and _PROVE.search(question)
        and not _ASKS_FOR_A_VALUE.search(question)
    ):
        return Reason.PROOF
    if _num_requests(question) > 1 or any(_names_parts(reference) for reference in references):
        return Reason.SEVERAL_PARTS
    return None


def _num_requests(question: str) -> int:
    """Count the labelled parts that ask for something; 0 without labels that start a list."""
    if not any(label in question for label in _SECOND_LABELS):  # spares most questions the slower search
        return 0
    parts = list(_PART.finditer(question))
    labels = tuple(part["bracketed"] or part["bare"] for part in parts[:2])
    if labels not in _FIRST_LABELS:
        return 0
    ends = [*(part.start() for part in parts[1:]), len(question)]
    texts = (question[part.end() : end] for part, end in zip(parts, ends, strict=True))
    return sum(bool(_REQUEST.search(f".{text}")) for text in texts)


def _names_parts(reference: str) -> bool:
    return tuple(_ANSWER_PART.findall(reference)[:2]) in _FIRST_LABELS


def _labelled(reference: str) -> list[str]:
    """Return the answers behind the labels of a reference."""
    labels = list(_ANSWER_LABEL.finditer(reference))
    ends = [*(label.start() for label in labels[1:]), len(reference)]
    return [reference[label.end() : end].strip(" \n\t,;.$") for label, end in zip(labels, ends, strict=False)]


def _is_one_value(answer: str) -> bool:
    """Return whether an answer can stand in a tuple: nothing but a value, without a comma outside brackets."""
    bare = re.sub(r"[(\[{][^()\[\]{}]*[)\]}]", "", answer)
    return bool(answer) and not is_sentence(answer) and not re.search(r",(?!\d{3}\b)|;|\b(?:and|or)\b", bare)
