"""The end of a stage: when it comes, which weights are the result, and ``outcome.json``, which says both and why."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, TypeVar, cast

import torch.distributed as dist
from polaris_data.files import write_json
from polaris_eval import read_evaluations

from polaris_train.model.policy import Policy
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder, read_records
from polaris_train.stage.checksums import damage
from polaris_train.stage.choosing import Choice, choose_checkpoint
from polaris_train.stage.evaluation_problems import HELD_OUT
from polaris_train.stage.export import export_model, is_exported
from polaris_train.stage.rises import HeldOut
from polaris_train.stage.stopping import Stop, decide_stop
from polaris_train.stage.training_state import TrainingState, load_weights

logger = logging.getLogger(__name__)

Decision = TypeVar("Decision")


class Ending:
    """Decides from a stage's records when it ends and which weights it leaves.

    `stop` and `choice` are collective: rank 0 decides for all. Its decisions depend on the records alone, so they are
    the same after a kill.
    """

    def __init__(self, config: ResolvedStage, folder: StageFolder) -> None:
        """Read nothing yet.

        Args:
            config: The stage.
            folder: Of the stage; holds its evaluations.
        """
        self._config = config
        self._folder = folder
        self._read: dict[int, HeldOut] = {}

    def history(self) -> list[dict[str, Any]]:
        """Return the metrics of the steps that are done, oldest first."""
        return read_records(self._folder.metrics)

    def stop(self, history: Sequence[Mapping[str, Any]]) -> Stop | None:
        """Return why the stage ends with the newest step, or ``None`` if it goes on; see `decide_stop`."""
        config = self._config
        return _of_rank_0(
            lambda: decide_stop(
                history,
                self._evaluations(history),
                steps=config.steps,
                plateau_window=config.plateau_window,
                truncation_limit=config.truncation_limit,
                max_sampled_tokens=config.max_sampled_tokens,
            )
        )

    def choice(self, history: Sequence[Mapping[str, Any]]) -> Choice:
        """Return which weights the stage would leave if it ended now; see `choose_checkpoint`."""
        return _of_rank_0(lambda: choose_checkpoint(self._evaluations(history), last=history[-1]["step"]))

    def _evaluations(self, history: Sequence[Mapping[str, Any]]) -> list[HeldOut]:
        """Return the evaluations on held-out problems that the records name, and that before the first step."""
        if not (self._config.evaluate_every and HELD_OUT in self._config.evaluation_hashes):
            return []
        measured = [each["step"] for each in history if HELD_OUT in each.get("evaluations", {})]
        return [self._evaluation(step) for step in (0, *measured)]

    def _evaluation(self, step: int) -> HeldOut:
        if step not in self._read:
            (found,) = (each for each in read_evaluations(self._folder.evaluation(step)) if each.benchmark == HELD_OUT)
            shares = {
                problem.problem_id: problem.num_correct / problem.num_samples
                for problem in found.problems
                if problem.num_correct is not None
            }
            self._read[step] = HeldOut(step=step, shares=shares)
        return self._read[step]


def end_stage(
    state: TrainingState,
    config: ResolvedStage,
    folder: StageFolder,
    ending: Ending,
    *,
    load: Callable[[], Policy],
) -> None:
    """Write the model that was chosen and then ``outcome.json``; collective.

    Args:
        state: After the last step; may hold other weights afterwards.
        config: The stage.
        folder: Of the stage.
        ending: Of the stage.
        load: Gives the model that the stage started from.
    """
    history = ending.history()
    stop, choice = ending.stop(history), ending.choice(history)
    if not _of_rank_0(lambda: is_exported(config, folder, step=choice.step)):
        choice = _available(choice, folder, last=state.step)
        export_model(_weights(state, folder, choice.step, load), config, folder, step=choice.step)
    if dist.get_rank() == 0 and stop is not None:
        write_json(folder.outcome, {"stopped": asdict(stop), "chosen": asdict(choice)})
    dist.barrier()


def _available(choice: Choice, folder: StageFolder, *, last: int) -> Choice:
    """Return the choice, or the last step where the checkpoint of the chosen one is not what was written."""
    if choice.step in (0, last):
        return choice
    found = _of_rank_0(lambda: damage(folder.checkpoints.step(choice.step)))
    if found is None:
        return choice
    sentence = f"step {last}: the last, since the checkpoint of step {choice.step}, the better one, is lost ({found})"
    if dist.get_rank() == 0:
        logger.warning("%s", sentence)
    return replace(choice, step=last, sentence=sentence)


def _weights(state: TrainingState, folder: StageFolder, step: int, load: Callable[[], Policy]) -> Policy:
    if step == state.step:
        return state.policy
    if step == 0:
        return load()
    load_weights(folder.checkpoints, state.policy, step=step)
    return state.policy


def _of_rank_0(decide: Callable[[], Decision]) -> Decision:
    """Return what rank 0 decides."""
    found = [decide() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(found, src=0)
    return cast(Decision, found[0])
