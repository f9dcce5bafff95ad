"""The command ``polaris-data traces``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polaris_data.cli.options import source_options
from polaris_data.problems.source import Source


@source_options
def traces_command(
    problems: Source,
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="Folder of completions that 'profile' (NAME.rollouts) or 'polaris-rollout sample' wrote.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(dir_okay=False, help="File of JSON lines to write.", show_default=False)],
    choose: Annotated[
        Literal["all", "shortest", "one"],
        typer.Option(help="Of a problem's correct answers: all, the one of fewest tokens, or one by a hash."),
    ] = "all",
    seed: Annotated[int, typer.Option(help="Of the hash that chooses one.")] = 0,
) -> None:
    """Write correct answers that were sampled already, as traces for supervised fine-tuning.

    Reads PROBLEMS and STORE, grades every answer, and writes to --out a line for each that is correct: problem_id,
    question, response, num_tokens. Answers that the token budget ended are left out, and those to other problems.
    Prints how many were left out and why. Keeps one group in memory; the settings are beside it (OUT.settings.json).

    Examples:

        polaris-data traces train.jsonl train.profile.rollouts --out traces.jsonl
        polaris-data traces data/selected.jsonl data/profile.rollouts --choose shortest --out traces.jsonl
    """
    from polaris_data.profile.traces import trace_problems

    counts = trace_problems(problems, store, out, choose=choose, seed=seed)
    print(f"{counts.num_completions:>9,}  answers in {store}")
    print(f"{counts.num_traces:>9,}  traces, of {counts.num_problems:,} problems")
    for reason, count in counts.left_out.items():
        print(f"{count:>9,}  left out: {reason.replace('_', ' ')}")
    print(f"\nwrote {out}")
