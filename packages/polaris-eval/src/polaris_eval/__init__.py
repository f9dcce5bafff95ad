"""Scores with 95% intervals: benchmarks by name, streamed and resumable evaluation, paired comparison."""

from polaris_eval.benchmarks.registry import BENCHMARKS, Benchmark, load_benchmark
from polaris_eval.errors import BenchmarkError, EvalError, SettingError, UnscorableError
from polaris_eval.records import Estimate, Evaluation, Score, read_evaluations
from polaris_eval.running.queue import evaluate
from polaris_eval.scores.means import clustered_mean, mean_at_k, paired_difference
from polaris_eval.scores.summary import correct_by_problem, summarize

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
    "read_evaluations",
    "summarize",
]
