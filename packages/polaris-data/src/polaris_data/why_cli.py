"""The command ``polaris-data why``."""

from pathlib import Path
from typing import Annotated

import typer


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

    \b
    Examples:
      polaris-data why synthetic-8a7f9b305fa6 runs/r1
      polaris-data why p-0f2c9a1b77de0c31 train.jsonl train.profile.jsonl data/decisions.json
    """
    from polaris_data.why import history

    chapters = history(problem_id, paths or [Path()])
    print(problem_id)
    for chapter in chapters:
        print(f"\n{chapter.path}  ({chapter.kind})" if chapter.lines else f"\n{chapter.path}: not in this set")
        for line in chapter.lines:
            print(f"  {line}")
