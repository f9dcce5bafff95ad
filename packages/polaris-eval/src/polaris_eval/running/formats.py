"""Files of completions from elsewhere, whoever wrote them, as groups of one problem each.

`polaris_data.completions` reads the rows; here the completions of one problem are put together, and what cannot be
graded is set aside with its reason.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from polaris_data import Problem
from polaris_data.completions import (
    LIST_COLUMNS,
    TEXT_COLUMNS,
    Sampled,
    SetAside,
    put_aside,
    put_textless_aside,
    put_unreadable_aside,
    to_sampled,
)
from polaris_data.files import track
from polaris_data.problems import (
    DEFAULT_COLUMNS,
    Conversion,
    Row,
    accepted_answers,
    count_rows,
    find,
    read_rows,
    take_fields,
    to_statement,
    to_text,
)
from polaris_reward import prefilled_think, thoughts_apart

from polaris_eval.errors import CompletionsFileError
from polaris_eval.running.joining import join_benchmark
from polaris_eval.running.parts import Part, Samples, group_parts

logger = logging.getLogger(__name__)

_GRADES = frozenset({-1, 0, 1})
"""Scores of which there are no others are grades: they say which completion is right, not which to choose."""

_CONVERSION = Conversion(label="")

_NUM_SHOWN = 5
"""Names that a message shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completions:
    """What files of completions hold."""

    groups: Sequence[dict[str, Any]]
    """For each problem, in order of appearance, ``problem_id``, ``question`` where it is known, ``references``, and
    ``completions``: each with ``text``, ``num_tokens`` and ``finish_reason`` (``None`` where the file does not say),
    and ``budgets``, ``score`` and ``prefilled`` where it has them; the last is the opening think tag that the prompt
    ended with, as far as the row tells."""

    set_aside: Sequence[SetAside]
    """Rows and completions that cannot be graded."""

    lost: Sequence[str]
    """Problems of which no completion is left to grade."""


