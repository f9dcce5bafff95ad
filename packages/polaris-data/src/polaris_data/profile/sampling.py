"""Profiling: how often a model solves each problem.

Needs the extra ``profile``. Whatever was finished before a kill is kept, and only the rest is sampled.
"""

import logging
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from threading import Condition
from typing import Any, cast

from polaris_data.errors import MissingExtraError, OtherRunError
from polaris_data.files.journal import Journal
from polaris_data.problems.reading import content_hash
from polaris_data.profile.adaptive import Settling
from polaris_data.profile.schedule import Schedule
from polaris_data.records import PROMPT_SUFFIX, Difficulty, Problem, to_prompt

try:
    from polaris_reward import GradeMany, Outcome
    from polaris_rollout import Engine, EngineSpec, Group, Prompt, Sampler, SamplingParams, alongside, track
    from polaris_rollout.engines import check_model
except ImportError as error:
    raise MissingExtraError(
        f"profiling needs polaris-reward and polaris-rollout: pip install 'polaris-data[profile]>=2026.11' ({error})"
    ) from error

logger = logging.getLogger(__name__)


def profile(
    problems: Sequence[Problem],
    sampler: Sampler,
    grade_many: GradeMany,
    *,
    params: SamplingParams,
    num_samples: int,
    journal: Journal,
    settling: Settling | None = None,
    suffix: str = PROMPT_SUFFIX,
) -> Iterator[Difficulty]:
    """Sample every problem, grade the answers, and yield how often each one was solved.

    Problems that the journal shows to be done are yielded first and not sampled again; every other group is
    written to the journal before it counts. When the last one is out, the journal is finished with one record
    for each problem, in their order, so that its file depends on the completions alone.

    Answers are graded, and their counts kept, in another thread while the sampler samples on.

    Completion ``i`` of a problem is the same with and without ``settling`` (as far as the engine repeats itself):
    the samples of an adaptive profile are the first of those that a profile of all samples draws.

    Args:
        problems: Problems with distinct ids.
        sampler: Draws the completions; if it is an `Engine`, the progress on stderr says what it is doing.
        grade_many: Grades them.
        params: How completions are drawn.
        num_samples: Completions for each problem; with ``settling`` the most of them.
        journal: Of this very job: same problems, model and parameters.
        settling: When sampling a problem stops early; see `polaris_data.profile.schedule`. ``None`` never stops early.
        suffix: Put after every question.

    Raises:
        OtherRunError: If the journal holds a problem that is not among these.
        SettingError: If ``num_samples`` is not positive, or cannot be drawn as ``settling`` says.
    """
    by_id = {problem.problem_id: problem for problem in problems}
    drawn = [Difficulty(**record) for record in journal.records]
    _refuse_other_problems(drawn, by_id, journal)
    schedule = Schedule(list(by_id), num_samples=num_samples, settling=settling, drawn=drawn)
    yield from schedule.settled

    sampling = _Sampling(schedule, by_id, grade_many, journal, suffix)

    def sample() -> Iterator[Difficulty]:
        while schedule:
            groups = sampler.sample(sampling.prompts(), params, n=schedule.at_a_time)
            yield from alongside(sampling.count(groups), sampling.keep)

    engine = cast(Engine, sampler) if hasattr(sampler, "status") else None
    yield from track(sample(), total=len(problems), done=len(schedule.settled), label="profiling", engine=engine)
    journal.records = [asdict(schedule.tallies[each]) for each in by_id if each in schedule.tallies]
    positions = {problem_id: position for position, problem_id in enumerate(by_id)}
    journal.finish(lambda record: positions[record["problem_id"]])


