"""Measure how often a model solves your problems, and keep those it can still learn from.

    python examples/profile_your_data.py [PROBLEMS [MODEL]]

PROBLEMS is a file with ``problem`` and ``answer``, or whatever else ``polaris-data`` reads. Without arguments: 16
synthetic problems and the demonstration model, on a CPU, in under a minute. Killed and started again, it continues.
"""

import sys
from pathlib import Path

from polaris_data import Journal, histogram, read_problems, select, write_problems
from polaris_data.profile import profile
from polaris_reward import boxed_grader
from polaris_rollout import SamplingParams
from polaris_rollout.engines import VllmSampler


def main(source: str = "synthetic", model: str = "tiny") -> None:
    """Sample 8 answers for each problem, grade them, and write ``selected.jsonl``."""
    problems = read_problems(source, limit=16 if source == "synthetic" else None)
    with boxed_grader() as grader, VllmSampler(model) as sampler:
        measured = list(
            profile(
                problems,
                sampler,
                grader.grade_many,
                params=SamplingParams(temperature=1.0, seed=0),
                num_samples=8,
                journal=Journal(Path("profile.jsonl")),
            )
        )
    kept = {decision.problem_id for decision in select(problems, measured) if decision.kept}
    write_problems("selected.jsonl", [problem for problem in problems if problem.problem_id in kept])
    print(f"problems by answers right of 8: {histogram(measured).counts}")
    print(f"{len(kept)} of {len(problems)} problems are not always solved: selected.jsonl")


if __name__ == "__main__":
    main(*sys.argv[1:])
