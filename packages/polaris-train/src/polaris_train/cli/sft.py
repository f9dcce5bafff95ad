"""The command ``polaris-train sft``."""

from pathlib import Path
from typing import Annotated

import typer

from polaris_train.cli.arguments import RecipeArgument, SetOption


def sft_command(
    recipe: RecipeArgument,
    stage: Annotated[
        str | None,
        typer.Argument(help="Name of the stage.  [default: the recipe's only one of that kind]", show_default=False),
    ] = None,
    traces: Annotated[str | None, typer.Option(help="Learn from these traces, not from the stage's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/RECIPE.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Start from this model, not from the recipe's or the stage before.")
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(help="What 'held-out' in evaluate_on means: problems that nothing is trained on."),
    ] = None,
    prepare_only: Annotated[
        bool, typer.Option("--prepare-only", help="Write the folder and say how to train it on several nodes.")
    ] = False,
    set_: SetOption = None,
) -> None:
    """Run a recipe's stage of supervised fine-tuning, or continue it where it stopped.

    Reads conversations ('messages', as polaris-data traces writes them) and learns what the assistant says in them,
    nothing else: no prompt, no user, no text of the template. Traces that do not fit into the stage's context, that ask
    held-out problems, or that the model's chat template does not show whole are set aside and named. Writes RUN/STAGE:
    resolved.json, sequences.arrow (the tokens), metrics.jsonl (a line a step), eval/, checkpoints/ and, at the end,
    model/ (Hugging Face format) and outcome.json, as 'polaris-train stage' does. The next stage starts from that model.

    Examples:

        polaris-train sft my-recipe.toml --traces traces.jsonl --out runs/first
        polaris-train sft my-recipe.toml warm-up --set stages.0.epochs=2
    """
    import logging
    import sys

    from polaris_train.errors import RecipeError
    from polaris_train.recipe import load_recipe
    from polaris_train.recipe.sft import SftStage
    from polaris_train.run_folder import StageFolder
    from polaris_train.sft import prepare_sft
    from polaris_train.stage import run_stage, torchrun_line

    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    loaded = load_recipe(recipe, set_)
    found = [each for each in loaded.stages if isinstance(each, SftStage) and stage in (None, each.name)]
    if len(found) != 1:
        names = [each.name for each in loaded.stages if isinstance(each, SftStage)]
        raise RecipeError(
            f"recipe {loaded.name!r} has no single stage {stage or ''!r} of kind sft: those of the kind are {names}; "
            'name one of them, or add [[stages]] with kind = "sft"'
        )
    run = out or Path("runs") / loaded.name
    folder = StageFolder(prepare_sft(loaded, found[0], run, model=model, traces=traces, held_out=held_out))
    if prepare_only:
        print(f"prepared: {folder.path}\nOn every node, with NUM_NODES and HEAD (host:port of one of them) set:")
        print(torchrun_line(folder.path))
        return
    if code := run_stage(folder.path):
        raise typer.Exit(code)
    outcome = folder.read_outcome()
    print(f"stopped: {outcome['stopped']['sentence']}\nchosen: {outcome['chosen']['sentence']}")
    print(f"model: {folder.model}\nmetrics: {folder.metrics}")
