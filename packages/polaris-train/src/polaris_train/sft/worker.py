"""One rank of a stage of supervised fine-tuning: ``torchrun ... -m polaris_train.sft.worker RUN/STAGE``."""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch.distributed as dist
from polaris_data.files import append_records
from polaris_reward import GradeMany, boxed_grader

from polaris_train.errors import RunFolderError
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.sft.loop import SftStep, train_sft
from polaris_train.sft.sequences import Traces
from polaris_train.stage.ending import Ending, end_stage
from polaris_train.stage.evaluation import evaluate_when_due
from polaris_train.stage.output import StepTable, Trackers, number
from polaris_train.stage.worker import Rank, main, open_engine, resume

logger = logging.getLogger(__name__)

_COLUMNS = ("step", "epoch", "loss", "validation", "tokens", "entropy", "rate", "grad norm", "s")


def train(rank: Rank, folder: StageFolder, stack: ExitStack) -> None:
    """Train a stage that `polaris_train.sft.prepare_sft` has prepared and write its model."""
    config = rank.config
    if config.sft is None:
        raise RunFolderError(f"{folder.path} is a stage of reinforcement learning; train it with polaris-train stage")
    supervised = config.sft
    traces = Traces(folder.sequences, num_validated=supervised.validation_traces, seed=config.seed)
    ending = Ending(config, folder)
    checkpointer = resume(rank.state, config, folder, stack)
    engine = open_engine(config, folder, stack, rank)
    grade_many = _grader(stack) if config.evaluate_every else _nothing_to_grade
    steps = train_sft(
        config,
        supervised,
        state=rank.state,
        traces=traces,
        evaluate=partial(
            evaluate_when_due, config, folder, open_sampler=engine.awake, grade_many=rank.heart.graded(grade_many)
        ),
        ending=ending,
        checkpointer=checkpointer,
        watched=rank.heart.phase,
    )
    _follow(steps, config, folder, stack)
    with rank.heart.phase("export"):
        end_stage(rank.state, config, folder, ending, load=rank.load)


def _grader(stack: ExitStack) -> GradeMany:
    return stack.enter_context(boxed_grader()).grade_many


def _nothing_to_grade(*_: Any, **__: Any) -> Any:
    raise AssertionError("a stage without evaluations grades nothing")


def _follow(steps: Iterator[SftStep], config: ResolvedStage, folder: StageFolder, stack: ExitStack) -> None:
    """Consume the steps; rank 0 records and shows them."""
    if dist.get_rank() != 0:
        for _ in steps:
            pass
        return
    trackers = Trackers(config, folder, stack)
    title = f"{config.run}/{config.stage}"
    with StepTable(title, num_steps=config.steps, columns=_COLUMNS, cells=_cells) as table:
        for each in steps:
            append_records(folder.metrics, [each.metrics])
            append_records(folder.performance, [each.performance])
            table.add(each.metrics, each.performance)
            for alarm in [*each.metrics["alarms"], *each.performance["alarms"]]:
                logger.warning("step %d: %s", each.metrics["step"], alarm)
            trackers.log(each.metrics | each.performance)


def _cells(metrics: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(metrics["step"]),
        f"{metrics['epoch']:.2f}",
        number(metrics["loss"], ".4f"),
        number(metrics.get("validation_loss"), ".4f"),
        f"{metrics['num_tokens']:,}",
        number(metrics["entropy"], ".3f"),
        f"{metrics['learning_rate']:.1e}",
        number(metrics["grad_norm"], ".3f"),
    )


if __name__ == "__main__":
    main(train)
