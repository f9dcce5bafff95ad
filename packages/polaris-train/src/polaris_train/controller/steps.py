"""The steps of a recipe: from raw sets to the last evaluation, each one a command that a person could type.

No command depends on what is only found out on the way: a temperature that is searched for, the checkpoint that a
stage chooses and the problems that are left lie in the run folder under names that are known beforehand.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from polaris_train.controller.grpo_step import grpo_steps
from polaris_train.controller.options import engine_options, free_options, suffix_option
from polaris_train.controller.preparing import prepare_steps
from polaris_train.controller.sft_step import sft_steps
from polaris_train.controller.step import Request, Step, beside, model_input
from polaris_train.recipe.sft import SftStage


def plan_steps(request: Request) -> list[Step]:
    """Return the steps of a recipe in their order."""
    recipe, folder = request.recipe, request.folder
    steps = [*prepare_steps(request)]
    steps += _evaluation(
        request, "start", recipe.model, context=None if recipe.extend_positions else recipe.evaluation_context
    )
    for index, stage in enumerate(recipe.stages):
        steps += sft_steps(request, index, stage) if isinstance(stage, SftStage) else grpo_steps(request, index, stage)
    model = str(folder.stage(recipe.stages[-1].name).model)
    steps += _evaluation(request, "final", model, context=recipe.evaluation_context)
    if recipe.uses_yarn:
        steps += _evaluation(request, "yarn", model, context=recipe.evaluation.yarn_context)
    return [*steps, _report(request, steps)]


def _evaluation(request: Request, name: str, model: str, *, context: int | None) -> Iterator[Step]:
    recipe, table = request.recipe, request.recipe.evaluation
    if not table.benchmarks:
        return
    out = request.folder.evaluation(name)
    meanings = {"start": "the first model", "final": "the last model", "yarn": "the last model, read out with YaRN"}
    yield Step(
        name=f"evaluate.{name}",
        meaning=f"measure {meanings[name]}",
        argv=(
            *("polaris-eval", "run", *table.benchmarks),
            *engine_options(recipe, model, context=context),
            *(() if table.limit is None else ("--limit", str(table.limit))),
            *(() if table.samples is None else ("--samples", str(table.samples))),
            *("--temperature", f"{table.temperature:g}", "--top-k", str(table.top_k)),
            *suffix_option(recipe),
            *("--seed", str(recipe.seed), "--out", str(out)),
        ),
        inputs=(
            *(Path(each) for each in table.benchmarks if Path(each).is_file()),
            *model_input(model, request.folder),
        ),
        outputs=(request.folder.scores(name),),
        owns=(out,),
        free=free_options(recipe),
    )


def _report(request: Request, steps: Sequence[Step]) -> Step:
    folder = request.folder
    return Step(
        name="report",
        meaning="put it all on one page",
        argv=("polaris", "report", str(folder.path)),
        inputs=(
            *(folder.stage(stage.name).outcome for stage in request.recipe.stages),
            *(path for step in steps if step.name.startswith("evaluate.") for path in step.outputs),
        ),
        outputs=(folder.report,),
        owns=beside(folder.report),
    )
