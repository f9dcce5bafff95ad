"""Score a checkpoint, with an interval, and compare it with another.

    python examples/evaluate_checkpoint.py [BENCHMARK [MODEL [OTHER_MODEL]]]

A model is a Hugging Face folder, such as RUN/STAGE/model, or a Hub id; a benchmark is a name (``polaris-eval list``) or
a file with ``problem`` and ``answer``. Without arguments: 16 synthetic problems, the demonstration model.
"""

import sys
from pathlib import Path

from polaris_data import Journal
from polaris_eval import Estimate, correct_by_problem, evaluate, load_benchmark, mean_at_k, paired_difference
from polaris_reward import boxed_grader
from polaris_rollout import SamplingParams
from polaris_rollout.engines import VllmSampler

NUM_SAMPLES = 8


def main(benchmark: str = "synthetic:held-out", *models: str) -> None:
    """Print mean@8 of each model, and how much the second is better than the first."""
    name, problems = load_benchmark(benchmark, limit=16 if benchmark.startswith("synthetic") else None)
    correct: list[list[list[bool]]] = []
    for number, model in enumerate(models or ("tiny",)):
        journal = Journal(Path(f"completions-{number}.jsonl"))
        with boxed_grader() as grader, VllmSampler(model) as sampler:
            evaluate(
                name,
                problems,
                sampler,
                grader.grade_many,
                params=SamplingParams(temperature=1.0, seed=0),
                num_samples=NUM_SAMPLES,
                journal=journal,
            )
        correct.append(list(correct_by_problem(journal.records).values()))
        print(f"{model} on {name}: mean@{NUM_SAMPLES} {_with_interval(mean_at_k(correct[-1]))}")
    if len(correct) == 2:
        print(f"the second is better by {_with_interval(paired_difference(*correct))}")


def _with_interval(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{estimate.value:.3f}, 95% interval {low:.3f} to {high:.3f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
