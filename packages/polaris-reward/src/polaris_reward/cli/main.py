"""The command ``polaris-reward``: grade responses, and check that references can be graded at all."""

import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from polaris_reward.errors import RewardError, RowsFileError, SettingsError

if TYPE_CHECKING:
    from polaris_reward.grader import Grader, Item
    from polaris_reward.records import Grade
    from polaris_reward.rows import Row

PROBE = r"\boxed{27182818284590452}"
"""An answer that is spelled like no reference: whoever rejects the reference then cannot read it."""

T = TypeVar("T")

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

Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")]
NumWorkers = Annotated[int | None, typer.Option(help="Most worker processes; one per CPU, four at most, if not given.")]
DeadlineS = Annotated[float, typer.Option(help="Seconds that one answer may take.")]
MemoryGib = Annotated[float, typer.Option(help="Memory that one worker may take, in GiB.")]


@app.command("grade")
def grade_command(
    responses: Annotated[Path, typer.Argument(metavar="RESPONSES.jsonl")],
    out: Annotated[Path | None, typer.Option(help="Write grades here instead of standard output.")] = None,
    policy: Annotated[str, typer.Option(metavar="NAME", help="What counts as the answer; see above.")] = "default",
    explain: Annotated[int, typer.Option(metavar="N", min=0, help="Explain the first N that are not correct.")] = 0,
    strict: Strict = False,
    num_workers: NumWorkers = None,
    deadline_s: DeadlineS = 5.0,
    memory_gib: MemoryGib = 1.0,
) -> None:
    r"""Grade each response of a file of JSON lines against its references.

    Reads, in each row: the response ('response', 'completion' or 'output'), and the accepted answer or a list
    of them ('references', 'reference', 'answer', 'ground_truth', or 'reward_model' with 'ground_truth' in it).
    Of several names the first one counts.

    Writes, for each row: 'line', the row's 'problem_id' or 'id', 'outcome', 'reward', 'answer', 'reference',
    'seconds'. A table of the outcomes goes to standard error.

    The answer is, by the policy 'default', the last box, else what follows a phrase such as 'the answer is',
    else the last value; by 'boxed', the last box; by 'polaris-v1', the last box after </think>,
    in which a whole number must be a numeral.

    A row that cannot be read is named on standard error and left out. Exit status: 0, or 2 if any was left out.

    Example: polaris-reward grade responses.jsonl --out grades.jsonl --explain 5
    """
    from polaris_reward.convention import CONVENTIONS
    from polaris_reward.grader import Grader
    from polaris_reward.records import Outcome
    from polaris_reward.rows import Row, in_batches, result_file

    if policy not in CONVENTIONS:
        raise SettingsError(f"unknown policy {policy!r}; choose one of {', '.join(map(repr, CONVENTIONS))}")
    if out is not None and out.exists() and responses.exists() and out.samefile(responses):
        raise RowsFileError(f"{out}: is the file to read; give --out another name")
    counts: Counter[str] = Counter()
    to_explain: list[tuple[Row, Item]] = []
    with Grader(num_workers, deadline_s=deadline_s, memory_gib=memory_gib, max_failed_share=None) as grader:
        with (
            result_file(out) as file,
            closing(_parsed(responses, Row.item, counts, strict=strict, show_bar=not file.isatty())) as rows,
        ):
            for batch in in_batches(rows):
                grades = grader.grade_many([item for _, item in batch], convention=CONVENTIONS[policy])
                for (row, item), grade in zip(batch, grades, strict=True):
                    counts[grade.outcome] += 1
                    file.write(json.dumps(_to_record(row, grade)) + "\n")
                    if grade.outcome is not Outcome.CORRECT and len(to_explain) < explain:
                        to_explain.append((row, item))
        _print_outcomes(counts)
        for row, item in to_explain:
            print(
                f"\n{row.where} {_name(row)}",
                grader.explain(*item, convention=CONVENTIONS[policy]),
                sep="\n",
                file=sys.stderr,
            )
    _refuse_skipped(counts)


