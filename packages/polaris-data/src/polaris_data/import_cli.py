"""The command ``polaris-data import``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polaris_data.errors import SettingError
from polaris_data.options import Limit, Revision


def import_command(
    out: Annotated[Path, typer.Option(dir_okay=False, help="Problem file to write (.jsonl).", show_default=False)],
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Files (.jsonl, .json, .csv, .parquet), folders or Hub ids (OWNER/NAME[:CONFIG]); none with --from: "
            "the data set on the Hub.",
            show_default=False,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME",
            help="A published data set: deepscaler, areal-boba, skywork-or1, polaris-53k, math, gsm8k or dapo-17k. "
            "SOURCE is then a local copy of it.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD=COLUMN,...",
            help="Columns of your own file: question=TEXT,references=ANS,id=KEY,source=ORIGIN, as many as differ.",
        ),
    ] = None,
    ids: Annotated[
        Literal["own", "content", "prefixed"],
        typer.Option(help="Ids of the source if it has any; from the content; or own ones after the source's name."),
    ] = "own",
    limit: Limit = None,
    split: Annotated[
        str | None, typer.Option(help="Split of folders and Hub data sets.  [default: train]", show_default=False)
    ] = None,
    revision: Revision = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse instead of setting rows aside.")] = False,
    profile_out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Also write published pass rates ('difficulty': '3/8') as a profile.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Turn raw data sets into one file of problems.

    Reads every SOURCE and writes to --out one problem a line: id, question, references (the accepted answers,
    without dollars, boxes and '.0'), source and every other column. Proofs, questions of several parts and rows
    without a usable answer go to OUT.set-aside.jsonl, each with its place and reason. Identical problems are merged.

    \b
    Examples:
      polaris-data import --from deepscaler --out deepscaler.jsonl
      polaris-data import copies/polaris-data-53K.jsonl --from polaris-53k --out polaris.jsonl
      polaris-data import a.csv b.parquet --columns question=text,references=label --out problems.jsonl
    """
    from polaris_data.import_problems import import_problems, set_aside_path, write_published_profile
    from polaris_data.importers import find_importer, parse_columns
    from polaris_data.problems import DEFAULT_COLUMNS

    if out.suffix != ".jsonl":
        raise SettingError(f"--out is {str(out)!r}; give a name that ends in .jsonl")
    if from_ and columns:
        raise SettingError("--from brings its own columns; leave out --columns, or --from")
    counts = import_problems(
        sources or [],
        out,
        importer=find_importer(from_) if from_ else None,
        columns=parse_columns(columns) if columns else DEFAULT_COLUMNS,
        ids=ids,
        split=split,
        revision=revision,
        limit=limit,
        strict=strict,
    )
    print(f"{counts.num_rows:>9,}  rows read")
    print(f"{counts.num_kept:>9,}  problems")
    if counts.num_merged:
        print(f"{counts.num_merged:>9,}  merged with an identical problem")
    for reason, count in counts.set_aside.items():
        print(f"{count:>9,}  set aside: {reason}")
    print(f"\nwrote {out}" + (f" and {set_aside_path(out)}" if counts.set_aside else ""))
    if profile_out is not None:
        print(f"wrote {profile_out}: {write_published_profile(profile_out, out):,} published pass rates")
