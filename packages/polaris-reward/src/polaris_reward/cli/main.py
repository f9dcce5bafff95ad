"""The command ``polaris-reward``: grade responses, and check that references can be graded at all."""

import os
import sys
from collections.abc import Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polaris_reward.errors import RewardError, RowsFileError, SettingsError

if TYPE_CHECKING:
    from polaris_reward.files.grading import GradedFile
    from polaris_reward.files.lines import RowsFile
    from polaris_reward.records import Outcome

app = typer.Typer(
    help="""Grade mathematical answers, with no way for one of them to hang or crash the grader.

    Reads JSON lines or a JSON array and writes JSON lines; say --help after a command for the fields.

    Example: `polaris-reward grade responses.jsonl --out grades.jsonl`
    """,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")]
NumWorkers = Annotated[int | None, typer.Option(help="Most worker processes; one per CPU, four at most, if not given.")]
DeadlineS = Annotated[float, typer.Option(help="Seconds that one answer may take.")]
MemoryGib = Annotated[float, typer.Option(help="Memory that one worker may take, in GiB.")]


@app.command("grade")
def grade_command(
    responses: Annotated[Path, typer.Argument(metavar="RESPONSES", help="File, or - for standard input.")],
    out: Annotated[Path | None, typer.Option(help="Write grades here instead of standard output.")] = None,
    policy: Annotated[str, typer.Option(metavar="NAME", help="What counts as the answer; see above.")] = "default",
    explain: Annotated[int, typer.Option(metavar="N", min=0, help="Explain the first N that are not correct.")] = 0,
    prefilled: Annotated[
        str, typer.Option(metavar="TAG", help="What the chat template put before every response, such as '<think>'.")
    ] = "",
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="OUTCOME", help="Write the rows of this outcome, not grades; repeatable."),
    ] = None,
    strict: Strict = False,
    num_workers: NumWorkers = None,
    deadline_s: DeadlineS = 5.0,
    memory_gib: MemoryGib = 1.0,
) -> None:
    r"""Grade each response of a file against its references.

    Reads JSON lines or an array of JSON objects, compressed by gzip or not. In each: the response ('response',
    'completion', 'output' or 'messages': a text, or chat messages of which the assistant's last one counts), and
    the accepted answer or a list of them ('references', 'reference', 'answer', 'ground_truth', or 'reward_model'
    with 'ground_truth' in it). Of several names the first one counts.

    A response to a prompt that ended with `<think>` has no answer before it closes that section: a row tells by
    the text of its prompt, in any field, or --prefilled tells for all.

    Writes, for each row: 'line', the row's 'problem_id' or 'id', 'outcome', 'reward', 'answer', 'reference',
    'seconds'. With --keep it writes the rows of that outcome instead, as they are in the file: 'correct' for what a
    model may be fine-tuned on. A table of the outcomes goes to standard error.

    The answer is, by the convention 'default', the last box, else what follows a phrase such as 'the answer is',
    else the last value; by 'boxed', the last box; by 'polaris-v1', the last box after `</think>`,
    in which a whole number must be a numeral.

    A row that cannot be read is named on standard error and left out. Exit status: 0, or 2 if any was left out.

    Example: `polaris-reward grade responses.jsonl --out grades.jsonl --explain 5`

    Example: `polaris-reward grade responses.jsonl --keep correct --out right.jsonl`
    """
    from polaris_reward.convention import convention_named
    from polaris_reward.files.grading import grade_file
    from polaris_reward.grader import Grader

    convention, kept = convention_named(policy), _outcomes(keep or ())
    with (
        Grader(num_workers, deadline_s=deadline_s, memory_gib=memory_gib, max_failed_share=None) as grader,
        _opened(responses, strict=strict, show_bar=out is not None or not sys.stdout.isatty()) as rows,
    ):
        graded = grade_file(
            rows, out, grader, convention=convention, num_explained=explain, prefilled=prefilled, keep=kept
        )
    _print_outcomes(graded)
    for explanation in graded.explanations:
        print(f"\n{explanation}", file=sys.stderr)
    _refuse_left_out(rows)


