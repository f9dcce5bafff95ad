"""What an evaluation will be able to tell, before anything is sampled."""

import math

from polaris_eval.scores.means import student_quantile

_POWER_QUANTILE = 0.8416212335729143
"""Normal quantile of 80%."""


def detectable_difference(
    num_problems: int, num_samples: int, *, share: float = 0.5, within: float = 0.5, between: float = 0.9
) -> float:
    """Return the smallest true difference of ``mean@k`` between two models that 4 of 5 paired comparisons find.

    ``(t + 0.84) * sqrt(2 a (1 - a) (w (1 - b) + (1 - w) / n) / m)`` for ``m`` problems and ``n`` samples of each, with
    Student's ``t`` of the 95% interval. The first term under the root is what two models truly differ by from problem
    to problem, the second the chance of the samples: more samples shrink only that one.

    Args:
        num_problems: Of the benchmark, at least one.
        num_samples: Completions of each problem by each model, at least one.
        share: ``a``, correct completions; 0.5 is the least favourable.
        within: ``w``, correlation of two completions of one problem: 0 where all problems are equally hard, 1 where
            each is always or never solved.
        between: ``b``, correlation of the two models' success probabilities over the problems: a model and what it was
            trained into share most of their difficulties.

    Returns:
        A difference of shares; 0.05 is 5 points.

    Raises:
        ValueError: If a number is not positive.

    References:
        Miller, "Adding Error Bars to Evals", 2024, section on power analysis. https://arxiv.org/abs/2411.00640
    """
    if num_problems < 1 or num_samples < 1:
        raise ValueError(f"{num_problems} problems x {num_samples} samples; give 1 or more of each")
    variance = 2 * share * (1 - share) * (within * (1 - between) + (1 - within) / num_samples)
    quantile = student_quantile(num_problems + 1) + _POWER_QUANTILE
    return min(1.0, quantile * math.sqrt(variance / num_problems))
