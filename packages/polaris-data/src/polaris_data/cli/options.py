"""Arguments that several ``polaris-data`` commands share, and reading the problems that they name."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from polaris_data.records import Problem

ProblemsArgument = Annotated[
    str,
    typer.Argument(
        metavar="PROBLEMS",
        help="A .jsonl, .json, .csv or .parquet file, a folder or Hub id that datasets can load (OWNER/NAME[:CONFIG]), "
        "'synthetic' or 'synthetic:held-out'.",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take the first N rows only.", metavar="N")]
SkipInvalid = Annotated[
    bool,
    typer.Option(
        "--skip-invalid", help="Set rows without a question or answer, or with a repeated id, aside with a warning."
    ),
]
DataSplit = Annotated[str, typer.Option(help="Split of a folder or Hub data set.")]
Revision = Annotated[str | None, typer.Option(help="Commit, branch or tag of a Hub data set.")]


def read(source: str, *, limit: int | None, skip_invalid: bool, split: str, revision: str | None) -> "list[Problem]":
    """Read a problem set as the shared options describe it."""
    return list(iterate(source, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision))


def iterate(
    source: str, *, limit: int | None, skip_invalid: bool, split: str, revision: str | None
) -> "Iterator[Problem]":
    """Yield a problem set as the shared options describe it."""
    from polaris_data.problems.reading import iterate_problems

    return iterate_problems(
        source, limit=limit, split=split, revision=revision, on_invalid="skip" if skip_invalid else "error"
    )
