"""Profiling: how often a model solves each problem.

Needs the extra ``profile``. Whatever was finished before a kill is kept, and only the rest is sampled.
"""

import logging
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Condition
from typing import Any, cast

from polaris_data.errors import MissingExtraError, OtherRunError
from polaris_data.files.journal import Journal
from polaris_data.problems.reading import content_hash
from polaris_data.profile.adaptive import Settling
from polaris_data.profile.files import PROFILE_COMMAND
from polaris_data.profile.grades import GradedAnswers
from polaris_data.profile.schedule import Schedule
from polaris_data.records import PROMPT_SUFFIX, Difficulty, Problem, to_prompt

try:
    from polaris_reward import GradeMany, Outcome
    from polaris_rollout import Engine, EngineSpec, Group, Prompt, Sampler, SamplingParams, alongside, track
    from polaris_rollout.engines import check_model

    from polaris_data.profile.rollouts import Numbered, ProfileRollouts
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
    rollouts: ProfileRollouts | None = None,
) -> Iterator[Difficulty]:
    """Sample every problem, grade the answers, and yield how often each one was solved.

    Problems that the journal shows to be done are yielded first and not sampled again; every other group is
    written to the journal before it counts. When the last one is out, the journal is finished with one record
    for each problem, in their order, so that its file depends on the completions alone.

    With ``rollouts`` every group is kept there before it is graded. What they hold is done, whatever the journal of
    an unfinished profile says: it is derived from them, and a group without a count is graded, not sampled.

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
        rollouts: Of this very job; ``None`` keeps the counts alone.

    Raises:
        OtherRunError: If the journal holds a problem that is not among these.
        SettingError: If ``num_samples`` is not positive, or cannot be drawn as ``settling`` says.
    """
    by_id = {problem.problem_id: problem for problem in problems}
    if rollouts and not journal.finished:
        _refuse_other_problems(rollouts.problem_ids, by_id, rollouts.folder)
        records = [asdict(each) for each in rollouts.recover(lambda groups: _grade(groups, by_id, grade_many))]
        if records != journal.records:
            journal.replace(records)
    drawn = [Difficulty(**record) for record in journal.records]
    _refuse_other_problems([each.problem_id for each in drawn], by_id, journal.path)
    schedule = Schedule(list(by_id), num_samples=num_samples, settling=settling, drawn=drawn)
    yield from schedule.settled

    sampling = _Sampling(schedule, by_id, grade_many, journal, suffix, rollouts)

    def sample() -> Iterator[Difficulty]:
        while schedule:
            groups = sampler.sample(sampling.prompts(), params, n=schedule.at_a_time)
            yield from alongside(sampling.count(groups), sampling.keep)

    engine = cast(Engine, sampler) if hasattr(sampler, "status") else None
    yield from track(sample(), total=len(problems), done=len(schedule.settled), label="profiling", engine=engine)
    journal.records = [asdict(schedule.tallies[each]) for each in by_id if each in schedule.tallies]
    positions = {problem_id: position for position, problem_id in enumerate(by_id)}
    if rollouts:
        rollouts.finish(positions)
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
        rollouts: ProfileRollouts | None,
    ) -> None:
        self._schedule, self._problems, self._grade_many = schedule, problems, grade_many
        self._journal, self._suffix, self._rollouts = journal, suffix, rollouts
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
        """Pass groups through on their way to `keep`, once they are in the store."""
        for group in groups:
            if self._rollouts:
                self._rollouts.append(*self._numbered(group))
            with self._changed:
                self._num_ungraded += 1
            yield group

    def keep(self, groups: Sequence[Group]) -> list[Difficulty]:
        """Grade groups, write them to the journal, and return the problems that they settle."""
        try:
            graded = _grade(list(map(self._numbered, groups)), self._problems, self._grade_many)
            if self._rollouts:
                self._rollouts.add_grades(graded)
            measured = [each.to_difficulty() for each in graded]
            self._journal.extend([asdict(each) for each in measured])
            return [settled for each in measured for settled in self._schedule.add(each)]
        finally:
            with self._changed:
                self._num_ungraded -= len(groups)
                self._changed.notify_all()

    def _numbered(self, group: Group) -> Numbered:
        """Add the number of the first completion: a problem is drawn again only after its group was counted."""
        tally = self._schedule.tallies.get(group.problem_id)
        return (tally.num_samples if tally else 0), group


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
        "command": PROFILE_COMMAND,
        "problems": content_hash(problems),
        "num_problems": len(problems),
        "model": spec.model,
        "model_digest": check_model(spec),
        "context": spec.context,
        "num_samples": num_samples,
        **params.settings(),
        "suffix": suffix,
        **spec.option_settings(),
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


def _refuse_other_problems(drawn: Iterable[str], problem_ids: Container[str], path: Path) -> None:
    for problem_id in drawn:
        if problem_id not in problem_ids:
            raise OtherRunError(
                f"{path} has a profile of {problem_id!r}, which is not among the problems; "
                "choose another --out or remove it"
            )


def _grade(groups: Sequence[Numbered], problems: Mapping[str, Problem], grade_many: GradeMany) -> list[GradedAnswers]:
    """Grade the completions of groups all together."""
    grades = iter(
        grade_many([(text, problems[group.problem_id].references) for _, group in groups for text in group.texts])
    )
    graded: list[GradedAnswers] = []
    for first_sample, group in groups:
        completions = group.completions
        outcomes = [next(grades).outcome for _ in completions]
        if Outcome.REFERENCE_REJECTED in outcomes:
            logger.warning(
                "%s: the grader cannot read the reference %r; its profile means nothing",
                group.problem_id,
                problems[group.problem_id].references,
            )
        graded.append(
            GradedAnswers(
                problem_id=group.problem_id,
                first_sample=first_sample,
                outcomes=tuple(map(str, outcomes)),
                num_tokens=tuple(len(completion.token_ids) for completion in completions),
                truncated=tuple(completion.finish_reason == "length" for completion in completions),
            )
        )
    return graded
