"""The sampled and graded completions of each step: drawn once, kept on disk, replayed after a kill."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import torch.distributed as dist
from polaris_data import Problem, Visit, content_hash, to_prompt
from polaris_data.files import differences
from polaris_reward import MAX_FAILED_SHARE, GradeMany, Outcome, check_failures
from polaris_rollout import (
    Group,
    Prompt,
    Sampler,
    SamplingParams,
    alongside,
    derive_seed,
    local_folder,
    model_digest,
)
from polaris_rollout.sharing import longest_first
from polaris_rollout.store import read_columns, read_groups, read_settings, write_groups

from polaris_train.errors import RunFolderError
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import RunFolder, StageFolder
from polaris_train.stage.passes import Pass, Seen, draw_problems, pass_of, sampler_position, seen_in
from polaris_train.stage.refill import Draw, refill_order, refilled

OpenSampler = Callable[[int], AbstractContextManager[Sampler]]
"""Given the steps done, gives a sampler with the weights that they made; it yields this rank's share of the groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """What a step trains on."""

    groups: list[GradedGroup]
    """In the order of the step's problems, the same on all ranks."""

    replayed: bool
    """Whether they were on disk, so that nothing was sampled."""


class Rollouts(Protocol):
    """Where the training loop gets its graded groups."""

    def next(self, step: int) -> Rollout:
        """Return the groups of a step, counted from 1; collective."""
        ...

    def position(self, step: int) -> dict[str, int]:
        """Return where a step begins, for the receipt of a checkpoint."""
        ...


