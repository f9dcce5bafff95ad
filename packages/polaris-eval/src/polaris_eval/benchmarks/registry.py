"""The benchmarks that have a name. A name stands for one list of problems; Hub data sets are pinned to a revision."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from polaris_eval.errors import BenchmarkError


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

    num_problems: int
    """Problems that a complete copy has."""

    k: int
    """Completions per problem: as in the POLARIS evaluation, or what is customary where it has none."""

    columns: tuple[str, str] = ("problem", "answer")
    """Of the data set: the question's and the reference's."""

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

    @property
    def stem(self) -> str:
        """Of a local copy."""
        return self.file or self.name


BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            name="aime24",
            hub_id="HuggingFaceH4/aime_2024",
            revision="2fe88a2f1091d5048c0f36abc874fb997b3dd99a",
            split="train",
            num_problems=30,
            k=32,
            checksum="1ef1d8ee27a8d3c4",
        ),
        Benchmark(
            name="aime25",
            hub_id="math-ai/aime25",
            revision="563bb8404243c5f09de6ec262f2db674fe5bce9b",
            split="test",
            num_problems=30,
            k=32,
            checksum="5328753affd16a1c",
        ),
        Benchmark(
            name="aime26",
            hub_id="MathArena/aime_2026",
            revision="d2de22f3c656b4f56cf8981212186377d1e23bc3",
            split="train",
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
            checksum="3c2a3addd0d02396",
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
            checksum="72f6c05812246685",
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
            num_problems=30,
            k=32,
            note="the tournament of February 2025",
        ),
        Benchmark(
            name="beyondaime",
            hub_id="ByteDance-Seed/BeyondAIME",
            revision="c705198ae1043810b1e1693bd879250b51a7a523",
            split="test",
            num_problems=100,
            k=8,
        ),
    )
}
"""Every benchmark that has a name."""


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
