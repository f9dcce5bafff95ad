"""The commands about what to train on: ``polaris-data select``, ``show`` and ``why``."""

import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polaris_data.cli.options import source_options
from polaris_data.errors import ProblemFileError
from polaris_data.problems.source import Source

if TYPE_CHECKING:
    from polaris_data.profile.lengths import AnswerDiversity, AnswerLengths
    from polaris_data.profile.shift import Shift
    from polaris_data.records import Difficulty
    from polaris_data.selection.selecting import Selection

_NUM_NOTES = 5
"""Unusable lines of a visit log that are shown; all of them are in ``decisions.json``."""


@source_options
def select_command(
    problems: Source,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)],
    profile: Annotated[
        Path | None, typer.Argument(metavar="[PROFILE]", help="What 'profile' wrote for them.", show_default=False)
    ] = None,
    visits: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead of PROFILE: a visit log of training; repeat it, oldest first.",
            metavar="FILE",
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            help="'drop solved=always|never', 'accuracy above=X [by=mean|latest|certainty] [window=N] "
            "[min_visits=N] [certainty=P]', 'accuracy between LOW HIGH [by=mean|latest]', 'keep COLUMN=VALUE,VALUE', "
            "'truncation above=X', 'difference above=X', 'cap bin=K/N share=X' or 'shape target=mirrored-J'; repeat "
            "it, they are applied in order.  [default: drop solved=always; with --visits: accuracy above=0.9]",
            metavar="RULE",
        ),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML or JSON file of rules, or a decisions.json.", metavar="FILE")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses which problems a cap or a shape drops.")] = 0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a visit log with lines that cannot be used.")
    ] = False,
) -> None:
    """Keep the problems that a model can still learn from.

    Reads PROBLEMS with their PROFILE and drops what the model solved every time (8/8); or with the --visits of
    training, and drops what it solved more than nine times of ten; or by other rules, of which 'keep' needs neither.
    Writes to DIR:
    selected.jsonl (the kept problems), decisions.json (in or out, and why, for each problem), selection.png and
    selection.html (before and after). Give the --limit and --skip-invalid that the profile was made with.

    Examples:

        polaris-data select train.jsonl train.profile.jsonl --out data
        polaris-data select train.jsonl train.profile.jsonl --rule drop --rule 'cap bin=0/8 share=0.3' --out data
        polaris-data select train.jsonl --rule 'keep level=Level 3,Level 4' --out data
        polaris-data select data/selected.jsonl --visits runs/r1/stage-1/visits.jsonl --out stage-2-data
    """
    from polaris_data.selection.reading import choose_rules
    from polaris_data.selection.selecting import select_problems

    selection = select_problems(
        problems,
        out,
        profile=profile,
        visits=visits or (),
        rules=choose_rules(rule or [], rules),
        seed=seed,
        strict=strict,
    )
    _print_summary(selection)
    picture = "selection.png and selection.html" if selection.evidence else "and selection.html"
    print(f"\nwrote selected.jsonl, decisions.json, {picture} to {out}")


def _print_summary(selection: "Selection") -> None:
    from polaris_data.selection.decisions import count_reasons, histograms

    for note in selection.notes[:_NUM_NOTES]:
        print(f"note: {note}", file=sys.stderr)
    if len(selection.notes) > _NUM_NOTES:
        print(f"note: and {len(selection.notes) - _NUM_NOTES} more; all are in decisions.json", file=sys.stderr)
    print(f"{len(selection.kept):,} of {len(selection.decisions):,} problems are kept")
    for reason, count in count_reasons(selection.decisions).items():
        print(f"{count:>9,}  {reason}")
    shapes = histograms(selection.evidence, selection.kept)
    for when, histogram in shapes.items():
        never, sometimes, always = histogram.shares
        print(
            f"{when}: {histogram.num_problems:,} problems, shape {histogram.shape}; "
            f"never solved {never:.1%}, sometimes {sometimes:.1%}, always {always:.1%}"
        )
    for warning in shapes["after"].warnings if "after" in shapes else []:
        print(f"warning: {warning}", file=sys.stderr)


