"""The steps of a recipe: from raw sets to the last evaluation, each one a command that a person could type.

No command depends on what is only found out on the way: a temperature that is searched for, the checkpoint that a
stage chooses and the problems that are left lie in the run folder under names that are known beforehand.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from polaris_data import PROMPT_SUFFIX
from polaris_data.problems import IMPORTERS
from polaris_eval import BENCHMARKS

from polaris_train.controller.sft_step import sft_steps
from polaris_train.controller.step import Request, Step, deciding, model_input, of_stages, set_options
from polaris_train.recipe import Recipe, Stage
from polaris_train.recipe_sft import SftStage
from polaris_train.recipe_tables import AUTO, DataSource
from polaris_train.run_folder import StageFolder


def plan_steps(request: Request) -> list[Step]:
    """Return the steps of a recipe in their order."""
    recipe, folder = request.recipe, request.folder
    steps = [*_prepare(request)]
    steps += _evaluation(
        request, "start", recipe.model, context=None if recipe.extend_positions else recipe.evaluation_context
    )
    for index, stage in enumerate(recipe.stages):
        steps += sft_steps(request, index, stage) if isinstance(stage, SftStage) else _stage(request, index, stage)
    model = str(folder.stage(recipe.stages[-1].name).model)
    steps += _evaluation(request, "final", model, context=recipe.evaluation_context)
    if recipe.uses_yarn:
        steps += _evaluation(request, "yarn", model, context=recipe.evaluation.yarn_context)
    return [*steps, _report(request, steps)]


def benchmarks_against(recipe: Recipe) -> tuple[str, ...]:
    """Return what training problems are compared with, so that none of it is trained on."""
    named = recipe.data.decontaminate
    return recipe.evaluation.benchmarks if named is None else named


def data_sources(recipe: Recipe) -> tuple[DataSource, ...]:
    """Return what training problems are imported from."""
    if recipe.data.sources:
        return recipe.data.sources
    known = {importer.hub_id: name for name, importer in IMPORTERS.items()}
    if recipe.problems in known:
        return (DataSource(importer=known[recipe.problems]),)
    return (DataSource(path=recipe.problems),)


def _prepare(request: Request) -> Iterator[Step]:
    """Yield the steps before the first stage."""
    recipe, folder = request.recipe, request.folder
    yield from _import(request)
    yield Step(
        name="check",
        meaning="keep the problems whose answers the grader can read and whose prompts fit",
        argv=(
            *("polaris-data", "check", str(folder.imported), "--out", str(folder.checked)),
            *("--model", recipe.model, "--max-prompt-tokens", str(recipe.max_prompt_tokens), *_suffix(recipe)),
        ),
        inputs=(folder.imported, *model_input(recipe.model, folder)),
        outputs=(folder.checked,),
        owns=_beside(folder.checked),
    )
    found = folder.checked
    if recipe.data.dedup:
        yield Step(
            name="dedup",
            meaning="keep one of each cluster of near-duplicates",
            argv=("polaris-data", "dedup", str(found), "--out", str(folder.deduplicated.parent)),
            inputs=(found,),
            outputs=(folder.deduplicated,),
            owns=(folder.deduplicated.parent,),
        )
        found = folder.deduplicated
    if benchmarks_against(recipe):
        yield from _decontaminate(request, found)
        found = folder.decontaminated
    yield Step(
        name="split",
        meaning="hold problems out that nothing is trained on",
        argv=(
            *("polaris-data", "split", str(found), "--held-out", str(recipe.held_out)),
            *("--seed", str(recipe.seed), "--out", str(folder.training.parent)),
        ),
        inputs=(found,),
        outputs=(folder.training, folder.held_out),
        owns=(folder.training.parent,),
    )
    if recipe.data.select:
        yield _profile(request)
        yield _select(request)


def _decontaminate(request: Request, found: Path) -> Iterator[Step]:
    """Yield the steps that fetch the benchmarks with a name, and the one that drops what all of them ask."""
    folder = request.folder
    against = benchmarks_against(request.recipe)
    fetched = {name: folder.benchmark(name) for name in against if name in BENCHMARKS}
    for name, place in fetched.items():
        yield Step(
            name=f"benchmark.{name}",
            meaning=f"fetch the problems of {name}",
            argv=("polaris-eval", "list", name, "--out", str(place)),
            outputs=(place,),
            owns=_beside(place),
        )
    places = [fetched.get(name, Path(name)) for name in against]
    yield Step(
        name="decontaminate",
        meaning="drop what the benchmarks ask",
        argv=(
            *("polaris-data", "decontaminate", str(found)),
            *(word for place in places for word in ("--against", str(place))),
            *("--out", str(folder.decontaminated.parent)),
        ),
        inputs=(found, *(place for place in places if place in fetched.values() or place.is_file())),
        outputs=(folder.decontaminated,),
        owns=(folder.decontaminated.parent,),
    )


def _select(request: Request) -> Step:
    recipe, folder = request.recipe, request.folder
    return Step(
        name="select",
        meaning="drop what the model always solves",
        argv=(
            *("polaris-data", "select", str(folder.training), str(folder.profile)),
            *_rules(recipe.data.select),
            *("--seed", str(recipe.seed), "--out", str(folder.selected.parent)),
        ),
        inputs=(folder.training, folder.profile),
        outputs=(folder.selected,),
        owns=(folder.selected.parent,),
    )


def _suffix(recipe: Recipe) -> tuple[str, ...]:
    return () if recipe.prompt_suffix == PROMPT_SUFFIX else ("--suffix", recipe.prompt_suffix)


def _import(request: Request) -> Iterator[Step]:
    recipe, folder = request.recipe, request.folder
    sources = data_sources(recipe)
    limit = () if recipe.limit is None else ("--limit", str(recipe.limit))
    if [source.path for source in sources] == ["synthetic"]:
        yield Step(
            name="import",
            meaning="generate the problems",
            argv=(
                *("polaris-data", "synthetic", *(("--num", limit[1]) if limit else ())),
                *("--seed", str(recipe.seed), "--out", str(folder.imported)),
            ),
            outputs=(folder.imported,),
        )
        return
    parts = [folder.imported] if len(sources) == 1 else [folder.part(number) for number in range(1, len(sources) + 1)]
    for number, (source, part) in enumerate(zip(sources, parts, strict=True), 1):
        given = () if source.path is None else (source.path,)
        yield Step(
            name="import" if len(sources) == 1 else f"import.{number}",
            meaning=f"read {source.path or source.importer}",
            argv=(
                *("polaris-data", "import", *given),
                *(() if source.importer is None else ("--from", source.importer)),
                *(() if source.columns is None else ("--columns", source.columns)),
                *(word for name, values in source.where.items() for word in ("--where", f"{name}={','.join(values)}")),
                *(() if source.answer_from == "answer" else ("--answer-from", source.answer_from)),
                *(("--join-parts",) if source.join_parts else ()),
                *(limit if len(sources) == 1 else ()),
                *("--out", str(part)),
            ),
            inputs=tuple(Path(each) for each in given if Path(each).exists()),
            outputs=(part,),
            owns=_beside(part),
        )
    if len(sources) > 1:
        yield Step(
            name="import",
            meaning="put them together",
            argv=(
                *("polaris-data", "import", *map(str, parts), *limit),
                *("--ids", "prefixed", "--out", str(folder.imported)),
            ),
            inputs=tuple(parts),
            outputs=(folder.imported,),
            owns=_beside(folder.imported),
        )


def _profile(request: Request) -> Step:
    recipe, folder = request.recipe, request.folder
    first = next((each for each in recipe.stages if isinstance(each, Stage)), recipe.stages[0])
    return Step(
        name="profile",
        meaning=f"sample each problem {recipe.data.profile_samples} times with the model",
        argv=(
            *("polaris-data", "profile", str(folder.training)),
            *("--samples", str(recipe.data.profile_samples), "--temperature", f"{recipe.data.profile_temperature:g}"),
            *(("--adaptive",) if recipe.data.adaptive else ()),
            *_engine(recipe, recipe.model, context=first.context),
            *_suffix(recipe),
            *("--seed", str(recipe.seed), "--out", str(folder.profile)),
        ),
        inputs=(folder.training, *model_input(recipe.model, folder)),
        outputs=(folder.profile,),
        owns=_beside(folder.profile),
        free=_free_options(recipe),
    )


def _stage(request: Request, index: int, stage: Stage) -> Iterator[Step]:
    """Yield the steps of one stage: what it trains on, how hot, and the training."""
    recipe, folder = request.recipe, request.folder
    own, taught = folder.stage(stage.name), recipe.distillation
    problems, start = _given(request, index), recipe.model
    if index:
        start = str(folder.stage(recipe.stages[index - 1].name).model)
    earlier = _reinforced(request, index)
    if earlier and recipe.data.drop:
        yield _drop(request, own, before=earlier[-1])
    first = folder.stage(recipe.stages[earlier[0]].name) if earlier else None
    # What a first stage's diversity is, later ones restore.
    is_first = first is None and recipe.temperature.target_entropy is None
    if stage.temperature == AUTO or (is_first and any(each.temperature == AUTO for each in recipe.stages)):
        yield _temperature(request, stage, own, start, like=first)
    yield Step(
        name=f"{stage.name}.train",
        meaning=f"train {_how_long(stage)} at a context of {stage.context:,}{_on_what(stage)}",
        argv=(
            *("polaris-train", "stage", request.argument, stage.name, "--out", str(folder.path)),
            *("--problems", str(problems)),
            *(("--held-out", str(folder.held_out)) if recipe.evaluate_every else ()),
            *set_options(of_stages(request.overrides)),
        ),
        inputs=(
            problems,
            *((folder.held_out,) if recipe.evaluate_every else ()),
            *((own.temperature,) if stage.temperature == AUTO else ()),
            *(_evidence(request, index) if stage.select or stage.hint_share else ()),
            *model_input(start, folder),
            *(() if taught is None or taught.is_served else model_input(taught.teacher, folder)),
        ),
        outputs=(own.model, own.outcome, own.visits),
        trains=own.path,
        owns=own.training_files,
        recipe=deciding(recipe.constants() | recipe.engine_tables()) | {"stage": stage.model_dump()},
        extending=frozenset(
            f"stage.{name}"
            for name in ("steps", "plateau_window", "first_step_truncation", "truncation_limit", "max_sampled_tokens")
        ),
        free=(request.argument, *set_options(request.overrides)),
    )


def _evidence(request: Request, index: int) -> Iterator[Path]:
    """Yield what is known of a stage's problems before it: their profile, and what earlier stages saw."""
    if request.recipe.data.select:
        yield request.folder.profile
    for number in _reinforced(request, index):
        yield request.folder.stage(request.recipe.stages[number].name).visits


