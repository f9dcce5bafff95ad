"""From a row to a problem: which column is which field, and what its value means.

Every row of every source goes this way, whether it is read or imported; `polaris_data.problems.importing` only
refuses more. A row that `polaris_data.problems.reading.write_problems` or our export wrote is taken as it stands, so
that a file of problems is read back as it was. A row that was refused is for the caller to speak about.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from polaris_data.files.documents import are_turns
from polaris_data.problems.answers import Reason, is_sentence, number_as_text, to_references
from polaris_data.problems.choices import Choice, choices_of, chosen, with_choices, with_context
from polaris_data.problems.columns import (
    DEFAULT_COLUMNS,
    LABEL_COLUMNS,
    SOLUTION_COLUMNS,
    Columns,
    bare_name,
    find,
    has_any,
    structured,
    take,
)
from polaris_data.problems.prompts import ANSWERING, ASKING, bare_question, needs_a_picture, to_question, turns_of
from polaris_data.problems.rows import Row
from polaris_data.records import Problem

AnswerFrom = Literal["answer", "solution"]
"""Where answers are: in the column of answers, and in a solution where there is none; or always in the solution."""

CHAT_COLUMNS = ("messages", "conversations", "conversation", "dialogue", "chat")
"""Where a row may hold a whole conversation."""

INDEX_COLUMNS = ("answer_index", "answer_idx", "correct_index", "gold_index", "correct_option", "correct")
"""Which of the choices is right; means nothing without choices."""

GRADE_COLUMNS = ("score", "reward", "outcome", "correct", "is_correct", "acc")
"""Beside an answer they say that it is a model's, which may be wrong, and no solution."""

_NUM_SHOWN = 5
"""Names of columns that a message shows."""

_INVALID = frozenset({"no", "false", "0", "incomplete", "problem not solved", "invalid"})


class Fields(NamedTuple):
    """A row taken apart."""

    problem_id: Any
    question: Any
    """As it was."""

    references: Any
    """The answer, or the solution, as it was."""

    source: Any
    extra: dict[str, Any]
    """Every other column; a solution from which the answer is taken stays among them."""

    choices: list[Choice] | str | None = None
    """What there is to choose from."""

    is_solution: bool = False
    """Whether ``references`` is a worked solution."""

    is_ours: bool = False
    """Whether `write_problems` wrote the row."""

    reason: Reason | None = None
    """Why it can be no problem, whatever its fields hold."""

    remark: Reason | None = None
    """Why it is none to train on, by what the row says about itself; heeded when importing."""


def keep_sentences(value: Any, *, is_solution: bool) -> tuple[str, ...] | Reason:
    """Return the accepted answers; what is no answer but a sentence, where it stands for one, as it is."""
    references = to_references(value, is_solution=is_solution)
    return as_written(value) if references is Reason.SENTENCE and not is_solution else references


def as_written(value: Any) -> tuple[str, ...] | Reason:
    """Return one answer or a list of them as text; a reason when any of them cannot be used."""
    answers = [to_text(answer) for answer in (value if isinstance(value, list) else [value])]
    return tuple(answer for answer in answers if answer) if all(answers) and answers else Reason.NO_ANSWER


