"""The sampled and graded completions of each step: drawn once, kept on disk, replayed after a kill."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from polaris_train.recipe import ResolvedStage
from polaris_train.records import GradedGroup
from polaris_train.run_folder import RunFolder, StageFolder

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


class SynchronousRollouts:
    """Samples a step when it is asked for, with the weights as they are then, and grades while it samples.

    A step whose rollouts are on disk is read, not sampled again: sampling is most of the cost of a step. They keep what
    drew them, and are refused for anything else. What is sampled does not depend on which rank's engine took which
    problem.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        config: ResolvedStage,
        *,
        folder: StageFolder,
        open_sampler: OpenSampler,
        grade_many: GradeMany,
    ) -> None:
        """Sample nothing yet.

        Args:
            problems: Training problems; at least one step's worth.
            config: Says how they are sampled.
            folder: Keeps what is sampled.
            open_sampler: Only called when something must be sampled.
            grade_many: Grades the completions of this rank; called from another thread.
        """
        self._problems = problems
        self._references = {problem.problem_id: problem.references for problem in problems}
        self._config = config
        self._folder = folder
        self._drawn_by = drawn_by(config, problems)
        self._open_sampler = open_sampler
        self._grade_many = grade_many

    def next(self, step: int) -> Rollout:
        """Return the groups of a step; collective.

        Raises:
            CircuitBreakerError: If too much of the step could not be graded.
            RunFolderError: If the groups are on disk, but drawn by something else.
        """
        config, path = self._config, self._folder.rollout(step)
        problems = draw_problems(self._problems, step=step, num_problems=config.prompts_per_step, seed=config.seed)
        in_order = _order_to_sample(path, problems, self._folder.run)
        if in_order is None:
            require_drawn_by(path, self._drawn_by, step=step)
            return Rollout(groups=_read(path), replayed=True)
        params = config.sampling_params(seed=derive_seed(config.seed, config.stage, step))
        params.require_untruncated()
        with self._open_sampler(step - 1) as sampler:
            prompts = [
                Prompt(problem_id=each.problem_id, text=to_prompt(each, suffix=config.prompt_suffix))
                for each in in_order
            ]
            sampled = sampler.sample(prompts, params, n=config.samples_per_prompt)
            mine = list(alongside(sampled, self._grade))
        groups = _gather(mine, problems)
        check_failures([one for each in groups for one in each.outcomes], max_failed_share=MAX_FAILED_SHARE)
        if dist.get_rank() == 0:
            _write(path, groups, params, self._drawn_by | {"step": step})
        return Rollout(groups=groups, replayed=False)

    def position(self, step: int) -> dict[str, int]:
        """Return where a step begins; see `sampler_position`."""
        config = self._config
        return sampler_position(len(self._problems), step=step, num_problems=config.prompts_per_step, seed=config.seed)

    def require_own(self, *, after: int) -> None:
        """Refuse a folder with rollouts, of steps later than ``after``, that something else drew.

        Raises:
            RunFolderError: If there are such.
        """
        for step in self._folder.rollout_steps():
            if step > after:
                require_drawn_by(self._folder.rollout(step), self._drawn_by, step=step)

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


def draw_problems(problems: Sequence[Problem], *, step: int, num_problems: int, seed: int) -> list[Problem]:
    """Return the problems of a step: every epoch a new order, its last incomplete batch left out.

    A function of the step alone, so a resumed run continues in the middle of an epoch without any state.
    """
    position = sampler_position(len(problems), step=step, num_problems=num_problems, seed=seed)
    order = list(range(len(problems)))
    random.Random(position["permutation_seed"]).shuffle(order)
    return [problems[i] for i in order[position["cursor"] : position["cursor"] + num_problems]]


def sampler_position(size: int, *, step: int, num_problems: int, seed: int) -> dict[str, int]:
    """Return where a step begins: the epoch, the problems of it already drawn, and the seed of its order.

    Args:
        size: Problems in the set.
        step: Counted from 1.
        num_problems: Of each step.
        seed: Of the stage.
    """
    epoch, index = divmod(step - 1, size // num_problems)
    return {"epoch": epoch, "cursor": index * num_problems, "permutation_seed": derive_seed(seed, "epoch", epoch)}


def visits(groups: Sequence[GradedGroup], *, run: str, stage: str, step: int) -> list[Visit]:
    """Return a record of what training saw of each problem."""
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


def _order_to_sample(path: Path, problems: Sequence[Problem], run: RunFolder) -> list[Problem] | None:
    """Return the problems, those with long answers first, the same on all ranks; ``None`` if the step is on disk."""
    order: list[list[int] | None] = [None]
    if dist.get_rank() == 0 and not path.exists():
        expected = expected_tokens(run)
        order = [longest_first(range(len(problems)), lambda index: expected.get(problems[index].problem_id))]
    dist.broadcast_object_list(order, src=0)
    return None if order[0] is None else [problems[index] for index in order[0]]


def _gather(mine: list[GradedGroup], problems: Sequence[Problem]) -> list[GradedGroup]:
    """Return the groups of all ranks in the order of their problems."""
    shares: list[list[GradedGroup]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, mine)
    by_problem = {each.group.problem_id: each for share in shares for each in share}
    return [by_problem[problem.problem_id] for problem in problems]


def _write(path: Path, groups: Sequence[GradedGroup], params: SamplingParams, settings: Mapping[str, Any]) -> None:
    columns = {
        "outcome": [str(outcome) for each in groups for outcome in each.outcomes],
        "answer": [answer for each in groups for answer in each.answers],
    }
    write_groups(path, [each.group for each in groups], params, columns=columns, settings=settings)


def _read(path: Path) -> list[GradedGroup]:
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
