"""What counts as an answer, as data."""

from dataclasses import dataclass

from polaris_reward.errors import SettingsError


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The choices of grading that are a matter of taste rather than of mathematics."""

    name: str = "default"
    """Under which results are reported."""

    require_think: bool = False
    """A response without ``</think>`` has no answer, as in the published recipe."""

    max_answer_chars: int = 2000
    """A longer answer or reference is rejected before anything reads it; real ones stay below 300."""

    def __post_init__(self) -> None:
        if self.max_answer_chars < 1:
            raise SettingsError(f"max_answer_chars is {self.max_answer_chars!r}; give 1 or more")


DEFAULT = Policy()
"""The last box after the last think section."""