def accept_any(question: str, references: tuple[str, ...]) -> tuple[str, ...] | Reason:
    """Refuse no problem that has a question and an answer."""
    return references


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How the rows of one source become problems."""

    label: str
    """What problems without a source of their own say where they are from."""

    columns: Columns = DEFAULT_COLUMNS
    """Where the fields stand."""

    answer_from: AnswerFrom = "answer"
    """Which column the answer is taken from."""

    references: Callable[..., tuple[str, ...] | Reason] = keep_sentences
    """Reads the answers, given what stands there and ``is_solution``."""

    stored: Callable[[Any], tuple[str, ...] | Reason] = as_written
    """Reads the references of a row that `write_problems` wrote."""

    check: Callable[[str, tuple[str, ...]], tuple[str, ...] | Reason] = accept_any
    """Returns the references of a question, or says why it is no problem with these."""

    heeds_remarks: bool = False
    """Whether a row with a `Fields.remark` is refused."""

    own_ids: bool = True
    """Whether the ids of the source count, where it has any; else they are made from the content."""

    prefix: str = ""
    """Goes before an id of the source."""


def to_problem(fields: Fields, conversion: Conversion) -> Problem | Reason:
    """Return the problem that a row is, or why it is none."""
    question = fields.question if fields.is_ours else to_statement(fields)
    if fields.reason is not None:
        return fields.reason
    if fields.remark is not None and conversion.heeds_remarks:
        return fields.remark
    if not isinstance(question, str) or not question.strip():
        return Reason.NO_QUESTION
    references = accepted_answers(fields, conversion)
    if not isinstance(references, Reason):
        references = conversion.check(question, references)
    if isinstance(references, Reason):
        return references
    own_id = to_text(fields.problem_id) if conversion.own_ids else None
    return Problem(
        problem_id=f"{conversion.prefix}{own_id}" if own_id else content_id(question, references),
        question=question,
        references=references,
        source=conversion.label if fields.source is None else str(fields.source),
        extra=fields.extra,
    )


def to_statement(fields: Fields) -> str | None:
    """Return the question with what belongs to it, its context and its choices, and without a prompt's requests."""
    text = to_question(fields.question)
    if text is None:
        return None
    question = with_context(fields.extra, bare_question(text))
    return question if fields.choices is None else with_choices(question, fields.choices)


def accepted_answers(fields: Fields, conversion: Conversion) -> tuple[str, ...] | Reason:
    """Return the references of a row, whether or not it has a question; or why it gives none."""
    if fields.is_ours:
        return conversion.stored(fields.references)
    choices, value = fields.choices, fields.references
    if not isinstance(choices, list):
        return conversion.references(value, is_solution=fields.is_solution)
    is_stated = value is not None and not fields.is_solution
    index = None if is_stated else find(fields.extra, *INDEX_COLUMNS)
    if index is not None:
        reference = chosen(index, choices, is_index=True)
    elif is_stated:
        reference = chosen(value[0] if isinstance(value, list) and len(value) == 1 else value, choices)
    else:
        stated = conversion.references(value, is_solution=fields.is_solution)
        reference = stated if isinstance(stated, Reason) else chosen(stated[0], choices)
    return reference if isinstance(reference, Reason) else (reference,)


def content_id(question: str, references: tuple[str, ...]) -> str:
    """Return an id that is the same wherever the same question stands with the same references."""
    return f"p-{hashlib.sha256(repr((question, references)).encode()).hexdigest()[:16]}"


def source_name(source: str | Path) -> str:
    """Return what a problem without a source of its own says where it is from: a file's name, or the data set."""
    return Path(source).name if Path(source).exists() else str(source)


def take_fields(
    row: Mapping[str, Any], where: Columns = DEFAULT_COLUMNS, *, answer_from: AnswerFrom = "answer"
) -> Fields:
    """Take a row apart into the values of a problem's fields, and every column left over."""
    columns = _from_export(row)
    is_ours = isinstance(columns.get("references"), list) and "question" in columns
    reason = None
    if not is_ours:
        columns, reason = _unfold(columns, where)
    problem_id, question = take(columns, where.problem_id), take(columns, where.question)
    remark = None if is_ours else _remark(columns, question, answer_from=answer_from)
    references, is_solution = _take_answer(columns, where, answer_from)
    if is_solution and has_any(columns, GRADE_COLUMNS) and not has_any(columns, SOLUTION_COLUMNS[:3]):
        reason = reason or Reason.GRADED_RESPONSE
    source = take(columns, where.source)
    nested = columns.pop("extra", None)  # as `write_problems` writes it
    extra = columns if nested is None else {**_as_mapping(nested), **columns}
    reason = None if is_ours else reason
    choices = None if is_ours else choices_of(extra)
    return Fields(problem_id, question, references, source, extra, choices, is_solution, is_ours, reason, remark)


