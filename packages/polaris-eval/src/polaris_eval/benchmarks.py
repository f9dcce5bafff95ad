"""Benchmarks by name, from a local folder or the Hub; any file of problems is a benchmark too."""

import difflib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from polaris_data.errors import DataError
from polaris_data.problems import read_problems
from polaris_data.records import Problem

from polaris_eval.errors import BenchmarkError

logger = logging.getLogger(__name__)

DATA_DIR_VARIABLE = "POLARIS_BENCHMARKS"
"""Environment variable: folder of local copies, where no other folder is given."""

DEFAULT_NUM_SAMPLES = 8
"""Completions per problem of a file that is no named benchmark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A benchmark known by name."""

    name: str
    """What a user types, and the stem of a local copy."""

    hub_id: str
    """Data set on the Hugging Face Hub, with ``:NAME`` to choose one of its configurations."""

    split: str
    """Split of the data set."""

    num_problems: int
    """Problems that a complete copy has."""

    k: int
    """Completions per problem: as in the POLARIS evaluation, or what is customary where it has none."""

    answer_marker: str | None = None
    """The reference is what follows this marker in the answer column."""


BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(name="aime24", hub_id="HuggingFaceH4/aime_2024", split="train", num_problems=30, k=32),
        Benchmark(name="aime25", hub_id="math-ai/aime25", split="test", num_problems=30, k=32),
        Benchmark(name="amc23", hub_id="math-ai/amc23", split="test", num_problems=40, k=8),
        Benchmark(name="math500", hub_id="HuggingFaceH4/MATH-500", split="test", num_problems=500, k=4),
        Benchmark(name="minerva", hub_id="math-ai/minervamath", split="test", num_problems=272, k=4),
        Benchmark(name="olympiadbench", hub_id="lkevinzc/math-eval", split="olympiad_bench", num_problems=675, k=4),
        Benchmark(name="gsm8k", hub_id="openai/gsm8k:main", split="test", num_problems=1319, k=1, answer_marker="####"),
    )
}
"""Every benchmark that has a name. The published AMC23 figure is over 83 problems (AMC 12, 2022 and 2023)."""


def load_benchmark(
    name_or_path: str, *, data_dir: Path | None = None, limit: int | None = None
) -> tuple[str, list[Problem]]:
    """Read the problems of a benchmark.

    Args:
        name_or_path: A file of problems, a name in `BENCHMARKS`, or ``synthetic:held-out`` (generated). A
            name is looked up as ``NAME.jsonl`` or ``NAME_SPLIT.jsonl`` in the folder of local copies first,
            then on the Hub.
        data_dir: Folder of local copies; ``None`` takes ``$POLARIS_BENCHMARKS``, if set.
        limit: Keep only the first problems.

    Returns:
        The name, fit for a folder (a file's is its stem), and the problems. A named benchmark with another number of
        problems than expected is logged as a warning.

    Raises:
        BenchmarkError: If there is no such file or name, or a name can be had from neither place.
        DataError: If a file is malformed.
    """
    if Path(name_or_path).is_file():
        return Path(name_or_path).stem, read_problems(name_or_path, limit=limit)
    if name_or_path.partition(":")[0] == "synthetic":
        return name_or_path.replace(":", "-"), read_problems(name_or_path, limit=limit)
    benchmark = _look_up(name_or_path)
    local = _local_copy(benchmark, data_dir)
    problems = _from_hub(benchmark, data_dir) if local is None else read_problems(str(local))
    if len(problems) != benchmark.num_problems:
        logger.warning(
            "%s: %s has %d problems, %d are expected: scores are not comparable with published ones",
            benchmark.name,
            local or benchmark.hub_id,
            len(problems),
            benchmark.num_problems,
        )
    return benchmark.name, [_cut_references(problem, benchmark) for problem in problems[:limit]]


def _look_up(name: str) -> Benchmark:
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if "/" in name or Path(name).suffix:
        raise BenchmarkError(f"no file {name!r}; give a file of problems or one of: {', '.join(BENCHMARKS)}")
    close = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise BenchmarkError(
        f"unknown benchmark {name!r}; {hint}Give a file of problems or one of: {', '.join(BENCHMARKS)}"
    )


def _local_copy(benchmark: Benchmark, data_dir: Path | None) -> Path | None:
    folder = _folder(data_dir)
    if folder is None:
        return None
    if not folder.is_dir():
        origin = "--data-dir" if data_dir else f"${DATA_DIR_VARIABLE}"
        raise BenchmarkError(f"{origin} is {str(folder)!r}, which is not a folder")
    candidates = (folder / f"{benchmark.name}.jsonl", folder / f"{benchmark.name}_{benchmark.split}.jsonl")
    return next((path for path in candidates if path.is_file()), None)


def _folder(data_dir: Path | None) -> Path | None:
    if data_dir is not None:
        return data_dir
    return Path(variable) if (variable := os.environ.get(DATA_DIR_VARIABLE)) else None


def _from_hub(benchmark: Benchmark, data_dir: Path | None) -> list[Problem]:
    try:
        return read_problems(benchmark.hub_id, split=benchmark.split)
    except DataError as error:
        folder = _folder(data_dir)
        looked = f"there is no {folder / benchmark.name}.jsonl, and " if folder else ""
        raise BenchmarkError(
            f"{benchmark.name}: {looked}{error}, or put it at DIR/{benchmark.name}.jsonl and give --data-dir DIR or "
            f"set {DATA_DIR_VARIABLE}"
        ) from error


def _cut_references(problem: Problem, benchmark: Benchmark) -> Problem:
    marker = benchmark.answer_marker
    if marker is None:
        return problem
    references = tuple(reference.rpartition(marker)[2].strip() for reference in problem.references)
    return replace(problem, references=references)