def _reinforced(request: Request, index: int) -> list[int]:
    """Return which of the stages before one learn from their own answers."""
    return [number for number, each in enumerate(request.recipe.stages[:index]) if isinstance(each, Stage)]


def _drop(request: Request, own: StageFolder, *, before: int) -> Step:
    recipe, problems = request.recipe, _given(request, before)
    visits = request.folder.stage(recipe.stages[before].name).visits
    return Step(
        name=f"{own.path.name}.drop",
        meaning="drop what has been mastered",
        argv=(
            *("polaris-data", "select", str(problems), "--visits", str(visits)),
            *_rules(recipe.data.drop),
            *("--seed", str(recipe.seed), "--out", str(own.selected.parent)),
        ),
        inputs=(problems, visits),
        outputs=(own.selected,),
        owns=(own.selected.parent,),
    )


def _how_long(stage: Stage) -> str:
    most = stage.max_sampled_tokens
    return f"up to {stage.steps} steps" if most is None else f"until {most:,} tokens are sampled"


def _on_what(stage: Stage) -> str:
    return f" with {', '.join(stage.select)}" if stage.select else ""


def _temperature(request: Request, stage: Stage, own: StageFolder, start: str, *, like: StageFolder | None) -> Step:
    recipe, folder, table = request.recipe, request.folder, request.recipe.temperature
    restored = like if table.target_entropy is None else None
    if table.target_entropy is not None:
        sought = ("--num-problems", str(table.num_problems), "--target-entropy", f"{table.target_entropy:g}")
        meaning = f"find where the entropy of a token is {table.target_entropy:g}"
    elif restored is not None:
        meaning, sought = "restore the diversity of stage 1", ("--like", str(restored.path))
    else:
        sought = ("--num-problems", str(table.num_problems), "--max-loss", f"{table.max_loss:g}")
        meaning = "find where controlled exploration starts"
        if stage.temperature != AUTO:
            meaning, sought = "measure how diverse it is there", (*sought, "--at", f"{stage.temperature:g}")
    return Step(
        name=f"{stage.name}.temperature",
        meaning=meaning,
        argv=(
            *("polaris-rollout", "temperature", str(folder.held_out)),
            *_engine(recipe, start, context=stage.context),
            *(("--extend-positions",) if recipe.extend_positions else ()),
            *sought,
            *(() if table.answers is None else ("--answers", str(table.answers))),
            *_suffix(recipe),
            *("--seed", str(recipe.seed), "--out", str(own.path)),
        ),
        inputs=(
            folder.held_out,
            *model_input(start, folder),
            *(() if restored is None else (restored.temperature,)),
        ),
        outputs=(own.temperature,),
        owns=own.temperature_files,
        # A temperature that an older version found, with YaRN in its place, is kept.
        free=(*(("--extend-positions",) if recipe.extend_positions else ()), *_free_options(recipe)),
    )


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
            *_engine(recipe, model, context=context),
            *(() if table.limit is None else ("--limit", str(table.limit))),
            *(() if table.samples is None else ("--samples", str(table.samples))),
            *("--temperature", f"{table.temperature:g}", "--top-k", str(table.top_k)),
            *_suffix(recipe),
            *("--seed", str(recipe.seed), "--out", str(out)),
        ),
        inputs=(
            *(Path(each) for each in table.benchmarks if Path(each).is_file()),
            *model_input(model, request.folder),
        ),
        outputs=(request.folder.scores(name),),
        owns=(out,),
        free=_free_options(recipe),
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
        owns=_beside(folder.report),
    )