@app.command("check")
def check_command(
    problems: Annotated[Path, typer.Argument(metavar="PROBLEMS", help="File, or - for standard input.")],
    strict: Strict = False,
    num_workers: NumWorkers = None,
    deadline_s: DeadlineS = 5.0,
    memory_gib: MemoryGib = 1.0,
) -> None:
    r"""Check that every reference, put into a box, is accepted as its own answer.

    A problem whose reference fails this rewards no response, and teaches a model that nothing is right.

    Reads JSON lines or an array of JSON objects, compressed by gzip or not. In each: 'references', 'reference',
    'answer', 'ground_truth', or 'reward_model' with 'ground_truth' in it (an answer or a list of them), and
    'problem_id' or 'id' if there is one.

    Lists references on standard output, one a line, tab-separated: file:line, id, what is wrong, reference.
    Wrong is an outcome such as 'reference_rejected', or 'spelling_only': the reference is accepted, but the
    grader cannot read a meaning in it, so that an answer must be spelled like it. Exit status: 0 if all are
    accepted, 1 if some are not, 2 if a row or the file cannot be read.

    Example: `polaris-reward check problems.jsonl`
    """
    from polaris_reward.files.checking import check_file
    from polaris_reward.grader import Grader

    with (
        Grader(num_workers, deadline_s=deadline_s, memory_gib=memory_gib, max_failed_share=None) as grader,
        _opened(problems, strict=strict, show_bar=True) as rows,
    ):
        counts = check_file(rows, sys.stdout, grader)
    num_by_spelling = counts["spelling_only"]
    num_accepted = counts["accepted"] + num_by_spelling
    print(
        f"{num_accepted} of {counts.total()} references are accepted as their own answer, "
        f"{num_by_spelling} of them by their spelling only",
        file=sys.stderr,
    )
    _refuse_left_out(rows)
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


@contextmanager
def _opened(path: Path, *, strict: bool, show_bar: bool) -> "Generator[RowsFile]":
    """Show how much of a file was read, on a terminal; rows that are left out are named on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from polaris_reward.files.lines import RowsFile

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
        # Of a compressed file nobody knows how long it is.
        known = path.is_file() and path.suffix != ".gz"
        task = bar.add_task(path.name, total=path.stat().st_size if known else None)
        yield RowsFile(
            path,
            strict=strict,
            on_left_out=lambda error: print(error, file=sys.stderr),
            on_read=lambda num_bytes: bar.advance(task, num_bytes),
        )


def _outcomes(names: Collection[str]) -> "list[Outcome]":
    from polaris_reward.records import Outcome

    for name in names:
        if name not in [*Outcome]:
            raise SettingsError(f"unknown outcome {name!r}; choose one of {', '.join(map(repr, map(str, Outcome)))}")
    return [Outcome(name) for name in names]


def _print_outcomes(graded: "GradedFile") -> None:
    total = sum(graded.counts.values())
    for outcome, count in graded.counts.items():
        print(f"{outcome:<20}{count:>8}{count / max(total, 1):>8.1%}", file=sys.stderr)
    print(f"{'all':<20}{total:>8}", file=sys.stderr)
    thinking = graded.thinking
    if (tag := thinking.opening_tag()) and thinking.num_unclosed:
        print(
            f"warning: others close a {tag} that they did not open, as if the chat template had: then the "
            f"{thinking.num_unclosed} responses without any tag were cut in thought; grade with --prefilled '{tag}'",
            file=sys.stderr,
        )


def _refuse_left_out(rows: "RowsFile") -> None:
    if rows.num_left_out:
        raise RowsFileError(f"rows left out because they could not be read, as said above: {rows.num_left_out}")
