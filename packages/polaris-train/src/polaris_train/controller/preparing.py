"""The steps before the first stage: problems are imported, cleaned, divided, profiled and selected."""

from collections.abc import Iterator
from pathlib import Path

from polaris_data.problems import IMPORTERS
from polaris_eval import BENCHMARKS

from polaris_train.controller.options import engine_options, free_options, rule_options, suffix_option
from polaris_train.controller.step import Request, Step, beside, model_input
from polaris_train.recipe import Recipe, Stage
from polaris_train.recipe.tables import DataSource


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


def prepare_steps(request: Request) -> Iterator[Step]:
    """Yield the steps before the first stage."""
    recipe, folder = request.recipe, request.folder
    yield from _import(request)
    yield Step(
        name="check",
        meaning="keep the problems whose answers the grader can read and whose prompts fit",
        argv=(
            *("polaris-data", "check", str(folder.imported), "--out", str(folder.checked)),
            *("--model", recipe.model, "--max-prompt-tokens", str(recipe.max_prompt_tokens), *suffix_option(recipe)),
        ),
        inputs=(folder.imported, *model_input(recipe.model, folder)),
        outputs=(folder.checked,),
        owns=beside(folder.checked),
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
            owns=beside(part),
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
            owns=beside(folder.imported),
        )


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
            owns=beside(place),
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
            *engine_options(recipe, recipe.model, context=first.context),
            *suffix_option(recipe),
            *("--seed", str(recipe.seed), "--out", str(folder.profile)),
        ),
        inputs=(folder.training, *model_input(recipe.model, folder)),
        outputs=(folder.profile,),
        owns=beside(folder.profile),
        free=free_options(recipe),
    )


def _select(request: Request) -> Step:
    recipe, folder = request.recipe, request.folder
    return Step(
        name="select",
        meaning="drop what the model always solves",
        argv=(
            *("polaris-data", "select", str(folder.training), str(folder.profile)),
            *rule_options(recipe.data.select),
            *("--seed", str(recipe.seed), "--out", str(folder.selected.parent)),
        ),
        inputs=(folder.training, folder.profile),
        outputs=(folder.selected,),
        owns=(folder.selected.parent,),
    )
