"""A stage's result as a Hugging Face model."""

import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import torch
import torch.distributed as dist
from polaris_data.files import append_records
from polaris_rollout import model_config, resolve_model

from polaris_train.errors import RunFolderError
from polaris_train.model.adapters import load_adapters, read_adapters
from polaris_train.model.loading import Precision, load_policy, save_policy
from polaris_train.model.policy import Policy
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder, adapter, origin, partial_path, read_records
from polaris_train.stage.checkpoint import load_weights
from polaris_train.stage.settings import load_stage_policy


def is_exported(config: ResolvedStage, folder: StageFolder, *, step: int) -> bool:
    """Return whether the stage's model is there and of that step."""
    return read_records(origin(folder.model)) == [_origin(config, step)]


def export_model(weights: Callable[[], Policy], config: ResolvedStage, folder: StageFolder, *, step: int) -> None:
    """Write the stage's model, under a temporary name first, unless the same step's is there; collective.

    Args:
        weights: Gives those of the step; only called when they must be written.
        config: The stage.
        folder: Of the stage.
        step: Steps that made the weights.
    """
    if is_exported(config, folder, step=step):
        return
    policy, incoming = weights(), partial_path(folder.model)
    if dist.get_rank() == 0:
        shutil.rmtree(incoming, ignore_errors=True)
    dist.barrier()
    save_policy(policy, incoming, source=config.model, adapters=adapter(incoming))
    if dist.get_rank() == 0:
        append_records(origin(incoming), [_origin(config, step)])
        shutil.rmtree(folder.model, ignore_errors=True)
        incoming.replace(folder.model)
    dist.barrier()


def _origin(config: ResolvedStage, step: int) -> dict[str, str | int]:
    return {"run": config.run, "stage": config.stage, "step": step}


def export_checkpoint(folder: StageFolder, out: Path) -> None:
    """Write the newest checkpoint of a stage in Hugging Face format, on one CPU process.

    Args:
        folder: Of the stage.
        out: Model folder to write.

    Raises:
        RunFolderError: If there is something at ``out``.
    """
    config = folder.read_resolved().model_copy(update={"context_parallel": 1})
    with _written_alone(out) as incoming:
        policy = load_stage_policy(config, device=torch.device("cpu"))
        load_weights(folder.checkpoints, policy)
        save_policy(policy, incoming, source=config.model, adapters=adapter(incoming))


def export_adapters(folder: Path, out: Path) -> None:
    """Write the model that adapters belong beside, with them merged, on one CPU process.

    Args:
        folder: As peft, TRL or a stage wrote it.
        out: Model folder to write.

    Raises:
        RunFolderError: If there is something at ``out``.
        AdapterError: If they do not fit the model that they name.
    """
    named, lora = read_adapters(folder)
    base = resolve_model(named)
    saved = model_config(base)
    dtype = saved.get("dtype", saved.get("torch_dtype"))
    precision = dtype if dtype in get_args(Precision) else "float32"
    with _written_alone(out) as incoming:
        policy = load_policy(base, device=torch.device("cpu"), context=1, precision=precision, lora=lora)
        load_adapters(policy.model, folder)
        save_policy(policy, incoming, source=base)


@contextmanager
def _written_alone(out: Path) -> Generator[Path]:
    """Give a temporary name for a folder, which has its own when the block ends, and a process group of one."""
    if out.exists():
        raise RunFolderError(f"{out} exists, and is not overwritten: give another folder with --out, or remove it")
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    try:
        incoming = partial_path(out)
        shutil.rmtree(incoming, ignore_errors=True)
        yield incoming
        incoming.replace(out)
    finally:
        dist.destroy_process_group()
