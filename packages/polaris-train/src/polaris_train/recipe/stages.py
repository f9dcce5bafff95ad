"""A stage of a recipe: what may change from one to the next."""

from typing import Annotated, Any, Literal

from polaris_rollout import MAX_TEMPERATURE
from pydantic import Discriminator, Field, Tag

from polaris_train.recipe.curriculum import Curriculum
from polaris_train.recipe.sft import SftStage

_NUMBER, _AUTO, _GRPO, _SFT = KINDS = "(number)", "(auto)", "(grpo)", "(sft)"
"""Kinds of a stage and of its temperature, which pydantic puts into the path of a mistake."""

FIRST_STEP_TRUNCATION = 0.3
"""Share of answers cut short with which a stage is not begun."""


def _is_usual(value: float) -> bool:
    """As `is_off`, of that share."""
    return value == FIRST_STEP_TRUNCATION


class Changing(Curriculum):
    """What may change from stage to stage."""

    context: int = Field(ge=2)
    """Longest prompt and answer together, in tokens."""

    steps: int = Field(ge=1)
    """Optimizer steps, at most."""

    plateau_window: int | None = Field(default=None, ge=4)
    """End the stage when so many more steps bring less than 2 points of training reward and of held-out accuracy, both
    known by their intervals (see `polaris_train.stage.stopping`). With few prompts a step or few held-out problems
    that takes several windows to know. ``None``: never. Published: ended by hand, on curves."""

    first_step_truncation: float = Field(default=FIRST_STEP_TRUNCATION, ge=0, le=1, exclude_if=_is_usual)
    """Refuse to go on after the first step has been sampled when a larger share of its answers was cut short: what a
    stage would learn from these is to be short. 1: never."""

    truncation_limit: float | None = Field(default=None, gt=0, lt=1)
    """End the stage when a larger share of the answers of 10 steps is cut short, by the lower end of its 95% interval;
    the next stage is longer. DeepScaleR's reason to lengthen; ``None``: never."""

    max_sampled_tokens: int | None = Field(default=None, ge=1)
    """End the stage when its steps have sampled so many tokens, evaluations not counted; ``None``: never. For
    comparisons at equal cost (``polaris ablate``)."""


class Stage(Changing):
    """One stage of a recipe that learns from its own graded answers."""

    kind: Literal["grpo"] = Field(default="grpo", exclude_if=lambda kind: kind == "grpo")
    """Tells it from a stage of supervised fine-tuning."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Names the stage's folder."""

    temperature: Annotated[
        Annotated[float, Field(gt=0, le=MAX_TEMPERATURE), Tag(_NUMBER)] | Annotated[Literal["auto"], Tag(_AUTO)],
        Discriminator(lambda value: _AUTO if isinstance(value, str) else _NUMBER),
    ]
    """Of sampling, and of the log-probabilities in the loss; ``auto``: what ``polaris-rollout temperature`` wrote to
    the stage's folder."""


def _kind(stage: Any) -> str:
    kind = stage.get("kind", "grpo") if isinstance(stage, dict) else getattr(stage, "kind", "grpo")
    return f"({kind})"


AnyStage = Annotated[
    Annotated[Stage, Tag(_GRPO)] | Annotated[SftStage, Tag(_SFT)],
    Discriminator(
        _kind,
        custom_error_type="stage_kind",
        custom_error_message='kind is "grpo" (by default) or "sft"',
    ),
]
"""A stage of reinforcement learning or of supervised fine-tuning."""
