"""Run the benchmarks of one command: sample what is missing on one engine, then score everything."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from polaris_data.journal import Journal, write_json
from polaris_rollout.progress import track
from polaris_rollout.records import Sampler, SamplingParams

from polaris_eval.evaluate import GradeMany, finish, missing_problems, sample_missing, to_prompts
from polaris_eval.job import Job
from polaris_eval.records import Evaluation
from polaris_eval.summary import summarize


def run_jobs(
    jobs: Sequence[Job], *, model: str, context: int | None, params: SamplingParams, out: Path
) -> list[Evaluation]:
    """Measure a model on every job's benchmark and write ``out/scores.json``.

    No engine is started when an earlier command sampled everything.

    Args:
        jobs: As `plan_jobs` made them, from the same model, context and params.
        model: A folder, a Hub id, or a carried name.
        context: Longest prompt and completion together; ``None`` is the model's.
        params: How completions are drawn.
        out: Folder of the evaluation.

    Raises:
        RolloutError: If there is no engine, the model cannot be used, or a prompt does not fit.
        UnscorableError: If no problem of a benchmark has a reference that the grader can read.
    """
    if waiting := [job for job in jobs if not _is_sampled(job)]:
        # The engine takes many seconds to import, and is needed only here.
        from polaris_reward import BOXED, Grader
        from polaris_rollout.vllm_sampler import VllmSampler

        with Grader(policy=BOXED, max_failed_share=None) as grader, VllmSampler(model, context=context) as sampler:
            for job in waiting:
                sampler.check_prompts(to_prompts(job.problems), max_tokens=params.max_tokens)
            for job in waiting:
                sample_job(job, sampler, grader.grade_many, params=params)
    return score_jobs(jobs, model=model, out=out)


def sample_job(job: Job, sampler: Sampler, grade_many: GradeMany, *, params: SamplingParams) -> None:
    """Claim the job's folder and sample what it does not hold yet, with a progress bar."""
    job.claim()
    journal = Journal(job.completions_path)
    sample_missing(
        job.problems,
        sampler,
        grade_many,
        params=params,
        num_samples=job.num_samples,
        journal=journal,
        track=partial(track, total=len(job.problems), done=len(journal.records), label=job.name),
    )


def score_jobs(jobs: Sequence[Job], *, model: str, out: Path) -> list[Evaluation]:
    """Complete the files of fully sampled jobs, score them, and write ``out/scores.json``."""
    evaluations: list[Evaluation] = []
    for job in jobs:
        journal = Journal(job.completions_path)
        finish(job.problems, journal)
        evaluations.append(summarize(job.name, journal.records))
    write_json(
        out / "scores.json",
        {"model": model, "evaluations": [asdict(evaluation) for evaluation in evaluations]},
    )
    return evaluations


def _is_sampled(job: Job) -> bool:
    return job.is_started and not missing_problems(job.problems, Journal(job.completions_path))
