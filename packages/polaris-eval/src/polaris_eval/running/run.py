"""Run the benchmarks of one command: sample what is missing on one engine, then score everything."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from polaris_data import Journal
from polaris_data.files import locked_output
from polaris_reward import BOXED, GradeMany, boxed_grader
from polaris_rollout import Engine, EngineSpec, Sampler, SamplingParams, track

from polaris_eval.records import Evaluation
from polaris_eval.running.budgets import Decode, open_decoder
from polaris_eval.running.job import Job
from polaris_eval.running.protocol import join_settings, protocol_hash
from polaris_eval.running.queue import count_missing, finish, sample_missing, to_prompts
from polaris_eval.running.wording import AS_IN_TRAINING, Wording
from polaris_eval.scores.files import write_scores
from polaris_eval.scores.summary import summarize

CONVENTION = BOXED
"""What is an answer: the prompt asks for a box."""


def run_jobs(
    jobs: Sequence[Job], spec: EngineSpec, *, params: SamplingParams, out: Path, wording: Wording = AS_IN_TRAINING
) -> list[Evaluation]:
    """Measure a model on every job's benchmark and write ``out/scores.json``.

    No engine is started when an earlier command sampled everything.

    Args:
        jobs: As `plan_jobs` made them, for the same engine and params.
        spec: The engine, with the model.
        params: How completions are drawn.
        out: Folder of the evaluation.
        wording: What stands around every question.

    Raises:
        OtherRunError: If another process writes there, or a folder belongs to another run.
        RolloutError: If there is no engine, the model cannot be used, or a prompt does not fit.
        UnscorableError: If no problem of a benchmark has a reference that the grader can read.
    """
    with locked_output(out / "scores.json"):
        if not all(job.is_finished for job in jobs):
            with boxed_grader() as grader:
                if any(not job.is_started or count_missing(job.task()) for job in jobs):
                    from polaris_rollout.engines import open_engine, watch

                    with open_engine(spec) as engine:
                        for job in jobs:
                            engine.check_prompts(to_prompts(job.problems, wording), max_tokens=params.max_tokens)
                        with watch(engine, stall_limit_s=spec.stall_limit_s, label="evaluating"):
                            sample_jobs(
                                jobs,
                                engine,
                                grader.grade_many,
                                params=params,
                                wording=wording,
                                decode=open_decoder(spec.model, endpoints=spec.endpoints),
                                engine=engine,
                            )
                for job in jobs:
                    finish(job.task(), grader.grade_many)
        return score_jobs(jobs, model=spec.model, out=out)


def sample_jobs(
    jobs: Sequence[Job],
    sampler: Sampler,
    grade_many: GradeMany,
    *,
    params: SamplingParams,
    wording: Wording = AS_IN_TRAINING,
    decode: Decode | None = None,
    engine: Engine | None = None,
) -> None:
    """Claim the jobs' folders and sample what they do not hold yet, all at once, with one progress bar.

    Args:
        jobs: With the same settings but for the benchmark.
        sampler: Draws the completions.
        grade_many: Grades them.
        params: How completions are drawn.
        wording: What stands around every question.
        decode: Of the model's tokenizer, to grade completions cut to ``budgets``; without it they are not.
        engine: Asked what it is doing, for the progress.
    """
    for job in jobs:
        job.claim()
    tasks = [job.task() for job in jobs]
    total = sum(len(task.problems) * task.num_samples for task in tasks)
    left = sum(count_missing(task) for task in tasks)
    sample_missing(
        tasks,
        sampler,
        grade_many,
        params=params,
        wording=wording,
        budgets=jobs[0].settings["budgets"],
        decode=decode,
        track=partial(track, total=total, done=total - left, label="evaluating", engine=engine),
    )


def score_jobs(jobs: Sequence[Job], *, model: str, out: Path) -> list[Evaluation]:
    """Score the completed files of jobs and write ``out/scores.json``, with the protocol that they were made by."""
    evaluations = [summarize(job.name, Journal(job.completions_path).records) for job in jobs]
    protocol = join_settings([job.settings for job in jobs])
    write_scores(out, evaluations, model=model, protocol=protocol, protocol_hash=protocol_hash(protocol))
    return evaluations
