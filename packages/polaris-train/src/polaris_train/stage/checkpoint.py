"""Checkpoints that a killed stage continues from, on the same or another number of ranks.

A checkpoint is a folder: weights and optimizer sharded by torch.distributed.checkpoint, every rank's random state,
the rescue buffer, and ``state.json`` with everything small. It is written while the next steps run, under a
temporary name, and gets its name when the checksums of all its files are in ``manifest.json``; so what is under its
own name is whole, and what a disk spoils afterwards is noticed.
"""

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from polaris_data.files import write_json
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.state_dict_saver import async_save

from polaris_train.errors import CheckpointMemoryError, RunFolderError
from polaris_train.model.exhaustion import is_out_of_memory
from polaris_train.run_folder import CheckpointFolder, Checkpoints
from polaris_train.stage.checksums import damage, write_manifest
from polaris_train.stage.training_state import (
    TrainingState,
    contents_of,
    load_state,
    random_state,
    restore_rescue,
    set_random_state,
)

logger = logging.getLogger(__name__)


class Checkpointer:
    """Writes a stage's checkpoints in the background, keeps the newest and the chosen, and restores the newest whole.

    All methods but `close` are collective.
    """

    def __init__(
        self,
        folder: Checkpoints,
        *,
        keep: int,
        identity: Mapping[str, Any],
        logs: Sequence[Path] = (),
        timeout: timedelta | None = None,
        written: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare to write into a folder.

        Args:
            folder: Shared by all ranks.
            keep: Newest checkpoints that are kept.
            identity: What a checkpoint belongs to: one with other values is refused.
            logs: Files that grow with the steps; a checkpoint records their sizes and `restore` cuts them back.
            timeout: Longest time that a rank waits for another one's part; torch's default.
            written: Called on rank 0, in another thread, when a checkpoint has been written, with the step of the
                oldest of the newest ones: what only steps up to that one need may go.
        """
        self._folder = folder
        self._keep = keep
        self._identity = json.loads(json.dumps(identity))
        self._logs = logs
        self._written = written
        # The background thread needs ranks of its own to talk to: its messages must not mix with those of training.
        self._group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=timeout))
        self._finishing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, state: TrainingState, position: Mapping[str, Any], *, chosen: int | None = None) -> None:
        """Write the state after a step; returns once it is copied, while it is being written.

        Args:
            state: Copied, so that training can go on.
            position: Where the sampler is, recorded for the receipt.
            chosen: A step whose checkpoint is kept, however old it is.

        Raises:
            RunFolderError: If the one before could not be written.
            CheckpointMemoryError: If memory ran out, then or now.
        """
        self.wait()
        final = self._folder.step(state.step)
        partial = final.partial
        if dist.get_rank() == 0:
            shutil.rmtree(partial.path, ignore_errors=True)
            partial.path.mkdir(parents=True)
            if state.rescue.stored:
                write_json(partial.rescue, state.rescue.stored)
            if state.core is not None:
                state.core.write(partial.consensus)
            write_json(partial.state, self._small_state(state, position))
        dist.barrier()
        torch.save(random_state(), partial.random(dist.get_rank()))
        contents = contents_of(state)
        dist.barrier()
        try:
            written = async_save(
                contents,
                checkpoint_id=partial.path,
                async_stager=BlockingAsyncStager(),
                process_group=self._group,
            )
            self._writing = self._finishing.submit(self._finish, _as_future(written), final, chosen)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._explained(error) from error

    def wait(self) -> None:
        """Wait until what is being written is complete.

        Raises:
            RunFolderError: If it could not be written.
            CheckpointMemoryError: If that is because memory ran out.
        """
        error = self._settle()
        if error is not None:
            raise self._explained(error) from error
        dist.barrier()

    def _explained(self, error: BaseException) -> RunFolderError | CheckpointMemoryError:
        """Return what to say of a checkpoint that could not be written."""
        first = _first(error)
        if is_out_of_memory(first):
            return CheckpointMemoryError(
                f"{self._folder.path}: memory ran out while a checkpoint was written ({_said(first)}); give "
                "more of it or a lower microbatch_tokens, the same command continues"
            )
        free = shutil.disk_usage(self._folder.path).free / 2**30  # torch's writer does not say that a disk is full
        return RunFolderError(
            f"{self._folder.path}: a checkpoint could not be written: {_said(first)}; {free:.2f} GiB are left on "
            "its disk; where that is the cause make room, the same command continues"
        )

    def close(self) -> None:
        """Let what is being written be finished where a stage ends with an error; waits for no other rank."""
        self._settle()
        self._finishing.shutdown()

    def _settle(self) -> BaseException | None:
        writing, self._writing = self._writing, None
        return None if writing is None else writing.exception()

    def restore(self, state: TrainingState) -> dict[str, Any] | None:
        """Continue from the newest checkpoint that is whole.

        Args:
            state: Changed in place; as it is when there is no checkpoint.

        Returns:
            The checkpoint's ``state.json``, or ``None`` when there is no checkpoint.

        Raises:
            RunFolderError: If the checkpoint is of another recipe or model, or a log is shorter than it was.
        """
        chosen: list[int | None] = [None]
        if dist.get_rank() == 0:
            chosen = [self._newest_whole()]
        dist.broadcast_object_list(chosen, src=0)
        if chosen[0] is None:
            return None
        folder = self._folder.step(chosen[0])
        small = load_state(folder, state, identity=self._identity)
        restore_rescue(state.rescue, folder, step=state.step)
        if state.core is not None:
            state.core.read(folder.consensus)
        if small["num_ranks"] == dist.get_world_size():
            set_random_state(torch.load(folder.random(dist.get_rank()), weights_only=False))
        if dist.get_rank() == 0:
            for log in self._logs:
                _cut(log, small["logs"][log.name])
        dist.barrier()
        return small

    def _small_state(self, state: TrainingState, position: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "step": state.step,
            "position": dict(position),
            "skipped_in_row": state.skipped_in_row,
            "num_rescue": len(state.rescue.stored),
            "precision": str(state.policy.dtype).removeprefix("torch."),
            "scaler": state.scaler.state_dict(),
            "num_ranks": dist.get_world_size(),
            "logs": {log.name: log.stat().st_size if log.exists() else 0 for log in self._logs},
            "identity": self._identity,
        }

    def _finish(self, written: "Future[Any]", final: CheckpointFolder, chosen: int | None) -> None:
        """Give a written checkpoint its name and remove old ones; runs in the background."""
        written.result()
        if dist.get_rank() != 0:
            return
        partial = final.partial
        write_manifest(partial)
        partial.path.replace(final.path)
        steps = self._folder.steps()
        for old in steps[: -self._keep]:
            if old != chosen:
                shutil.rmtree(self._folder.step(old).path)
        for stale in self._folder.unfinished():
            shutil.rmtree(stale)
        self._written(steps[-self._keep :][0])

    def _newest_whole(self) -> int | None:
        """Return the step of the newest checkpoint that is what was written; others are moved aside."""
        steps = self._folder.steps()
        while steps:
            step = steps.pop()
            folder = self._folder.step(step)
            found = damage(folder)
            if found is None:
                return step
            shutil.rmtree(folder.damaged, ignore_errors=True)
            folder.path.replace(folder.damaged)
            older = self._folder.step(steps[-1]).path.name if steps else None
            instead = f"{older} is used" if older else "the stage starts again from its first step"
            logger.warning(
                "checkpoint %s is damaged (%s): moved to %s; %s", folder.path, found, folder.damaged, instead
            )
        return None


def _first(error: BaseException) -> BaseException:
    """Return what went wrong first, of the failures of the ranks and of what led to them."""
    if isinstance(error, CheckpointException) and error.failures:
        error, _ = next(iter(error.failures.values()))
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error


def _said(error: BaseException) -> str:
    """Return what an error says, or what it is where it says nothing; not its traceback."""
    return " ".join(str(error).split()) or type(error).__name__


def receipt(small: Mapping[str, Any], *, num_steps: int, num_ranks: int) -> str:
    """Say in one line what a stage continues from.

    Args:
        small: What `Checkpointer.restore` returned.
        num_steps: Of the stage.
        num_ranks: That continue it.
    """
    position = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in small["position"].items())
    ranks = f"{small['num_ranks']} rank{'s' if small['num_ranks'] > 1 else ''}"
    now = "" if num_ranks == small["num_ranks"] else f", now {num_ranks}: random states start anew"
    logs = ", ".join(f"{name} {size:,} bytes" for name, size in small["logs"].items())
    return (
        f"continuing after step {small['step']} of {num_steps}: weights, optimizer and random states of {ranks}{now}; "
        f"{position}; {small['num_rescue']} answers for rescue; {logs}"
    )


def _cut(log: Path, size: int) -> None:
    """Remove from a log what steps after the checkpoint wrote."""
    found = log.stat().st_size if log.exists() else 0
    if found < size:
        raise RunFolderError(f"{log} has {found} bytes but had {size} at the checkpoint; put back what was removed")
    if found > size:
        with log.open("r+b") as file:
            file.truncate(size)


def _as_future(written: Any) -> "Future[Any]":
    """Return the future of the upload: async_save gives it alone or beside that of the copying."""
    return getattr(written, "upload_completion", written)