class _Sampling:
    """Prompts for one thread, and what came of them for another one, which grades it.

    Which problems are sampled again depends on their grades. So before the prompts end, the grades of all finished
    groups are waited for: a sampler that is told too early that nothing is left has to start again.
    """

    def __init__(
        self,
        schedule: Schedule,
        problems: Mapping[str, Problem],
        grade_many: GradeMany,
        journal: Journal,
        suffix: str,
    ) -> None:
        self._schedule, self._problems, self._grade_many = schedule, problems, grade_many
        self._journal, self._suffix = journal, suffix
        self._num_ungraded = 0
        self._changed = Condition()

    def prompts(self) -> Iterator[Prompt]:
        """Yield a prompt for every problem that is to be sampled."""
        while True:
            for problem_id in self._schedule.draw():
                yield _to_prompt(self._problems[problem_id], self._schedule.tallies.get(problem_id), self._suffix)
            with self._changed:
                self._changed.wait_for(lambda: self._schedule or not self._num_ungraded)
                if not self._schedule:
                    return

    def count(self, groups: Iterable[Group]) -> Iterator[Group]:
        """Pass groups through on their way to `keep`."""
        for group in groups:
            with self._changed:
                self._num_ungraded += 1
            yield group

    def keep(self, groups: Sequence[Group]) -> list[Difficulty]:
        """Grade groups, write them to the journal, and return the problems that they settle."""
        try:
            measured = _measure(groups, self._problems, self._grade_many)
            self._journal.extend([asdict(each) for each in measured])
            return [settled for each in measured for settled in self._schedule.add(each)]
        finally:
            with self._changed:
                self._num_ungraded -= len(groups)
                self._changed.notify_all()


def profile_settings(
    problems: Sequence[Problem],
    spec: EngineSpec,
    *,
    params: SamplingParams,
    num_samples: int,
    settling: Settling | None = None,
    suffix: str = PROMPT_SUFFIX,
) -> dict[str, Any]:
    """Return everything that a profile depends on: what `polaris_data.files.journal.claim_output` records beside it.

    Raises:
        ModelError: If the model cannot be used, or not with this context.
    """
    return {
        "command": "polaris-data profile",
        "problems": content_hash(problems),
        "num_problems": len(problems),
        "model": spec.model,
        "model_digest": check_model(spec),
        "context": spec.context,
        "num_samples": num_samples,
        **asdict(params),
        "suffix": suffix,
        **({"adaptive": asdict(settling)} if settling else {}),
    }


def to_prompts(problems: Iterable[Problem], *, suffix: str = PROMPT_SUFFIX) -> list[Prompt]:
    """Return what is sent to the sampler for each problem."""
    return [_to_prompt(problem, None, suffix) for problem in problems]


def _to_prompt(problem: Problem, tally: Difficulty | None, suffix: str) -> Prompt:
    """Return the prompt for a problem's next samples, given those that it has."""
    return Prompt(
        problem_id=problem.problem_id,
        text=to_prompt(problem, suffix=suffix),
        first_sample=tally.num_samples if tally else 0,
    )


def _refuse_other_problems(drawn: Iterable[Difficulty], problem_ids: Container[str], journal: Journal) -> None:
    for difficulty in drawn:
        if difficulty.problem_id not in problem_ids:
            raise OtherRunError(
                f"{journal.path} has a profile of {difficulty.problem_id!r}, which is not among the problems; "
                "choose another --out or remove it"
            )


def _measure(groups: Sequence[Group], problems: Mapping[str, Problem], grade_many: GradeMany) -> list[Difficulty]:
    """Grade the completions of groups all together, and count the right ones of each."""
    grades = iter(
        grade_many(
            [
                (completion.text, problems[group.problem_id].references)
                for group in groups
                for completion in group.completions
            ]
        )
    )
    measured: list[Difficulty] = []
    for group in groups:
        completions = group.completions
        outcomes = [next(grades).outcome for _ in completions]
        if Outcome.REFERENCE_REJECTED in outcomes:
            logger.warning(
                "%s: the grader cannot read the reference %r; its profile means nothing",
                group.problem_id,
                problems[group.problem_id].references,
            )
        measured.append(
            Difficulty(
                problem_id=group.problem_id,
                num_samples=len(completions),
                num_correct=outcomes.count(Outcome.CORRECT),
                num_truncated=sum(completion.finish_reason == "length" for completion in completions),
                mean_tokens=sum(len(completion.token_ids) for completion in completions) / len(completions),
            )
        )
    return measured