@source_options
def show_command(
    problems: Annotated[
        Source,
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
) -> None:
    """Show a difficulty profile as a histogram, the shift between two, or what a problem set holds.

    Reads one file, or two profiles, and writes nothing but --html and --png. The histogram counts problems by k of
    n answers correct and names its shape: mirrored-J (most are never solved: good to train on), J (most are always
    solved: too easy), U. Where the answers were kept (NAME.rollouts), it shows how long and how different they are.
    Of two profiles it also shows how many problems moved from which k/n to which.

    Examples:

        polaris-data show train.profile.jsonl --png profile.png
        polaris-data show before.profile.jsonl after.profile.jsonl --html shift.html
        polaris-data show train.jsonl
    """
    from polaris_data.profile.files import is_profile, read_profile
    from polaris_data.profile.shift import shift
    from polaris_data.view.page import write_profile_view, write_shift_view
    from polaris_data.view.terminal import describe_problems

    path = Path(problems.name)
    if other is not None:
        profiles = {_short_name(path, other): read_profile(path), _short_name(other, path): read_profile(other)}
        moved = shift(*profiles.values())
        _print_shift(profiles, moved)
        write_shift_view(profiles, moved, html=html, png=png)
    elif is_profile(path):
        profile = read_profile(path)
        print_profile(profile)
        lengths, diversity = _print_answers(path, profile)
        write_profile_view(path.name, profile, html=html, png=png, lengths=lengths, diversity=diversity)
    elif html or png:
        raise ProblemFileError(f"{path} is no profile, of which --html and --png could draw a histogram")
    else:
        print(describe_problems(problems.read()))
    if written := [str(each) for each in (html, png) if each]:
        print(f"\nwrote {' and '.join(written)}")


def print_profile(profile: "Sequence[Difficulty]") -> None:
    """Print the histogram of a profile and what can be learned from it."""
    from rich.console import Console

    from polaris_data.profile.adaptive import profile_histogram
    from polaris_data.view.terminal import describe_profile, histogram_table

    counts = profile_histogram(profile)
    Console(highlight=False).print(histogram_table(counts))
    print("\n" + describe_profile(counts, profile))


def _print_answers(
    path: Path, profile: "Sequence[Difficulty]"
) -> "tuple[AnswerLengths | None, AnswerDiversity | None]":
    """Print how long and how different the answers of a profile are, where they were kept."""
    from rich.console import Console

    from polaris_data.profile.files import rollouts_path
    from polaris_data.profile.grades import has_grades, read_grades
    from polaris_data.profile.lengths import count_lengths
    from polaris_data.view.terminal import describe_answers, lengths_table

    rollouts = rollouts_path(path)
    if not has_grades(rollouts):
        return None, None
    lengths, diversity = count_lengths(read_grades(rollouts)), None
    if find_spec("polaris_rollout"):
        from polaris_data.profile.rollouts import answer_diversity

        diversity = answer_diversity(rollouts, profile)
    print()
    Console(highlight=False).print(lengths_table(lengths))
    print("\n" + describe_answers(lengths, diversity))
    return lengths, diversity


def _print_shift(profiles: "Mapping[str, Sequence[Difficulty]]", moved: "Shift") -> None:
    from rich.console import Console

    from polaris_data.profile.adaptive import profile_histogram
    from polaris_data.view.terminal import describe_shift, histogram_table, transition_table

    console = Console(highlight=False)
    for name, profile in profiles.items():
        console.print(f"{name}:")
        console.print(histogram_table(profile_histogram(profile)))
        console.print()
    console.print(transition_table(moved))
    print("\n" + describe_shift(moved))


def _short_name(path: Path, other: Path) -> str:
    """Return the name of the file, or its whole path where both files have the same name."""
    return path.name if path.name != other.name else str(path)


def why_command(
    problem_id: Annotated[str, typer.Argument(metavar="PROBLEM_ID", help="Of any problem.", show_default=False)],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH]...",
            help="Run folders, data folders, or single files.  [default: this folder]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Tell the whole history of one problem.

    Reads every .jsonl file and decisions.json in the given folders and writes nothing. Shows where the problem comes
    from, its duplicates, how often it was solved, every decision about it with the reason, and its visits in each
    stage as a line from ▁ (never solved) to █ (always).

    Examples:

        polaris-data why synthetic-8a7f9b305fa6 runs/r1
        polaris-data why p-0f2c9a1b77de0c31 train.jsonl train.profile.jsonl data/decisions.json
    """
    from polaris_data.selection.history import tell_history

    chapters = tell_history(problem_id, paths or [Path()])
    print(problem_id)
    for chapter in chapters:
        print(f"\n{chapter.path}  ({chapter.kind})" if chapter.lines else f"\n{chapter.path}: not in this set")
        for line in chapter.lines:
            print(f"  {line}")
