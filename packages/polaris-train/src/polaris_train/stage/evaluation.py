"""Evaluation while a stage is trained: the code of ``polaris-eval run``, on the engine that holds the policy.

``STAGE/eval/step-000010`` is what that command writes, so its ``report`` and ``compare`` read it. Every evaluation of
a stage draws with the same seed: two of them are a paired comparison.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist
from polaris_eval import Evaluation, read_evaluations
from polaris_eval.running import (
    CONVENTION,
    Job,
    count_missing,
    finish,
    plan_jobs,
    run_settings,
    sample_missing,
    score_jobs,
)
from polaris_reward import Grader
from polaris_rollout import EngineSpec, Group, Meter, Sampler, SamplingParams

from polaris_train.recipe import ResolvedStage
from polaris_train.stage.all_engines import all_engines
from polaris_train.stage.evaluation_problems import evaluation_folder
from polaris_train.stage.monitor import Phases

logger = logging.getLogger(__name__)

TELL_EVERY_S = 60.0
"""An evaluation that takes longer says at this interval how far it is."""


def evaluate_when_due(
    config: ResolvedStage,
    folder: Path,
    step: int,
    phases: Phases,
    *,
    open_sampler: Callable[[int], AbstractContextManager[Sampler]],
    grader: Grader,
) -> dict[str, Any]:
    """Measure the policy after a step, where the recipe says so; collective.

    An evaluation that is on disk is read, and one that a kill interrupted is continued.

    Args:
        config: The stage.
        folder: Of the stage; its ``eval`` holds the problems.
        step: Steps done; 0 before the first.
        phases: Told what it takes.
        open_sampler: Given the number of the next step, gives a sampler with the current weights that yields this
            rank's share of the groups; only called when something must be sampled.
        grader: Grades the completions, on rank 0.

    Returns:
        For the step's record, ``{"evaluations": {"held-out": {"mean@4": 0.5, "low": 0.4, "high": 0.6}}}``: the share
        that is correct and its 95% interval. Empty where nothing is due, and on all ranks but 0.

    Raises:
        EvalError: If scores on disk cannot be read, or no reference of a set can.
        OtherRunError: If an interrupted evaluation was made in another way, such as by another version of the engine.
    """
    if not is_due(config, step):
        return {}
    out = evaluation_folder(folder) / f"step-{step:06d}"
    with phases.phase("evaluate"):
        jobs = _unfinished_jobs(config, out, step) if dist.get_rank() == 0 else []
        if _agreed(any(count_missing(job.task()) for job in jobs)):
            with open_sampler(step + 1) as own, all_engines(own) as sampler:
                if sampler:
                    _sample(jobs, sampler, grader, config, step=step)
        if dist.get_rank() != 0:
            return {}
        if jobs:
            for job in jobs:
                finish(job.task(), grader.grade_many)
            for evaluation in score_jobs(jobs, model=_weights(config, step), out=out):
                logger.info("step %d: %s", step, _sentence(evaluation))
        return {"evaluations": {each.benchmark: _figures(each) for each in read_evaluations(out)}}


def is_due(config: ResolvedStage, step: int) -> bool:
    """Return whether the policy is measured after a step: every ``evaluate_every``, from 0 on, and the last."""
    return config.evaluate_every > 0 and (step % config.evaluate_every == 0 or step == config.steps)


def _unfinished_jobs(config: ResolvedStage, out: Path, step: int) -> list[Job]:
    """Claim the folders of an evaluation; none if its scores are on disk."""
    if (out / "scores.json").exists():
        return []
    # The files of these weights are not on disk, but all else is that of the model which the stage starts from.
    settings = run_settings(
        EngineSpec(config.model, tensor_parallel=config.tensor_parallel),
        params=_params(config),
        convention=CONVENTION,
        budgets=(),
    ) | {
        "model": _weights(config, step),
        "model_digest": None,
        "suffix": config.prompt_suffix,
        "context": config.context,
    }
    jobs = plan_jobs(
        [str(out.parent / f"{name}.jsonl") for name in config.evaluation_hashes],
        out=out,
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


def _sample(jobs: Sequence[Job], sampler: Sampler, grader: Grader, config: ResolvedStage, *, step: int) -> None:
    tasks = [job.task() for job in jobs]
    total = sum(len(task.problems) * task.num_samples for task in tasks)
    left = sum(map(count_missing, tasks))
    sample_missing(
        tasks,
        sampler,
        grader.grade_many,
        params=_params(config),
        suffix=config.prompt_suffix,
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


def _params(config: ResolvedStage) -> SamplingParams:
    return SamplingParams(temperature=config.temperature, max_tokens=config.max_answer_tokens, seed=config.seed)


def _weights(config: ResolvedStage, step: int) -> str:
    return f"{config.run}/{config.stage}+{step}"


def _figures(evaluation: Evaluation) -> dict[str, float]:
    score = evaluation.score("mean@k")
    low, high = score.interval
    return {f"mean@{score.k}": score.value, "low": low, "high": high}


def _sentence(evaluation: Evaluation) -> str:
    score = evaluation.score("mean@k")
    low, high = score.interval
    return f"{evaluation.benchmark} mean@{score.k} {100 * score.value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
