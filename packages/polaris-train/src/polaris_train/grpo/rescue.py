"""Rollout rescue: a group whose completions all fail learns from a correct one that an earlier step sampled.

One correct completion of each problem is kept, the newest. When a later group of the same problem is all wrong, it
takes the place of one failure, so that the group has something to compare. What is rescued is off-policy: its
ratios are taken to the log-probabilities it was sampled with, and it is no visit of the problem.

The completions are on disk, those of each step in a file of its own that never changes; in memory, and in a checkpoint,
is only which step sampled the one of each problem. So a step that is replayed after a kill writes its file again, and
nothing needs to be rolled back.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

import torch.distributed as dist
from polaris_reward import Outcome
from polaris_rollout import Group, SamplingParams, StoreError, derive_seed
from polaris_rollout.store import iterate_groups, read_columns, write_groups

from polaris_train.errors import RunFolderError
from polaris_train.records import GradedGroup

T = TypeVar("T")


class StepFiles(Protocol):
    """Where the completions of each step are, for this buffer alone."""

    def step(self, step: int) -> Path:
        """Return the file of a step."""
        ...

    def steps(self) -> list[int]:
        """Return the steps that have a file."""
        ...


@dataclass(frozen=True, slots=True)
class Stored:
    """One correct completion."""

    group: Group
    """Of this completion alone."""

    answer: str | None
    """The final answer found in it."""

    step: int
    """That sampled it."""


class RescueBuffer:
    """The newest correct completion of each problem; the same on all ranks, rank 0 reads and writes its files.

    Attributes:
        stored: Which step sampled the completion of each problem.

    References:
        An et al., "POLARIS", 2025. https://hkunlp.github.io/blog/2025/Polaris
    """

    def __init__(self, files: StepFiles, *, max_age: int, max_tokens: int, seed: int) -> None:
        """Start empty; nothing on disk is touched.

        Args:
            files: Keep the completions.
            max_age: Steps after which a completion is forgotten; 0 keeps none.
            max_tokens: Longer completions are not kept, so that a rescued one fits the stage's budget.
            seed: Of the choice among several correct completions and of the failure that is replaced.
        """
        self._files = files
        self._max_age = max_age
        self._max_tokens = max_tokens
        self._seed = seed
        self.stored: dict[str, int] = {}

    def rescue(self, rollout: Sequence[GradedGroup], *, step: int) -> list[GradedGroup]:
        """Return the rollout with its all-wrong groups rescued where possible, and keep what is correct; collective.

        Args:
            rollout: Graded groups of the step; unchanged.
            step: Number of the step.

        Raises:
            RunFolderError: If a completion that was kept cannot be read.
        """
        if not self._max_age:
            return list(rollout)
        self.stored = {name: kept for name, kept in self.stored.items() if step - kept <= self._max_age}
        failed = [each.group.problem_id for each in rollout if not any(each.rewards)]
        found = self.read(name for name in failed if name in self.stored)
        rescued = [self._replace_one(each, found.get(each.group.problem_id), step) for each in rollout]
        self._keep([one for each in rollout if (one := self._choose(each, step))])
        return rescued

    def read(self, names: Iterable[str]) -> dict[str, Stored]:
        """Return the completions of some of the problems; collective.

        Raises:
            RunFolderError: If a file cannot be read.
        """
        by_step: dict[int, list[str]] = defaultdict(list)
        for name in names:
            by_step[self.stored[name]].append(name)
        if not by_step:
            return {}
        found = [self._read_files(by_step) if _is_first() else {}]
        if dist.is_initialized():
            dist.broadcast_object_list(found, src=0)
        return found[0]

    def adopt(self, stored: Mapping[str, Stored]) -> None:
        """Keep completions, and forget all others; rank 0 gives those, the others need not; collective."""
        if _is_first():
            self._write(stored.values())
        steps = [{name: each.step for name, each in stored.items()}]
        if dist.is_initialized():
            dist.broadcast_object_list(steps, src=0)
        self.stored = steps[0]

    def restore(self, stored: Mapping[str, int], *, step: int) -> None:
        """Go back to what ``stored`` was after a step; what later ones kept is removed.

        Raises:
            RunFolderError: If a completion is no longer there.
        """
        self.stored = dict(stored)
        if _is_first():
            for later in self._files.steps():
                if later > step:
                    self._files.step(later).unlink()
            for kept in sorted(set(self.stored.values())):
                if not self._files.step(kept).exists():
                    raise self._lost(kept, "it is missing")

    def remove_before(self, step: int) -> None:
        """Remove files that neither a step from this one on nor one after it can need; on rank 0."""
        for kept in self._files.steps():
            if step - kept > self._max_age:
                self._files.step(kept).unlink()

    def _choose(self, each: GradedGroup, step: int) -> Stored | None:
        correct = [
            index
            for index, (reward, completion) in enumerate(zip(each.rewards, each.group.completions, strict=True))
            if reward and len(completion.token_ids) <= self._max_tokens
        ]
        if not correct:
            return None
        index = self._random(each, step).choice(correct)
        return Stored(replace(each.group, completions=(each.group.completions[index],)), each.answers[index], step)

    def _keep(self, chosen: Sequence[Stored]) -> None:
        if _is_first():
            self._write(chosen)
        self.stored |= {each.group.problem_id: each.step for each in chosen}

    def _write(self, stored: Iterable[Stored]) -> None:
        by_step: dict[int, list[Stored]] = defaultdict(list)
        for each in stored:
            by_step[each.step].append(each)
        for step, members in by_step.items():
            # What they were sampled with is in the step's rollouts.
            columns = {"answer": [each.answer for each in members]}
            groups = [each.group for each in members]
            write_groups(self._files.step(step), groups, SamplingParams(), columns=columns, rows_together=1)

    def _read_files(self, by_step: Mapping[int, Sequence[str]]) -> dict[str, Stored]:
        found: dict[str, Stored] = {}
        for step, names in by_step.items():
            path = self._files.step(step)
            try:
                columns = read_columns(path, ["problem_id", "answer"])
                answers = dict(zip(columns["problem_id"], columns["answer"], strict=True))
                groups = {group.problem_id: group for group in iterate_groups(path, problem_ids=names)}
                found |= {name: Stored(groups[name], answers[name], step) for name in names}
            except (StoreError, KeyError) as error:
                raise self._lost(step, str(error)) from error
        return found

    def _lost(self, step: int, why: str) -> RunFolderError:
        return RunFolderError(
            f"{self._files.step(step)} has the answers for rescue of step {step} and cannot be used ({why}); put it "
            "back, or remove the stage's checkpoints, and the same command takes its steps again"
        )

    def _replace_one(self, each: GradedGroup, stored: Stored | None, step: int) -> GradedGroup:
        if stored is None:
            return each
        index = self._random(each, step).randrange(len(each.outcomes))
        return replace(
            each,
            group=replace(each.group, completions=_put(each.group.completions, index, stored.group.completions[0])),
            outcomes=_put(each.outcomes, index, Outcome.CORRECT),
            answers=_put(each.answers, index, stored.answer),
            overlaps=_put(each.overlaps, index, None) if each.overlaps else (),
            rescued=index,
            rescue_age=step - stored.step,
        )

    def _random(self, each: GradedGroup, step: int) -> random.Random:
        return random.Random(derive_seed(self._seed, "rescue", step, each.group.problem_id))


def _is_first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _put(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])
