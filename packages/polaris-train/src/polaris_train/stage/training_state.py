"""What changes while a stage is trained, as a checkpoint holds it: written, read, and read in part."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from polaris_rollout import Completion, Group
from polaris_rollout.store import read_columns, read_groups
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load

from polaris_train.errors import RunFolderError
from polaris_train.grpo.consensus import Consensuses
from polaris_train.grpo.rescue import RescueBuffer, Stored
from polaris_train.model.optimizer import start_moments
from polaris_train.model.policy import Policy
from polaris_train.run_folder import CheckpointFolder, Checkpoints
from polaris_train.stage.checksums import newest_whole

_PARTIAL = StateDictOptions(ignore_frozen_params=True, strict=False)
"""What is missing in a checkpoint is refused where it is read; what is not trained is missing in the policy's state."""


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """Everything that changes while a stage is trained."""

    policy: Policy
    """Weights."""

    optimizer: torch.optim.Optimizer
    """Of the policy."""

    scaler: torch.amp.GradScaler
    """Of the loss, for float16."""

    rescue: RescueBuffer
    """Correct completions of earlier steps; the same on all ranks."""

    core: Consensuses | None = None
    """What right answers have underlined, where a stage rewards that; the same on all ranks."""

    step: int = 0
    """Steps done."""

    skipped_in_row: int = 0
    """Newest steps that were skipped because loss or gradient was not finite."""


def load_state(folder: CheckpointFolder, state: TrainingState, *, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read weights, optimizer, the scale of the loss and the step from a checkpoint; collective.

    Args:
        folder: A checkpoint that is whole.
        state: Changed in place.
        identity: That the checkpoint should have.

    Returns:
        The checkpoint's ``state.json``.

    Raises:
        RunFolderError: If it is of another recipe or model.
    """
    small = json.loads(folder.state.read_text(encoding="utf-8"))
    found = small["identity"]
    differences = "; ".join(
        f"{key} was {found.get(key)!r}, now {identity.get(key)!r}"
        for key in sorted(found.keys() | identity.keys())
        if found.get(key) != identity.get(key)
    )
    if differences:
        raise RunFolderError(
            f"{folder.path} is a checkpoint of another recipe or model: {differences}; choose another run folder, "
            "or remove the stage's checkpoints and rollouts to start it again"
        )
    contents = contents_of(state)
    load(contents, checkpoint_id=folder.path)
    model, optimizer = contents["model"], contents["optimizer"]
    set_state_dict(state.policy, state.optimizer, model_state_dict=model, optim_state_dict=optimizer, options=_PARTIAL)
    for group in state.optimizer.param_groups:  # How the formula is computed is this program's, not the checkpoint's.
        group["fused"] = state.optimizer.defaults.get("fused")
    state.step, state.skipped_in_row = small["step"], small["skipped_in_row"]
    if small["scaler"]:
        state.scaler.load_state_dict(small["scaler"])
    return small


def load_weights(folder: Checkpoints, policy: Policy, *, step: int | None = None) -> int:
    """Read the weights of a checkpoint, by default of the newest that is whole; collective.

    Returns:
        Its step, or 0 when there is no checkpoint.
    """
    if step is None:
        step = newest_whole(folder)
    if step:
        model = _trained(policy, get_model_state_dict(policy))
        load({"model": model}, checkpoint_id=folder.step(step).path)
        set_model_state_dict(policy, model, options=_PARTIAL)
    return step


def read_precision(folder: CheckpointFolder) -> Any:
    """Return the precision of the forward passes that made a checkpoint; ``None`` if an earlier version wrote it."""
    return json.loads(folder.state.read_text(encoding="utf-8")).get("precision")


def contents_of(state: TrainingState) -> dict[str, Any]:
    """Return weights and optimizer as torch.distributed.checkpoint takes them."""
    if not state.optimizer.state:
        start_moments(state.policy, state.optimizer)
    model, optimizer = get_state_dict(state.policy, state.optimizer, options=_PARTIAL)
    return {"model": _trained(state.policy, model), "optimizer": optimizer}


def _trained(policy: Policy, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a policy's state is trained: no frozen weights beside adapters, and a tied head once."""
    known = {name for name, _ in policy.named_parameters(remove_duplicate=False)}
    trained = {name for name, parameter in policy.named_parameters() if parameter.requires_grad}
    return {name: each for name, each in model.items() if name in trained or name not in known}


def restore_rescue(buffer: RescueBuffer, folder: CheckpointFolder, *, step: int) -> None:
    """Let the buffer know the answers that it knew after a step; earlier versions stored them all in the checkpoint."""
    if folder.pickled_rescue.exists() or folder.older_rescue.exists():
        buffer.adopt(_stored_answers(folder) if dist.get_rank() == 0 else {})
    else:
        buffer.restore(json.loads(folder.rescue.read_text("utf-8")) if folder.rescue.exists() else {}, step=step)


def _stored_answers(folder: CheckpointFolder) -> dict[str, Stored]:
    if folder.older_rescue.exists():
        columns = read_columns(folder.older_rescue, ["answer", "step"])
        rows = zip(read_groups(folder.older_rescue), columns["answer"], columns["step"], strict=True)
        return {group.problem_id: Stored(group, answer, step) for group, answer, step in rows}
    found: dict[str, Stored] = {}
    for each in torch.load(folder.pickled_rescue):
        group = each["group"]
        completions = tuple(Completion(**completion) for completion in group["completions"])
        found[group["problem_id"]] = Stored(Group(**group | {"completions": completions}), each["answer"], each["step"])
    return found


def random_state() -> dict[str, Any]:
    """Return where the random numbers of this rank are."""
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"python": random.getstate(), "torch": torch.get_rng_state(), "cuda": cuda}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go back to where `random_state` was."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
