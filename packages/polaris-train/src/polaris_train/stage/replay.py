"""Taking a recorded step again: the same numbers, or where they differ.

One process takes it, whatever number of ranks did: the loss has one denominator over all of them, so only the order of
sums differs. What a step began from is not in its capsule: it is the stage's first model or a checkpoint, and the
recorded steps since then.
"""

import math
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import cast

import torch
import torch.distributed as dist
from polaris_rollout import local_folder, model_digest

from polaris_train.errors import RunFolderError
from polaris_train.grpo.batches import TrainingBatch, training_batches
from polaris_train.grpo.updating import Teacher, update
from polaris_train.model.learning_rate import set_learning_rate
from polaris_train.model.policy import Policy, WithoutAdapters
from polaris_train.model.step import OptimizerStep
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.capsule import Capsule, TakenStep, read_capsule
from polaris_train.stage.checksums import damage
from polaris_train.stage.settings import (
    learning_rate,
    load_reference,
    load_stage_policy,
    stage_identity,
    start_state,
    update_settings,
)
from polaris_train.stage.teacher import open_teacher
from polaris_train.stage.training_state import TrainingState, load_state, set_random_state

ROUNDING = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
"""Relative difference that rounding explains, by the coarser precision of the two; of log-probabilities, in nats. The
loss, which may sum to nothing, is measured by the sum of ``weight * |advantage|``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the step."""

    name: str

    recorded: float

    recomputed: float

    allowed: float
    """Difference that rounding explains."""

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference."""
        return _same(self.recorded, self.recomputed) or abs(self.recomputed - self.recorded) <= self.allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A completion that was trained on, or is now."""

    problem_id: str

    sample: int

    reward: float
    """As it is in the capsule."""

    advantage: float | None
    """As recorded; ``None`` where it was not trained on."""

    advantage_again: float | None
    """Recomputed from the rewards of its group."""

    mean_gap: float
    """Mean difference of the log-probability of a token, in nats; NaN where there is nothing to compare."""

    largest_gap: float
    """Largest one."""

    def agrees(self, rounding: float) -> bool:
        """Whether it has its advantage, and rounding explains the difference of its log-probabilities."""
        return self.advantage == self.advantage_again and self.mean_gap <= rounding


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A recorded step and the same step taken again."""

    step: int

    began_from: str
    """Where its weights came from."""

    precisions: tuple[str, str]
    """Recorded and now."""

    num_ranks: int
    """That took the recorded step."""

    figures: tuple[Figure, ...]

    answers: tuple[Answer, ...]
    """Those that differ most first."""

    @property
    def rounding(self) -> float:
        """Which difference rounding explains; see `ROUNDING`."""
        return max(ROUNDING[precision] for precision in self.precisions)

    @property
    def identical(self) -> bool:
        """Whether everything is the same to the last bit."""
        return all(_same(each.recorded, each.recomputed) for each in self.figures) and all(
            each.agrees(0.0) for each in self.answers
        )

    @property
    def agrees(self) -> bool:
        """Whether rounding explains every difference."""
        return all(each.agrees for each in self.figures) and all(each.agrees(self.rounding) for each in self.answers)


def replay_step(folder: StageFolder, step: int, *, cpu: bool = False, float32: bool = False) -> Replay:
    """Take a recorded step again in one process; nothing in the run's folder is changed.

    Args:
        folder: Of the stage.
        step: A recorded one.
        cpu: Compute on the CPU where there is a GPU, too.
        float32: Compute in float32 whatever the precision was.

    Raises:
        RunFolderError: If the step is not recorded, or what it began from is not there or has changed.
    """
    capsule = read_capsule(folder, step)
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
    precision = "float32" if float32 else capsule.precision
    config = capsule.config.model_copy(update={"precision": precision, "context_parallel": 1})
    start = _start(folder, capsule)
    if device.type == "cpu":
        torch.set_num_threads(capsule.num_threads)
    with _one_process(device), ExitStack() as stack:
        state = start_state(config, load_stage_policy(config, device=device), folder)
        if start:
            load_state(folder.checkpoints.step(start), state, identity=stage_identity(capsule.config))
        take = partial(_take, state, config, load_reference(config, state.policy), open_teacher(config, device, stack))
        for number in range(start + 1, step):
            take(read_capsule(folder, number))
        taken = take(capsule)
    since = f" and steps {start + 1} to {step - 1}" if start + 1 < step else ""
    return Replay(
        step=step,
        began_from=(str(folder.checkpoints.step(start).path) if start else config.model) + since,
        precisions=(capsule.precision, precision),
        num_ranks=capsule.num_ranks,
        figures=_figures(capsule.updates, taken.updates, max(ROUNDING[capsule.precision], ROUNDING[precision])),
        answers=_answers(capsule, taken),
    )


def describe_replay(replay: Replay, *, num_answers: int = 5) -> str:
    """Say how a step that was taken again compares with the recorded one.

    Args:
        replay: The comparison.
        num_answers: That are shown: those that differ most.
    """
    ranks = f"{replay.num_ranks} rank{'s' if replay.num_ranks > 1 else ''}"
    recorded, now = replay.precisions
    lines = [
        f"step {replay.step} from {replay.began_from}",
        f"recorded on {ranks} in {recorded}, taken again on one in {now}",
        "",
        f"{'':16}{'recorded':>24}{'recomputed':>24}{'difference':>14}",
    ]
    for each in replay.figures:
        difference = each.recomputed - each.recorded
        lines.append(f"{each.name:16}{each.recorded:>24.16g}{each.recomputed:>24.16g}{difference:>14.2e}")
    shown = [each for each in replay.answers if not each.agrees(0.0)][:num_answers]
    if shown:
        numbers = "".join(f"{name:>12}" for name in ("advantage", "recomputed", "mean gap", "largest"))
        lines += ["", f"{'answers that differ most':32}{'reward':>8}{numbers}"]
    for each in shown:
        name = f"{each.problem_id} #{each.sample}"
        advantages = f"{_cell(each.advantage)}{_cell(each.advantage_again)}"
        lines.append(f"{name:32}{each.reward:>8g}{advantages}{each.mean_gap:>12.2e}{each.largest_gap:>12.2e}")
    return "\n".join([*lines, "", _verdict(replay)])


def _verdict(replay: Replay) -> str:
    if replay.identical:
        return "identical to the last bit"
    coarser = max(replay.precisions, key=ROUNDING.__getitem__)
    if replay.agrees:
        return f"agrees within the rounding of {coarser} ({replay.rounding:g})"
    return (
        f"differs by more than the rounding of {coarser} ({replay.rounding:g}): the capsule, the weights or the "
        "program is not what it was"
    )


def _cell(advantage: float | None) -> str:
    return f"{'-':>12}" if advantage is None else f"{advantage:>12.5f}"


def _start(folder: StageFolder, capsule: Capsule) -> int:
    """Return the step whose weights the recorded steps lead on from; 0 is the model that the stage started from."""
    if capsule.model != model_digest(str(local_folder(capsule.config.model))):
        raise RunFolderError(
            f"{capsule.config.model} is not the model that the stage started from when step {capsule.step} was "
            "recorded; put its files back"
        )
    earlier = [each for each in folder.checkpoints.steps() if each < capsule.step]
    start = next((each for each in reversed(earlier) if damage(folder.checkpoints.step(each)) is None), 0)
    recorded = set(folder.capsule_steps())
    if missing := [each for each in range(start + 1, capsule.step) if each not in recorded]:
        raise RunFolderError(
            f"step {capsule.step} began from the weights after step {capsule.step - 1}, which are not there: the "
            f"nearest are those after step {start}, and steps {missing[0]} to {missing[-1]} are not recorded; put "
            f"{folder.checkpoints.step(capsule.step - 1).path} back, or set record_steps = 1"
        )
    return start


@contextmanager
def _one_process(device: torch.device) -> Generator[None]:
    backend = "cuda:nccl,cpu:gloo" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _take(
    state: TrainingState,
    config: ResolvedStage,
    reference: Policy | WithoutAdapters | None,
    teacher: Teacher | None,
    capsule: Capsule,
) -> TakenStep:
    """Take a step as `polaris_train.stage.loop` does, from the rewards on."""
    batching, loss, stepping = update_settings(config)
    if capsule.num_ranks == 1:
        set_random_state(capsule.random_states[0])
    batches = training_batches(capsule.groups, batching, step=capsule.step)
    set_learning_rate(state.optimizer, learning_rate(config, capsule.step))
    updated = update(
        state.policy,
        state.optimizer,
        batches,
        loss,
        stepping,
        scaler=state.scaler,
        reference=reference,
        teacher=teacher,
    )
    return TakenStep(capsule.step, capsule.random_states[0], capsule.groups, batches, updated.steps)


def _figures(
    recorded: Sequence[OptimizerStep], recomputed: Sequence[OptimizerStep], rounding: float
) -> tuple[Figure, ...]:
    """Compare optimizer steps; one that is missing on a side has no numbers."""
    none = OptimizerStep({"loss": math.nan, "tokens": 0.0, "gradient": 0.0}, {}, math.nan)
    found: list[Figure] = []
    for number, (before, now) in enumerate(zip_longest(recorded, recomputed, fillvalue=none), start=1):
        suffix = f" {number}" if max(len(recorded), len(recomputed)) > 1 else ""
        scale = before.sums["gradient"] * rounding
        norms = before.grad_norm, now.grad_norm, before.grad_norm * rounding
        for name, old, new, allowed in (
            ("loss", before.sums["loss"], now.sums["loss"], scale),
            ("gradient norm", *norms),
            ("tokens", before.sums["tokens"], now.sums["tokens"], 0.0),
        ):
            found.append(Figure(name=name + suffix, recorded=old, recomputed=new, allowed=allowed))
    return tuple(found)


def _answers(capsule: Capsule, taken: TakenStep) -> tuple[Answer, ...]:
    """Compare completions, those that differ most first; `training_batches` gives each of them one advantage."""
    filled: list[TrainingBatch] = [batch for batch in taken.batches if batch.sequences]
    again = {
        member: (cast(float, sequence.advantages), step.logprobs[index].double().cpu())
        for batch, step in zip(filled, taken.updates, strict=True)
        for index, (member, sequence) in enumerate(zip(batch.members, batch.sequences, strict=True))
    }
    found: list[Answer] = []
    for place, index in sorted(capsule.trained.keys() | again.keys()):
        before, (advantage, logprobs) = capsule.trained.get((place, index)), again.get((place, index), (None, None))
        gaps = torch.tensor([math.nan])
        if before is not None and logprobs is not None:
            gaps = (logprobs - torch.tensor(before.policy_logprobs, dtype=torch.float64)).abs()
        group = capsule.groups[place]
        found.append(
            Answer(
                problem_id=group.group.problem_id,
                sample=index,
                reward=group.rewards[index],
                advantage=None if before is None else before.advantage,
                advantage_again=advantage,
                mean_gap=float(gaps.mean()),
                largest_gap=float(gaps.max()),
            )
        )
    return tuple(sorted(found, key=lambda each: (each.advantage == each.advantage_again, -each.largest_gap)))


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
