"""When a stage has brought what it can, and which of its weights were the best: decided on numbers alone.

A stage ends after its steps, when its answers no longer fit into its context, or on a plateau. All three are pure
functions of what is recorded, so a stage that was killed and continued ends where it would have ended.

**Plateau.** ``plateau_window`` is a price: so many steps must bring `WORTH` of training reward or of held-out
accuracy. For each of the two, the rise per window is estimated with its 99% interval over the newest window of steps,
and over ever more of the newest steps until the interval settles it: it lies below `WORTH`, or above 0. The stage ends
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
from itertools import pairwise
from operator import mul
from statistics import fmean, stdev
from typing import Any, Literal

from polaris_eval import Estimate, clustered_mean
from polaris_eval.scores import student_quantile

WORTH = 0.02
"""Rise of reward or accuracy that a window of steps must bring, or its cost is too high."""

LEVEL = 0.99
"""Confidence of the intervals of a rise: with 0.95, so many looks find a plateau on one of four rising curves."""

TRUNCATION_STEPS = 10
"""Steps whose truncated shares are judged together; with fewer, Student's quantile makes the interval wide."""

PARTS = 10
"""Of the newest steps, whose mean rewards the line is laid through: what lasts shorter than a part averages out."""

_SPAN_GROWTH = 1.19
"""Each span that is tried is so much longer than the one before: its interval is 0.77 times as wide."""

_FEWEST = 4
"""Values that a line is laid through; its residuals have two degrees of freedom then."""

_CORRELATED = 0.9
"""Largest correlation of neighbours that is corrected for."""


