"""What a step trains on: groups with what the grader said."""

from dataclasses import dataclass

from polaris_reward import Outcome
from polaris_rollout import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class GradedGroup:
    """A group and what the grader said about each completion."""

    group: Group
    """The completions of one problem."""

    outcomes: tuple[Outcome, ...]
    """One for each completion."""

    answers: tuple[str | None, ...]
    """The final answer found in each completion."""

    rescued: int | None = None
    """Index of the completion that an earlier step sampled; see `polaris_train.grpo.RescueBuffer`."""

    rescue_age: int = 0
    """How many steps earlier that was."""

    @property
    def rewards(self) -> tuple[float, ...]:
        """1.0 for each correct completion, else 0.0."""
        return tuple(float(outcome is Outcome.CORRECT) for outcome in self.outcomes)

    @property
    def informative(self) -> bool:
        """Whether rewards differ within the group, so that it can teach something."""
        return len(set(self.rewards)) > 1

    @property
    def num_truncated(self) -> int:
        """Completions that the token budget ended."""
        return sum(completion.finish_reason == "length" for completion in self.group.completions)

    @property
    def mean_tokens(self) -> float:
        """Mean length of the completions."""
        return sum(len(completion.token_ids) for completion in self.group.completions) / len(self.outcomes)
