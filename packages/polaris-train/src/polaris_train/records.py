"""What a step trains on: groups with what the grader said."""

from dataclasses import dataclass

from polaris_reward import Outcome
from polaris_reward.core import process_reward
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

    overlaps: tuple[float | None, ...] = ()
    """With CORE: what each wrong completion shares with the problem's consensus; ``None`` for others."""

    rescued: int | None = None
    """Index of the completion that an earlier step sampled; see `polaris_train.grpo.RescueBuffer`."""

    rescue_age: int = 0
    """How many steps earlier that was."""

    @property
    def rewards(self) -> tuple[float, ...]:
        """1.0 for each correct completion, else 0.0."""
        return tuple(float(outcome is Outcome.CORRECT) for outcome in self.outcomes)

    @property
    def scores(self) -> tuple[float, ...]:
        """What completions are compared by: their rewards, and with CORE what wrong ones earn."""
        if not self.overlaps:
            return self.rewards
        return tuple(reward + process_reward(share) for reward, share in zip(self.rewards, self.overlaps, strict=True))

    @property
    def informative(self) -> bool:
        """Whether scores differ within the group, so that it can teach something."""
        return len(set(self.scores)) > 1

    @property
    def num_truncated(self) -> int:
        """Completions that the token budget ended."""
        return sum(completion.finish_reason == "length" for completion in self.group.completions)

    @property
    def mean_overlap(self) -> float | None:
        """What wrong completions share with the consensus, on average; ``None`` where that is not known."""
        known = [share for share in self.overlaps if share is not None]
        return sum(known) / len(known) if known else None

    @property
    def mean_tokens(self) -> float:
        """Mean length of the completions."""
        return sum(len(completion.token_ids) for completion in self.group.completions) / len(self.outcomes)
