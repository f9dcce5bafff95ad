"""The part of a recipe that says what is optimised, and how an optimizer step is taken."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Schedule = Literal["constant", "linear", "cosine"]

_BETAS = (0.9, 0.999)
"""Of AdamW where a recipe says nothing, as published."""

_GEOMETRIC_BAND = 0.1
"""Widest distance from 1 that makes sense for the mean ratio of a sequence; published are 0.001 to 0.01."""


def is_off(value: object) -> bool:
    """Leave a setting out of a file where it is off, so that runs from before it existed go on."""
    return not value


def _is(usual: object) -> Callable[[object], bool]:
    """Leave a setting out of a file where it is what it was before it could be set."""
    return lambda value: value == usual


class Objective(BaseModel):
    """Loss, advantages, and the optimizer: the same in every stage."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    learning_rate: float = Field(default=1e-6, gt=0)
    """Of AdamW, at its highest."""

    lr_schedule: Schedule = Field(default="constant", exclude_if=_is("constant"))
    """How it falls within each stage: not at all, along a line, or along half a cosine."""

    lr_warmup_steps: int = Field(default=0, ge=0, exclude_if=is_off)
    """Steps at the start of each stage over which it rises along a line, which Adam's first moments may need."""

    lr_decay_steps: int | None = Field(default=None, ge=1, exclude_if=is_off)
    """Step of each stage after which it has fallen to ``lr_min_ratio``; by default the stage's ``steps``. A stage that
    is continued with more steps must be told what it began with."""

    lr_min_ratio: float = Field(default=0.0, ge=0, lt=1, exclude_if=is_off)
    """Share of ``learning_rate`` that is left in the end."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=_BETAS, exclude_if=_is(_BETAS)
    )
    """Of AdamW's two moving means."""

    weight_decay: float = Field(default=0.01, ge=0)
    """Of AdamW."""

    max_grad_norm: float = Field(default=1.0, gt=0)
    """Longer gradients are scaled down to this norm."""

    loss: Literal["grpo", "gspo", "cispo", "dppo"] = "grpo"
    """One ratio for each token (grpo), one for each sequence (gspo), a clipped ratio as a weight (cispo), or one that
    counts while the probability itself has not moved too far (dppo)."""

    clip_low: float = Field(default=0.2, gt=0, le=1)
    """Probability ratios below ``1 - clip_low`` stop earning; of dppo, probabilities that fell by more."""

    clip_high: float = Field(default=0.28, gt=0)
    """Probability ratios above ``1 + clip_high`` stop earning ("clip-higher"); of dppo, probabilities that rose by
    more."""

    dual_clip: float | None = Field(default=3.0, gt=1)
    """Ratios above it stop costing where the advantage is negative (grpo only)."""

    normalize_std: bool = True
    """Divide advantages by the group's standard deviation; without it, Dr. GRPO."""

    normalize_mean: bool = Field(default=False, exclude_if=is_off)
    """Divide advantages by the group's mean reward: MaxRL, which learns most from problems that are seldom solved."""

    mgpo_lambda: float = Field(default=0.0, ge=0, exclude_if=is_off)
    """Sharpness with which groups count less the further their pass rate is from a half (MGPO); 0: all the same."""

    long2short: float = Field(default=0.0, ge=0, lt=1, exclude_if=is_off)
    """Most reward that moves from long correct answers of a group to its short ones, in groups that have wrong answers
    too; 0: none. Published: 0.2, in a last stage."""

    aggregation: Literal["token-mean", "sequence-mean", "constant"] = "token-mean"
    """Every token counts the same, every answer counts the same, or both are divided by a constant (Dr. GRPO)."""

    optimizer_steps_per_batch: int = Field(default=1, ge=1)
    """Parts that a step's problems are trained on one after the other; ratios differ from 1 with more than one."""

    mismatch_correction: Literal["truncate", "mask", "geometric", "none"] = "truncate"
    """What is done about tokens that trainer and engine give different probabilities; see `mismatch_weights`."""

    mismatch_low: float = Field(default=0.5, ge=0, lt=1)
    """Lower end of the band of ``mask`` and ``geometric``."""

    mismatch_high: float = Field(default=2.0, gt=1)
    """Largest weight of ``truncate``, upper end of the band of ``mask`` and ``geometric``."""

    kl_coef: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the model that the stage starts from; a second model in memory without LoRA."""

    truncated: Literal["negative", "masked", "penalized"] = "negative"
    """Answers that the token budget ended: wrong like others, left out of the loss, or with DAPO's soft penalty."""

    overlong_cache: int | None = Field(default=None, ge=1)
    """Tokens before the end of the budget at which ``truncated = "penalized"`` begins to punish."""

    substitution: Literal["reweight", "copy"] = "reweight"
    """Groups all right or all wrong are left out; ``copy`` fills their place as published (same expected gradient)."""

    def decay_steps(self, steps: int) -> int | None:
        """Return the step of a stage of so many after which the learning rate has fallen; ``None`` if it does not."""
        return None if self.lr_schedule == "constant" else self.lr_decay_steps or steps

    def check_objective(self, steps: Sequence[int]) -> None:
        """Refuse parts that contradict each other.

        Args:
            steps: Of each stage.

        Raises:
            ValueError: With what to change.
        """
        if (self.truncated == "penalized") != (self.overlong_cache is not None):
            raise ValueError(
                f'truncated = "{self.truncated}" and overlong_cache = {self.overlong_cache} do not belong together: '
                'overlong_cache is for "penalized", and "penalized" needs it'
            )
        if self.normalize_mean and self.normalize_std:
            raise ValueError("normalize_mean divides by the mean instead of normalize_std; set normalize_std = false")
        if self.normalize_mean and self.truncated == "penalized":
            raise ValueError(
                'normalize_mean divides by the mean reward, which truncated = "penalized" can make negative; choose one'
            )
        if self.loss == "dppo" and self.mismatch_correction != "none":
            raise ValueError(
                'loss = "dppo" takes ratios to what drew the tokens, so mismatch_correction = '
                f'"{self.mismatch_correction}" would count them twice; set mismatch_correction = "none"'
            )
        if self.mismatch_correction == "geometric" and not (
            self.mismatch_low >= 1 - _GEOMETRIC_BAND and self.mismatch_high <= 1 + _GEOMETRIC_BAND
        ):
            raise ValueError(
                f'mismatch_correction = "geometric" with a band of {self.mismatch_low:g} to {self.mismatch_high:g} '
                "keeps every sequence, since the mean ratio of one hardly differs from 1; set mismatch_low = 0.99 and "
                "mismatch_high = 1.01"
            )
        self._check_learning_rate(steps)

    def _check_learning_rate(self, steps: Sequence[int]) -> None:
        if self.lr_schedule == "constant" and (self.lr_decay_steps or self.lr_min_ratio):
            raise ValueError(
                'lr_schedule is "constant", so lr_decay_steps and lr_min_ratio say nothing; leave them out or choose '
                '"linear" or "cosine"'
            )
        for index, num_steps in enumerate(steps):
            decayed = self.decay_steps(num_steps)
            if decayed is None:
                return
            if self.lr_warmup_steps >= decayed:
                raise ValueError(
                    f"lr_warmup_steps is {self.lr_warmup_steps}, but in stages.{index} the learning rate has fallen by "
                    f"step {decayed}; give fewer"
                )
            if decayed < num_steps and not self.lr_min_ratio:
                raise ValueError(
                    f"the learning rate would be 0 after step {decayed}, but stages.{index} has {num_steps} steps; "
                    "leave lr_decay_steps out, or set lr_min_ratio, e.g. to 0.1"
                )
