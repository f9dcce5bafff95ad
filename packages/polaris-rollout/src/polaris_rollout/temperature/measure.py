"""Probing a model at a temperature: draw answers, grade them, measure how right and how different they are.

Whatever was drawn is kept in the folder and never drawn again, so an interrupted search continues where it was.
"""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from polaris_rollout.contracts import Sampler
from polaris_rollout.errors import StoreError
from polaris_rollout.overlap import alongside
from polaris_rollout.records import Group, Prompt, SamplingParams, derive_seed
from polaris_rollout.store.folder import RolloutStore, read_store
from polaris_rollout.store.resume import read_prompt_rows, sample_missing
from polaris_rollout.temperature.budget import Probe
from polaris_rollout.temperature.diversity import (
    answer_entropy,
    default_num_tokens,
    distinct_n,
    expected_distinct_n,
    token_entropy,
)

Floats = NDArray[np.float64]

Grades = Sequence[tuple[bool, str | None]]
"""Of each response whether it is correct, and the final answer found in it."""

GradeMany = Callable[[Sequence[tuple[str, Sequence[str]]]], Grades]
"""From responses with their references to their grades."""

NGRAM = 4
"""Tokens of the n-grams that diversity counts, as published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeProblem:
    """A problem to probe with."""

    prompt: Prompt
    """What the model is asked."""

    references: tuple[str, ...]
    """Accepted answers."""


MeasureName = Literal["expected", "published", "entropy"]
"""``expected``: distinct 4-grams of tokens expected in answers of a fixed length, which depends on neither number nor
length of the answers. ``published``: distinct 4-grams of words in whole answers, which falls with both. ``entropy``: of
a token, in nats, at the temperature that drew it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiversityMeasure:
    """What diversity means in a search: figures compare where all of it is equal."""

    name: MeasureName
    """Which measure."""

    num_samples: int
    """Answers of a problem that it is taken of."""

    num_tokens: int | None = None
    """Tokens of each answer that count; ``None`` with the published measure, and before the first probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texture:
    """Further figures of the first batch of answers at one temperature, means over problems."""

    distinct_4: float
    """The published score, 0 to 1: 4-grams of words; falls with the number of answers and their length."""

    answer_entropy: float
    """Of the final answers of a problem, in nats; 0 where all agree."""

    token_entropy: float
    """Mean of ``-logprob`` over the tokens, in nats."""


def read_probe_problems(
    path: Path, *, suffix: str, num_problems: int | None = None, seed: int = 0
) -> list[ProbeProblem]:
    """Read problems with references from JSON lines.

    Args:
        path: Lines as `read_prompts` takes them, with ``references`` (a list) or ``answer`` (a text or a list).
        suffix: Appended to every question.
        num_problems: Draw so many of them; ``None`` takes all.
        seed: Of the draw.

    Raises:
        StoreError: If a line is malformed or has no reference.
    """
    problems = [
        ProbeProblem(prompt=prompt, references=_references(row, f"{path}: {prompt.problem_id!r}"))
        for prompt, row in read_prompt_rows(path, suffix=suffix)
    ]
    return problems if num_problems is None else draw_problems(problems, num_problems, seed=seed)


def draw_problems(problems: Sequence[ProbeProblem], num: int, *, seed: int) -> list[ProbeProblem]:
    """Draw so many of the problems; all, in their order, if there are no more."""
    if len(problems) <= num:
        return list(problems)
    return random.Random(derive_seed(seed, "probe")).sample(problems, num)


class ModelProbe:
    """Measures a model at any temperature; `measure` is what a `polaris_rollout.temperature.budget.ProbeRun` takes.

    An answer that the token budget ended is graded by what it says, as in training: without a final answer it is wrong.
    How diverse it is counts as of any other; see `diversity.expected_distinct_n`.

    Attributes:
        problem_ids: Of the problems, in their order.
        batch: Answers of each problem drawn at once, and of the subsets that diversity is expected of.
        num_tokens: Window of the diversity, once known; see `diversity.expected_distinct_n`.
        name: Of the measure of diversity.
    """

    def __init__(
        self,
        problems: Sequence[ProbeProblem],
        sampler: Sampler,
        grade_many: GradeMany,
        *,
        folder: Path,
        params: SamplingParams,
        measure: DiversityMeasure,
        settings: Mapping[str, Any],
    ) -> None:
        """Prepare to measure.

        Args:
            problems: To choose from.
            sampler: Asked only for what is not on disk yet.
            grade_many: Judges the answers.
            folder: Keeps what is drawn, a store for each batch.
            params: How answers are drawn; the temperature is the probe's.
            measure: Of diversity; a window it lacks becomes what nearly all answers of the first probe fill.
            settings: Everything else that changes what is drawn; a folder of other settings is refused.
        """
        self.problem_ids = [problem.prompt.problem_id for problem in problems]
        self.batch = measure.num_samples
        self.num_tokens = measure.num_tokens
        self.name: MeasureName = measure.name
        self._problems = list(problems)
        self._sampler, self._grade_many = sampler, grade_many
        self._folder, self._params, self._settings = folder, params, settings
        self._answers: dict[float, list[_Answers]] = {}

    def measure(self, temperature: float, num_samples: int, asked: Sequence[int]) -> Probe:
        """Return what ``num_samples`` answers of each of some problems show, drawing those that are missing."""
        of_temperature = self._answers.setdefault(temperature, [_Answers() for _ in self._problems])
        for batch in range(num_samples // self.batch):
            missing = [index for index in asked if len(of_temperature[index].correct) <= batch * self.batch]
            for index, (group, grades) in self._draw(temperature, batch, missing).items():
                of_temperature[index].add(group, grades)
        answers = [of_temperature[index] for index in asked]
        return Probe(
            temperature=temperature,
            num_samples=num_samples,
            accuracy=np.array([float(np.mean(each.correct)) for each in answers]),
            diversity=self._diversity(answers),
            truncated=np.array([float(np.mean(each.truncated)) for each in answers]),
            tokens=np.array([float(np.mean(each.num_tokens)) for each in answers]),
        )

    def texture(self, temperature: float) -> Texture:
        """Return further figures of the answers at a temperature that was measured."""
        answers = [each for each in self._answers[temperature] if each.correct]
        return Texture(
            distinct_4=float(np.mean([each.distinct_4[0] for each in answers])),
            answer_entropy=float(np.mean([answer_entropy(each.final[: self.batch]) for each in answers])),
            token_entropy=float(np.mean([each.token_entropy for each in answers])),
        )

    def _diversity(self, answers: Sequence["_Answers"]) -> Floats:
        if self.name == "entropy":
            for each in answers:
                each.shorten(0)
            return np.array([each.surprise / max(sum(each.num_tokens), 1) for each in answers])
        if self.name == "published":
            for each in answers:
                each.shorten(0)
            return np.array([float(np.mean(each.distinct_4)) for each in answers])
        samples = [each.token_ids for each in answers]
        if self.num_tokens is None:
            self.num_tokens = default_num_tokens(samples, n=NGRAM)
        for each in answers:
            each.shorten(self.num_tokens)
        return expected_distinct_n(samples, num_samples=self.batch, num_tokens=self.num_tokens, n=NGRAM)

    def _draw(self, temperature: float, batch: int, asked: Sequence[int]) -> dict[int, tuple[Group, Grades]]:
        """Return a batch of some problems and its grades, by index."""
        if not asked:
            return {}
        params = replace(
            self._params, temperature=temperature, seed=derive_seed(self._params.seed, f"{temperature:g}", batch)
        )
        folder = self._folder / f"temperature-{temperature:g}-batch-{batch + 1}"
        problems = {self.problem_ids[index]: self._problems[index] for index in asked}
        with RolloutStore(folder, {**self._settings, **params.settings(), "samples": self.batch}) as store:
            prompts = [problem.prompt for problem in problems.values()]
            groups = sample_missing(store, prompts, self._sampler, params, num_samples=self.batch)
            grades = dict(alongside(groups, lambda drawn: self._grade(drawn, problems)))
        drawn = {group.problem_id: group for group in read_store(folder, problem_ids=set(problems))}
        grades |= self._grade([group for problem_id, group in drawn.items() if problem_id not in grades], problems)
        return {index: (drawn[self.problem_ids[index]], grades[self.problem_ids[index]]) for index in asked}

    def _grade(self, groups: Sequence[Group], problems: Mapping[str, ProbeProblem]) -> list[tuple[str, Grades]]:
        """Return the grades of each group, by problem."""
        return [
            (
                group.problem_id,
                self._grade_many([(text, problems[group.problem_id].references) for text in group.texts]),
            )
            for group in groups
        ]


@dataclass(slots=True)
class _Answers:
    """All answers to one problem at one temperature."""

    correct: list[bool] = field(default_factory=list[bool])
    final: list[str | None] = field(default_factory=list[str | None])
    truncated: list[bool] = field(default_factory=list[bool])
    num_tokens: list[int] = field(default_factory=list[int])
    token_ids: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    distinct_4: list[float] = field(default_factory=list[float])
    """Of each batch, for whose number of answers alone the published score is defined."""
    token_entropy: float = math.nan
    """Of the first batch."""
    surprise: float = 0.0
    """Sum of ``-logprob`` over all tokens."""

    def add(self, group: Group, grades: Grades) -> None:
        if not self.correct:
            self.token_entropy = token_entropy([each.logprobs for each in group.completions])
        self.distinct_4.append(float(distinct_n([[each.text for each in group.completions]], NGRAM)[0]))
        for completion, (correct, final) in zip(group.completions, grades, strict=True):
            self.correct.append(correct)
            self.final.append(final)
            self.truncated.append(completion.finish_reason == "length")
            self.num_tokens.append(len(completion.token_ids))
            self.token_ids.append(np.array(completion.token_ids))
            self.surprise -= math.fsum(completion.logprobs)

    def shorten(self, num_tokens: int) -> None:
        """Forget what is beyond the window: answers of 50,000 tokens would fill the memory."""
        self.token_ids[:] = [ids[:num_tokens].copy() for ids in self.token_ids]


def _references(row: dict[str, object], where: str) -> tuple[str, ...]:
    found = row.get("references", row.get("answer"))
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(isinstance(each, str) and each.strip() for each in texts):
        raise StoreError(f"{where} has no 'references' or 'answer' to grade against, found {found!r}; add one")
    return tuple(texts)
