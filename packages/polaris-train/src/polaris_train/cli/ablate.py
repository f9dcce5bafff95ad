"""``polaris ablate``: whether each part of a recipe helps."""

from pathlib import Path
from typing import Annotated

import typer

from polaris_train.cli.arguments import RecipeArgument, SetOption


def ablate_command(
    recipe: RecipeArgument,
    arms: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Arms to run.  [default: all that differ]", show_default=False)
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each arm; intervals need 2, and are wide with 2.")] = 5,
    tokens: Annotated[
        int | None,
        typer.Option(min=1, help="That each run samples.  [default: as the full recipe did]", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder.  [default: ablations/RECIPE]", show_default=False)
    ] = None,
    set_: SetOption = None,
) -> None:
    """Test whether each part of a recipe helps, at equal sampled tokens.

    Arms, each with what the one before has:

    - plain: GRPO on all problems, temperature 1, one stage at the first stage's context
    - data: problems are profiled and selected
    - temperature: the recipe's temperatures, reset in each of its stages, all at the first one's context
    - dropping: mastered problems are dropped between stages
    - rescue: groups that all failed get an earlier answer
    - full: contexts grow, which makes it the recipe as it is
    - single: the full recipe, but one stage at the last one's context
    - core: plain, and wrong answers are rewarded for their intermediate results, where the recipe has [core]
    - distillation: plain, and a teacher judges every token, where the recipe has [distillation]

    YaRN is a column: the same models, read out longer.

    The full recipe runs first, and what it samples for profile, temperatures and training is what every other arm of
    the same seed may sample: an arm without a part trains longer instead. All arms of a seed have the same problems,
    split and first model; every arm is an ordinary 'polaris run' of DIR/arms/ARM.toml in DIR/ARM/seed-S. What two arms
    do alike is done once. A killed ablation continues with the same command; more arms or seeds may be added.

    Writes ablation.json, ablation.md and ablation.html after each seed: differences are paired by seed and problem,
    with intervals over seeds, over problems, and over both. A part that does not help is shown as found.

    Examples:

        polaris ablate tiny-cpu --seeds 5
        polaris ablate tiny-cpu --arms plain,full --seeds 2 --out ablations/short --set limit=200
    """
    from polaris_train.ablation import Ablation, chosen_arms, describe_ablation, run_ablation
    from polaris_train.recipe import load_recipe

    loaded = load_recipe(recipe, set_)
    ablation = Ablation(
        recipe=loaded,
        arms=chosen_arms(loaded, None if arms is None else [name.strip() for name in arms.split(",")]),
        seeds=tuple(range(loaded.seed, loaded.seed + seeds)),
        out=out or Path("ablations") / loaded.name,
        tokens=tokens,
    )
    if seeds < 2:
        typer.echo("one seed says nothing about how another training would end; give --seeds 2 or more", err=True)
    if code := run_ablation(ablation):
        raise typer.Exit(code)
    print(describe_ablation(ablation))
    print("\n".join(str(path) for path in ablation.results))
