"""The command ``polaris-train merge``."""

from pathlib import Path
from typing import Annotated

import typer


def merge_command(
    first: Annotated[str, typer.Argument(help="A model: folder, Hub id, or a folder of LoRA adapters.")],
    second: Annotated[str, typer.Argument(help="Another of the same form, such as what was trained from the first.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.", show_default=False)],
    alpha: Annotated[float, typer.Option(help="Share of the first; the second has 1 - alpha.")] = 0.5,
) -> None:
    """Average the weights of two models.

    Reads both a part at a time and writes OUT: the weights alpha * FIRST + (1 - alpha) * SECOND in the precision of
    FIRST, its config and tokenizer, and merged.json (what was merged). LoRA adapters are merged into their base first.
    Models of other shapes, other settings or another tokenizer are refused before anything is written.

    Examples:

        polaris-train merge Qwen/Qwen3-4B runs/4b/sft/model --alpha 0.5 --out merged
        polaris-train merge runs/4b/stage-1/model runs/4b/stage-1/model/adapter --alpha 0 --out merged
    """
    from polaris_train.model import merge_models

    merge_models(first, second, out, alpha=alpha)
    print(f"model: {out}")