def to_text(value: Any) -> str | None:
    """Return text or a number as text without white space around it; ``None`` for anything else."""
    if isinstance(value, str):
        return value.strip() or None
    return number_as_text(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def missing_column(row: Row, what: Literal["question", "reference"], where: Columns) -> str | None:
    """Say that a row has none of the columns that may hold a field, and which it has; ``None`` if it has one."""
    others = () if what == "question" else (*where.solutions, *LABEL_COLUMNS, *INDEX_COLUMNS)
    candidates = where.question if what == "question" else where.references
    if row.defect or has_any(row.columns, (*candidates, *others, *CHAT_COLUMNS)):
        return None
    more = ", ..." if len(candidates) > _NUM_SHOWN else ""
    expected = ", ".join(repr(name) for name in candidates[:_NUM_SHOWN]) + more
    found = ", ".join(repr(name) for name in row.columns)
    return f"{row.place}: no {what}: expected a value in one of the columns {expected}; found {found}"


def _take_answer(columns: dict[str, Any], where: Columns, answer_from: AnswerFrom) -> tuple[Any, bool]:
    """Take the answer out of the columns; a solution, by its name or text, stays there. Say which it is by name."""
    if answer_from == "answer":
        for name in where.references:
            if (value := find(columns, name)) is None:
                continue
            is_solution = bare_name(name) in _SOLUTION_NAMES
            if not is_solution and not (isinstance(value, str) and is_sentence(value)):
                take(columns, (name,))
            return value, is_solution
        if has_any(columns, where.references):
            return None, False
        if not has_any(columns, where.solutions):
            return take(columns, LABEL_COLUMNS), False
    return find(columns, *where.solutions), True


_SOLUTION_NAMES = frozenset(map(bare_name, SOLUTION_COLUMNS))


def _unfold(columns: dict[str, Any], where: Columns) -> tuple[dict[str, Any], Reason | None]:
    """Put what a conversation asks and answers, or an instruction and its input, into columns of their own."""
    if find(columns, *where.question) is None and are_turns(chat := structured(find(columns, *CHAT_COLUMNS))):
        return _from_chat({name: value for name, value in columns.items() if name not in CHAT_COLUMNS}, chat)
    instruction, given = find(columns, "instruction"), find(columns, "input")
    if isinstance(instruction, str) and isinstance(given, str) and find(columns, *where.question) == instruction:
        for name in ("instruction", "input"):
            take(columns, (name,))
        return {**columns, "question": f"{instruction}\n{given}".strip()}, None
    return columns, None


def _from_chat(columns: dict[str, Any], chat: list[dict[str, Any]]) -> tuple[dict[str, Any], Reason | None]:
    turns = [(turn, role, text) for turn, (role, text) in zip(chat, turns_of(chat), strict=True)]
    asked = [turn for turn, role, _ in turns if role in ASKING]
    answered = [(turn, text) for turn, role, text in turns if role in ANSWERING]
    if asked:
        columns["question"] = asked[-1:]
    if answered:
        turn, text = answered[-1]
        truth = find(turn, "ground_truth")
        if truth is not None:
            columns["answer"] = truth
        elif not has_any(columns, SOLUTION_COLUMNS):
            columns["solution"] = text
    return columns, Reason.SEVERAL_TURNS if len(asked) > 1 else None


def _remark(columns: Mapping[str, Any], question: Any, *, answer_from: AnswerFrom) -> Reason | None:
    """Return why a row is no problem to train on by what its source says of it."""
    if needs_a_picture(columns, question):
        return Reason.PICTURE
    if str(find(columns, "question_type")).casefold() == "proof":
        return Reason.PROOF
    marks = ("problem_is_valid", *(["solution_is_valid"] if answer_from == "solution" else []))
    return Reason.MARKED_INVALID if any(str(find(columns, mark)).casefold() in _INVALID for mark in marks) else None


def _from_export(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's columns; of one that our export wrote for verl, those that the problem had before."""
    info = columns.get("extra_info")
    if isinstance(info, dict) and "problem_id" in info and "references" in info:
        return {name: info[name] for name in ("problem_id", "question", "references", "source", "extra")}
    return dict(columns)


def _as_mapping(value: Any) -> dict[str, Any]:
    """Return ``extra`` as a mapping: it is one, or the JSON text of one, as parquet files have it."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {"extra": value}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {"extra": value}
