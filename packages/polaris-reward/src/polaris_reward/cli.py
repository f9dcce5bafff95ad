"""The command ``polaris-reward``: grade responses, and check that references can be graded at all."""

import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from polaris_reward.errors import RewardError, RowsFileError

if TYPE_CHECKING:
    from polaris_reward.grader import Grader
    from polaris_reward.policy import Policy
    from polaris_reward.records import Grade
    from polaris_reward.rows import Row

PROBE = r"\boxed{27182818284590452}"
"""An answer that is spelled like no reference: whoever rejects the reference then cannot read it."""

BATCH = 256
"""Rows graded together; memory stays constant however long the file is."""

app = typer.Typer(
    help="""Grade mathematical answers, with no way for one of them to hang or crash the grader.

    Reads and writes JSON lines; say --help after a command for the fields.

    Example: polaris-reward grade responses.jsonl --out grades.jsonl
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NumWorkers = Annotated[int | None, typer.Option(help="Most worker processes; one per CPU, four at most, if not given.")]
DeadlineS = Annotated[float, typer.Option(help="Seconds that one answer may take.")]
MemoryGib = Annotated[float, typer.Option(help="Memory that one worker may take, in GiB.")]


@app.command("grade")
def grade_command(
    responses: Annotated[Path, typer.Argument(metavar="RESPONSES.jsonl")],
    out: Annotated[Path | None, typer.Option(help="Write grades here instead of standard output.")] = None,
    require_think: Annotated[
        bool, typer.Option("--require-think", help="A response without </think> has no answer.")
    ] = False,
    num_workers: NumWorkers = None,
    deadline_s: DeadlineS = 5.0,
    memory_gib: MemoryGib = 1.0,
) -> None:
    r"""Grade each response of a file of JSON lines against its references.

    Reads, in each row: the response ('response', 'completion' or 'output'), and the accepted answer or a list
    of them ('references', 'reference', 'answer' or 'ground_truth'). Of several names the first one counts.

    Writes, for each row: 'line', the row's 'problem_id' or 'id', 'outcome', 'reward', 'answer', 'reference',
    'seconds'. A table of the outcomes goes to standard error.

    Example: polaris-reward grade responses.jsonl --out grades.jsonl
    """
    from polaris_reward.grader import Grader
    from polaris_reward.policy import Policy
    from polaris_reward.rows import read_rows

    if out is not None and out.exists() and out.samefile(responses):
        raise RowsFileError(f"{out}: is the file to read; give --out another name")
    policy = Policy(require_think=require_think)
    outcomes: Counter[str] = Counter()
    with (
        Grader(num_workers, deadline_s=deadline_s, memory_gib=memory_gib) as grader,
        _result_file(out) as file,
    ):
        for row, grade in _graded(read_rows(responses), grader, policy):
            outcomes[grade.outcome] += 1
            file.write(json.dumps(_to_record(row, grade)) + "\n")
    _print_outcomes(outcomes)


@app.command("check")
def check_command(
    problems: Annotated[Path, typer.Argument(metavar="PROBLEMS.jsonl")],
    num_workers: NumWorkers = None,
    deadline_s: DeadlineS = 5.0,
    memory_gib: MemoryGib = 1.0,
) -> None:
    r"""Check that every reference, put into a box, is accepted as its own answer.

    A problem whose reference fails this rewards no response, and teaches a model that nothing is right.

    Reads, in each row: 'references', 'reference', 'answer' or 'ground_truth' (an answer or a list of them),
    and 'problem_id' or 'id' if there is one.

    Lists references on standard output, one a line, tab-separated: file:line, id, what is wrong, reference.
    Wrong is an outcome such as 'reference_rejected', or 'spelling_only': the reference is accepted, but the
    grader cannot read a meaning in it, so that an answer must be spelled like it. Exit status: 0 if all are
    accepted, 1 if some are not, 2 if the file is at fault.

    Example: polaris-reward check problems.jsonl
    """
    from polaris_reward.grader import Grader
    from polaris_reward.rows import read_rows

    counts: Counter[str] = Counter()
    with Grader(num_workers, deadline_s=deadline_s, memory_gib=memory_gib) as grader:
        for row, reference, finding in _checked(read_rows(problems), grader):
            counts[finding] += 1
            if finding != "accepted":
                name = next(iter(row.identity.values()), "")
                print(row.where, name, finding, json.dumps(reference), sep="\t")
    num_accepted = counts["accepted"] + counts["spelling_only"]
    print(
        f"{num_accepted} of {counts.total()} references are accepted as their own answer, "
        f"{counts['spelling_only']} of them by their spelling only",
        file=sys.stderr,
    )
    if num_accepted < counts.total():
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except RewardError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        # Whoever read the results has had enough; Python must not complain about it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def _graded(rows: "Iterable[Row]", grader: "Grader", policy: "Policy") -> "Iterator[tuple[Row, Grade]]":
    for batch in _batches(rows):
        items = [(row.response(), row.references()) for row in batch]
        yield from zip(batch, grader.grade_many(items, policy=policy), strict=True)


def _checked(rows: "Iterable[Row]", grader: "Grader") -> "Iterator[tuple[Row, str, str]]":
    """Yield each reference with ``accepted``, ``spelling_only``, or the outcome that was not ``correct``."""
    from polaris_reward.extract import unbox
    from polaris_reward.records import Outcome

    for batch in _batches(rows):
        pairs = [(row, reference) for row in batch for reference in row.references(allow_blank=True)]
        own = grader.grade_many([(rf"\boxed{{{unbox(text)}}}", [text]) for _, text in pairs])
        probed = grader.grade_many([(PROBE, [text]) for _, text in pairs])
        for (row, reference), as_own, as_probe in zip(pairs, own, probed, strict=True):
            if as_own.outcome is not Outcome.CORRECT:
                yield row, reference, as_own.outcome
            elif as_probe.outcome is Outcome.REFERENCE_REJECTED:
                yield row, reference, "spelling_only"
            else:
                yield row, reference, "accepted"


def _batches(rows: "Iterable[Row]") -> "Iterator[list[Row]]":
    remaining = iter(rows)
    while batch := list(islice(remaining, BATCH)):
        yield batch


def _to_record(row: "Row", grade: "Grade") -> dict[str, object]:
    return {
        "line": row.line,
        **row.identity,
        "outcome": grade.outcome,
        "reward": grade.reward,
        "answer": grade.answer,
        "reference": grade.reference,
        "seconds": round(grade.seconds, 6),
    }


@contextmanager
def _result_file(out: Path | None) -> Generator[TextIO]:
    """Open standard output, or a temporary file that takes its name once everything has been written."""
    if out is None:
        yield sys.stdout
        return
    if out.is_dir():
        raise RowsFileError(f"{out}: is a folder; give --out the name of a file")
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


def _print_outcomes(outcomes: Counter[str]) -> None:
    from polaris_reward.records import Outcome

    total = outcomes.total()
    for outcome in Outcome:
        print(f"{outcome:<20}{outcomes[outcome]:>8}{outcomes[outcome] / total:>8.1%}", file=sys.stderr)
    print(f"{'all':<20}{total:>8}", file=sys.stderr)
