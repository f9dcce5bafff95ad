"""The command ``polaris-train plan``."""

from typing import Annotated

import typer

from polaris_train.cli.arguments import SetOption


def plan_command(
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A recipe's TOML file, or a packaged recipe; without it, what fits: models x contexts x cards."
        ),
    ] = None,
    gpus: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cards, one rank on each.  [default: the recipe's num_processes, or 8]", show_default=False
        ),
    ] = None,
    gpu: Annotated[
        str, typer.Option(help="Kind of card, such as h100, a100-40gb or rtx-4090; 'cpu' for none.")
    ] = "h100",
    gpu_memory: Annotated[
        float | None,
        typer.Option(help="GiB of each card, or of the host on a CPU.  [default: as sold]", show_default=False),
    ] = None,
    host_memory: Annotated[
        float | None,
        typer.Option(help="GiB of the host, for what is offloaded.  [default: twice its cards']", show_default=False),
    ] = None,
    answer_tokens: Annotated[
        int | None,
        typer.Option(help="Mean length of an answer.  [default: 0.375 of the longest]", show_default=False),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Take one worst-case step here, with the real trainer, and show its peak beside the plan."
        ),
    ] = False,
    set_: SetOption = None,
) -> None:
    """Tell what a recipe needs before anything starts: memory of each rank, what is derived from it, hours.

    Reads the recipe and the model's configuration; needs no card, and no network for the models it knows. Memory is
    counted by formula, for training and for sampling; what the recipe leaves open (the engine's share of a card,
    answers in flight, micro-batches, offloading) is derived as the run itself derives it.

    A recipe that cannot fit is refused with exit code 2 and the three cheapest changes that make it fit, as --set takes
    them.

    --probe plans no other machine: it loads the model on the ranks of this one, takes two steps of full micro-batches
    of the longest context, and shows the measured peak of training beside the planned one.

    Examples:

        polaris-train plan qwen3-4b --gpus 8 --gpu-memory 80
        polaris-train plan mine.toml --gpus 1 --gpu rtx-4090 --set lora.rank=64
        polaris-train plan tiny-cpu --probe
    """
    from polaris_train.errors import PlanError
    from polaris_train.planning import (
        cheapest_fixes,
        describe_plan,
        find_machine,
        fits_table,
        plan_recipe,
        refusal,
    )
    from polaris_train.recipe import load_recipe

    if recipe is None:
        print(fits_table())
        return
    loaded = load_recipe(recipe, set_)
    if probe:
        from polaris_train.stage import describe_probe, probe_recipe

        print(describe_probe(probe_recipe(loaded)))
        return
    num_ranks = gpus or loaded.num_processes or (1 if gpu == "cpu" else 8)
    machine = find_machine(gpu, num_ranks=num_ranks, memory_gib=gpu_memory, host_gib=host_memory)
    plan = plan_recipe(loaded, machine, answer_tokens=answer_tokens)
    print(describe_plan(plan))
    if plan.problems:
        raise PlanError(refusal(plan, cheapest_fixes(recipe, set_ or [], machine, answer_tokens=answer_tokens)))