class StepSource:
    """What the steps of a stage sample, how it is graded, and where it is kept.

    What a step samples is a function of the step: its problems and the seed of each completion. Stored groups keep what
    drew them, and are refused for anything else.
    """

    def __init__(
        self, problems: Sequence[Problem], config: ResolvedStage, *, folder: StageFolder, grade_many: GradeMany
    ) -> None:
        """Sample nothing yet.

        Args:
            problems: Training problems; at least one step's worth.
            config: Says how they are sampled.
            folder: Keeps what is sampled.
            grade_many: Grades completions; called from other threads.
        """
        self._problems = problems
        self._references = {problem.problem_id: problem.references for problem in problems}
        self._config = config
        self._folder = folder
        self._drawn_by = drawn_by(config, problems)
        self._grade_many = grade_many
        self._looks_back = bool(config.revisit_below or config.refill_below)
        self._seen: Seen = {}

    def recall(self) -> None:
        """Read what the stage's steps saw before it was stopped, where the next ones depend on it."""
        if self._looks_back:
            self._seen = seen_in(self._folder.visits)

    def saw(self, step: int, groups: Sequence[GradedGroup]) -> None:
        """Remember how a step went."""
        if self._looks_back:
            self._seen[step] = {each.group.problem_id: (int(sum(each.rewards)), len(each.rewards)) for each in groups}

    def problems(self, step: int) -> list[Problem]:
        """Return the problems of a step that are not a refill; see `pass_of` and `draw_problems`."""
        own = self._pass(step)
        return draw_problems(own.problems, step=own.step, num_problems=self._config.prompts_per_step, seed=own.seed)

    def refilled(self, step: int, groups: list[GradedGroup], draw: Draw) -> list[GradedGroup]:
        """Return the groups of a step, and further ones where the recipe asks for these; see `refilled`."""
        if not self._config.refill_below:
            return groups
        known = {each.group.problem_id for each in groups}
        others = [each for each in self._problems if each.problem_id not in known]
        pool = refill_order(others, self._seen, seed=derive_seed(self._config.seed, "refill", step))
        return refilled(groups, pool, draw, share=self._config.refill_below)

    def longest_first(self, step: int) -> list[Problem]:
        """Return the problems of a step, those whose answers were long at their latest visit first."""
        problems, expected = self.problems(step), expected_tokens(self._folder.run)
        return longest_first(problems, lambda problem: expected.get(problem.problem_id))

    def position(self, step: int) -> dict[str, int]:
        """Return where a step begins; see `sampler_position`."""
        own = self._pass(step)
        num_problems = self._config.prompts_per_step
        return sampler_position(len(own.problems), step=own.step, num_problems=num_problems, seed=own.seed)

    def require_own(self, *, after: int) -> None:
        """Refuse a folder with rollouts, of steps later than ``after``, that something else drew.

        Raises:
            RunFolderError: If there are such.
        """
        for step in self._folder.rollout_steps():
            if step > after:
                require_drawn_by(self._folder.rollout(step), self._drawn_by, step=step)

    def draw(self, step: int, problems: Iterable[Problem], sampler: Sampler) -> list[GradedGroup]:
        """Sample problems of a step and grade while sampling; return the groups that the sampler yields.

        Args:
            step: Gives the seed.
            problems: Taken when the sampler has room for them.
            sampler: Draws.
        """
        config, params = self._config, self._params(step)
        params.require_untruncated()
        prompts = (
            Prompt(problem_id=each.problem_id, text=to_prompt(each, suffix=config.prompt_suffix)) for each in problems
        )
        return list(alongside(sampler.sample(prompts, params, n=config.samples_per_prompt), self._grade))

    def is_kept(self, step: int) -> bool:
        """Return whether the step's groups are on disk."""
        return self._folder.rollout(step).exists()

    def keep(self, step: int, groups: Sequence[GradedGroup]) -> None:
        """Write the groups of a step."""
        columns = {
            "outcome": [str(outcome) for each in groups for outcome in each.outcomes],
            "answer": [answer for each in groups for answer in each.answers],
        }
        path = self._folder.rollout(step)
        write_groups(
            path,
            [each.group for each in groups],
            self._params(step),
            columns=columns,
            settings=self._drawn_by | {"step": step},
        )

    def read(self, step: int) -> list[GradedGroup]:
        """Return what `keep` wrote.

        Raises:
            RunFolderError: If something else drew it.
        """
        path = self._folder.rollout(step)
        require_drawn_by(path, self._drawn_by, step=step)
        columns = read_columns(path, ["outcome", "answer"])
        outcomes, answers = iter(columns["outcome"]), iter(columns["answer"])
        return [
            GradedGroup(
                group=group,
                outcomes=tuple(Outcome(next(outcomes)) for _ in group.completions),
                answers=tuple(next(answers) for _ in group.completions),
            )
            for group in read_groups(path)
        ]

    def _pass(self, step: int) -> Pass:
        config = self._config
        size, below = config.prompts_per_step, config.revisit_below
        return pass_of(self._problems, self._seen, step=step, num_problems=size, below=below, seed=config.seed)

    def _params(self, step: int) -> SamplingParams:
        config = self._config
        return config.sampling_params(seed=derive_seed(config.seed, config.stage, step))

    def _grade(self, groups: Sequence[Group]) -> Iterator[GradedGroup]:
        pairs = [(text, self._references[group.problem_id]) for group in groups for text in group.texts]
        grades = iter(self._grade_many(pairs))
        for group in groups:
            own = list(islice(grades, len(group.completions)))
            yield GradedGroup(
                group=group,
                outcomes=tuple(grade.outcome for grade in own),
                answers=tuple(grade.answer for grade in own),
            )


def in_order(problems: Iterable[Problem], groups: Iterable[GradedGroup]) -> list[GradedGroup]:
    """Return the groups of problems in their order.

    Raises:
        CircuitBreakerError: If too many of the completions could not be graded.
    """
    by_problem = {each.group.problem_id: each for each in groups}
    ordered = [by_problem[problem.problem_id] for problem in problems]
    check_failures([one for each in ordered for one in each.outcomes], max_failed_share=MAX_FAILED_SHARE)
    return ordered


