"""The ``polaris-eval`` command."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from polaris_rollout import EngineSpec
from polaris_rollout.cli import engine_options

from polaris_eval.cli.benchmarks import list_command
from polaris_eval.cli.compare import compare_command
from polaris_eval.cli.grade import grade_command
from polaris_eval.cli.report import report_command

app = typer.Typer(
    help="Measure a model on benchmarks: scores with intervals that others can reproduce.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

DEFAULT_MODEL = "tiny"

app.command("list")(list_command)
app.command("compare")(compare_command)
app.command("grade")(grade_command)
app.command("report")(report_command)


@app.callback()
def _commands() -> None:  # pyright: ignore[reportUnusedFunction]
    """Keep the commands named when there are few."""


@app.command("run")
@engine_options(demo_model=False, least_context=None, yarn_factor=True)
def run_command(
    benchmarks: Annotated[
        list[str], typer.Argument(metavar="BENCHMARK...", help="Names (see `list`) or files of problems.")
    ],
    engine: EngineSpec,
    samples: Annotated[
        int | None,
        typer.Option(help="Completions per problem; the default is the benchmark's k, 8 for a file."),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the most likely token; the published evaluation uses 1.4.")
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option(help="Most likely tokens kept; 0 keeps all; the published evaluation uses 20.")
    ] = 0,
    top_p: Annotated[float, typer.Option(help="Nucleus mass; 1 keeps all.")] = 1.0,
    max_tokens: Annotated[
        int | None, typer.Option(help="Longest completion, in tokens; the default fills the context.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same completions.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Only the first problems of each benchmark.")] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of local copies (NAME.jsonl); the default is $POLARIS_BENCHMARKS."),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(
            help="Grade longer completions also as if they had been cut to so many tokens: 32768,49152 or none.  "
            "[default: 32, 48, 64, 80 and 96K below the longest completion, else sixths of that]",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; the default is eval/MODEL.")] = None,
) -> None:
    """Sample and grade benchmarks, and print mean@k with a 95% interval.

    Reads each benchmark from --data-dir, else from the Hugging Face Hub; a file is read as it is. The completions of
    all benchmarks are sampled together and graded meanwhile. Writes OUT/BENCHMARK/completions.jsonl,
    OUT/BENCHMARK/settings.json, OUT/scores.json with the protocol (everything that can change a score), OUT/report.md
    and OUT/report.html. Every finished completion is kept: the same command continues after a kill, and prints the
    table again once everything is done.

    Examples:

        polaris-eval run aime24 my-problems.jsonl --model Qwen/Qwen3-4B --top-k 20
        polaris-eval run aime24 aime25 --model runs/r1/stage-1/model --context 96000
        polaris-eval run math500 --model Qwen/Qwen3-4B --endpoint http://host:8000
    """
    from polaris_rollout import SamplingParams, model_config, model_positions, resolve_model, yarn_config

    from polaris_eval.running.budgets import default_budgets, parse_budgets
    from polaris_eval.running.job import plan_jobs
    from polaris_eval.running.protocol import run_settings
    from polaris_eval.running.run import CONVENTION, run_jobs

    _show_progress()
    params = SamplingParams(temperature=temperature, top_p=top_p, top_k=top_k, max_tokens=max_tokens, seed=seed)
    if not engine.model:
        print(f"no --model: evaluating the demonstration model {DEFAULT_MODEL!r}", file=sys.stderr)
        engine = replace(engine, model=DEFAULT_MODEL)
    out = out or Path("eval") / Path(engine.model).absolute().name
    if engine.yarn_factor is not None and engine.context is None:
        yarn = yarn_config(model_config(resolve_model(engine.model)), None, factor=engine.yarn_factor)
        engine = replace(engine, context=yarn["max_position_embeddings"])
    longest = (
        max_tokens or engine.context or (None if engine.endpoints else model_positions(resolve_model(engine.model)))
    )
    settings = run_settings(
        engine,
        params=params,
        convention=CONVENTION,
        budgets=default_budgets(longest) if budgets is None else parse_budgets(budgets),
    )
    jobs = plan_jobs(benchmarks, out=out, settings=settings, num_samples=samples, data_dir=data_dir, limit=limit)

    from polaris_eval.report.documents import write_reports
    from polaris_eval.report.tables import print_evaluations

    evaluations = run_jobs(jobs, engine, params=params, out=out)
    pages = write_reports(out)
    print_evaluations(evaluations, model=engine.model)
    print(f"scores: {out / 'scores.json'}\ncompletions: {out}/BENCHMARK/completions.jsonl")
    print(f"report: {' and '.join(map(str, pages))}")


def main() -> None:
    """Run the command line."""
    from polaris_data import DataError
    from polaris_reward import RewardError
    from polaris_rollout import RolloutError

    from polaris_eval.errors import EvalError

    try:
        app()
    except (EvalError, DataError, RolloutError, RewardError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _show_progress() -> None:
    """Let the lines of progress reach stderr that stand for the bar where none can be drawn."""
    import logging

    logger = logging.getLogger("polaris_rollout")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
