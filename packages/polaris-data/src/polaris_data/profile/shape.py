"""The shape of a difficulty histogram, as the POLARIS report names them.

Problems calibrated to a model form a mirrored J: most mass on what it never solves, little on what it always
solves. As the model learns, the shape turns into a J, and it is time to drop problems.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from polaris_data.errors import ProblemFileError
from polaris_data.records import Difficulty

Shape = Literal["mirrored-J", "J", "U", "other"]

PEAK = 1.5
"""An end of a shape stands out when it is this many times the mean of the bins between the ends."""

LEVEL = 0.8
"""Two ends are equally high, a U, when the lower one is at least this share of the higher one. The published
J of the 7B model has 0.63."""

TOO_EASY = 0.7
"""Above this mean accuracy training has little left to learn; the report's reward on unfiltered data."""

TOO_FEW = 1 / 3
"""Below this share of informative groups most of what is sampled is thrown away; the published code refuses
batches below it."""


MANY_TRUNCATED = 0.2
"""Above this share of truncated answers a histogram tells as much of the token budget as of the problems."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many problems were solved k times out of n."""

    counts: tuple[int, ...]
    """[n + 1] problems solved 0, 1, ..., n times."""

    @property
    def num_problems(self) -> int:
        """All problems."""
        return sum(self.counts)

    @property
    def mean_accuracy(self) -> float:
        """Share of correct completions, between 0 and 1."""
        num_correct = sum(k * count for k, count in enumerate(self.counts))
        return num_correct / (self.num_problems * (len(self.counts) - 1))

    @property
    def informative_share(self) -> float:
        """Share of problems solved sometimes but not always: the only ones with a gradient in GRPO."""
        return sum(self.counts[1:-1]) / self.num_problems

    @property
    def shape(self) -> Shape:
        """The name of the shape; see `name_shape`."""
        return name_shape(self.counts)

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the problems that were solved never, sometimes, always; they add up to 1."""
        return self.counts[0] / self.num_problems, self.informative_share, self.counts[-1] / self.num_problems

    @property
    def warnings(self) -> list[str]:
        """What speaks against training on these problems, one sentence each."""
        warnings: list[str] = []
        if self.mean_accuracy > TOO_EASY:
            warnings.append(f"too easy: mean accuracy {self.mean_accuracy:.1%} is above {TOO_EASY:.0%}")
        if self.informative_share < TOO_FEW:
            warnings.append(
                f"few groups are informative: {self.informative_share:.1%} of the problems, less than a third, are "
                "solved sometimes but not always"
            )
        return warnings

    def to_data(self) -> dict[str, Any]:
        """Return the counts and all that is derived from them, for JSON."""
        never, sometimes, always = self.shares
        return {
            "num_problems": self.num_problems,
            "shape": self.shape,
            "counts": list(self.counts),
            "never": never,
            "sometimes": sometimes,
            "always": always,
            "mean_accuracy": self.mean_accuracy,
            "warnings": self.warnings,
        }


def truncation_warnings(profile: Iterable[Difficulty]) -> list[str]:
    """Return what speaks against a profile because the token budget ended its answers: a sentence, or none."""
    num_samples = num_truncated = num_never = num_cut = 0
    for each in profile:
        num_samples += each.num_samples
        num_truncated += each.num_truncated
        num_never += each.num_correct == 0
        num_cut += each.num_correct == 0 and 2 * each.num_truncated > each.num_samples
    if not num_samples or num_truncated <= MANY_TRUNCATED * num_samples:
        return []
    return [
        f"{num_truncated / num_samples:.1%} of the answers are truncated, and {num_cut:,} of the {num_never:,} "
        "problems that were never solved were mostly cut short: the shape tells of the token budget, not of what is "
        "too hard; profile with more --max-tokens, or drop them with --rule 'truncation above=0.5'"
    ]


def histogram(profile: Iterable[Difficulty]) -> Histogram:
    """Count problems by how often they were solved.

    Raises:
        ProblemFileError: If the profile is empty or its problems have different numbers of samples.
    """
    counts = Counter((difficulty.num_samples, difficulty.num_correct) for difficulty in profile)
    num_samples = sorted({samples for samples, _ in counts})
    if len(num_samples) != 1:
        raise ProblemFileError(f"a histogram needs one number of samples for all problems, found {num_samples}")
    (n,) = num_samples
    return Histogram(tuple(counts[n, k] for k in range(n + 1)))


def name_shape(counts: tuple[int, ...]) -> Shape:
    """Name a histogram over 0/n, 1/n, ..., n/n.

    - mirrored-J: 0/n is the biggest bin and stands out (`PEAK`).
    - J: n/n is the biggest bin and stands out.
    - U: both ends stand out, both are above all other bins, and neither is clearly higher (`LEVEL`).
    - other: anything else.

    References:
        An et al., "POLARIS: A Post-training recipe for scaling reinforcement learning on advanced reasoning
        models", 2025. https://hkunlp.github.io/blog/2025/Polaris
    """
    never, always, between = counts[0], counts[-1], counts[1:-1]
    low, high = sorted((never, always))
    middle = sum(between) / max(len(between), 1)
    if high < max(between, default=0) or high <= PEAK * middle:
        return "other"
    if low >= LEVEL * high:
        return "U" if low >= max(between, default=0) and low > PEAK * middle else "other"
    return "mirrored-J" if never > always else "J"
