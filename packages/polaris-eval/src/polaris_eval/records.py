"""What an evaluation says; standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over problems and how far it can be trusted."""

    value: float
    """The mean."""

    interval: tuple[float, float]
    """95% confidence interval of the mean, over the draw of problems and of completions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One number about one model on one benchmark."""

    benchmark: str
    """Name of the benchmark, or the stem of a problem file."""

    metric: str
    """Of which share: ``mean@k`` correct, ``truncated`` by the token budget, ``no_answer`` found."""

    k: int
    """Completions per problem that the metric looks at."""

    value: float
    """Share between 0 and 1."""

    interval: tuple[float, float]
    """95% confidence interval of the value, clustered by problem."""

    num_problems: int
    """Problems that the value is a mean over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that one benchmark said about one model."""

    benchmark: str
    """Name of the benchmark, or the stem of a problem file."""

    num_problems: int
    """Problems sampled, those with an unreadable reference included."""

    num_samples: int
    """Completions per problem."""

    scores: tuple[Score, ...]
    """One for each metric."""

    mean_tokens: float
    """Mean length of a completion, in tokens."""

    outcomes: Mapping[str, int]
    """Completions of each `polaris_reward.Outcome`; outcomes that did not occur are left out."""

    unscored: tuple[str, ...]
    """Problems left out of ``mean@k`` because the grader cannot read their references."""

    def score(self, metric: str) -> Score:
        """Return the score of one metric.

        Raises:
            KeyError: If the evaluation has no such metric.
        """
        for score in self.scores:
            if score.metric == metric:
                return score
        raise KeyError(metric)
