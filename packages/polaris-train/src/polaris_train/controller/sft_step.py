"""The steps of a stage of supervised fine-tuning: its traces, where the run makes them itself, and the training."""

from collections.abc import Iterator
from pathlib import Path

from polaris_data.profile import rollouts_path

from polaris_train.controller.options import of_stages, set_options, suffix_option
from polaris_train.controller.step import Request, Step, deciding, model_input
from polaris_train.recipe.sft import OWN_TRACES, SftStage

_OF_REINFORCEMENT = ("learning_rate", "lr_schedule", "lr_warmup_steps", "lr_decay_steps", "lr_min_ratio")
"""Constants of a recipe in whose place such a stage has its own."""


def sft_steps(request: Request, index: int, stage: SftStage) -> Iterator[Step]:
    """Yield the steps of one stage."""
    recipe, folder = request.recipe, request.folder
    own = folder.stage(stage.name)
    start = str(folder.stage(recipe.stages[index - 1].name).model) if index else recipe.model
    traces = stage.traces
    if stage.traces == OWN_TRACES:
        traces = str(own.traces)
        rollouts = rollouts_path(folder.profile)
        yield Step(
            name=f"{stage.name}.traces",
            meaning="take the correct answers of the profile as traces",
            argv=(
                *("polaris-data", "traces", str(folder.training), str(rollouts)),
                *suffix_option(recipe),
                *("--out", traces),
            ),
            inputs=(folder.training, folder.profile),
            outputs=(own.traces,),
            owns=(own.traces_files,),
        )
    given = (Path(traces),) if stage.traces == OWN_TRACES or Path(traces).is_file() else ()
    constants = deciding(recipe.constants() | recipe.engine_tables())
    yield Step(
        name=f"{stage.name}.train",
        meaning=f"learn from traces for {stage.epochs} epoch{'s' if stage.epochs > 1 else ''}",
        argv=(
            *("polaris-train", "sft", request.argument, stage.name, "--out", str(folder.path)),
            *("--traces", traces, "--held-out", str(folder.held_out)),
            *set_options(of_stages(request.overrides)),
        ),
        inputs=(*given, folder.held_out, *model_input(start, folder)),
        outputs=(own.model, own.outcome),
        trains=own.path,
        owns=own.training_files,
        recipe={name: each for name, each in constants.items() if name not in _OF_REINFORCEMENT}
        | {"stage": stage.model_dump()},
        free=(request.argument, *set_options(request.overrides)),
    )