def _given(request: Request, index: int) -> Path:
    """Return the problems that a stage is given."""
    stages, folder = request.recipe.stages, request.folder
    if _reinforced(request, index) and request.recipe.data.drop:
        return folder.stage(stages[index].name).selected
    return folder.selected if request.recipe.data.select else folder.training


def _engine(recipe: Recipe, model: str, *, context: int | None) -> Iterator[str]:
    yield from ("--model", model)
    if context is not None:
        yield from ("--context", str(context))
    if recipe.tensor_parallel > 1:
        yield from ("--tensor-parallel", str(recipe.tensor_parallel))
    for option in _engine_options(recipe.engine):
        yield from ("--engine-option", option)


def _engine_options(options: Mapping[str, Any]) -> list[str]:
    return [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in options.items()]


def _free_options(recipe: Recipe) -> tuple[str, ...]:
    """Return the words of a command that say how much room an engine has."""
    room = _engine_options(recipe.engine_tables()["engine_room"])
    return tuple(word for option in room for word in ("--engine-option", option))


def _rules(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        yield from ("--rule", line)


def _beside(path: Path) -> tuple[Path, ...]:
    """Return a pattern of the files that belong to one: its settings, what was set aside, its lock."""
    return (path.with_name(f"{path.stem}.*"),)
