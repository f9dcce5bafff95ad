"""The command ``polaris-data export``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polaris_data.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid


def export_command(
    problems: ProblemsArgument,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write (.jsonl or .parquet).", show_default=False)],
    format: Annotated[
        Literal["jsonl", "parquet", "verl"] | None,
        typer.Option(help="What to write.  [default: by the name of --out]", show_default=False),
    ] = None,
    suffix: Annotated[
        bool, typer.Option("--suffix", help="For verl: end prompts with our request for a boxed answer.")
    ] = False,
    data_source: Annotated[
        str | None,
        typer.Option(help="For verl, which chooses its reward by it, as math_dapo.  [default: each problem's source]"),
    ] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Write problems as JSON lines, parquet, or parquet in the format of verl.

    Reads PROBLEMS and writes --out and its settings (OUT.settings.json). Every format is read back as the same
    problems. For verl, ground_truth is the first reference; all of them are in extra_info.references.

    \b
    Examples:
      polaris-data export selected.jsonl --out selected.parquet
      polaris-data export selected.jsonl --out train.parquet --format verl --suffix
    """
    from polaris_data.export import choose_format, export_problems
    from polaris_data.journal import whole_file
    from polaris_data.outputs import check_output, claim_output
    from polaris_data.problems import iterate_problems
    from polaris_data.progress import track
    from polaris_data.prompt import PROMPT_SUFFIX
    from polaris_data.sources import count_rows, fingerprint

    chosen = choose_format(out, format)
    settings = {
        "command": "polaris-data export",
        **fingerprint(problems, split=split, revision=revision),
        "format": chosen,
        "suffix": PROMPT_SUFFIX if suffix else "",
        "data_source": data_source,
        "limit": limit,
        "skip_invalid": skip_invalid,
    }
    check_output(out, settings)
    rows = iterate_problems(
        problems, limit=limit, split=split, revision=revision, on_invalid="skip" if skip_invalid else "error"
    )
    shown = track(rows, total=limit or count_rows(problems), label="exporting")
    ending = PROMPT_SUFFIX if suffix else ""
    with whole_file(out) as whole:
        num_several = export_problems(shown, whole, format=chosen, suffix=ending, data_source=data_source, split=split)
        claim_output(out, settings)
    if num_several and chosen == "verl":
        print(f"{num_several:,} problems have several references: ground_truth is the first of them")
    print(f"wrote {out}")
