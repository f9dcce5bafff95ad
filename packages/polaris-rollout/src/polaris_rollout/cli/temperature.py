"""The command ``polaris-rollout temperature``."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from polaris_rollout.cli.options import engine_options
from polaris_rollout.contracts import EngineSpec
from polaris_rollout.records import PROMPT_SUFFIX


@engine_options(extend_positions=True)
def temperature(
    problems: Annotated[
        Path,
        typer.Argument(help="Held-out training problems: JSON lines with 'question', 'answer' and 'problem_id'."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for temperature.json, the plot, and all answers drawn.")],
    engine: EngineSpec,
    target_diversity: Annotated[
        float | None, typer.Option(help="Find the temperature with this diversity, between 0 and 1.")
    ] = None,
    target_entropy: Annotated[
        float | None,
        typer.Option(
            help="Find the temperature at which sampled tokens have this entropy, in nats: AceReason 1.1's 0.3."
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(help="Find the temperature with the diversity chosen in this folder (RUN/STAGE), by problem."),
    ] = None,
    at: Annotated[
        float | None,
        typer.Option(help="Search for nothing: measure this temperature, for a later --like.", show_default=False),
    ] = None,
    max_loss: Annotated[
        float, typer.Option(help="Share of the accuracy that may be lost where exploration starts.")
    ] = 0.02,
    lowest: Annotated[float, typer.Option(help="Lowest temperature to probe.")] = 0.6,
    highest: Annotated[float, typer.Option(help="Highest temperature to probe.")] = 2.0,
    num_problems: Annotated[
        int,
        typer.Option(
            help="Problems to probe with, drawn from the file. For --target-diversity half of them at every "
            "temperature, then others of the file, each once."
        ),
    ] = 64,
    measure: Annotated[
        Literal["expected", "published"],
        typer.Option(
            help="Of diversity. 'expected': distinct 4-grams of tokens in BATCH answers of one length. 'published': "
            "distinct 4-grams of words in BATCH whole answers, for a --target-diversity from the POLARIS paper."
        ),
    ] = "expected",
    batch: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Answers of each problem drawn at once.  [default: 4; published: 32, as the paper's figures]",
            show_default=False,
        ),
    ] = None,
    answers: Annotated[
        int | None,
        typer.Option(
            help="Answers of each problem in all.  [default: 80, or 26 for a target or --at; at least 6 batches]",
            show_default=False,
        ),
    ] = None,
    token_budget: Annotated[int | None, typer.Option(min=1, help="Stop drawing after this many tokens.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    seed: Annotated[int, typer.Option(help="Of the answers and of the choice of problems.")] = 0,
    suffix: Annotated[
        str,
        typer.Option(
            help="Appended to every question; the same as in training.  [default: training's own]", show_default=False
        ),
    ] = PROMPT_SUFFIX,
    grader: Annotated[str, typer.Option(help="'polaris' (polaris-reward), or MODULE:FUNCTION.")] = "polaris",
) -> None:
    r"""Find the temperature to sample with, on problems that are not trained on.

    Without a target: where controlled exploration starts, the highest
    temperature whose loss of accuracy stays within --max-loss (stage 1).
    With --like or --target-diversity: the temperature whose diversity equals
    that of an earlier stage, never in collapse (later stages). With
    --target-entropy the same for the entropy of a token. With --at: a
    temperature that was decided already is measured.

    Diversity is the share of distinct 4-grams of tokens expected in BATCH
    answers of a fixed length, so it depends on neither the number nor the
    length of the answers; --measure published is the paper's own score, which
    falls with both. An answer that the budget of tokens cuts short counts for
    diversity as any other, and is right only if it says so before. Temperatures
    are probed where the decision is most uncertain, and one whose first answers
    are all wrong is left at that. All answers are kept in OUT/probes; the same
    command continues.

    Examples:

    polaris-rollout temperature held-out.jsonl --model Qwen/Qwen3-4B --context 40960 --out runs/mine/stage-1

    polaris-rollout temperature held-out.jsonl --model runs/mine/stage-1/model --like runs/mine/stage-1 --out
    runs/mine/stage-2
    """
    from rich.console import Console

    from polaris_rollout.temperature.calibration import Calibration, calibrate
    from polaris_rollout.temperature.drawing import PLOT_NAMES
    from polaris_rollout.temperature.report import REPORT_NAME, describe_columns, describe_decision, report_table

    calibration = Calibration(
        target_diversity=target_diversity,
        target_entropy=target_entropy,
        like=like,
        at=at,
        max_loss=max_loss,
        lowest=lowest,
        highest=highest,
        num_problems=num_problems,
        measure=measure,
        batch=batch,
        answers=answers,
        token_budget=token_budget,
        max_tokens=max_tokens,
        seed=seed,
        suffix=suffix,
        grader=grader,
    )
    report = calibrate(problems, out, engine, calibration)
    path, *drawn = (out / name for name in (REPORT_NAME, *PLOT_NAMES))
    console = Console(highlight=False, soft_wrap=True)
    console.print(report_table(report))
    console.print(f"{describe_columns(report)}\n\n{describe_decision(report)}", markup=False)
    console.print(f"wrote {path}, {' and '.join(map(str, drawn))}", markup=False)
