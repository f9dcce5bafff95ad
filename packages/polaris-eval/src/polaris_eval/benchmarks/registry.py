"""Benchmarks by name, from a local folder or the Hub; any file of problems is a benchmark too.

A name stands for one list of problems: where its copies differ from each other, or a copy from the one whose checksum
is kept here, that is said. Hub data sets are pinned to a revision.
"""

import difflib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from polaris_data import DataError, Problem, content_hash, read_problems

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

    revision: str
    """Commit of the data set that is read."""

    split: str
    """Split of the data set."""

    columns: tuple[str, str]
    """Of the data set: the question's and the reference's."""

    num_problems: int
    """Problems that a complete copy has."""

    k: int
    """Completions per problem: as in the POLARIS evaluation, or what is customary where it has none."""

    checksum: str | None = None
    """`content_checksum` of the copy whose references were checked; ``None`` where none was at hand."""

    file: str | None = None
    """Stem of a local copy, where it is not the name."""

    answer_marker: str | None = None
    """The reference is what follows this marker in the answer column."""

    question_column: str | None = None
    """Column of a local copy that replaces the question of the rows that have it."""

    references_column: str | None = None
    """Column of a local copy that replaces the references."""

    note: str = ""
    """What a reader of the score should know."""


BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="aime24",
            hub_id="HuggingFaceH4/aime_2024",
            revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
            split="train",
            columns=("problem", "answer"),
            num_problems=30,
            k=32,
            checksum="1ef1d8ee27a8d3c4",
        ),
        Benchmark(
            name="aime25",
            hub_id="math-ai/aime25",
            revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
            split="test",
            columns=("problem", "answer"),
            num_problems=30,
            k=32,
            checksum="5328753affd16a1c",
        ),
        Benchmark(
            name="aime26",
            hub_id="MathArena/aime_2026",
            revision="d2de22f3c656b4f56cf8981212186377d1e23bc3",
            split="train",
            columns=("problem", "answer"),
            num_problems=30,
            k=32,
        ),
        Benchmark(
            name="amc23",
            hub_id="math-ai/amc23",
            revision="80815d37005feb82cd7f8fbc6901d5d3eff43057",
            split="test",
            columns=("question", "answer"),
            num_problems=40,
            k=8,
            checksum="64931e359b7d7fba",
            note="AMC 12 of 2023 only; the figures that POLARIS publishes as AMC23 are over amc22_23",
        ),
        Benchmark(
            name="amc22_23",
            hub_id="AI-MO/aimo-validation-amc",
            revision="69d78a4a2c840e82d69af6bc742bda09005f6316",
            split="train",
            columns=("problem", "answer"),
            num_problems=83,
            k=8,
            checksum="ec09fae8c8196be5",
            note="AMC 12 of 2022 and 2023: what POLARIS publishes as AMC23",
        ),
        Benchmark(
            name="math500",
            hub_id="HuggingFaceH4/MATH-500",
            revision="6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
            split="test",
            columns=("problem", "answer"),
            num_problems=500,
            k=4,
            checksum="5e5e8d55ff78380f",
        ),
        Benchmark(
            name="minerva",
            hub_id="math-ai/minervamath",
            revision="ee46ddc498933b1977577953250ca5c66be64f96",
            split="test",
            columns=("question", "answer"),
            num_problems=272,
            k=4,
            checksum="403d89c696c7b530",
            note="references as in the boxed solutions; POLARIS grades against another list, see minerva_polaris",
        ),
        Benchmark(
            name="minerva_polaris",
            hub_id="math-ai/minervamath",
            revision="ee46ddc498933b1977577953250ca5c66be64f96",
            split="test",
            columns=("question", "answers_polaris"),
            num_problems=272,
            k=4,
            checksum="b5c845406c02bdbb",
            file="minerva",
            references_column="answers_polaris",
            note="the references of the published figures, 38 of which differ from the boxed solutions in substance; "
            "needs a local copy with the column answers_polaris",
        ),
        Benchmark(
            name="olympiadbench",
            hub_id="math-ai/OlympiadBench",
            revision="4faaf1e6ec17d11a4218a9bf4c049ecaf954dd84",
            split="test",
            columns=("question", "final_answer"),
            num_problems=675,
            k=4,
            checksum="58f5c09e38ed27cc",
            question_column="problem_674",
            note="published figures are over 675 problems, 15 of which lack their input; the Hub has 674 with it; of "
            "a local copy the column problem_674 is asked where there is one",
        ),
        Benchmark(
            name="gsm8k",
            hub_id="openai/gsm8k:main",
            revision="740312add88f781978c0658806c59bc2815b9866",
            split="test",
            columns=("question", "answer"),
            num_problems=1319,
            k=1,
            checksum="04834c990da4e51a",
            answer_marker="####",
        ),
        Benchmark(
            name="hmmt25",
            hub_id="MathArena/hmmt_feb_2025",
            revision="6fdc4277120810ff75aa22d2d5489b91f7a262a1",
            split="train",
            columns=("problem", "answer"),
            num_problems=30,
            k=32,
            note="the tournament of February 2025",
        ),
        Benchmark(
            name="beyondaime",
            hub_id="ByteDance-Seed/BeyondAIME",
            revision="c705198ae1043810b1e1693bd879250b51a7a523",
            split="test",
            columns=("problem", "answer"),
            num_problems=100,
            k=8,
        ),
    )
}
"""Every benchmark that has a name."""


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
        problems than expected, or with other texts, is logged as a warning.

    Raises:
        BenchmarkError: If there is no such file or name, or a name can be had from neither place.
        DataError: If a file is malformed.
    """
    if Path(name_or_path).is_file():
        return Path(name_or_path).stem, read_problems(name_or_path, limit=limit)
    if name_or_path.partition(":")[0] == "synthetic":
        return name_or_path.replace(":", "-"), read_problems(name_or_path, limit=limit)
    benchmark = find_benchmark(name_or_path)
    local = _local_copy(benchmark, data_dir)
    rows = _from_hub(benchmark, data_dir) if local is None else read_problems(str(local))
    place = str(local or benchmark.hub_id)
    problems = [_as_benchmark(problem, benchmark, place) for problem in rows]
    _warn_of_differences(benchmark, problems, place)
    return benchmark.name, problems[:limit]


def find_benchmark(name: str) -> Benchmark:
    """Return the benchmark of a name.

    Raises:
        BenchmarkError: If there is none; the closest name is told.
    """
    if name in BENCHMARKS:
        return BENCHMARKS[name]
    if "/" in name or Path(name).suffix:
        raise BenchmarkError(f"no file {name!r}; give a file of problems or one of: {', '.join(BENCHMARKS)}")
    close = difflib.get_close_matches(name.lower(), BENCHMARKS, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise BenchmarkError(
        f"unknown benchmark {name!r}; {hint}Give a file of problems or one of: {', '.join(BENCHMARKS)}"
    )


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


def _local_copy(benchmark: Benchmark, data_dir: Path | None) -> Path | None:
    folder = _folder(data_dir)
    if folder is None:
        return None
    if not folder.is_dir():
        origin = "--data-dir" if data_dir else f"${DATA_DIR_VARIABLE}"
        raise BenchmarkError(f"{origin} is {str(folder)!r}, which is not a folder")
    stem = benchmark.file or benchmark.name
    candidates = (folder / f"{stem}.jsonl", folder / f"{stem}_{benchmark.split}.jsonl")
    return next((path for path in candidates if path.is_file()), None)


def _folder(data_dir: Path | None) -> Path | None:
    if data_dir is not None:
        return data_dir
    return Path(variable) if (variable := os.environ.get(DATA_DIR_VARIABLE)) else None


def _from_hub(benchmark: Benchmark, data_dir: Path | None) -> list[Problem]:
    try:
        return read_problems(benchmark.hub_id, split=benchmark.split, revision=benchmark.revision)
    except DataError as error:
        folder, stem = _folder(data_dir), benchmark.file or benchmark.name
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
        logger.warning(
            "%s: %s has %d problems, %d are expected: scores are not comparable with published ones",
            benchmark.name,
            place,
            len(problems),
            benchmark.num_problems,
        )
    elif benchmark.checksum is not None and (found := content_checksum(problems)) != benchmark.checksum:
        logger.warning(
            "%s: the questions or references of %s (%s) differ from those of the checked copy (%s), be it in their "
            "notation: compare scores with care",
            benchmark.name,
            place,
            found,
            benchmark.checksum,
        )
