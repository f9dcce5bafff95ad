"""The command ``polaris-data select``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polaris_data.errors import ProblemFileError
from polaris_data.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid, read

if TYPE_CHECKING:
    from polaris_data.records import Difficulty


def select_command(
    problems: ProblemsArgument,
    profile: Annotated[
        Path, typer.Argument(metavar="PROFILE", help="What 'profile' wrote for them.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)],
    max_accuracy: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Drop problems solved this often or more; 1: solved every time.")
    ] = 1.0,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Keep the problems that a model can still learn from.

    Reads PROBLEMS and their PROFILE, drops what the model solved every time (8/8), and writes
    DIR/selected.jsonl (the kept problems) and DIR/decisions.json (in or out, and why, for each problem). Give
    the --limit and --skip-invalid that the profile was made with.

    \b
    Example:
      polaris-data select train.jsonl train.profile.jsonl --out data
    """
    from polaris_data.difficulty import check_recorded_problems, read_profile
    from polaris_data.outputs import claim_output
    from polaris_data.select import count_reasons, select, selection_settings, write_selection

    rows = read(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision)
    difficulties = read_profile(profile)
    decisions = select(rows, difficulties, max_accuracy=max_accuracy)
    check_recorded_problems(profile, rows)
    if not any(decision.kept for decision in decisions):
        raise ProblemFileError(f"no problem is left: the model solved every one at least {max_accuracy:g} of the time")
    claim_output(out / "selected.jsonl", selection_settings(rows, difficulties, max_accuracy=max_accuracy))
    write_selection(out, rows, decisions, max_accuracy=max_accuracy)
    for reason, count in count_reasons(decisions).items():
        print(f"{count:>9,}  {reason}")
    _print_shapes(difficulties, kept={decision.problem_id for decision in decisions if decision.kept})
    print(f"\nwrote {out / 'selected.jsonl'} and {out / 'decisions.json'}")


def _print_shapes(profile: "Sequence[Difficulty]", *, kept: set[str]) -> None:
    from polaris_data.shape import histogram

    before = histogram(profile)
    after = histogram(difficulty for difficulty in profile if difficulty.problem_id in kept)
    print(
        f"before: {before.num_problems:,} problems, shape {before.shape}; "
        f"after: {after.num_problems:,} problems, shape {after.shape}"
    )
