"""The benchmarks of one command: what each samples, where it writes, and whether that place is free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polaris_data import Journal, OtherRunError, Problem
from polaris_data.files import claim
from polaris_data.problems import parse_where

from polaris_eval.benchmarks.loading import content_checksum, load_benchmark
from polaris_eval.benchmarks.registry import BENCHMARKS
from polaris_eval.errors import BenchmarkError, SettingError
from polaris_eval.running.queue import Task

DEFAULT_NUM_SAMPLES = 8
"""Completions per problem of a file that is no named benchmark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One benchmark to be measured."""

    name: str
    """Of the benchmark, and of its folder."""

    problems: Sequence[Problem]
    """With distinct ids."""

    num_samples: int
    """Completions per problem."""

    folder: Path
    """Holds ``completions.jsonl`` and ``settings.json``."""

    settings: Mapping[str, Any]
    """Everything that can change the completions."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the completions, where there are several."""
        seed = self.settings["seed"]
        return tuple(seed) if isinstance(seed, list) else ()

    @property
    def completions_path(self) -> Path:
        """Where the graded groups go."""
        return self.folder / "completions.jsonl"

    @property
    def settings_path(self) -> Path:
        """What marks the folder as this job's."""
        return self.folder / "settings.json"

    @property
    def is_started(self) -> bool:
        """Whether an earlier command claimed the folder."""
        return self.settings_path.exists()

    @property
    def is_finished(self) -> bool:
        """Whether an earlier command sampled everything."""
        return self.is_started and self.completions_path.exists()

    def task(self) -> Task:
        """Read what earlier commands left, and return what is to be sampled."""
        return Task(
            name=self.name,
            problems=self.problems,
            num_samples=self.num_samples,
            journal=Journal(self.completions_path),
            seeds=self.seeds,
        )

    def claim(self) -> None:
        """Mark the folder as this job's.

        Raises:
            OtherRunError: If it belongs to another run; nothing is overwritten.
        """
        claim(self.settings_path, self.settings)


def plan_jobs(
    sources: Sequence[str],
    *,
    out: Path,
    settings: Mapping[str, Any],
    num_samples: int | None,
    data_dir: Path | None,
    limit: int | None,
    where: Sequence[str] = (),
) -> list[Job]:
    """Read the benchmarks of a command and refuse what cannot work, without writing anything.

    Args:
        sources: Benchmarks by name, or files of problems.
        out: Folder of the evaluation; each benchmark has its own in it.
        settings: What scores depend on besides the problems; see `polaris_eval.running.protocol.run_settings`.
        num_samples: Completions per problem and seed; ``None`` takes each benchmark's own ``k``.
        data_dir: Folder of local copies.
        limit: Keep only the first problems of each benchmark.
        where: ``COLUMN=VALUE,VALUE`` keeps problems with one of these values there; ``NAME:`` before it, of one
            benchmark only.

    Raises:
        SettingError: If a number is not positive, or ``out`` is a file.
        BenchmarkError: If a benchmark is unknown, cannot be had, or has the name of another one.
        OtherRunError: If a folder belongs to another run.
        DataError: If a file of problems is malformed.
    """
    for option, value in (("--samples", num_samples), ("--limit", limit)):
        if value is not None and value < 1:
            raise SettingError(f"{option} is {value}; give 1 or more")
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out is {str(out)!r}, which is a file; give a folder")
    loaded: dict[str, tuple[str, Sequence[Problem]]] = {}
    filters = _filters(where, sources)
    for source in sources:
        name, problems = load_benchmark(source, data_dir=data_dir, limit=limit, where=filters[source])
        if name in loaded:
            raise BenchmarkError(
                f"{source!r} and {loaded[name][0]!r} are both named {name!r}; give one, or rename a file"
            )
        loaded[name] = source, problems
    jobs = [
        _job(name, problems, num_samples or _default_samples(source), out=out, shared=settings, where=filters[source])
        for name, (source, problems) in loaded.items()
    ]
    for job in jobs:
        _refuse_foreign(job)
    return jobs


def _filters(where: Sequence[str], sources: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Return, for each benchmark, the columns that choose its problems, and the values that they must have."""
    filters: dict[str, dict[str, list[str]]] = {source: {} for source in sources}
    names = {name: source for source in sources for name in (source, Path(source).stem)}
    for text in where:
        named = next((name for name in names if text.startswith(f"{name}:")), None)
        column, values = parse_where(text if named is None else text.removeprefix(f"{named}:"))
        for source in sources if named is None else [names[named]]:
            filters[source][column] = values
    return filters


def _job(
    name: str,
    problems: Sequence[Problem],
    num_samples: int,
    *,
    out: Path,
    shared: Mapping[str, Any],
    where: Mapping[str, Sequence[str]],
) -> Job:
    seeds = shared["seed"]
    num_samples *= len(seeds) if isinstance(seeds, list) else 1
    settings = {
        "benchmark": name,
        "num_problems": len(problems),
        "checksum": content_checksum(problems),
        "num_samples": num_samples,
        **({"where": where} if where else {}),
        **shared,
    }
    return Job(name=name, problems=problems, num_samples=num_samples, folder=out / name, settings=settings)


def _default_samples(source: str) -> int:
    named = source in BENCHMARKS and not Path(source).is_file()
    return BENCHMARKS[source].k if named else DEFAULT_NUM_SAMPLES


def _refuse_foreign(job: Job) -> None:
    if job.is_started:
        job.claim()
    elif job.folder.exists() and not _is_vacant(job.folder):
        raise OtherRunError(
            f"{job.folder} holds something else than an evaluation (it has no settings.json); "
            "choose another --out or remove it"
        )


def _is_vacant(folder: Path) -> bool:
    """A kill may have left a temporary file of settings behind, which stands for nothing."""
    return folder.is_dir() and all(path.suffix == ".tmp" for path in folder.iterdir())
