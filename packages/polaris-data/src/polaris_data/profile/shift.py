"""The difficulty shift between two profiles of the same problems, such as before and after training."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from polaris_data.errors import ProblemFileError
from polaris_data.profile.attempts import Attempt, bin_of, resolution
from polaris_data.records import Difficulty

_QUANTILE = 1.96
"""Standard errors on either side of a 95% interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How the problems of two profiles moved from the first to the second."""

    transitions: tuple[tuple[int, ...], ...]
    """[n + 1, m + 1] problems that were solved k times out of n in the first and l times out of m in the second."""

    mean_change: float
    """Mean over problems of the accuracy in the second less that in the first, between -1 and 1."""

    interval: tuple[float, float]
    """95% interval of the mean change, over problems."""

    num_only_first: int
    """Problems left out because the second profile lacks them."""

    num_only_second: int
    """Problems left out because the first profile lacks them."""

    @property
    def num_problems(self) -> int:
        """Problems of both profiles."""
        return sum(map(sum, self.transitions))


def shift(first: Iterable[Difficulty], second: Iterable[Difficulty]) -> Shift:
    """Compare two profiles on the problems that both hold.

    Raises:
        ProblemFileError: If they have no problem in common.
    """
    before = {each.problem_id: each for each in first}
    after = {each.problem_id: each for each in second}
    common = [problem_id for problem_id in before if problem_id in after]
    if not common:
        raise ProblemFileError(
            f"the two profiles have no problem in common: {next(iter(before), None)!r} is in the first, "
            f"{next(iter(after), None)!r} in the second; give two profiles of the same problem set"
        )
    n, m = (resolution({name: [_attempt(profile[name])] for name in common}) for profile in (before, after))
    moves = Counter((bin_of(_attempt(before[name]), n), bin_of(_attempt(after[name]), m)) for name in common)
    changes = [after[name].accuracy - before[name].accuracy for name in common]
    mean = fmean(changes)
    margin = _QUANTILE * stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else math.inf
    return Shift(
        transitions=tuple(tuple(moves[k, each] for each in range(m + 1)) for k in range(n + 1)),
        mean_change=mean,
        interval=(max(mean - margin, -1.0), min(mean + margin, 1.0)),
        num_only_first=len(before) - len(common),
        num_only_second=len(after) - len(common),
    )


def _attempt(difficulty: Difficulty) -> Attempt:
    return Attempt(difficulty.num_samples, difficulty.num_correct)
