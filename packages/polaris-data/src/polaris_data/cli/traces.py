"""The command ``polaris-data traces``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polaris_data.cli.options import Suffix, source_options
from polaris_data.errors import SettingError
from polaris_data.problems.source import Source
from polaris_data.records import PROMPT_SUFFIX


@source_options
def traces_command(
    problems: Source,
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE",
            help="Folder of completions that 'profile' (NAME.rollouts) or 'polaris-rollout sample' wrote, or a stage "
            "of training: RUN/STAGE.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(dir_okay=False, help="File of JSON lines to write, or NAME.parquet.", show_default=False),
    ],
    choose: Annotated[
        Literal["all", "shortest", "one"],
        typer.Option(help="Of a problem's correct answers: all, those of fewest tokens, or by a hash."),
    ] = "all",
    per_problem: Annotated[
        int | None,
        typer.Option(
            min=1, help="So many of a problem's at most.  [default: all; 1 with shortest and one]", show_default=False
        ),
    ] = None,
    min_tokens: Annotated[int, typer.Option(min=0, help="Leave shorter answers out.")] = 0,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Leave longer answers out.  [default: none]", show_default=False)
    ] = None,
    learning_value: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Keep only this share: within each tenth of the lengths, the answers that the sampler found least "
            "likely a token.  [default: all]",
            show_default=False,
        ),
    ] = None,
    suffix: Suffix = PROMPT_SUFFIX,
    seed: Annotated[int, typer.Option(help="Of the hash that chooses one.")] = 0,
) -> None:
    """Write correct answers that were sampled already, as traces for supervised fine-tuning.

    Reads PROBLEMS and STORE, grades every answer (a stage of training has done that), and writes to --out a
    conversation for each that is correct: messages, problem_id, question, response, num_tokens, references, surprise,
    model, weights_version, sampling. Answers that the token budget ended are left out, those to other problems, and
    those that say word for word what another says. Prints how many were left out and why, and the style of the rest.
    Keeps one group in memory; settings and these counts are beside it (OUT.settings.json, OUT.counts.json). The file is
    what 'polaris-train sft' learns from.

    Examples:

        polaris-data traces train.jsonl train.profile.rollouts --out traces.jsonl
        polaris-data traces data/selected.jsonl data/profile.rollouts --choose shortest --out traces.jsonl
        polaris-data traces runs/r1/stage-1/problems.jsonl runs/r1/stage-1 --learning-value 0.5 --out traces.parquet
    """
    from polaris_data.profile.traces import TraceChoice, trace_problems

    if learning_value is not None and not 0 < learning_value <= 1:
        raise SettingError(f"--learning-value is {learning_value:g}; give a share above 0 and at most 1")
    choice = TraceChoice(
        choose=choose,
        per_problem=per_problem,
        min_tokens=min_tokens,
        max_tokens=max_tokens,
        learning_value=learning_value,
        seed=seed,
    )
    counts = trace_problems(problems, store, out, choice, suffix=suffix)
    print(f"{counts.num_completions:>9,}  answers in {store}")
    print(f"{counts.num_traces:>9,}  traces, of {counts.num_problems:,} problems")
    for reason, count in counts.left_out.items():
        print(f"{count:>9,}  left out: {reason.replace('_', ' ')}")
    print(
        f"\nmedian length {counts.median_tokens:,.0f} tokens, {counts.median_characters:,.0f} characters; "
        f"{counts.thinking_share:.0%} have a section of thoughts"
    )
    print(f"\nwrote {out}")