_UNKNOWN = Estimate(value=0.0, interval=(-math.inf, math.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """An evaluation of a stage on its held-out problems."""

    step: int
    """Steps done; 0 is the model that the stage started from."""

    shares: Mapping[str, float]
    """Share of each problem's completions that is correct, by problem id."""

    @property
    def accuracy(self) -> Estimate:
        """Mean over problems."""
        return clustered_mean(list(self.shares.values()), low=0.0, high=1.0)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which weights are the result of a stage."""

    step: int
    """After which they were; 0 is the model that the stage started from."""

    sentence: str
    """For a person."""

    evidence: Mapping[str, Any]
    """``held_out``: every evaluation; ``difference``: the chosen one's to the best, ``None`` where it is the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """How much a window of steps brings."""

    estimate: Estimate
    """Per window, with its interval at `LEVEL`."""

    span: int
    """Newest steps that it was found over."""


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


def choose_checkpoint(evaluations: Sequence[HeldOut], *, last: int) -> Choice:
    """Return the latest evaluated step that is not significantly worse than the best.

    Significantly: the 95% interval of the paired difference of held-out accuracy lies below zero. Of steps that cannot
    be told apart the latest is taken, since it was trained on most.

    The choice only moves to later steps, and only to the newest: an evaluation that is not significantly below the best
    is chosen at once, for it is the latest; one that is leaves the best, and so the choice, as they were. Hence no
    other checkpoint than the current choice is ever needed.

    Args:
        evaluations: On held-out problems; oldest first.
        last: The step whose weights are taken where there are none.
    """
    if not evaluations:
        sentence = f"step {last}: the last, since nothing was measured on held-out problems"
        return Choice(step=last, sentence=sentence, evidence={"held_out": [], "difference": None})
    scores = [each.accuracy for each in evaluations]
    best = max(range(len(scores)), key=lambda index: (scores[index].value, index))
    differences = [_difference(evaluations[best], each) for each in evaluations]
    chosen = max(index for index, each in enumerate(differences) if index == best or each.interval[1] >= 0)
    listed = zip(evaluations, scores, strict=True)
    return Choice(
        step=evaluations[chosen].step,
        sentence=_why_chosen(evaluations, scores[chosen], differences, chosen=chosen, best=best),
        evidence={
            "held_out": [{"step": each.step, **_numbers(score)} for each, score in listed],
            "difference": None if chosen == best else _numbers(differences[chosen]),
        },
    )


def reward_rise(rewards: Sequence[float], *, window: int) -> Rise | None:
    """Return how much a window of steps raises the training reward, ``None`` while the interval settles nothing.

    Args:
        rewards: Of every step so far.
        window: Steps.
    """
    for span in _spans(window, longest=len(rewards)):
        estimate = _line(*_in_parts(rewards[-span:]), window=window)
        if _settles(estimate):
            return Rise(estimate=estimate, span=span)
    return None


def held_out_rise(evaluations: Sequence[HeldOut], *, window: int) -> Rise | None:
    """Return how much a window of steps raises held-out accuracy, ``None`` while the interval settles nothing.

    Args:
        evaluations: Of the same problems; oldest first.
        window: Steps.
    """
    newest = evaluations[-1].step
    for span in _spans(window, longest=newest - evaluations[0].step):
        within = [each for each in evaluations if each.step >= newest - span]
        by_step = _line([each.step for each in within], [_mean(each) for each in within], window=window)
        if not _settles(by_step):
            continue
        by_problem = _mean_of_lines(within, window=window)
        estimate = max(by_step, by_problem, key=_width)
        if _settles(estimate):
            return Rise(estimate=estimate, span=span)
    return None


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
        sentence=f"step {step} of {steps}: {window} steps no longer raise the reward ({_points(reward.estimate)} over "
        f"the newest {reward.span}) nor held-out accuracy ({_points(held_out.estimate)} over {held_out.span})",
        evidence={
            "plateau_window": window,
            "worth": WORTH,
            "level": LEVEL,
            "reward": {**_numbers(reward.estimate), "steps": reward.span},
            "held_out": {**_numbers(held_out.estimate), "steps": held_out.span},
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
        evidence={"truncation_limit": limit, "steps": TRUNCATION_STEPS, "truncated_share": _numbers(share)},
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


def _spans(window: int, *, longest: int) -> list[int]:
    """Return the numbers of steps to look back over, from a window on."""
    spans: list[int] = []
    span = float(window)
    while round(span) <= longest:
        spans.append(round(span))
        span *= _SPAN_GROWTH
    return list(dict.fromkeys(spans))


def _settles(estimate: Estimate) -> bool:
    """Return whether an interval excludes either that nothing rises or that enough does."""
    low, high = estimate.interval
    return low > 0 or high < WORTH


def _width(estimate: Estimate) -> float:
    low, high = estimate.interval
    return high - low


def _mean(evaluation: HeldOut) -> float:
    return fmean(evaluation.shares.values())


def _in_parts(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return the middles and means of equal parts of consecutive values, each at least one value long."""
    num_parts = min(PARTS, len(values))
    ends = [len(values) * part // num_parts for part in range(num_parts + 1)]
    middles = [(first + end - 1) / 2 for first, end in pairwise(ends)]
    return middles, [fmean(values[first:end]) for first, end in pairwise(ends)]


def _line(times: Sequence[float], values: Sequence[float], *, window: int) -> Estimate:
    """Return the rise per window of the least-squares line, its interval from the scatter around it."""
    size = len(values)
    if size < _FEWEST:
        return _UNKNOWN
    weights = _slope_weights(times, window=window)
    rise = math.fsum(map(mul, weights, values))
    mean, middle = fmean(values), fmean(times)
    residuals = [value - mean - rise * (time - middle) / window for time, value in zip(times, values, strict=True)]
    squares = math.fsum(map(mul, residuals, residuals))
    correlation = _neighbours(residuals, squares)
    variance = squares / (size - 2) * math.fsum(map(mul, weights, weights)) * (1 + correlation) / (1 - correlation)
    half = student_quantile(size - 2, LEVEL) * math.sqrt(variance)
    return Estimate(value=rise, interval=(rise - half, rise + half))


def _neighbours(residuals: Sequence[float], squares: float) -> float:
    """Return the correlation of neighbouring residuals, none where they only seem to repel each other.

    A fitted line takes about ``(2 + 4 r) / n`` of it away, which is given back.
    """
    if squares <= 0:
        return 0.0
    seen = math.fsum(map(mul, residuals, residuals[1:])) / squares
    return min(max(0.0, seen + (2 + 4 * seen) / len(residuals)), _CORRELATED)


def _mean_of_lines(evaluations: Sequence[HeldOut], *, window: int) -> Estimate:
    """Return the mean over problems of the rise per window of each one's least-squares line."""
    weights = _slope_weights([each.step for each in evaluations], window=window)
    problems = [problem for problem in evaluations[0].shares if all(problem in each.shares for each in evaluations)]
    if len(problems) < 2:
        return _UNKNOWN
    rows = zip(*([each.shares[problem] for problem in problems] for each in evaluations), strict=True)
    rises = [math.fsum(map(mul, weights, row)) for row in rows]
    rise = fmean(rises)
    half = student_quantile(len(rises) - 1, LEVEL) * stdev(rises, rise) / math.sqrt(len(rises))
    return Estimate(value=rise, interval=(rise - half, rise + half))


def _slope_weights(times: Sequence[float], *, window: int) -> list[float]:
    """Return what values at these times are multiplied with: the sum is the rise per window of their line."""
    middle = fmean(times)
    spread = math.fsum((time - middle) ** 2 for time in times)
    return [window * (time - middle) / spread for time in times]


def _difference(best: HeldOut, other: HeldOut) -> Estimate:
    """Return the other minus the best, paired by problem."""
    differences = [other.shares[problem] - share for problem, share in best.shares.items() if problem in other.shares]
    return clustered_mean(differences, low=-1.0, high=1.0)


def _why_chosen(
    evaluations: Sequence[HeldOut], score: Estimate, differences: Sequence[Estimate], *, chosen: int, best: int
) -> str:
    low, high = score.interval
    step, best_step, last_step = (evaluations[index].step for index in (chosen, best, -1))
    sentence = f"step {step}: held-out accuracy {100 * score.value:.1f} [{100 * low:.1f}, {100 * high:.1f}], "
    if chosen == best:
        sentence += "the best of the stage"
    else:
        sentence += f"the latest not worse than the best, step {best_step} ({_points(differences[chosen])})"
    if step != last_step:
        sentence += f"; step {last_step}, the last, is worse ({_points(differences[-1])})"
    return sentence


def _points(estimate: Estimate) -> str:
    low, high = estimate.interval
    return f"{100 * estimate.value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": list(estimate.interval)}
