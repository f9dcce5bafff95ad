"""Rules of selection as data: each names what it drops, from what was measured of every problem.

Rules are applied in order, each to the problems that the ones before it have left. None of them depends on the order
of the problems: where a rule takes some of a bin, it takes them by a hash of seed and problem id.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import ClassVar, Literal

from polaris_data.errors import SettingError
from polaris_data.profile.attempts import Attempt, Evidence, bin_of, pool, resolution
from polaris_data.profile.shape import LEVEL, PEAK
from polaris_data.selection.keeping import Between, Keep

ROUNDING = 1e-9
"""6 * 0.4 / 0.6 are 4, not 3.9999999999999996; 0.07 of 100 samples are 7, not 7.000000000000001."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extreme:
    """Drop what was solved every time, the published rule for profiles, or what was never solved."""

    name: ClassVar[str] = "drop"

    solved: Literal["always", "never"] = "always"
    """The end of the histogram that is dropped."""

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        return f"{self.solved} solved"

    def dropped(self, evidence: Evidence, *, seed: int) -> list[str]:
        """Return the ids that this rule drops."""
        share = 1.0 if self.solved == "always" else 0.0
        return [problem_id for problem_id, attempts in evidence.items() if _accuracy(pool(attempts)) == share]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Drop what is solved more often than a limit; above 0.9 by the mean is the published rule between stages."""

    name: ClassVar[str] = "accuracy"

    above: float
    """Dropped when strictly above it; from 0 to 1."""

    by: Literal["mean", "latest", "certainty"] = "mean"
    """The share of correct completions over all attempts, in the latest attempt, or: dropped once the true pass rate
    is above the limit with probability ``certainty`` (a lower bound of the posterior under a uniform prior)."""

    window: int | None = None
    """Count only so many of the latest attempts."""

    min_visits: int = 1
    """Keep what has had fewer attempts."""

    certainty: float = 0.95
    """Used by ``by = "certainty"`` only; between 0 and 1."""

    def __post_init__(self) -> None:
        require(0 <= self.above <= 1, "above", self.above, "a share from 0 to 1")
        require(self.window is None or self.window >= 1, "window", self.window, "1 or more attempts")
        require(self.min_visits >= 1, "min_visits", self.min_visits, "1 or more")
        require(0 < self.certainty < 1, "certainty", self.certainty, "a probability between 0 and 1")
        if self.by == "latest" and self.window is not None:
            raise SettingError(f"window is {self.window!r} with by=latest; give by=mean to average over a window")

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        what = "latest accuracy" if self.by == "latest" else "accuracy" if self.by == "certainty" else "mean accuracy"
        over = f" over the last {self.window} visits" if self.window else ""
        sure = f", {self.certainty:.4g} certain" if self.by == "certainty" else ""
        after = f", after {self.min_visits} visits or more" if self.min_visits > 1 else ""
        return f"{what}{over} above {self.above:g}{sure}{after}"

    def dropped(self, evidence: Evidence, *, seed: int) -> list[str]:
        """Return the ids that this rule drops."""
        return [
            problem_id
            for problem_id, attempts in evidence.items()
            if len(attempts) >= self.min_visits and self._is_above(attempts)
        ]

    def _is_above(self, attempts: Sequence[Attempt]) -> bool:
        window = 1 if self.by == "latest" else self.window or len(attempts)
        pooled = pool(attempts[-window:])
        if self.by == "certainty":
            return probability_above(self.above, pooled) >= self.certainty
        return _accuracy(pooled) > self.above


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """Drop what the token budget cut short more often than a limit: its accuracy tells of the budget."""

    name: ClassVar[str] = "truncation"

    above: float
    """Share of the completions, over all attempts; dropped when strictly above it; from 0 to 1."""

    def __post_init__(self) -> None:
        require(0 <= self.above <= 1, "above", self.above, "a share from 0 to 1")

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        return f"share of truncated answers above {self.above:g}"

    def dropped(self, evidence: Evidence, *, seed: int) -> list[str]:
        """Return the ids that this rule drops."""
        pooled = {problem_id: pool(attempts) for problem_id, attempts in evidence.items()}
        return [each for each, attempt in pooled.items() if attempt.num_truncated / attempt.num_samples > self.above]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Drop problems whose wrong answers share too little with right ones (POLARIS V2's data filtering).

    The difference is 1 less the share of the right answers' intermediate results that wrong ones have, on average over
    the visits that know it. Where none does nothing can be said, because no answer was wrong or right ones agreed on
    nothing: such a problem is dropped, too. What was not visited stays.
    """

    name: ClassVar[str] = "difference"

    above: float
    """Dropped when strictly above it; from 0 to 1."""

    def __post_init__(self) -> None:
        require(0 <= self.above <= 1, "above", self.above, "a share from 0 to 1")

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        return f"difference between wrong and right answers above {self.above:g}, or not known"

    def dropped(self, evidence: Evidence, *, seed: int) -> list[str]:
        """Return the ids that this rule drops.

        Raises:
            SettingError: If no attempt knows what wrong answers share with right ones.
        """
        shares = {problem_id: pool(attempts).overlap for problem_id, attempts in evidence.items()}
        if evidence and all(share is None for share in shares.values()):
            raise SettingError(
                f"rule 'difference': none of {len(evidence):,} problems says what wrong answers share with right ones; "
                "give the --visits of a stage that was trained with [core] and whose answers underline their results"
            )
        most = self.above + ROUNDING
        return [problem_id for problem_id, share in shares.items() if share is None or 1 - share > most]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap:
    """Drop problems of one bin until it is no more than a share of what is kept."""

    name: ClassVar[str] = "cap"

    bin: str
    """``k/n``; see `bin_of` for problems with another number of samples."""

    share: float
    """Of the problems that are kept; from 0 to 1, 1 excluded."""

    def __post_init__(self) -> None:
        k, _, n = self.bin.partition("/")
        require(k.isdecimal() and n.isdecimal() and 0 <= int(k) <= int(n) > 0, "bin", self.bin, "k/n, such as 0/8")
        require(0 <= self.share < 1, "share", self.share, "a share from 0 to below 1")

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        return f"bin {self.bin} capped at a share of {self.share:g}"

    def dropped(self, evidence: Evidence, *, seed: int) -> list[str]:
        """Return the ids that this rule drops."""
        k, n = map(int, self.bin.split("/"))
        members = _bins(evidence, n)[k]
        others = len(evidence) - len(members)
        most = int(others * self.share / (1 - self.share) + ROUNDING)
        return shuffled(members, seed=seed)[most:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape:
    """Drop as little as gives the histogram the shape mirrored-J: of n/n and of the fullest bins between the ends."""

    name: ClassVar[str] = "shape"

    target: Literal["mirrored-J"] = "mirrored-J"
    """The shape of problems that are calibrated to a model."""

    @property
    def reason(self) -> str:
        """Why a problem is out."""
        return f"trimmed to the shape {self.target}"

    def dropped(self, evidence: Evidence, *, seed: int) -> list[str]:
        """Return the ids that this rule drops.

        Raises:
            SettingError: If no problem was never solved: then no part of the problems has the shape.
        """
        bins = _bins(evidence, resolution(evidence))
        left = mirrored_j([len(members) for members in bins])
        return [
            problem_id
            for members, num_left in zip(bins, left, strict=True)
            for problem_id in shuffled(members, seed=seed)[num_left:]
        ]


Rule = Extreme | Accuracy | Truncation | Difference | Cap | Reshape | Between | Keep


@cache
def probability_above(rate: float, attempt: Attempt) -> float:
    """Return the posterior probability that the true pass rate is above a rate.

    The prior is uniform, the posterior Beta(k + 1, n - k + 1).
    """
    from scipy.special import betaincc

    return float(betaincc(attempt.num_correct + 1, attempt.num_samples - attempt.num_correct + 1, min(max(rate, 0), 1)))


def shuffled(problem_ids: Iterable[str], *, seed: int) -> list[str]:
    """Order ids by a hash of seed and id: a random order that does not depend on the one given."""
    return sorted(problem_ids, key=lambda problem_id: hashlib.sha256(f"{seed}:{problem_id}".encode()).digest())


def _accuracy(attempt: Attempt) -> float:
    return attempt.num_correct / attempt.num_samples


def _bins(evidence: Evidence, n: int) -> list[list[str]]:
    """Return [n + 1] the ids in each bin."""
    bins: dict[int, list[str]] = defaultdict(list)
    for problem_id, attempts in evidence.items():
        bins[bin_of(pool(attempts), n)].append(problem_id)
    return [bins[k] for k in range(n + 1)]


def mirrored_j(counts: Sequence[int]) -> list[int]:
    """Return how many problems of each bin are left in the largest part of a histogram that is a mirrored J.

    Raises:
        SettingError: If no problem was never solved: then no part of the problems has the shape.
    """
    never, *between, always = counts
    if never == 0:
        raise SettingError("rule 'shape': no problem was never solved, so no part of them is a mirrored J")
    always = min(always, ceil(LEVEL * never - ROUNDING) - 1)
    between = [min(count, never) for count in between]
    # The mean of the bins between must be below never / PEAK.
    most = ceil(never * len(between) / PEAK - ROUNDING) - 1
    while (excess := sum(between) - most) > 0 and between:
        fullest = max(between)
        below = max((count for count in between if count < fullest), default=0)
        places = [place for place, count in enumerate(between) if count == fullest]
        cut = min(fullest - below, max(1, excess // len(places)))
        for place in places[:excess] if cut == 1 else places:
            between[place] -= cut
    return [never, *between, always]


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Refuse a setting unless it is as expected."""
    if not condition:
        raise SettingError(f"{name} is {value!r}; expected {expected}")
