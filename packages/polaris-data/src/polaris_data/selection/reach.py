"""What a rule of selection asks that was not measured: a profile that stopped before, or too few visits."""

from collections import Counter
from collections.abc import Iterable
from itertools import count
from math import ceil, floor
from pathlib import Path

from polaris_data.files.journal import recorded_settings
from polaris_data.profile.attempts import Attempt, Evidence, pool
from polaris_data.selection.keeping import Keep
from polaris_data.selection.rules import ROUNDING, Accuracy, Extreme, Rule, probability_above


def unsettled_rules(path: Path, rules: Iterable[Rule]) -> list[str]:
    """Say which rules of selection ask what a profile does not answer, because sampling stopped before.

    Args:
        path: Of the profile; its settings tell whether it is adaptive.
        rules: To be applied to it.
    """
    settings = recorded_settings(path)
    if "adaptive" not in settings:
        return []
    num_samples, bounds = settings["num_samples"], settings["adaptive"]["bounds"]
    settled = {ceil(bound * num_samples - ROUNDING) for bound in bounds}
    return [
        f"the profile is adaptive with --bound {' and '.join(f'{bound:g}' for bound in bounds)}, which does not settle "
        f"{rule.reason!r}; profile with the bound that the rule asks for, or without --adaptive"
        for rule in rules
        if not isinstance(rule, Keep) and _num_correct_asked(rule, num_samples) not in settled
    ]


def needed_samples(rule: Accuracy) -> int:
    """Return how many samples a problem needs, all of them correct, so that a rule by certainty can drop it."""
    # All of n are correct: the pass rate is above the limit with probability 1 - above ** (n + 1).
    return next(n for n in count(1) if probability_above(rule.above, Attempt(n, n)) >= rule.certainty)


def rules_out_of_reach(evidence: Evidence, rules: Iterable[Rule]) -> list[str]:
    """Say which rules by certainty ask for more samples than there are, and of how many problems.

    Args:
        evidence: What was measured.
        rules: To be applied to it.
    """
    sizes = Counter(pool(attempts).num_samples for attempts in evidence.values())
    largest = max((attempt.num_samples for attempts in evidence.values() for attempt in attempts), default=1)
    notes: list[str] = []
    for rule in rules:
        if not isinstance(rule, Accuracy) or rule.by != "certainty" or rule.above == 1:
            continue
        needed = needed_samples(rule)
        if too_few := sum(num for size, num in sizes.items() if size < needed):
            notes.append(
                f"{rule.reason!r} needs at least {needed} answers, all correct, which are {ceil(needed / largest)} "
                f"visits of {largest}: {too_few:,} of {sizes.total():,} problems have fewer and are kept by it"
            )
    return notes


def _num_correct_asked(rule: Rule, num_samples: int) -> int | None:
    """Return how many right answers tell a rule's two sides apart; ``None`` if it needs to know more than that."""
    if isinstance(rule, Extreme):
        return num_samples if rule.solved == "always" else 1
    if isinstance(rule, Accuracy) and rule.by != "certainty":
        return floor(rule.above * num_samples + ROUNDING) + 1
    return None