class SynchronousRollouts:
    """Samples a step when it is asked for, with the weights as they are then.

    A step whose rollouts are on disk is read, not sampled again: sampling is most of the cost of a step. What is
    sampled does not depend on which rank's engine took which problem.
    """

    def __init__(self, source: StepSource, *, open_sampler: OpenSampler) -> None:
        """Sample nothing yet.

        Args:
            source: What the steps sample.
            open_sampler: Only called when something must be sampled.
        """
        self._source = source
        self._open_sampler = open_sampler

    def next(self, step: int) -> Rollout:
        """Return the groups of a step; collective.

        Raises:
            CircuitBreakerError: If too much of the step could not be graded.
        """
        source = self._source
        planned: list[list[Problem] | None] = [None]
        if dist.get_rank() == 0 and not source.is_kept(step):
            planned = [source.longest_first(step)]
        dist.broadcast_object_list(planned, src=0)
        replayed = planned[0] is None
        if planned[0] is None:
            groups = source.read(step)
        else:
            with self._open_sampler(step - 1) as sampler:

                def draw(problems: Sequence[Problem]) -> list[GradedGroup]:
                    return in_order(problems, _of_all_ranks(source.draw(step, problems, sampler)))

                groups = source.refilled(step, in_order(source.problems(step), draw(planned[0])), draw)
            if dist.get_rank() == 0:
                source.keep(step, groups)
        source.saw(step, groups)
        return Rollout(groups=groups, replayed=replayed)

    def position(self, step: int) -> dict[str, int]:
        """Return where a step begins; see `sampler_position`."""
        return self._source.position(step)


def drawn_by(config: ResolvedStage, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what decides the completions of every step of a stage, fit for JSON.

    The weights after so many steps are a function of it, and so is what they are asked.

    Args:
        config: The stage.
        problems: That it draws from.
    """
    files = model_digest(str(local_folder(config.model)))
    return config.decisive() | {"model": files, "problems": content_hash(problems)}


def require_drawn_by(path: Path, expected: Mapping[str, Any], *, step: int) -> None:
    """Refuse the rollouts of a step that something else drew.

    Args:
        path: Where they are.
        expected: What `drawn_by` returns.
        step: That they should be of.

    Raises:
        RunFolderError: If something differs, or the file does not say what drew it.
    """
    found = read_settings(path)
    remedy = f"remove {path.parent} to sample these steps again, or choose another run folder"
    if found is None:
        raise RunFolderError(
            f"{path} does not say which weights and settings drew it, as in earlier versions; {remedy}"
        )
    if different := differences(found, json.loads(json.dumps(dict(expected) | {"step": step}))):
        raise RunFolderError(f"{path} was drawn by other weights, settings or problems: {different}; {remedy}")


def visits(
    groups: Sequence[GradedGroup], *, run: str, stage: str, step: int, hinted: Collection[str] = ()
) -> list[Visit]:
    """Return a record of what training saw of each problem, of some of them with a hint in the prompt."""
    return [
        Visit(
            run=run,
            stage=stage,
            step=step,
            problem_id=each.group.problem_id,
            num_samples=len(each.outcomes),
            num_correct=int(sum(each.rewards)),
            num_truncated=each.num_truncated,
            mean_tokens=each.mean_tokens,
            hinted=each.group.problem_id in hinted,
            overlap=each.mean_overlap,
        )
        for each in groups
    ]


def expected_tokens(run: RunFolder) -> dict[str, float]:
    """Return the mean length of each problem's completions at its latest visit in any stage, where it is known.

    A line that a kill cut short is not read.
    """
    lines = [line for log in run.visit_logs() for line in log.read_bytes().splitlines(keepends=True)]
    records = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return {record["problem_id"]: record["mean_tokens"] for record in records if record.get("mean_tokens") is not None}


def _of_all_ranks(mine: list[GradedGroup]) -> list[GradedGroup]:
    """Return the groups that any rank has."""
    shares: list[list[GradedGroup]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, mine)
    return [each for share in shares for each in share]