def read_completions(
    *files: Path,
    benchmark: tuple[str, Sequence[Problem]] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> Completions:
    """Read files of completions; grades in them are not used.

    Args:
        files: As `polaris_data.problems.read_rows` takes them, in any shape of `polaris_data.completions.READERS`. A
            row holds one completion or several. Several files are parts of one set, or samples of the same problems.
        benchmark: Name and problems, which then say the accepted answers.
        where: Columns and the values that a row must have one of; other rows are passed over.

    Raises:
        CompletionsFileError: If no completion can be graded, the references of a problem differ, or the completions are
            of several models.
        DataError: If a file cannot be read.
    """
    reading = _Reading()
    parts = [part for file in files for part in _parts(file, where, reading)]
    parts = [_asked(part, reading.questions) for part in parts]
    if len(reading.steps) > 1:
        logger.warning(
            "the rows are of %d steps of a training: the score is a mean over as many models", len(reading.steps)
        )
    aside = reading.set_aside
    if benchmark is not None:
        parts, others = join_benchmark(parts, benchmark[1], benchmark=benchmark[0])
        missing = f"neither its question nor its id is one of {benchmark[0]}'s"
        aside += [_put(part, "not in the benchmark", missing) for part in others]
    _refuse_unknown(files, parts)
    samples = group_parts(parts)
    for each in samples:
        if each.references is None:
            aside += [_put(part, "no accepted answer", part.no_references) for part in each.parts if part.completions]
    groups = [_to_group(each) for each in samples if each.references is not None]
    groups = _without_grades([group for group in groups if group["completions"]])
    if not groups:
        raise _nothing(files, aside)
    graded = {group["problem_id"] for group in groups}
    asked = [each.problem_id for each in (samples if benchmark is None else benchmark[1])]
    return Completions(groups=groups, set_aside=aside, lost=[each for each in asked if each not in graded])


@dataclass(slots=True)
class _Reading:
    """What the rows have in common so far."""

    set_aside: list[SetAside] = field(default_factory=list[SetAside])
    questions: dict[str, str] = field(default_factory=dict[str, str])
    """By the ids of the requests of a batch."""
    model: str | None = None
    steps: set[int] = field(default_factory=set[int])


def _parts(file: Path, where: Mapping[str, Sequence[str]] | None, reading: _Reading) -> Iterator[Part]:
    rows = read_rows(file, split="train", revision=None, keep_broken=True)
    variants: list[str | None] = []
    for row in track(rows, total=count_rows(file), label=f"reading {file.name}"):
        if row.defect is not None:
            reading.set_aside.append(put_unreadable_aside(row, row.defect))
            continue
        if where and any(str(find(row.columns, name)) not in values for name, values in where.items()):
            continue
        try:
            sampled = to_sampled(row.columns)
        except ValueError as error:
            reading.set_aside.append(put_unreadable_aside(row, str(error)))
            continue
        # lm-eval repeats every completion for each of its filters.
        variants = variants or [sampled.variant]
        if sampled.variant not in variants:
            continue
        part = _to_part(row, sampled, reading)
        if sampled.is_request and part.problem_id is not None and part.question is not None:
            reading.questions[part.problem_id] = part.question
        elif not sampled.completions:
            reading.set_aside.append(put_aside(row, "no completion", _no_completion(row, sampled)))
        else:
            yield part


def _to_part(row: Row, sampled: Sampled, reading: _Reading) -> Part:
    _refuse_other_model(row, sampled, reading)
    if sampled.step is not None:
        reading.steps.add(sampled.step)
    fields = take_fields(sampled.problem)
    question = fields.question if fields.is_ours else to_statement(fields)
    prompt = None if question else find(sampled.problem, "prompt", "input", "prompt_token_ids")
    references = accepted_answers(fields, _CONVERSION)
    prefilled = prefilled_think(sampled.prompts)
    completions: list[dict[str, Any]] = []
    for number, each in enumerate(sampled.completions, start=1):
        place = row.place if len(sampled.completions) == 1 else f"{row.place}, completion {number}"
        if isinstance(each["text"], str):
            completions.append(_to_completion(each, prefilled))
        else:
            reading.set_aside.append(put_textless_aside(row, each, place=place))
    return Part(
        place=row.place,
        row=row.columns,
        problem_id=to_text(fields.problem_id),
        question=question if isinstance(question, str) and question.strip() else None,
        key=json.dumps(prompt, default=str) if isinstance(prompt, list | dict) else None,
        references=None if isinstance(references, str) else references,
        no_references=_no_references(row, fields.references, references),
        completions=completions,
        is_ours=sampled.is_ours,
    )


def _refuse_other_model(row: Row, sampled: Sampled, reading: _Reading) -> None:
    reading.model = reading.model or sampled.model
    if sampled.model not in (None, reading.model):
        column = next((name for name, value in row.columns.items() if value == sampled.model), "COLUMN")
        raise CompletionsFileError(
            f"{row.place}: completions of {sampled.model!r}, above of {reading.model!r}; give those of one model, or "
            f"choose it with --where '{column}={reading.model}'"
        )


def _asked(part: Part, questions: Mapping[str, str]) -> Part:
    """Return a part with the question that the requests of a batch have for its id."""
    question = questions.get(part.problem_id or "")
    return part if part.question or question is None else replace(part, question=question)


def _refuse_unknown(files: Sequence[Path], parts: Sequence[Part]) -> None:
    """Refuse several files whose rows may be of the same problems and do not say which; warn of one such file."""
    unknown = [part for part in parts if not (part.question or part.key or part.problem_id)]
    if unknown and len(files) > 1:
        raise CompletionsFileError(
            f"{unknown[0].place}: no question or id says which rows of the {len(files)} files are of one problem; give "
            "a column 'question' or 'id', or one file"
        )
    if sum(len(part.completions) == 1 for part in unknown) > 1:
        logger.warning(
            "%d rows have neither a question nor an id: each is taken for a problem of its own", len(unknown)
        )


def _to_group(samples: Samples) -> dict[str, Any]:
    return {
        "problem_id": samples.problem_id,
        **({} if samples.question is None else {"question": samples.question}),
        "references": list(samples.references or ()),
        "completions": [completion for part in samples.parts for completion in part.completions],
    }


def _to_completion(fields: Mapping[str, Any], prefilled: str) -> dict[str, Any]:
    known = "" if thoughts_apart(fields) else fields.get("prefilled") or prefilled or None
    num_tokens, reason, token_ids = fields.get("num_tokens"), fields.get("finish_reason"), fields.get("token_ids")
    score: Any = fields.get("score")
    if type(num_tokens) is not int:
        num_tokens = len(cast("list[Any]", token_ids)) if isinstance(token_ids, list) else None
    return {
        "text": fields["text"],
        "num_tokens": num_tokens,
        "finish_reason": reason if isinstance(reason, str) else None,
        **({"budgets": fields["budgets"]} if isinstance(fields.get("budgets"), Mapping) else {}),
        **({"score": score} if type(score) in (int, float) and math.isfinite(score) else {}),
        **({} if known is None else {"prefilled": str(known)}),
    }


def _without_grades(groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Take off scores that are grades: to choose by them would be to look up which completion is right."""
    scores = {each["score"] for group in groups for each in group["completions"] if "score" in each}
    if not scores or not scores <= _GRADES:
        return list(groups)
    logger.warning("the scores of the completions are grades (%s): nothing is chosen by them", _listed(sorted(scores)))
    return [
        group | {"completions": [{k: v for k, v in each.items() if k != "score"} for each in group["completions"]]}
        for group in groups
    ]


def _put(part: Part, reason: str, detail: str) -> SetAside:
    return SetAside(
        place=part.place, reason=reason, detail=detail, problem=part.problem_id or part.question, row=part.row
    )


def _no_completion(row: Row, sampled: Sampled) -> str:
    if sampled.problem is not row.columns:
        return "the row has no completion"
    return f"no completions under {_listed((*LIST_COLUMNS, *TEXT_COLUMNS))}; found {_listed(row.columns, all_of=True)}"


def _no_references(row: Row, value: Any, reason: object) -> str:
    if value is None:
        found = _listed(row.columns, all_of=True)
        return f"no accepted answer under {_listed(DEFAULT_COLUMNS.references)}; found {found}"
    return f"the accepted answer is {value!r:.60}: {reason}"


def _listed(names: Iterable[Any], *, all_of: bool = False) -> str:
    shown = [repr(name) for name in names]
    return (
        ", ".join(shown if all_of else [*shown[:_NUM_SHOWN], *(["..."] if len(shown) > _NUM_SHOWN else [])])
        or "nothing"
    )


def _nothing(files: Sequence[Path], aside: Sequence[SetAside]) -> CompletionsFileError:
    """Return what to say where no completion is left: why most of the rows were set aside, and the remedy."""
    if not aside:
        return CompletionsFileError(f"{files[0]}: holds no completions; give a file with at least one row")
    (reason, count), *_ = Counter(each.reason for each in aside).most_common()
    first = next(each for each in aside if each.reason == reason)
    more = f" (and {count - 1} more rows)" if count > 1 else ""
    return CompletionsFileError(f"{first.place}: {first.detail}{more}; {_REMEDIES[reason]}")


_REMEDIES = {
    "cannot be read": "correct the file, or export it again",
    "no completion": "rename the column that holds them, or give the file of another step of the tool",
    "error": "sample these again",
    "no response": "sample these again",
    "no accepted answer": "take the answers from a benchmark with --benchmark NAME or FILE, or add such a column",
    "not in the benchmark": "give the benchmark that was sampled",
}
"""What to do where nothing can be graded for one of these reasons."""
