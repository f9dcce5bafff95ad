"""Writing the folder of a released model: the last stage of a run, or any model folder."""

import json
import shutil
from pathlib import Path

from polaris_data.files import write_json
from polaris_rollout import ModelError, generation_params

from polaris_train.errors import ReleaseError, RunFolderError
from polaris_train.release.card import write_card
from polaris_train.release.inference import Inference, write_inference
from polaris_train.release.licences import licence_files, licence_of
from polaris_train.report.evidence import RunEvidence, read_run
from polaris_train.run_folder import RunFolder, origin, partial_path, read_records


def write_release(
    source: Path,
    out: Path | None = None,
    *,
    temperature: float | None = None,
    top_k: int | None = None,
    context: int | None = None,
    scheme: str | None = None,
    licence: str | None = None,
) -> Path:
    """Write a model as others take it, with inference settings and a card; it appears whole.

    Args:
        source: A run, of which the last stage that has ended is taken, or a model folder.
        out: Folder to write; its name is the model's. By default in the run's folder.
        temperature: Of sampling; by default what the run was evaluated with, or the model's own.
        top_k: Most likely tokens kept; by default as ``temperature``.
        context: Longest prompt and answer, by YaRN beyond the positions; by default what the run was evaluated with.
        scheme: Quantise so, see `polaris_train.release.SCHEMES`.
        licence: Identifier on the Hub; by default that of the base, where its folder says so.

    Returns:
        ``out``.

    Raises:
        ReleaseError: If there is nothing to release, something at ``out``, or a setting makes no sense.
        ModelError: If YaRN cannot cover the context.
    """
    is_run = not (source / "config.json").is_file()
    if out is None and not is_run:
        raise ReleaseError(f"{source} is a model; give the folder to write with --out")
    out = out or RunFolder(source).release
    if out.exists():
        raise ReleaseError(f"{out} exists, and is not overwritten: give another folder with --out, or remove it")
    run = read_run(source) if is_run else None
    model, base = (source, None) if run is None else _last_model(run)
    inference = _inference(model, run, temperature=temperature, top_k=top_k, context=context)
    inference.check()
    if scheme:
        from polaris_train.release.quantizing import check_scheme

        check_scheme(model, scheme)
    licence = licence or licence_of(base or str(source))
    incoming = partial_path(out)
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        _copy(model, incoming)
        yarn = write_inference(incoming, inference)
        if scheme:
            from polaris_train.release.quantizing import quantize

            quantize(incoming, scheme)
        for each in licence_files(base or str(source)):
            shutil.copyfile(each, incoming / each.name)
        write_card(
            incoming,
            name=out.name,
            base=base or _stated_base(source),
            run=run,
            inference=inference,
            yarn=yarn,
            scheme=scheme,
            licence=licence,
        )
        incoming.replace(out)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)
    return out


def _last_model(run: RunEvidence) -> tuple[Path, str]:
    """Return the model of the last stage that has ended, and what the run started from."""
    ended = [stage for stage in run.stages if stage.outcome and stage.folder.model.is_dir()]
    if not ended:
        raise RunFolderError(
            f"no stage of {run.folder.path} has ended; write a stage's newest checkpoint with 'polaris-train export "
            f"{run.folder.path}/STAGE --out MODEL', and release that"
        )
    return ended[-1].folder.model, run.model or ""


def _inference(
    model: Path, run: RunEvidence | None, *, temperature: float | None, top_k: int | None, context: int | None
) -> Inference:
    if run and run.recipe:
        table = run.recipe.evaluation
        own = Inference(
            temperature=table.temperature,
            top_k=table.top_k,
            context=table.yarn_context if run.recipe.uses_yarn else run.recipe.evaluation_context,
        )
    else:
        try:
            params = generation_params(str(model))
        except ModelError as error:
            if temperature is None:
                raise ReleaseError(f"{error}: how is the model to be sampled?") from error
            own = Inference(temperature=temperature, top_k=0)
        else:
            own = Inference(temperature=params.temperature, top_k=max(params.top_k, 0), top_p=params.top_p)
    return Inference(
        temperature=own.temperature if temperature is None else temperature,
        top_k=own.top_k if top_k is None else top_k,
        top_p=own.top_p,
        context=own.context if context is None else context,
    )


def _copy(model: Path, folder: Path) -> None:
    """Copy the files of a model itself: not its adapters, nor what names a folder of this machine."""
    left_out = {origin(model).name, "README.md", ".gitattributes"}
    folder.mkdir(parents=True)
    for path in sorted(model.iterdir()):
        if path.is_file() and path.name not in left_out:
            shutil.copyfile(path, folder / path.name)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.pop("_name_or_path", None):
        write_json(path, config)


def _stated_base(model: Path) -> str | None:
    """Return which run a model folder comes from, if it says so."""
    records = read_records(origin(model))
    return None if not records else str(records[0].get("run"))
