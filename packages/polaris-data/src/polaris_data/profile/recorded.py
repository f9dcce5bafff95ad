"""Completions as others record them: training logs, results of evaluations, rows of any script.

A row holds completions as `polaris_data.completions` reads them, or only how many of them were correct. It names its
problem by the id or by the question, alone or in its prompt. A grade that is recorded is taken as it is; an answer
without one is graded as what it is after a prompt that ends with an opening think tag, where the row holds such a
prompt.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_reward import Outcome, ThinkEvidence, prefilled_think, thoughts_apart

from polaris_data.completions.by_names import TEXT_COLUMNS, VERDICT_COLUMNS
from polaris_data.completions.readers import to_sampled
from polaris_data.completions.sampled import FINISH_KEYS, to_finish_reason
from polaris_data.completions.set_aside import SetAside, put_textless_aside, put_unreadable_aside
from polaris_data.errors import ProblemFileError
from polaris_data.problems.columns import find
from polaris_data.problems.conversion import take_fields, to_statement, to_text
from polaris_data.problems.prompts import bare_question, to_question
from polaris_data.problems.published import published_rate
from polaris_data.problems.rows import Row
from polaris_data.records import Problem

logger = logging.getLogger(__name__)

_VERDICTS = {"true": Outcome.CORRECT, "1": Outcome.CORRECT, "1.0": Outcome.CORRECT} | dict.fromkeys(
    ("false", "0", "0.0", "-1", "-1.0"), Outcome.INCORRECT
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One completion of one problem, as far as it is known."""

    problem_id: str
    """Of the problem set."""

    place: str
    """Where it stands."""

    text: str | None = None
    """What the model wrote, after what of it the prompt supplied."""

    outcome: Outcome | None = None
    """Its grade; ``None`` if it has to be graded."""

    num_tokens: int | None = None
    """Its length."""

    is_truncated: bool = False
    """Whether the token budget ended it."""


def read_recorded(
    rows: Iterable[Row], problems: Mapping[str, Problem], *, opened: str = ""
) -> Iterator[Answer | SetAside]:
    """Yield the completions of rows; those without a response, and rows that cannot be read, are set aside.

    Args:
        rows: Of one file.
        problems: By their ids.
        opened: What the chat template opened before every answer, where a row does not say it; see `opening_tag`.

    Raises:
        ProblemFileError: If a row cannot be used, or is of a problem that is not among these.
    """
    by_question = {
        question.strip(): problem_id
        for problem_id, problem in problems.items()
        for question in (bare_question(problem.question), problem.question)
    }
    for row in rows:
        yield from _from_row(row, problems, by_question, opened)


def opening_tag(answers: Iterable[Answer], path: Path) -> str:
    """Return the think tag that the chat template opened before every answer, if they show that it did."""
    evidence = ThinkEvidence()
    for answer in answers:
        if answer.outcome is None:
            evidence.add(answer.text or "", "length" if answer.is_truncated else None)
    tag = evidence.opening_tag()
    if tag and evidence.num_unclosed:
        logger.warning(
            "%s: %d of %d "
            "completions never close the %s that the chat template opened: they were cut in thought and have no answer",
            path,
            evidence.num_unclosed,
            evidence.num_responses,
            tag,
        )
    return tag


def other_problems(place: str, problem_id: str) -> ProblemFileError:
    """Return what to say of completions of a problem that is not among those given."""
    return ProblemFileError(
        f"{place}: completions of {problem_id!r}, which is not among the problems; give the problems (and the "
        "--limit) that were sampled"
    )


def _from_row(
    row: Row, problems: Mapping[str, Problem], by_question: Mapping[str, str], opened: str
) -> Iterator[Answer | SetAside]:
    if row.defect is not None:
        yield put_unreadable_aside(row, row.defect)
        return
    try:
        sampled = to_sampled(row.columns)
    except ValueError as error:
        yield put_unreadable_aside(row, str(error))
        return
    if sampled.is_request:
        return
    problem_id = _identify(row, sampled.problem, problems, by_question)
    prefilled = prefilled_think(sampled.prompts) or opened
    for number, completion in enumerate(sampled.completions, start=1):
        place = row.place if len(sampled.completions) == 1 else f"{row.place}, completion {number}"
        if completion["text"] is None and _to_outcome(completion, place) is None:
            yield put_textless_aside(row, completion, place=place)
        else:
            yield _to_answer(completion, place, problem_id, prefilled)
    if sampled.completions:
        return
    if find(row.columns, *VERDICT_COLUMNS) is None and (rate := published_rate(row.columns)):
        num_correct, num_samples = rate
        for sample in range(num_samples):
            outcome = Outcome.CORRECT if sample < num_correct else Outcome.INCORRECT
            yield Answer(problem_id=problem_id, place=row.place, outcome=outcome)
    else:
        yield _to_answer(row.columns, row.place, problem_id, prefilled)


def _identify(
    row: Row, columns: Mapping[str, Any], problems: Mapping[str, Problem], by_question: Mapping[str, str]
) -> str:
    """Find out which problem a row is of: by its id, else by its question; the columns are those of the problem."""
    fields = take_fields(columns)
    name, question = to_text(fields.problem_id), to_question(fields.question)
    if name is not None and name in problems:
        if question is not None and problems[name].question.strip() not in (question, to_statement(fields)):
            known = problems[name].question.strip()
            if known not in question:
                raise ProblemFileError(
                    f"{row.place}: {name!r} is another problem there: its question is {question!r:.60}, here "
                    f"{problems[name].question!r:.60}; give the problems that were sampled"
                )
        return name
    for text in (question, to_statement(fields)):
        if text is not None and text.strip() in by_question:
            return by_question[text.strip()]
    if name is None and question is None:
        found = ", ".join(map(repr, row.columns))
        raise ProblemFileError(f"{row.place}: no 'problem_id' or 'question' says which problem it is of; found {found}")
    raise other_problems(row.place, name or f"{question:.40}")


def _to_answer(columns: Mapping[str, Any], place: str, problem_id: str, prefilled: str) -> Answer:
    text, outcome = columns.get("text"), _to_outcome(columns, place)
    if text is None and outcome is None:
        raise ProblemFileError(
            f"{place}: neither an answer ({', '.join(map(repr, TEXT_COLUMNS))}) nor its grade "
            f"({', '.join(map(repr, VERDICT_COLUMNS))}) nor a pass rate with its number of tries; "
            f"found {', '.join(map(repr, columns))}"
        )
    num_tokens, token_ids = columns.get("num_tokens"), columns.get("token_ids")
    return Answer(
        problem_id=problem_id,
        place=place,
        text=text if text is None or thoughts_apart(columns) else str(columns.get("prefilled") or prefilled) + text,
        outcome=outcome,
        num_tokens=len(token_ids) if isinstance(token_ids, list) else num_tokens if type(num_tokens) is int else None,
        is_truncated=to_finish_reason(find(columns, *FINISH_KEYS)) == "length",
    )


def _to_outcome(columns: Mapping[str, Any], place: str) -> Outcome | None:
    for name in VERDICT_COLUMNS:
        value = find(columns, name)
        if value is None:
            continue
        if value in tuple(Outcome):
            return Outcome(value)
        if str(value).casefold() in _VERDICTS:
            return _VERDICTS[str(value).casefold()]
        expected = "true, false, 1, 0, -1" if name != "outcome" else ", ".join(Outcome)
        raise ProblemFileError(
            f"{place}: {name!r} is {value!r}; expected one of {expected}; without that column the answers are graded"
        )
    return None
