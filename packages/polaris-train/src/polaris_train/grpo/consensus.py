"""CORE in training: consensus sets that grow with the steps of a stage, and what wrong completions earn by them."""

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from polaris_data import Problem
from polaris_data.files import write_json
from polaris_reward import Outcome
from polaris_reward.core import Consensus, CoreReward, underlined

from polaris_train.records import GradedGroup

logger = logging.getLogger(__name__)


class Consensuses:
    """The consensus of each problem; the same on all ranks, since all have the same completions.

    It is a function of the steps so far, and a checkpoint has a copy of it.

    References:
        An et al., "POLARIS V2" (consensus offline reward estimation), the group's post of 2026-03-18.
    """

    def __init__(self, problems: Iterable[Problem], *, min_count: int) -> None:
        """Know nothing yet.

        Args:
            problems: Of the stage.
            min_count: Right completions that must have underlined a result before it counts.
        """
        self._problems = {each.problem_id: each for each in problems}
        self._core = CoreReward(min_count=min_count)
        self._min_count = min_count
        self._is_said = False

    def reward(self, groups: Sequence[GradedGroup], *, step: int) -> list[GradedGroup]:
        """Let the right completions of a step speak, and return the groups with what the wrong ones share.

        Args:
            groups: Of the step.
            step: Its number; once in a process it is said for how many problems there is no consensus.
        """
        found = [self._reward(each) for each in groups]
        if not self._is_said:
            self._is_said = True
            _say(groups, found, step=step)
        return found

    def learn(self, problem_id: str, texts: Sequence[str]) -> None:
        """Let right completions of a problem speak that are of no step."""
        problem = self._problems[problem_id]
        right = [Outcome.CORRECT] * len(texts)
        self._core.overlaps(
            texts, right, problem_id=problem_id, question=problem.question, references=problem.references
        )

    @property
    def num_agreed(self) -> int:
        """Problems with results that count."""
        return sum(bool(each.results(min_count=self._min_count)) for each in self._core.known.values())

    def read(self, path: Path) -> None:
        """Know what a file says, and nothing else."""
        record = json.loads(path.read_text(encoding="utf-8"))
        self._core.known = {
            name: Consensus(tuple((result, count) for result, count in counts)) for name, counts in record.items()
        }

    def write(self, path: Path) -> None:
        """Write what is known, so that `read` knows it again."""
        write_json(path, {name: each.counts for name, each in sorted(self._core.known.items())})

    def _reward(self, each: GradedGroup) -> GradedGroup:
        problem = self._problems[each.group.problem_id]
        overlaps = self._core.overlaps(
            each.group.texts,
            each.outcomes,
            problem_id=problem.problem_id,
            question=problem.question,
            references=problem.references,
        )
        return replace(each, overlaps=tuple(overlaps))


def _say(groups: Sequence[GradedGroup], rewarded: Sequence[GradedGroup], *, step: int) -> None:
    if not any(underlined(text) for each in groups for text in each.group.texts):
        logger.warning(
            "step %d: no answer underlines a result, so [core] rewards nothing: ask for \\underline{} in prompt_suffix "
            'and fine-tune on traces that have it first (kind = "sft")',
            step,
        )
        return
    wrong = [each for each in rewarded if Outcome.INCORRECT in each.outcomes]
    without = sum(each.mean_overlap is None for each in wrong)
    if without:
        logger.warning(
            "step %d: %d of %d problems with wrong answers have no consensus yet, and these earn nothing until enough "
            "right ones underline the same results (said once); where most have none, begin with more right answers "
            "(data.profile_samples), or let fewer agree (core.min_count)",
            step,
            without,
            len(wrong),
        )
