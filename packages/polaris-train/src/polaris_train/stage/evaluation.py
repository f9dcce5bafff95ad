"""Evaluation while a stage is trained: the code of ``polaris-eval run``, on the engine that holds the policy.

``STAGE/eval/step-000010`` is what that command writes, so its ``report`` and ``compare`` read it. Every evaluation of
a stage draws with the same seed: two of them are a paired comparison.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch.distributed as dist
from polaris_eval import Evaluation, read_evaluations
from polaris_eval.running import (
    CONVENTION,
    Job,
    Wording,
    count_missing,
    finish,
    plan_jobs,
    run_settings,
    sample_missing,
    score_jobs,
)
from polaris_reward import GradeMany
from polaris_rollout import EngineSpec, Group, Meter, Sampler

from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StageFolder
from polaris_train.stage.all_engines import all_engines
from polaris_train.stage.monitor import Phases
from polaris_train.stage.rollouts import OpenSampler

logger = logging.getLogger(__name__)

TELL_EVERY_S = 60.0
"""An evaluation that takes longer says at this interval how far it is."""


def evaluate_when_due(
    config: ResolvedStage,
    folder: StageFolder,
    step: int,
    phases: Phases,
    *,
    last: bool = False,
    open_sampler: OpenSampler,
    grade_many: GradeMany,
) -> dict[str, Any]:
    """Measure the policy after a step, where the recipe says so; collective.

    An evaluation that is on disk is read, and one that a kill interrupted is continued.

    Args:
        config: The stage.
        folder: Of the stage; holds the problems.
        step: Steps done; 0 before the first.
        phases: Told what it takes.
        last: Whether the stage ends with this step, though the recipe has more of them.
        open_sampler: Only called when something must be sampled.
        grade_many: Grades the completions, on rank 0; called from another thread.

    Returns:
        For the step's record, ``{"evaluations": {"held-out": {"mean@4": 0.5, "low": 0.4, "high": 0.6}}}``: the share
        that is correct and its 95% interval. Empty where nothing is due, and on all ranks but 0.

    Raises:
        EvalError: If scores on disk cannot be read, or no reference of a set can.
        OtherRunError: If an interrupted evaluation was made in another way, such as by another version of the engine.
    """
    if not is_due(step, every=config.evaluate_every, steps=step if last else config.steps):
        return {}
    with phases.phase("evaluate"):
        jobs = _unfinished_jobs(config, folder, step) if dist.get_rank() == 0 else []
        if _agreed(any(count_missing(job.task()) for job in jobs)):
            with open_sampler(step) as own, all_engines(own) as sampler:
                if sampler:
                    _sample(jobs, sampler, grade_many, config, step=step)
        if dist.get_rank() != 0:
            return {}
        out = folder.evaluation(step)
        if jobs:
            for job in jobs:
                finish(job.task(), grade_many)
            for evaluation in score_jobs(jobs, model=config.weights_version(step), out=out):
                logger.info("step %d: %s", step, _sentence(evaluation))
        return {"evaluations": {each.benchmark: _figures(each) for each in read_evaluations(out)}}


def is_due(step: int, *, every: int, steps: int) -> bool:
    """Return whether the policy is measured after a step: ``every`` so many, from 0 on, and the last; 0 is never."""
    return every > 0 and (step % every == 0 or step == steps)


def _unfinished_jobs(config: ResolvedStage, folder: StageFolder, step: int) -> list[Job]:
    """Claim the folders of an evaluation; none if its scores are on disk."""
    if folder.scores(step).exists():
        return []
    # The files of these weights are not on disk, but all else is that of the model which the stage starts from.
    settings = run_settings(
        EngineSpec(config.model, tensor_parallel=config.tensor_parallel, options=config.engine),
        params=config.sampling_params(seed=config.seed),
        convention=CONVENTION,
        budgets=(),
        wording=Wording(suffix=config.prompt_suffix),
    ) | {
        "model": config.weights_version(step),
        "model_digest": None,
        "context": config.context,
    }
    jobs = plan_jobs(
        [str(folder.evaluation_problems(name)) for name in config.evaluation_hashes],
        out=folder.evaluation(step),
        settings=settings,
        num_samples=config.evaluate_samples,
        data_dir=None,
        limit=None,
    )
    for job in jobs:
        job.claim()
    return jobs


def _agreed(needed: bool) -> bool:
    """Return what rank 0 found."""
    found = [needed]
    dist.broadcast_object_list(found, src=0)
    return found[0]


def _sample(jobs: Sequence[Job], sampler: Sampler, grade_many: GradeMany, config: ResolvedStage, *, step: int) -> None:
    tasks = [job.task() for job in jobs]
    total = sum(len(task.problems) * task.num_samples for task in tasks)
    left = sum(map(count_missing, tasks))
    sample_missing(
        tasks,
        sampler,
        grade_many,
        params=config.sampling_params(seed=config.seed),
        wording=Wording(suffix=config.prompt_suffix),
        track=partial(_told, total=total, done=total - left, step=step),
    )


def _told(groups: Iterable[Group], *, total: int, done: int, step: int) -> Iterator[Group]:
    """Pass groups through and log how far they are; a bar would be drawn into the table of the steps."""
    meter, told = Meter(total=total, done=done), time.monotonic()
    for group in groups:
        meter.add(group)
        if time.monotonic() > told + TELL_EVERY_S:
            logger.info("step %d: evaluating %d/%d  %s", step, meter.num_done, total, meter.read())
            told = time.monotonic()
        yield group


def _figures(evaluation: Evaluation) -> dict[str, float]:
    score = evaluation.score("mean@k")
    low, high = score.interval
    return {f"mean@{score.k}": score.value, "low": low, "high": high}


def _sentence(evaluation: Evaluation) -> str:
    score = evaluation.score("mean@k")
    low, high = score.interval
    return f"{evaluation.benchmark} mean@{score.k} {100 * score.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
