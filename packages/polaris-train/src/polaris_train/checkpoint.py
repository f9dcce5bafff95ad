"""Checkpoints that a killed stage continues from, on the same or another number of ranks.

A checkpoint is weights and optimizer state after a step; the order of the problems and every seed are functions
of the step, so nothing else is needed.
"""

import re
import shutil
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from polaris_train.policy import Policy

_NAME = re.compile(r"step-(\d{6})")


def checkpoint_steps(folder: Path) -> list[int]:
    """Return the steps of the complete checkpoints in a folder, oldest first."""
    matches = [_NAME.fullmatch(path.name) for path in folder.glob("step-*")]
    return sorted(int(match[1]) for match in matches if match)


def save_checkpoint(folder: Path, step: int, policy: Policy, optimizer: torch.optim.Optimizer, *, keep: int) -> None:
    """Write the state after a step and remove all but the newest checkpoints; collective."""
    final = folder / f"step-{step:06d}"
    partial = folder / f"{final.name}.partial"
    if dist.get_rank() == 0:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    dist.barrier()
    model_state, optimizer_state = get_state_dict(policy, optimizer)
    save({"model": model_state, "optimizer": optimizer_state}, checkpoint_id=partial)
    dist.barrier()
    if dist.get_rank() == 0:
        partial.replace(final)
        for old in checkpoint_steps(folder)[:-keep]:
            shutil.rmtree(folder / f"step-{old:06d}")
        for stale in folder.glob("*.partial"):
            shutil.rmtree(stale)


def load_checkpoint(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> int:
    """Restore the newest checkpoint; collective.

    Returns:
        Its step, or 0 when there is none.
    """
    steps = checkpoint_steps(folder)
    if not steps:
        return 0
    model_state, optimizer_state = get_state_dict(policy, optimizer)
    state = {"model": model_state, "optimizer": optimizer_state}
    load(state, checkpoint_id=folder / f"step-{steps[-1]:06d}")
    set_state_dict(policy, optimizer, model_state_dict=model_state, optim_state_dict=optimizer_state)
    return steps[-1]
