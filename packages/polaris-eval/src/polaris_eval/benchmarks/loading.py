"""The problems of a benchmark, from a local folder or the Hub; any file of problems is a benchmark too.

Where the copies of a named benchmark differ from each other, or a copy from the one whose checksum is kept, that is
said.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from polaris_data import DataError, Problem, content_hash, read_problems
from polaris_data.problems import find

from polaris_eval.benchmarks.registry import Benchmark, find_benchmark
from polaris_eval.errors import BenchmarkError

logger = logging.getLogger(__name__)

DATA_DIR_VARIABLE = "POLARIS_BENCHMARKS"
"""Environment variable: folder of local copies, where no other folder is given."""


def load_benchmark(
    name_or_path: str,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
) -> tuple[str, list[Problem]]:
    """Read the problems of a benchmark.

    Args:
        name_or_path: A file of problems, a name in `BENCHMARKS`, or ``synthetic:held-out`` (generated). A
            name is looked up as ``NAME.jsonl`` or ``NAME_SPLIT.jsonl`` in the folder of local copies first,
            then on the Hub.
        data_dir: Folder of local copies; ``None`` takes ``$POLARIS_BENCHMARKS``, if set.
        limit: Keep only the first problems.
        where: Columns, and the values that a problem must have one of there; others are left out, before ``limit``.

    Returns:
        The name, fit for a folder (a file's is its stem), and the problems. A named benchmark with another number of
        problems than expected, or with other texts, is logged as a warning.

    Raises:
        BenchmarkError: If there is no such file or name, or a name can be had from neither place.
        DataError: If a file is malformed.
    """
    read = None if where else limit  # What is left out does not count.
    if Path(name_or_path).is_file():
        return Path(name_or_path).stem, _chosen(read_problems(name_or_path, limit=read), name_or_path, where)[:limit]
    if name_or_path.partition(":")[0] == "synthetic":
        chosen = _chosen(read_problems(name_or_path, limit=read), name_or_path, where)
        return name_or_path.replace(":", "-"), chosen[:limit]
    benchmark = find_benchmark(name_or_path)
    local = local_copy(benchmark.name, data_dir=data_dir)
    found = _from_hub(benchmark, data_dir) if local is None else read_problems(str(local))
    place = str(local or benchmark.hub_id)
    problems = [_as_benchmark(problem, benchmark, place) for problem in found]
    _warn_of_differences(benchmark, problems, place)
    return benchmark.name, _chosen(problems, place, where)[:limit]


def content_checksum(problems: Iterable[Problem]) -> str:
    """Return a fingerprint of questions and references in their order, 16 hexadecimal digits.

    Copies number their problems and break their lines each in their own way, so ids and white space do not count.
    """
    return content_hash(
        replace(
            problem,
            problem_id="",
            question=" ".join(problem.question.split()),
            references=tuple(" ".join(reference.split()) for reference in problem.references),
        )
        for problem in problems
    )


def local_copy(name: str, *, data_dir: Path | None = None) -> Path | None:
    """Return the file of a named benchmark in the folder of local copies, ``None`` where there is none.

    Args:
        name: Of the benchmark.
        data_dir: Folder of local copies; ``None`` takes ``$POLARIS_BENCHMARKS``, if set.

    Raises:
        BenchmarkError: If there is no such name, or the folder is none.
    """
    benchmark, folder = find_benchmark(name), _folder(data_dir)
    if folder is None:
        return None
    if not folder.is_dir():
        origin = "--data-dir" if data_dir else f"${DATA_DIR_VARIABLE}"
        raise BenchmarkError(f"{origin} is {str(folder)!r}, which is not a folder")
    candidates = (folder / f"{benchmark.stem}.jsonl", folder / f"{benchmark.stem}_{benchmark.split}.jsonl")
    return next((path for path in candidates if path.is_file()), None)


def _chosen(problems: list[Problem], place: str, where: Mapping[str, Sequence[str]] | None) -> list[Problem]:
    """Return the problems that have one of the wanted values in each of these columns."""
    for column, wanted in (where or {}).items():
        values = [find({"source": problem.source, **problem.extra}, column) for problem in problems]
        if all(value is None for value in values):
            raise BenchmarkError(f"{place} has no column {column!r} to choose problems by; correct --where")
        problems = [problem for problem, value in zip(problems, values, strict=True) if str(value) in wanted]
        if not problems:
            has = sorted({str(value) for value in values})[:8]
            raise BenchmarkError(
                f"no problem of {place} has {' or '.join(map(repr, wanted))} in {column!r}; it has {', '.join(has)}: "
                "correct --where"
            )
    return problems


def _folder(data_dir: Path | None) -> Path | None:
    if data_dir is not None:
        return data_dir
    return Path(variable) if (variable := os.environ.get(DATA_DIR_VARIABLE)) else None


def _from_hub(benchmark: Benchmark, data_dir: Path | None) -> list[Problem]:
    try:
        return read_problems(benchmark.hub_id, split=benchmark.split, revision=benchmark.revision)
    except DataError as error:
        folder, stem = _folder(data_dir), benchmark.stem
        looked = f"there is no {folder / stem}.jsonl, and " if folder else ""
        raise BenchmarkError(
            f"{benchmark.name}: {looked}{error}, or put it at DIR/{stem}.jsonl and give --data-dir DIR or "
            f"set {DATA_DIR_VARIABLE}"
        ) from error


def _as_benchmark(problem: Problem, benchmark: Benchmark, place: str) -> Problem:
    """Return a row with the question and the references that the benchmark asks for."""
    question, references = problem.question, problem.references
    if benchmark.question_column is not None:
        question = str(problem.extra.get(benchmark.question_column, question))
    if (column := benchmark.references_column) is not None:
        found = problem.extra.get(column)
        if not isinstance(found, list) or not found:
            raise BenchmarkError(
                f"{benchmark.name}: {problem.problem_id!r} of {place} has no list of answers in the column {column!r}; "
                "give --data-dir with a copy that has it, or take another benchmark"
            )
        references = tuple(str(reference).strip() for reference in found)
    if (marker := benchmark.answer_marker) is not None:
        references = tuple(reference.rpartition(marker)[2].strip() for reference in references)
    return replace(problem, question=question, references=references)


def _warn_of_differences(benchmark: Benchmark, problems: list[Problem], place: str) -> None:
    if len(problems) != benchmark.num_problems:
        text = "%s: %s has %d problems, %d are expected: scores are not comparable with published ones"
        logger.warning(text, benchmark.name, place, len(problems), benchmark.num_problems)
    elif benchmark.checksum is not None and (found := content_checksum(problems)) != benchmark.checksum:
        text = (
            "%s: the questions or references of %s (%s) differ from those of the checked copy (%s), be it in their "
            "notation: compare scores with care"
        )
        logger.warning(text, benchmark.name, place, found, benchmark.checksum)
