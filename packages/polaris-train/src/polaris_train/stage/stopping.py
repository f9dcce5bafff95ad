"""When a stage has brought what it can, decided on numbers alone.

A stage ends after its steps, when its answers no longer fit into its context, or on a plateau. All three are pure
functions of what is recorded, so a stage that was killed and continued ends where it would have ended.

**Plateau.** ``plateau_window`` is a price: so many steps must bring `WORTH` (of `polaris_train.stage.rises`, as the
other names here) of training reward or of held-out accuracy. For each of the two, the rise per window is estimated with
its 99% interval over the newest window of steps, and over ever more of the newest steps until the interval settles it:
it lies below `WORTH`, or above 0. The stage ends
when both are below `WORTH` and neither above 0. Noise makes the span longer, never the rule looser: where a stage is
too short or too noisy to settle it, it goes on.

- Reward: a line through the mean rewards of `PARTS` equal parts of the span, so that groups, steps and everything that
  lasts shorter than a part is in the scatter around it. The interval is wider by ``sqrt((1 + r) / (1 - r))`` where
  neighbouring parts resemble each other (``r``: their correlation), for what lasts longer.
- Held-out accuracy: a line through the evaluations of the span. Of two intervals the wider is taken: that of the
  scatter around it, as for the reward, and the clustered one of each problem's own line, which is paired, so how hard
  the problems are does not count.

How often it errs, in 200 simulated stages of each kind with seeds that it was not tuned on (128 prompts of 8 answers,
128 held-out problems of 4, a window of 100 steps, evaluated every 10, at most 800 steps; ``tests/test_stopping.py``
asserts bounds). *False*: ended while the next window would have brought more than `WORTH` of either. *Late*: not ended
three windows after the next one would bring less than half a point of both.

============================================  =====  =====
both rise by 2.5 to 4 points a window           0.0%      -
only the reward does                            3.5%      -
only held-out accuracy does                     2.0%      -
a line, then flat                               0.0%   1.0%
saturating                                      0.0%   1.0%
logarithmic                                     0.0%   0.0%
flat from the start                             0.0%   4.5%
a rise, half a window of rest, a second rise    0.0%   3.4%
a rise, then a collapse                         0.0%   0.0%
============================================  =====  =====

The weights wander by a point around these curves, forgotten within 5 steps. What lasts as long as a good part of the
window cannot be told from the curve itself.
**Truncation.** Over the newest `TRUNCATION_STEPS` steps, the lower end of the 95% interval of the mean share of answers
that were cut short is above the limit. One bad step never does it: a single share ``x`` among zeros has the mean
``x / n`` and the standard error ``x / n``, and Student's quantile is above 1.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from polaris_eval import clustered_mean

from polaris_train.stage.rises import LEVEL, WORTH, HeldOut, held_out_rise, numbers, points, reward_rise

TRUNCATION_STEPS = 10
"""Steps whose truncated shares are judged together; with fewer, Student's quantile makes the interval wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Why a stage ends."""

    step: int
    """The last one."""

    reason: Literal["steps", "plateau", "truncation", "tokens"]
    """Which rule."""

    sentence: str
    """For a person."""

    evidence: Mapping[str, Any]
    """The numbers behind it, as JSON can say them."""


def decide_stop(
    history: Sequence[Mapping[str, Any]],
    evaluations: Sequence[HeldOut] = (),
    *,
    steps: int,
    plateau_window: int | None = None,
    truncation_limit: float | None = None,
    max_sampled_tokens: int | None = None,
) -> Stop | None:
    """Return why a stage ends after the newest of its steps, or ``None`` if it goes on.

    A plateau is looked for only after an evaluated step: that is when something new is known of both.

    Args:
        history: Lines of ``metrics.jsonl``, oldest first.
        evaluations: On held-out problems, never on a benchmark; oldest first.
        steps: After which the stage ends at the latest.
        plateau_window: Steps that must bring `WORTH`; ``None``: no such rule.
        truncation_limit: Share of truncated answers; ``None``: no such rule.
        max_sampled_tokens: Of all steps together; ``None``: no such rule.
    """
    step = history[-1]["step"] if history else 0
    if truncation_limit is not None and (stop := _truncation(history, steps=steps, limit=truncation_limit)):
        return stop
    evaluated = bool(evaluations) and evaluations[-1].step == step
    if plateau_window is not None and evaluated and (stop := _plateau(history, evaluations, steps, plateau_window)):
        return stop
    if max_sampled_tokens is not None and (stop := _tokens(history, steps=steps, most=max_sampled_tokens)):
        return stop
    if step < steps:
        return None
    return Stop(step=step, reason="steps", sentence=f"step {step}: all steps are done", evidence={"steps": steps})


def expected_steps(step: int, sampled_tokens: int, *, steps: int, max_sampled_tokens: int | None) -> int:
    """Return after which step a stage will have ended, by its steps and by its tokens if it goes on sampling as much.

    Args:
        step: Steps done.
        sampled_tokens: By them.
        steps: Of the stage.
        max_sampled_tokens: Of the stage.
    """
    if max_sampled_tokens is None or not sampled_tokens:
        return steps
    return min(steps, max(step, math.ceil(max_sampled_tokens * step / sampled_tokens)))


def _plateau(
    history: Sequence[Mapping[str, Any]], evaluations: Sequence[HeldOut], steps: int, window: int
) -> Stop | None:
    reward = reward_rise([each["reward"] for each in history], window=window)
    if reward is None or reward.estimate.interval[0] > 0:
        return None
    held_out = held_out_rise(evaluations, window=window)
    if held_out is None or held_out.estimate.interval[0] > 0:
        return None
    step = history[-1]["step"]
    return Stop(
        step=step,
        reason="plateau",
        sentence=f"step {step} of {steps}: {window} steps no longer raise the reward ({points(reward.estimate)} over "
        f"the newest {reward.span}) nor held-out accuracy ({points(held_out.estimate)} over {held_out.span})",
        evidence={
            "plateau_window": window,
            "worth": WORTH,
            "level": LEVEL,
            "reward": {**numbers(reward.estimate), "steps": reward.span},
            "held_out": {**numbers(held_out.estimate), "steps": held_out.span},
        },
    )


def _truncation(history: Sequence[Mapping[str, Any]], *, steps: int, limit: float) -> Stop | None:
    newest = [each["truncated_share"] for each in history[-TRUNCATION_STEPS:]]
    if len(newest) < TRUNCATION_STEPS:
        return None
    share = clustered_mean(newest, low=0.0, high=1.0)
    if share.interval[0] <= limit:
        return None
    step = history[-1]["step"]
    low, high = share.interval
    return Stop(
        step=step,
        reason="truncation",
        sentence=f"step {step} of {steps}: {share.value:.1%} [{low:.1%}, {high:.1%}] of the answers of the newest "
        f"{TRUNCATION_STEPS} steps were cut short, above truncation_limit = {limit:g}: a longer context is due",
        evidence={"truncation_limit": limit, "steps": TRUNCATION_STEPS, "truncated_share": numbers(share)},
    )


def _tokens(history: Sequence[Mapping[str, Any]], *, steps: int, most: int) -> Stop | None:
    sampled = sum(each["sampled_tokens"] for each in history)
    if sampled < most:
        return None
    step = history[-1]["step"]
    return Stop(
        step=step,
        reason="tokens",
        sentence=f"step {step} of {steps}: {sampled:,} tokens are sampled, max_sampled_tokens is {most:,}",
        evidence={"max_sampled_tokens": most, "sampled_tokens": sampled},
    )
