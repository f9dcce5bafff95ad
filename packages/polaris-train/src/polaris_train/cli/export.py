"""The command ``polaris-train export``."""

from pathlib import Path
from typing import Annotated

import typer


def export_command(
    folder: Annotated[
        Path, typer.Argument(help="A run; or one of its stages, RUN/STAGE; or LoRA adapters; or a model folder.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Model folder to write; default RUN/release, STAGE/model, or ADAPTERS-merged."),
    ] = None,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Fewer bits in the linear layers: w8a8 (weights and activations of 8 bits) or w4a16 (weights of 4).",
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="Longest prompt and answer in tokens, by YaRN beyond the model's positions; default the run's."
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="What the model is sampled with; default that of the run's evaluations.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Most likely tokens kept, 0 keeps all; default the run's.")] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="Of the base model, as the Hub names it; default what the base's card says."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the folder to the Hugging Face Hub.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository of --push a private one.")] = False,
) -> None:
    """Write a model in Hugging Face format.

    Of a RUN, the model of its last stage as others take it: temperature, top-k and YaRN stand in its folder, so that
    'vllm serve' and transformers sample it as published without flags, and README.md is a card with recipe, data,
    decisions and scores. A model folder is written so too, with --quantize in fewer bits.

    Of a STAGE, its newest checkpoint in the precision that it trains in. A finished stage has done this already, with
    the weights that were chosen, and without --out its model is only named; use it to look at a stage that is still
    running or was stopped.

    LoRA adapters (of a stage, peft or TRL) are written merged into the model that they name, so that a recipe can
    start from them.

    Examples:

        polaris-train export runs/4b --out Polaris-4B --push me/Polaris-4B
        polaris-train export Polaris-4B --quantize w4a16 --out Polaris-4B-w4a16
        polaris-train export runs/first/stage-1 --out first-model
        polaris-train export my-adapters --out merged-model
    """
    from polaris_train.run_folder import StageFolder

    settings = {"--quantize": quantize, "--context": context, "--temperature": temperature, "--top-k": top_k}
    settings |= {"--license": licence, "--push": push, "--private": private or None}
    is_adapter, stage = (folder / "adapter_config.json").is_file(), StageFolder(folder)
    if is_adapter or stage.resolved.exists() or stage.checkpoints.steps():
        if given := [name for name, value in settings.items() if value is not None]:
            what = "adapters" if is_adapter else "a stage"
            raise typer.BadParameter(
                f"{given[0]} is for a run or a model folder, and {folder} is {what}: export it first, then export the "
                "model folder"
            )
        print(f"model: {_export_alone(folder, out, is_adapter=is_adapter)}")
        return
    from polaris_train.release import push_release, write_release

    written = write_release(
        folder, out, temperature=temperature, top_k=top_k, context=context, scheme=quantize, licence=licence
    )
    print(f"model with card: {written}")
    if push:
        print(f"pushed: {push_release(written, push, private=private)}")


def _export_alone(folder: Path, out: Path | None, *, is_adapter: bool) -> Path:
    from polaris_train.run_folder import StageFolder
    from polaris_train.stage import export_adapters, export_checkpoint

    if is_adapter:
        export_adapters(folder, merged := out or folder.with_name(f"{folder.name}-merged"))
        return merged
    stage = StageFolder(folder)
    stage.require_checkpoints()
    return export_checkpoint(stage, out)
