"""Rollout rescue: a group whose completions all fail learns from a correct one that an earlier step sampled.

One correct completion of each problem is kept, the newest. When a later group of the same problem is all wrong, it
takes the place of one failure, so that the group has something to compare. What is rescued is off-policy: its
ratios are taken to the log-probabilities it was sampled with, and it is no visit of the problem.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from polaris_reward import Outcome
from polaris_rollout import Group, SamplingParams, derive_seed
from polaris_rollout.store import read_columns, read_groups, write_groups

from polaris_train.records import GradedGroup

T = TypeVar("T")


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
    """The newest correct completion of each problem.

    References:
        An et al., "POLARIS", 2025. https://hkunlp.github.io/blog/2025/Polaris
    """

    def __init__(self, *, max_age: int, max_tokens: int, seed: int) -> None:
        """Start empty.

        Args:
            max_age: Steps after which a completion is forgotten; 0 keeps none.
            max_tokens: Longer completions are not kept, so that a rescued one fits the stage's budget.
            seed: Of the choice among several correct completions and of the failure that is replaced.
        """
        self._max_age = max_age
        self._max_tokens = max_tokens
        self._seed = seed
        self.stored: dict[str, Stored] = {}
        """By problem."""

    def rescue(self, rollout: Sequence[GradedGroup], *, step: int) -> list[GradedGroup]:
        """Return the rollout with its all-wrong groups rescued where possible, and keep what is correct in it.

        Args:
            rollout: Graded groups of the step; unchanged.
            step: Number of the step.
        """
        if not self._max_age:
            return list(rollout)
        self.stored = {name: each for name, each in self.stored.items() if step - each.step <= self._max_age}
        rescued = [self._replace_one(each, step) for each in rollout]
        for each in rollout:
            self._keep(each, step)
        return rescued

    def save(self, path: Path, params: SamplingParams) -> None:
        """Write the buffer; ``params`` are recorded beside each completion."""
        stored = [self.stored[name] for name in sorted(self.stored)]
        columns = {"answer": [each.answer for each in stored], "step": [each.step for each in stored]}
        write_groups(path, [each.group for each in stored], params, columns=columns)

    def load(self, path: Path) -> None:
        """Restore what `save` wrote."""
        columns = read_columns(path, ["answer", "step"])
        self.stored = {
            group.problem_id: Stored(group, answer, step)
            for group, answer, step in zip(read_groups(path), columns["answer"], columns["step"], strict=True)
        }

    def _replace_one(self, each: GradedGroup, step: int) -> GradedGroup:
        stored = self.stored.get(each.group.problem_id)
        if stored is None or any(each.rewards):
            return each
        index = self._random(each, step).randrange(len(each.outcomes))
        return replace(
            each,
            group=replace(each.group, completions=_put(each.group.completions, index, stored.group.completions[0])),
            outcomes=_put(each.outcomes, index, Outcome.CORRECT),
            answers=_put(each.answers, index, stored.answer),
            rescued=index,
            rescue_age=step - stored.step,
        )

    def _keep(self, each: GradedGroup, step: int) -> None:
        correct = [
            index
            for index, (reward, completion) in enumerate(zip(each.rewards, each.group.completions, strict=True))
            if reward and len(completion.token_ids) <= self._max_tokens
        ]
        if correct:
            index = self._random(each, step).choice(correct)
            alone = replace(each.group, completions=(each.group.completions[index],))
            self.stored[each.group.problem_id] = Stored(alone, each.answers[index], step)

    def _random(self, each: GradedGroup, step: int) -> random.Random:
        return random.Random(derive_seed(self._seed, "rescue", step, each.group.problem_id))


def _put(values: tuple[T, ...], index: int, value: T) -> tuple[T, ...]:
    return (*values[:index], value, *values[index + 1 :])
