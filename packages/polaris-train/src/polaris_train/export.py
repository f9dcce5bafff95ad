"""A stage's newest checkpoint as a Hugging Face model."""

import shutil
from pathlib import Path

import torch
import torch.distributed as dist

from polaris_train.checkpoint import load_weights
from polaris_train.policy import load_policy
from polaris_train.recipe import ResolvedStage


def export_checkpoint(folder: Path, out: Path) -> Path:
    """Write the newest checkpoint of a stage in Hugging Face format, on one CPU process.

    Args:
        folder: Of the stage.
        out: Model folder to write.
    """
    config = ResolvedStage.model_validate_json((folder / "resolved.json").read_text(encoding="utf-8"))
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    try:
        policy = load_policy(config.model, device=torch.device("cpu"), context=config.context)
        load_weights(folder / "checkpoints", policy)
        incoming = out.with_name(f"{out.name}.partial")
        shutil.rmtree(incoming, ignore_errors=True)
        policy.save(incoming, source=config.model)
        incoming.replace(out)
    finally:
        dist.destroy_process_group()
    return out
