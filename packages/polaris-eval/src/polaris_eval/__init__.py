"""Scores with 95% intervals: benchmarks by name, streamed and resumable evaluation, paired comparison."""

from polaris_eval.benchmarks import BENCHMARKS, Benchmark, load_benchmark
from polaris_eval.errors import BenchmarkError, EvalError, SettingError, UnscorableError
from polaris_eval.evaluate import evaluate
from polaris_eval.metrics import clustered_mean, mean_at_k, paired_difference
from polaris_eval.records import Estimate, Evaluation, Score
from polaris_eval.summary import correct_by_problem, summarize

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkError",
    "Estimate",
    "EvalError",
    "Evaluation",
    "Score",
    "SettingError",
    "UnscorableError",
    "clustered_mean",
    "correct_by_problem",
    "evaluate",
    "load_benchmark",
    "mean_at_k",
    "paired_difference",
    "summarize",
]
