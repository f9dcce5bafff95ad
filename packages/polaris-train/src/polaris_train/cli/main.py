"""The ``polaris-train`` command."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from polaris_train.cli.arguments import RecipeArgument, SetOption
from polaris_train.cli.export import export_command
from polaris_train.cli.merge import merge_command
from polaris_train.cli.plan import plan_command
from polaris_train.cli.sft import sft_command
from polaris_train.cli.verifier import verifier_app

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Train a reasoning model with GRPO, a stage at a time.",
)


@app.command()
def stage(
    recipe: RecipeArgument,
    stage: Annotated[str, typer.Argument(help="Name of the stage, e.g. stage-1.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/RECIPE.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Start from this model, not from the recipe's or the stage before.")
    ] = None,
    problems: Annotated[str | None, typer.Option(help="Train on these problems, not on the recipe's.")] = None,
    held_out: Annotated[
        str | None,
        typer.Option(help="What 'held-out' in evaluate_on means: problems that nothing is trained on."),
    ] = None,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Write the folder and say how to train it on several nodes.")
    ] = False,
    set_: SetOption = None,
) -> None:
    """Run one stage of a recipe, or continue it where it stopped.

    Reads the recipe and its problems; writes RUN/STAGE: resolved.json (everything that was decided),
    problems.jsonl, metrics.jsonl (a line a step), visits.jsonl (what each problem saw), rollouts/ (every
    completion), eval/ (if the recipe evaluates), checkpoints/ and, at the end, model/ (Hugging Face format) and
    outcome.json (why it ended, and which weights were chosen).

    A killed stage continues with the same command: finished steps are not sampled again.

    Examples:

        polaris-train stage tiny-cpu stage-1 --out runs/first --set stages.0.temperature=1.0
        polaris-train stage qwen3-4b stage-1 --out /shared/runs/4b --prepare-only
    """
    from polaris_train.errors import RecipeError
    from polaris_train.recipe import load_recipe
    from polaris_train.recipe.sft import SftStage
    from polaris_train.run_folder import StageFolder
    from polaris_train.stage import prepare_stage, run_stage, torchrun_line

    loaded = load_recipe(recipe, set_)
    chosen = loaded.stage(stage)
    if isinstance(chosen, SftStage):
        raise RecipeError(f"stage {stage!r} learns from traces: train it with 'polaris-train sft {recipe} {stage}'")
    run = out or Path("runs") / loaded.name
    prepared = prepare_stage(loaded, chosen, run, model=model, problems=problems, held_out=held_out)
    folder = StageFolder(prepared)
    if prepare_only:
        print(f"prepared: {folder.path}\nOn every node, with NUM_NODES and HEAD (host:port of one of them) set:")
        print(torchrun_line(folder.path))
        return
    if code := run_stage(folder.path):
        raise typer.Exit(code)
    outcome = folder.read_outcome()
    print(f"stopped: {outcome['stopped']['sentence']}\nchosen: {outcome['chosen']['sentence']}")
    print(f"model: {folder.model}\nmetrics: {folder.metrics}")


app.command("sft")(sft_command)
app.command("merge")(merge_command)
app.add_typer(verifier_app, name="verifier")


@app.command()
def show(
    recipe: Annotated[str | None, typer.Argument(help="A recipe; without it the packaged ones are listed.")] = None,
    set_: SetOption = None,
) -> None:
    """Check a recipe and print it with every default filled in.

    Example:

        polaris-train show qwen3-4b --set stages.0.temperature=1.2
    """
    from polaris_train.recipe import load_recipe, packaged_recipes

    if recipe is None:
        packaged = packaged_recipes()
        width = max(map(len, packaged)) + 2
        for name, path in packaged.items():
            print(f"{name:{width}}{path}")
        return
    print(load_recipe(recipe, set_).model_dump_json(indent=2))


app.command("export")(export_command)


@app.command()
def replay(
    folder: Annotated[Path, typer.Argument(help="Folder of a stage: RUN/STAGE.")],
    step: Annotated[int, typer.Argument(min=1, help="A step that the stage recorded.")],
    cpu: Annotated[bool, typer.Option("--cpu", help="Compute on the CPU, even where there is a GPU.")] = False,
    float32: Annotated[
        bool, typer.Option("--float32", help="Compute in float32: what is left is not the precision's fault.")
    ] = False,
) -> None:
    """Take a recorded step again and compare loss, gradient norm and every answer with what was recorded.

    Reads RUN/STAGE/capsules/step-N.parquet, which 'record_steps' in the recipe (or --set record_steps=1, also when a
    stage is continued) makes the stage write, and the weights that the step began from: the stage's first model, or
    the nearest checkpoint before it and the recorded steps since. Changes nothing. One process does it, however many
    ranks took the step.

    On a CPU, with one rank, the same program gives the same bits. Elsewhere rounding differs, and more than that is
    named with the answers that differ most.

    Exit code: 0 the same, or within rounding; 1 different; 2 the step cannot be taken again, and the message says why.

    Examples:

        polaris-train replay runs/4b/stage-1 48
        polaris-train replay runs/4b/stage-1 48 --cpu --float32
    """
    from polaris_train.run_folder import StageFolder
    from polaris_train.stage import describe_replay, replay_step

    found = replay_step(StageFolder(folder), step, cpu=cpu, float32=float32)
    print(describe_replay(found))
    raise typer.Exit(0 if found.agrees else 1)


@app.command("make-tiny")
def make_tiny(
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    seed: Annotated[int, typer.Option(help="Of the weights, the problems and the answer styles.")] = 0,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps; the embedded model's by default.")] = None,
) -> None:
    """Train the embedded tiny model from scratch; takes about ten minutes on two cores.

    Example:

        polaris-train make-tiny --out tiny
    """
    import logging

    from polaris_train.tiny import NUM_STEPS
    from polaris_train.tiny import make_tiny as make

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    make(out, seed=seed, num_steps=steps or NUM_STEPS)
    print(f"model: {out}")


app.command("plan")(plan_command)


def main() -> None:
    """Run the command line."""
    run_app(app)


def run_app(app: typer.Typer) -> None:
    """Run a command line; an error that a user can mend is one sentence and exit code 2."""
    from polaris_data import DataError
    from polaris_eval import EvalError
    from polaris_reward import RewardError
    from polaris_rollout import RolloutError

    from polaris_train.errors import TrainError

    try:
        app()
    except (DataError, EvalError, RewardError, RolloutError, TrainError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
