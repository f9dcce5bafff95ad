"""What an evaluation says; standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    """Of which share: ``mean@k`` correct, ``pass@k``, ``maj@k``, ``truncated`` by the token budget, ``no_answer``
    found; ``g-pass@k SHARE``, at least that share of ``k`` correct, and its mean ``mg-pass@k``; ``weighted_vote`` and
    ``best_of`` where completions carry a score."""

    k: int
    """Completions per problem that the metric looks at."""

    value: float
    """Share between 0 and 1."""

    interval: tuple[float, float]
    """95% confidence interval of the value, clustered by problem."""

    num_problems: int
    """Problems that the value is a mean over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long the completions are, in tokens."""

    mean: float
    """Arithmetic mean."""

    median: float
    """Half are at most this long."""

    p95: float
    """19 of 20 are at most this long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthGroup:
    """The completions of about the same length."""

    low: int
    """Tokens of the shortest that belongs here."""

    high: int | None
    """Completions of so many tokens are in the next group; ``None`` in the last one."""

    num_completions: int
    """Completions in the group, at least one."""

    num_problems: int
    """Problems that they are of."""

    accuracy: float
    """Share of these completions that is correct."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPoint:
    """What ``mean@k`` would be if every completion were cut after so many tokens."""

    max_tokens: int
    """The budget."""

    accuracy: Estimate
    """``mean@k`` with its clustered interval."""

    cut: float
    """Share of completions that are longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemResult:
    """How one problem went."""

    problem_id: str
    """Of the benchmark."""

    references: tuple[str, ...]
    """Accepted answers."""

    num_correct: int | None
    """Correct completions; ``None`` when the grader cannot read the references."""

    num_samples: int
    """Completions."""

    mean_tokens: float | None
    """Mean length; ``None`` where lengths are not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything that one benchmark said about one model."""

    benchmark: str
    """Name of the benchmark, or the stem of a problem file."""

    num_problems: int
    """Problems sampled, those with an unreadable reference included."""

    num_samples: int
    """Completions per problem, of the problem with the fewest."""

    scores: tuple[Score, ...]
    """One for each metric and ``k``."""

    bootstrap: tuple[float, float]
    """95% bootstrap interval of ``mean@k`` over the draw of problems."""

    distinct_4: float
    """Share of distinct 4-grams of words among the completions of a problem, mean over problems."""

    lengths: Lengths | None
    """``None`` where the number of tokens is not known."""

    length_groups: tuple[LengthGroup, ...]
    """From the shortest on; none where lengths are not known."""

    budgets: tuple[BudgetPoint, ...]
    """From the smallest on; none where no completion was graded at a budget."""

    outcomes: Mapping[str, int]
    """Completions of each `polaris_reward.Outcome`; outcomes that did not occur are left out."""

    unscored: tuple[str, ...]
    """Problems left out of ``mean@k`` because the grader cannot read their references."""

    problems: tuple[ProblemResult, ...]
    """In the order of the benchmark."""

    set_aside: Mapping[str, int] = field(default_factory=dict[str, int])
    """Rows and completions of a graded file that say nothing about the model, by reason; they are in no score."""

    lost: tuple[str, ...] = ()
    """Problems without a completion that could be graded; they are in no score."""

    by_seed: tuple[tuple[int, float], ...] = ()
    """Each seed and ``mean@k`` of its completions; none where there is one seed."""

    def score(self, metric: str, k: int | None = None) -> Score:
        """Return the score of one metric, the one at ``k`` where there are several.

        Raises:
            KeyError: If the evaluation has no such metric.
        """
        for score in self.scores:
            if score.metric == metric and k in (None, score.k):
                return score
        raise KeyError(metric)