@app.command("check")
def check_command(
    problems: Annotated[Path, typer.Argument(metavar="PROBLEMS.jsonl")],
    strict: Strict = False,
    num_workers: NumWorkers = None,
    deadline_s: DeadlineS = 5.0,
    memory_gib: MemoryGib = 1.0,
) -> None:
    r"""Check that every reference, put into a box, is accepted as its own answer.

    A problem whose reference fails this rewards no response, and teaches a model that nothing is right.

    Reads, in each row: 'references', 'reference', 'answer', 'ground_truth', or 'reward_model' with
    'ground_truth' in it (an answer or a list of them), and 'problem_id' or 'id' if there is one.

    Lists references on standard output, one a line, tab-separated: file:line, id, what is wrong, reference.
    Wrong is an outcome such as 'reference_rejected', or 'spelling_only': the reference is accepted, but the
    grader cannot read a meaning in it, so that an answer must be spelled like it. Exit status: 0 if all are
    accepted, 1 if some are not, 2 if a row or the file cannot be read.

    Example: polaris-reward check problems.jsonl
    """
    from polaris_reward.grader import Grader
    from polaris_reward.rows import Row

    counts: Counter[str] = Counter()
    with (
        Grader(num_workers, deadline_s=deadline_s, memory_gib=memory_gib, max_failed_share=None) as grader,
        closing(_parsed(problems, Row.references, counts, strict=strict, show_bar=True)) as rows,
    ):
        for row, reference, finding in _checked(rows, grader):
            counts[finding] += 1
            if finding != "accepted":
                print(row.where, _name(row), finding, json.dumps(reference), sep="\t")
    num_references = counts.total() - counts["skipped"]
    num_accepted = counts["accepted"] + counts["spelling_only"]
    print(
        f"{num_accepted} of {num_references} references are accepted as their own answer, "
        f"{counts['spelling_only']} of them by their spelling only",
        file=sys.stderr,
    )
    _refuse_skipped(counts)
    if num_accepted < num_references:
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


def _parsed(
    path: Path, parse: "Callable[[Row], T]", counts: Counter[str], *, strict: bool, show_bar: bool
) -> "Generator[tuple[Row, T]]":
    """Yield each row with what the command needs of it; one that cannot be read is named and counted."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from polaris_reward.rows import read_lines

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        # Into a file or a pipe, standard output must go as it is.
        redirect_stdout=sys.stdout.isatty(),
        disable=not (show_bar and sys.stderr.isatty()),
    )
    with bar:
        task = bar.add_task(path.name, total=path.stat().st_size if path.is_file() else None)
        for line in read_lines(path):
            bar.advance(task, len(line.content))
            try:
                row = line.row()
                needed = parse(row)
            except RowsFileError as error:
                if strict:
                    raise
                counts["skipped"] += 1
                print(error, file=sys.stderr)
            else:
                yield row, needed


def _checked(rows: "Iterable[tuple[Row, tuple[str, ...]]]", grader: "Grader") -> "Iterator[tuple[Row, str, str]]":
    """Yield each reference with ``accepted``, ``spelling_only``, or the outcome that was not ``correct``."""
    from polaris_reward.finding.extract import reference_answer
    from polaris_reward.records import Outcome
    from polaris_reward.rows import in_batches

    for batch in in_batches(rows):
        pairs = [(row, reference) for row, references in batch for reference in references]
        own = grader.grade_many([(rf"\boxed{{{reference_answer(text)}}}", [text]) for _, text in pairs])
        probed = grader.grade_many([(PROBE, [text]) for _, text in pairs])
        for (row, reference), as_own, as_probe in zip(pairs, own, probed, strict=True):
            if as_own.outcome is not Outcome.CORRECT:
                yield row, reference, as_own.outcome
            elif as_probe.outcome is Outcome.REFERENCE_REJECTED:
                yield row, reference, "spelling_only"
            else:
                yield row, reference, "accepted"


def _name(row: "Row") -> object:
    return next(iter(row.identity.values()), "")


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


def _print_outcomes(counts: Counter[str]) -> None:
    from polaris_reward.records import Outcome

    total = sum(counts[outcome] for outcome in Outcome)
    for outcome in Outcome:
        share = counts[outcome] / max(total, 1)
        print(f"{outcome:<20}{counts[outcome]:>8}{share:>8.1%}", file=sys.stderr)
    print(f"{'all':<20}{total:>8}", file=sys.stderr)


def _refuse_skipped(counts: Counter[str]) -> None:
    if counts["skipped"]:
        raise RowsFileError(f"rows left out because they could not be read, as said above: {counts['skipped']}")
