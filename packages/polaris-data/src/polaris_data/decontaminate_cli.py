"""The command ``polaris-data decontaminate``."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from polaris_data.errors import SettingError
from polaris_data.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid, iterate, read


def decontaminate_command(
    problems: ProblemsArgument,
    against: Annotated[
        list[str],
        typer.Option(help="A benchmark: whatever PROBLEMS may be. Repeat it.", metavar="BENCH", show_default=False),
    ],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write.", metavar="DIR", show_default=False)],
    drop_shared_passages: Annotated[
        bool,
        typer.Option("--drop-shared-passages", help="Drop other problems that share 13 tokens in a row, too."),
    ] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Processes.  [default: one a processor]")] = None,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Drop the problems that are in a benchmark.

    Reads PROBLEMS and every BENCH. Problems with equal text, the same mathematics in other words, or a benchmark
    problem inside them are dropped; problems that share a passage of 13 tokens but are others are reported. Writes
    DIR/problems.jsonl (what is kept), DIR/findings.jsonl (each problem that has something in common with a
    benchmark problem: with which, how, how much, whether it was dropped) and DIR/counts.json.

    \b
    Example:
      polaris-data decontaminate train.jsonl --against aime25.jsonl --against math500.jsonl --out clean
    """
    from polaris_data.decontaminate import write_decontaminated
    from polaris_data.lock import locked_output
    from polaris_data.outputs import check_output, claim_output
    from polaris_data.processes import num_usable_processors
    from polaris_data.sources import count_rows, fingerprint

    names = [Path(source).name.partition(".")[0] or source for source in against]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SettingError(f"two benchmarks are named {twice!r}; give each one once, under a file name of its own")
    settings = {
        "command": "polaris-data decontaminate",
        "problems": fingerprint(problems, split=split, revision=revision),
        "against": [fingerprint(source, split="test", revision=None) for source in against],
        "limit": limit,
        "skip_invalid": skip_invalid,
        "drop_shared_passages": drop_shared_passages,
    }
    kept = out / "problems.jsonl"
    with locked_output(kept):
        check_output(kept, settings)
        benchmarks = {
            name: read(source, limit=None, skip_invalid=True, split="test", revision=None)
            for name, source in zip(names, against, strict=True)
        }
        counts = write_decontaminated(
            out,
            iterate(problems, limit=limit, skip_invalid=skip_invalid, split=split, revision=revision),
            benchmarks,
            drop_shared_passages=drop_shared_passages,
            num_processes=processes or num_usable_processors(),
            total=limit or count_rows(problems),
            claim=partial(claim_output, kept, settings),
        )
    for reason, count in counts.items():
        if count or reason == "kept":
            print(f"{count:>9,}  {reason}")
    print(f"\nwrote {kept} and {out / 'findings.jsonl'}")
