"""A stage of supervised fine-tuning: ``[[stages]] kind = "sft"``."""

from typing import Literal

from polaris_rollout import MAX_TEMPERATURE
from pydantic import BaseModel, ConfigDict, Field

from polaris_train.recipe.objective import Schedule

OWN_TRACES = "profile"
"""As ``traces``: the correct answers among those that the run's profile sampled (rejection sampling)."""


class Supervised(BaseModel):
    """What a stage of supervised fine-tuning learns from, and how fast."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    traces: str
    """Conversations with ``messages``, as ``polaris-data traces`` writes them: JSON lines, parquet or a Hub id; or
    ``profile``: the correct answers of the run's own profile."""

    epochs: int = Field(default=1, ge=1)
    """Times that every trace is learned from, each time in another order."""

    traces_per_step: int = Field(default=32, ge=1)
    """Traces of one optimizer step; every token of an assistant in them counts the same."""

    validation_traces: int = Field(default=64, ge=0)
    """Traces, at most a tenth, that only tell the loss on what is not learned; all of one question stay together."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """Of AdamW, at its highest; that of reinforcement learning is usually ten times smaller."""

    lr_schedule: Schedule = "linear"
    """How it falls until the stage's last step: not at all, along a line, or along half a cosine."""

    lr_warmup_share: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps over which it rises along a line."""

    lr_min_ratio: float = Field(default=0.0, ge=0, lt=1)
    """Share of it that is left in the end."""


class SftStage(Supervised):
    """One stage of a recipe that learns from traces."""

    kind: Literal["sft"]
    """Tells it from a stage of reinforcement learning."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the stage's folder."""

    context: int = Field(ge=2)
    """Longest trace, and prompt and answer of evaluations, in tokens; longer traces are set aside, not cut."""

    temperature: float = Field(default=1.0, gt=0, le=MAX_TEMPERATURE)
    """Of the evaluations."""

    def supervised(self) -> Supervised:
        """Return what is about learning alone."""
        return Supervised(**self.model_dump(include=set(Supervised.model_fields)))
