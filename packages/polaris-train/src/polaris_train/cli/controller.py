"""The commands about a whole recipe: ``polaris plan``, ``run``, ``status`` and ``why``."""

from pathlib import Path
from typing import Annotated

import typer

from polaris_train.cli.arguments import RecipeArgument, SetOption

OutOption = Annotated[
    Path | None, typer.Option(file_okay=False, help="Run folder.  [default: runs/RECIPE]", show_default=False)
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.", show_default=False)]


def plan_command(recipe: RecipeArgument, out: OutOption = None, set_: SetOption = None) -> None:
    """Print the commands that 'polaris run' would give, and what is done already.

    Reads the recipe and the run folder, writes nothing. Each command can be typed by hand, one after the other, with
    the same result. What is missing on this machine is named, with the way to give it.

    Example:

        polaris plan qwen3-4b --out runs/4b
    """
    from polaris_train.controller import describe_plan, missing_inputs, plan_steps, request_of, step_states

    request = request_of(recipe, set_ or [], out)
    steps = plan_steps(request)
    print(describe_plan(step_states(steps, request.folder)))
    for line in missing_inputs(request, steps):
        print(f"\nmissing: {line}")
    print(f"\nmemory and hours: polaris-train plan {recipe} --gpus N")


def run_command(
    recipe: RecipeArgument,
    out: OutOption = None,
    redo: Annotated[
        bool, typer.Option("--redo", help="Put aside what was made with other settings, and make it again.")
    ] = False,
    until: Annotated[
        str | None, typer.Option(metavar="STEP", help="Do what comes before this step, e.g. stage-1.train.")
    ] = None,
    set_: SetOption = None,
) -> None:
    """Do a whole recipe: import, profile, select, temperature, stages, evaluation, report.

    Gives the commands that 'polaris plan' prints, skipping what its manifest proves done. Killed at any moment, the
    same command continues. 'polaris status' looks on from another terminal, 'polaris why' tells the reasons.

    A change of the recipe is named with all that it would make out of date before anything is done; --redo then puts
    the old results into RUN/superseded, and only what depends on the change is made again.

    On several nodes each is given this command, with torchrun's PET_NNODES, PET_NODE_RANK and PET_RDZV_ENDPOINT set:
    the first does the steps, the others train with it in every stage. 'polaris launch' does that with a scheduler.

    Examples:

        polaris run tiny-cpu
        polaris run qwen3-4b --out runs/4b --set problems=my.jsonl
    """
    from polaris_train.controller import request_of, run_recipe

    request = request_of(recipe, set_ or [], out)
    if code := run_recipe(request, redo=redo, until=until):
        raise typer.Exit(code)
    if until is not None:
        print(f"done up to {until}: {request.folder.path}; the same command without --until continues")
        return
    print(f"report: {request.folder.report}\nreasons: polaris why {request.folder.path}")


def status_command(run: RunArgument) -> None:
    """Tell what a run is doing: steps done, how far the one that runs is, time left, last alarm.

    Reads the run folder only, so it works while the run goes on, from any terminal.

    Example:

        polaris status runs/4b
    """
    from polaris_train.controller import describe_status
    from polaris_train.run_folder import RunFolder

    print(describe_status(RunFolder(run)))


def why_command(
    run: RunArgument,
    subject: Annotated[
        str | None,
        typer.Argument(
            metavar="[STAGE|PROBLEM_ID]", help="One stage, or one problem's whole history.", show_default=False
        ),
    ] = None,
) -> None:
    """Tell each decision of a run with its evidence.

    Examples:

        polaris why runs/4b
        polaris why runs/4b stage-2
        polaris why runs/4b synthetic-8a7f9b305fa6
    """
    from polaris_train.controller import describe_reasons, explain_run
    from polaris_train.run_folder import RunFolder

    print(describe_reasons(explain_run(RunFolder(run), subject)))
