"""Which weights are the result of a stage, decided on held-out problems alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from polaris_eval import Estimate, clustered_mean

from polaris_train.stage.rises import HeldOut, numbers, points


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which weights are the result of a stage."""

    step: int
    """After which they were; 0 is the model that the stage started from."""

    sentence: str
    """For a person."""

    evidence: Mapping[str, Any]
    """``held_out``: every evaluation; ``difference``: the chosen one's to the best, ``None`` where it is the best."""


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
            "held_out": [{"step": each.step, **numbers(score)} for each, score in listed],
            "difference": None if chosen == best else numbers(differences[chosen]),
        },
    )


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
        sentence += f"the latest not worse than the best, step {best_step} ({points(differences[chosen])})"
    if step != last_step:
        sentence += f"; step {last_step}, the last, is worse ({points(differences[-1])})"
    return sentence
