"""Grade the responses of a file."""

import json
import sys
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from polaris_reward.convention import DEFAULT, Convention
from polaris_reward.errors import RowsFileError
from polaris_reward.files.lines import Row, RowsFile
from polaris_reward.finding.prefilled import ThinkEvidence
from polaris_reward.grader import Grader, Item
from polaris_reward.records import Grade, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedFile:
    """What became of the responses of a file."""

    counts: Mapping[Outcome, int]
    """Responses of each outcome, also of those that did not occur."""

    explanations: tuple[str, ...]
    """What was read and compared in the first ones that are not correct."""

    thinking: ThinkEvidence
    """Whether the chat template seems to have opened a thinking section in front of them."""


def grade_file(
    responses: RowsFile,
    out: Path | None,
    grader: Grader,
    *,
    convention: Convention = DEFAULT,
    num_explained: int = 0,
    prefilled: str = "",
    keep: Collection[Outcome] = (),
) -> GradedFile:
    """Grade each response of a file against its references, and write a line of JSON for each.

    Args:
        responses: Rows as `polaris_reward.files.lines.Row.item` reads them.
        out: Appears when it is complete; ``None`` for standard output.
        grader: One without a circuit breaker, which would end the file in the middle.
        convention: What counts as an answer.
        prefilled: Opening think tag that the chat template puts in front of every response, where a row does not tell.
        num_explained: How many responses that are not correct are explained.
        keep: Write the rows of these outcomes, as they are in the file, in place of all grades.

    Raises:
        RowsFileError: If a file cannot be read or written, or a row cannot be read and the file is strict.
    """
    if out is not None and out.exists() and responses.path.exists() and out.samefile(responses.path):
        raise RowsFileError(f"{out}: is the file to read; give --out another name")
    counts = dict.fromkeys(Outcome, 0)
    to_explain: list[tuple[Row, Item]] = []
    thinking = ThinkEvidence()
    with result_file(out) as file:
        for batch in responses.batches(partial(Row.item, prefilled=prefilled)):
            grades = grader.grade_many([item for _, item in batch], convention=convention)
            for (row, item), grade in zip(batch, grades, strict=True):
                counts[grade.outcome] += 1
                thinking.add(item[0], row.fields.get("finish_reason"))
                if not keep or grade.outcome in keep:
                    file.write(json.dumps(row.fields if keep else _to_record(row, grade)) + "\n")
                if grade.outcome is not Outcome.CORRECT and len(to_explain) < num_explained:
                    to_explain.append((row, item))
    explanations = (
        f"{row.where} {row.name}\n{grader.explain(*item, convention=convention)}" for row, item in to_explain
    )
    return GradedFile(counts=counts, explanations=tuple(explanations), thinking=thinking)


@contextmanager
def result_file(out: Path | None) -> Generator[TextIO]:
    """Open standard output, or a temporary file that takes its name once everything has been written.

    Raises:
        RowsFileError: If it cannot be written.
    """
    if out is None:
        yield sys.stdout
        return
    # A folder, or a device, which a file would replace.
    if out.exists() and not out.is_file():
        raise RowsFileError(f"{out}: is not a file; give --out the name of a file")
    temporary = out.with_name(f"{out.name}.tmp")
    try:
        file = temporary.open("w", encoding="utf-8")
    except OSError as error:
        raise RowsFileError(f"{out}: cannot be written ({error.strerror}); choose another --out") from None
    try:
        with file:
            yield file
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)


def _to_record(row: Row, grade: Grade) -> dict[str, object]:
    return {
        "line": row.line,
        **row.identity,
        "outcome": grade.outcome,
        "reward": grade.reward,
        "answer": grade.answer,
        "reference": grade.reference,
        "seconds": round(grade.seconds, 6),
    }
