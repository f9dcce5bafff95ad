"""Capsules: what a step computed and from what, all but the weights, in one file for `polaris_train.stage.replay`.

A file of completions as in ``rollouts/``, of the groups as they were trained on, with a reward, an advantage and the
step's own log-probabilities for each, and everything else in its metadata.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from polaris_reward import Outcome
from polaris_rollout import derive_seed, local_folder, model_digest
from polaris_rollout.store import read_columns, read_groups, read_settings, write_groups
from torch import Tensor

from polaris_train.errors import RunFolderError
from polaris_train.grpo.batches import TrainingBatch
from polaris_train.model.policy import Policy
from polaris_train.model.step import OptimizerStep
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder

_TRAINED = ("optimizer_step", "advantage", "token_weight", "policy_logprobs")
"""Columns that are empty where a completion was not trained on."""


@dataclass(frozen=True, slots=True)
class TakenStep:
    """A step as this rank took it."""

    step: int
    """Counted from 1 within the stage."""

    random_state: Mapping[str, Any]
    """Before it; see `polaris_train.stage.training_state.random_state`."""

    groups: Sequence[GradedGroup]
    """What it was to train on: what was sampled, after any rescue."""

    batches: Sequence[TrainingBatch]
    """Made of the groups, one for each optimizer step."""

    updates: Sequence[OptimizerStep]
    """One for each batch with sequences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A completion that an optimizer step trained on."""

    optimizer_step: int
    """Which of the step's, from 0."""

    advantage: float
    """Of each of its tokens."""

    token_weight: float
    """How much each of its tokens counts in the loss."""

    policy_logprobs: tuple[float, ...]
    """[T] log-probability of each token as the loss was computed from it, in nats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capsule:
    """What is recorded of a step."""

    step: int
    """Counted from 1 within the stage."""

    config: ResolvedStage
    """Every value that the stage used."""

    model: str | None
    """Fingerprint of the files of the model that the stage started from."""

    precision: str
    """Of forward and backward passes."""

    num_ranks: int
    """That took the step."""

    num_threads: int
    """Of each rank on a CPU; sums are taken in another order with others."""

    random_states: list[dict[str, Any]]
    """Of each rank before the step."""

    updates: list[OptimizerStep]
    """Their log-probabilities are those of the completions."""

    groups: list[GradedGroup]
    """What was sampled, after any rescue."""

    trained: dict[tuple[int, int], Trained]
    """By group and completion."""


def record_step(taken: TakenStep, policy: Policy, config: ResolvedStage, folder: StageFolder) -> None:
    """Write the capsule of a step, if the stage records it; collective.

    Raises:
        StoreError: If it cannot be written, because the disk is full for example.
    """
    if not config.record_steps or (taken.step - 1) % config.record_steps:
        return
    mine = [{index: row.cpu() for index, row in update.logprobs.items()} for update in taken.updates]
    shares: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(shares, (mine, taken.random_state))
    if dist.get_rank() != 0:
        return
    rows = [{index: row for mine, _ in shares for index, row in mine[number].items()} for number in range(len(mine))]
    settings = {
        "step": taken.step,
        "weights": config.weights_version(taken.step - 1),
        "model": model_digest(str(local_folder(config.model))),
        "resolved": config.model_dump(mode="json"),
        "precision": str(policy.dtype).removeprefix("torch."),
        "device": policy.device.type,
        "torch": torch.__version__,
        "num_ranks": len(shares),
        "num_threads": torch.get_num_threads(),
        "random_states": _to_text([state for _, state in shares]),
        "updates": [asdict(replace(update, logprobs={})) for update in taken.updates],
    }
    write_groups(
        folder.capsule(taken.step),
        [each.group for each in taken.groups],
        config.sampling_params(seed=derive_seed(config.seed, config.stage, taken.step)),
        columns=_columns(taken, rows),
        settings=settings,
    )


def _columns(taken: TakenStep, rows: Sequence[Mapping[int, Tensor]]) -> dict[str, list[Any]]:
    trained: dict[tuple[int, int], dict[str, Any]] = {}
    for number, batch in enumerate(batch for batch in taken.batches if batch.sequences):
        for index, (member, sequence) in enumerate(zip(batch.members, batch.sequences, strict=True)):
            trained[member] = {
                "optimizer_step": number,
                "advantage": sequence.advantages,
                "token_weight": sequence.weight,
                "policy_logprobs": rows[number][index].tolist(),
            }
    places = [(place, index) for place, each in enumerate(taken.groups) for index in range(len(each.rewards))]
    overlaps = [share for each in taken.groups for share in each.overlaps or (None,) * len(each.outcomes)]
    return {
        "reward": [reward for each in taken.groups for reward in each.rewards],
        **({"overlap": overlaps} if any(each.overlaps for each in taken.groups) else {}),
        "rescued": [taken.groups[place].rescued == index for place, index in places],
        "rescue_age": [taken.groups[place].rescue_age for place, _ in places],
        **{name: [trained.get(member, {}).get(name) for member in places] for name in _TRAINED},
    }


def read_capsule(folder: StageFolder, step: int) -> Capsule:
    """Read what is recorded of a step.

    Raises:
        RunFolderError: If nothing is.
        StoreError: If the file is damaged.
    """
    path = folder.capsule(step)
    if not path.exists():
        steps = ", ".join(map(str, folder.capsule_steps())) or "none"
        raise RunFolderError(
            f"step {step} of {folder.path} is not recorded (recorded are: {steps}); --set record_steps=1 records every "
            "step that is still to come"
        )
    settings = read_settings(path)
    if settings is None or "updates" not in settings:
        raise RunFolderError(f"{path} is not the record of a step; put back the one that the stage wrote")
    columns = read_columns(path, ["reward", "rescued", "rescue_age", *_TRAINED])
    if settings["resolved"].get("core") is not None:
        columns |= read_columns(path, ["overlap"])
    groups = _graded(path, columns)
    places = [(place, index) for place, each in enumerate(groups) for index in range(len(each.outcomes))]
    return Capsule(
        step=settings["step"],
        config=ResolvedStage.model_validate(settings["resolved"]),
        model=settings["model"],
        precision=settings["precision"],
        num_ranks=settings["num_ranks"],
        num_threads=settings["num_threads"],
        random_states=_from_text(settings["random_states"]),
        updates=[OptimizerStep(**update) for update in settings["updates"]],
        groups=groups,
        trained={
            member: Trained(**dict(zip(_TRAINED, values, strict=True)))
            for member, *values in zip(places, *(columns[name] for name in _TRAINED), strict=True)
            if values[0] is not None
        },
    )


def _graded(path: Path, columns: Mapping[str, list[Any]]) -> list[GradedGroup]:
    """Return the groups with the outcomes that give the recorded rewards."""
    found: list[GradedGroup] = []
    overlaps = iter(columns.get("overlap", ()))
    rows = zip(columns["reward"], columns["rescued"], columns["rescue_age"], strict=True)
    for group in read_groups(path):
        own = [next(rows) for _ in group.completions]
        if unknown := {reward for reward, _, _ in own} - {0.0, 1.0}:
            raise RunFolderError(f"{path}: rewards of {group.problem_id!r} are {sorted(unknown)}; a reward is 0 or 1")
        outcomes = tuple(Outcome.CORRECT if reward else Outcome.INCORRECT for reward, _, _ in own)
        found.append(
            GradedGroup(
                group=group,
                outcomes=outcomes,
                answers=(None,) * len(outcomes),
                rescued=next((index for index, (_, rescued, _) in enumerate(own) if rescued), None),
                rescue_age=own[0][2],
                overlaps=tuple(islice(overlaps, len(own))),
            )
        )
    return found


def _to_text(states: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.BytesIO()
    torch.save(list(states), buffer)
    return base64.b64encode(buffer.getvalue()).decode()


def _from_text(text: str) -> list[dict[str, Any]]:
    return torch.load(io.BytesIO(base64.b64decode(text)), weights_only=True)
