"""The command ``polaris-data show``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polaris_data.errors import ProblemFileError
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
    other: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PROFILE]", help="A later profile of the same problems: shows the shift.", show_default=False
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Also write a page that needs no other file.", metavar="FILE")
    ] = None,
    png: Annotated[Path | None, typer.Option(dir_okay=False, help="Also write a picture.", metavar="FILE")] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Show a difficulty profile as a histogram, the shift between two, or what a problem set holds.

    Reads one file, or two profiles, and writes nothing but --html and --png. The histogram counts problems by k of
    n answers correct and names its shape: mirrored-J (most are never solved: good to train on), J (most are always
    solved: too easy), U. Of two profiles it also shows how many problems moved from which k/n to which.

    \b
    Examples:
      polaris-data show train.profile.jsonl --png profile.png
      polaris-data show before.profile.jsonl after.profile.jsonl --html shift.html
      polaris-data show train.jsonl
    """
    from polaris_data.difficulty import is_profile, read_profile
    from polaris_data.show import describe_problems

    if other is not None:
        _show_shift(Path(source), other, html=html, png=png)
    elif is_profile(Path(source)):
        profile = read_profile(source)
        print_profile(profile)
        _draw_profile(Path(source).name, profile, html=html, png=png)
    elif html or png:
        raise ProblemFileError(f"{source} is no profile, of which --html and --png could draw a histogram")
    else:
        rows = read(source, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
        print(describe_problems(rows))


def print_profile(profile: "Sequence[Difficulty]") -> None:
    """Print the histogram of a profile and what can be learned from it."""
    from rich.console import Console

    from polaris_data.adaptive import profile_histogram
    from polaris_data.show import describe_profile, histogram_table

    counts = profile_histogram(profile)
    Console(highlight=False).print(histogram_table(counts))
    print("\n" + describe_profile(counts, profile))


def _draw_profile(name: str, profile: "Sequence[Difficulty]", *, html: Path | None, png: Path | None) -> None:
    if not (html or png):
        return
    from polaris_data.adaptive import profile_histogram
    from polaris_data.page import svg_part, table_part, text_part, write_page
    from polaris_data.plots import draw_histograms, write_png
    from polaris_data.show import describe_profile, histogram_rows

    counts = profile_histogram(profile)
    figure = draw_histograms({name: counts})
    if png:
        write_png(png, figure)
    if html:
        table = table_part(("solved", "problems", "share"), histogram_rows(counts))
        write_page(html, f"Difficulty: {name}", [text_part(describe_profile(counts, profile)), svg_part(figure), table])
    _print_written(html, png)


def _show_shift(first: Path, second: Path, *, html: Path | None, png: Path | None) -> None:
    from rich.console import Console

    from polaris_data.adaptive import profile_histogram
    from polaris_data.difficulty import read_profile
    from polaris_data.page import svg_part, text_part, write_page
    from polaris_data.plots import draw_shift, write_png
    from polaris_data.shift import shift
    from polaris_data.show import describe_shift, histogram_table, transition_table

    profiles = {_short_name(first, second): read_profile(first), _short_name(second, first): read_profile(second)}
    moved = shift(*profiles.values())
    shapes = {name: profile_histogram(profile) for name, profile in profiles.items()}
    console = Console(highlight=False)
    for name, counts in shapes.items():
        console.print(f"{name}:")
        console.print(histogram_table(counts))
        console.print()
    console.print(transition_table(moved))
    print("\n" + describe_shift(moved))
    if not (html or png):
        return
    figure = draw_shift(shapes, moved.transitions)
    if png:
        write_png(png, figure)
    if html:
        write_page(
            html, f"Difficulty shift: {' to '.join(profiles)}", [text_part(describe_shift(moved)), svg_part(figure)]
        )
    _print_written(html, png)


def _short_name(path: Path, other: Path) -> str:
    """Return the name of the file, or its whole path where both files have the same name."""
    return path.name if path.name != other.name else str(path)


def _print_written(*paths: Path | None) -> None:
    print(f"\nwrote {' and '.join(str(path) for path in paths if path)}")
