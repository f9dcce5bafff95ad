"""A stage's result as a Hugging Face model."""

import hashlib
import json
import shutil
from collections.abc import Generator
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
from polaris_train.stage.checksums import newest_whole
from polaris_train.stage.settings import load_stage_policy, stage_identity
from polaris_train.stage.training_state import load_weights, read_precision


def is_exported(config: ResolvedStage, folder: StageFolder, *, step: int) -> bool:
    """Return whether the stage's model is there and was made by the very steps that the stage has recorded.

    A model that an earlier version wrote does not say which steps those were.
    """
    found, expected = read_records(origin(folder.model)), _origin(config, folder, step)
    return found in ([expected], [{name: expected[name] for name in ("run", "stage", "step")}])


def export_model(policy: Policy, config: ResolvedStage, folder: StageFolder, *, step: int) -> None:
    """Write the stage's model, under a temporary name first; collective.

    Args:
        policy: Has the weights of the step.
        config: The stage.
        folder: Of the stage.
        step: Steps that made the weights.
    """
    incoming = partial_path(folder.model)
    if dist.get_rank() == 0:
        shutil.rmtree(incoming, ignore_errors=True)
    dist.barrier()
    save_policy(policy, incoming, source=config.model, adapters=adapter(incoming))
    if dist.get_rank() == 0:
        append_records(origin(incoming), [_origin(config, folder, step)])
        shutil.rmtree(folder.model, ignore_errors=True)
        incoming.replace(folder.model)
    dist.barrier()


def _origin(config: ResolvedStage, folder: StageFolder, step: int) -> dict[str, str | int]:
    """Return what a model comes from; ``made_by`` is a fingerprint of the stage and of its steps up to that one."""
    made_by = hashlib.sha256(json.dumps(stage_identity(config), sort_keys=True).encode())
    if folder.metrics.exists():
        for line in folder.metrics.read_bytes().splitlines():
            if json.loads(line)["step"] <= step:
                made_by.update(line)
    return {"run": config.run, "stage": config.stage, "step": step, "made_by": made_by.hexdigest()[:16]}


def export_checkpoint(folder: StageFolder, out: Path | None = None) -> Path:
    """Write the newest checkpoint of a stage in Hugging Face format, in the stage's precision, on one CPU process.

    Args:
        folder: Of the stage.
        out: Model folder to write; by default the stage's own, where a stage that has ended has its model already.

    Returns:
        The model's folder.

    Raises:
        RunFolderError: If there is something else at ``out``, or no checkpoint is whole.
    """
    out = out or folder.model
    if out == folder.model and folder.outcome.exists() and origin(out).exists():
        return out
    with _written_alone(out) as incoming:
        step = newest_whole(folder.checkpoints)
        if not step:
            raise RunFolderError(f"no checkpoint in {folder.checkpoints.path} is whole; give the stage's command again")
        config = folder.read_resolved()
        precision = read_precision(folder.checkpoints.step(step)) or config.precision
        config = config.model_copy(update={"context_parallel": 1, "precision": precision})
        policy = load_stage_policy(config, device=torch.device("cpu"))
        load_weights(folder.checkpoints, policy, step=step)
        save_policy(policy, incoming, source=config.model, adapters=adapter(incoming))
    return out


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
