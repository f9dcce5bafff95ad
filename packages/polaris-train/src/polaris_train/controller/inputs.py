"""What a recipe needs from outside, and how to give what is missing, before anything is begun."""

from collections.abc import Sequence
from pathlib import Path
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

from polaris_data.problems import IMPORTERS
from polaris_eval import BENCHMARKS
from polaris_eval.benchmarks import local_copy
from polaris_rollout import ModelError, resolve_model

from polaris_train.controller.preparing import benchmarks_against, data_sources
from polaris_train.controller.step import Request, Step
from polaris_train.model.trainable import check_model

_PATIENCE_S = 10.0
"""For an answer of the Hub."""


def missing_inputs(request: Request, steps: Sequence[Step]) -> list[str]:
    """Return what is not on this machine and cannot be had from the Hub, each with what to do.

    What earlier runs of the steps left behind counts: a set that was imported is not asked for again.

    Args:
        request: The recipe and the run folder.
        steps: Of the recipe.
    """
    made = {step.name for step in steps if request.folder.manifest(step.name).exists()}
    models, taught = {"model": request.recipe.model}, request.recipe.distillation
    if taught and not taught.is_served:
        models["distillation.teacher"] = taught.teacher
    degree = request.recipe.context_parallel
    return [
        *(line for name, model in models.items() for line in _model(model, name, context_parallel=degree)),
        *([] if "import" in made else _problems(request)),
        *_benchmarks(request, made),
    ]


def _model(model: str, setting: str, *, context_parallel: int | None) -> list[str]:
    try:
        resolved = resolve_model(model)
    except ModelError as error:
        return [f"{setting}: {error}; change it with --set {setting}=FOLDER"]
    if not Path(resolved).is_dir() and not _on_hub(resolved, "model"):
        return [
            f"{setting}: {model!r} is not in the local cache and the Hub cannot be reached; on a machine that can, "
            f"hf download {model} --local-dir FOLDER, and give --set {setting}=FOLDER"
        ]
    try:
        check_model(_cached(resolved), name=model, context_parallel=context_parallel)
    except ModelError as error:
        return [f"{setting}: {error}"]
    return []


def _cached(model: str) -> str:
    """Return the folder of a resolved model's configuration where it is on this machine, so that no Hub is asked."""
    from huggingface_hub import constants, try_to_load_from_cache

    if Path(model).is_dir():
        return model
    found = try_to_load_from_cache(model, constants.CONFIG_NAME, cache_dir=constants.HF_HUB_CACHE)
    return str(Path(found).parent) if isinstance(found, str) else model


def _problems(request: Request) -> list[str]:
    missing: list[str] = []
    for number, source in enumerate(data_sources(request.recipe)):
        where = source.path or IMPORTERS[source.importer or ""].hub_id
        if where.partition(":")[0] == "synthetic" or Path(where).exists():
            continue
        name = where.partition(":")[0]
        if name.count("/") == 1 and not name.startswith((".", "/", "~")) and _on_hub(name, "dataset"):
            continue
        path = f"data.sources.{number}.path" if request.recipe.data.sources else "problems"
        missing.append(
            f"problems: {where!r} is neither a file nor in the local cache, and the Hub does not give it; give a local "
            f"copy with --set {path}=FILE"
            + (f" (its columns are known as the importer {source.importer!r})" if source.importer else "")
        )
    return missing


def _benchmarks(request: Request, made: set[str]) -> list[str]:
    recipe = request.recipe
    names = [name for name in benchmarks_against(recipe) if f"benchmark.{name}" not in made]
    missing: list[str] = []
    for name in dict.fromkeys([*names, *recipe.evaluation.benchmarks]):
        if Path(name).is_file() or name.partition(":")[0] == "synthetic":
            continue
        if name not in BENCHMARKS:
            missing.append(
                f"benchmark: {name!r} is neither a file nor a known name ({', '.join(BENCHMARKS)}); change "
                "evaluation.benchmarks or data.decontaminate"
            )
        elif local_copy(name) is None and not _on_hub(BENCHMARKS[name].hub_id.partition(":")[0], "dataset"):
            missing.append(
                f"benchmark: {name} is not in the local cache and the Hub does not give it; put it at DIR/{name}.jsonl "
                "and set POLARIS_BENCHMARKS=DIR"
            )
    return missing


def _on_hub(name: str, kind: str) -> bool:
    """Whether it was loaded before, or the Hub has it and can be reached."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import build_hf_headers

    if (Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)).is_dir():
        return True
    if constants.HF_HUB_OFFLINE:
        return False
    # The library's own calls try for half a minute before they say that there is no network.
    asked = HttpRequest(f"{constants.ENDPOINT}/api/{kind}s/{name}", headers=build_hf_headers())
    try:
        with urlopen(asked, timeout=_PATIENCE_S):
            return True
    except OSError:
        return False
