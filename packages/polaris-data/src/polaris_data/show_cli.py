"""The command ``polaris-data show``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polaris_data.options import DataSplit, Limit, Revision, SkipInvalid, read

if TYPE_CHECKING:
    from polaris_data.records import Difficulty


def show_command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE_OR_PROBLEMS", help="What 'profile' wrote, or any problem set.", show_default=False
        ),
    ],
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Show a difficulty profile as a histogram, or what a problem set holds.

    Reads one file and writes nothing. The histogram counts problems by k of n answers correct and names its
    shape: mirrored-J (most are never solved: good to train on), J (most are always solved: too easy), U.

    \b
    Examples:
      polaris-data show train.profile.jsonl
      polaris-data show train.jsonl
    """
    from polaris_data.difficulty import is_profile, read_profile
    from polaris_data.show import describe_problems

    if is_profile(Path(source)):
        print_profile(read_profile(source))
    else:
        rows = read(source, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
        print(describe_problems(rows))


def print_profile(profile: "Sequence[Difficulty]") -> None:
    """Print the histogram of a profile and what can be learned from it."""
    from rich.console import Console

    from polaris_data.shape import histogram
    from polaris_data.show import describe_profile, histogram_table

    counts = histogram(profile)
    Console(highlight=False).print(histogram_table(counts))
    print("\n" + describe_profile(counts, profile))
