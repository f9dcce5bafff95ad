"""What a plan promises, against simulated pairs of models."""

import numpy as np
import pytest
from polaris_eval.scores import detectable_difference, mean_difference
from scipy.stats import beta

SHARE, WITHIN, BETWEEN = 0.5, 0.5, 0.9


@pytest.mark.parametrize(("num_problems", "num_samples"), [(30, 32), (500, 4), (200, 1)])
def test_a_detectable_difference_is_found_in_about_4_of_5_pairs(num_problems, num_samples):
    """Difficulties from a beta distribution; the second model has nine of ten in common with the first."""
    difference = detectable_difference(num_problems, num_samples, share=SHARE, within=WITHIN, between=BETWEEN)
    size = (1 - WITHIN) / WITHIN
    low, high = (beta(mean * size, (1 - mean) * size) for mean in (SHARE - difference / 2, SHARE + difference / 2))
    drawn = np.random.default_rng(3)
    num_found, num_pairs = 0, 200
    for _ in range(num_pairs):
        ranks = drawn.uniform(size=num_problems)
        anew = np.where(drawn.uniform(size=num_problems) < BETWEEN, ranks, drawn.uniform(size=num_problems))
        first, second = (drawn.binomial(num_samples, dist.ppf(at)) for dist, at in ((low, ranks), (high, anew)))
        pairs = [(num_samples, num_samples)] * num_problems
        estimate = mean_difference(list((second - first) / num_samples), pairs)
        num_found += estimate.interval[0] > 0
    assert 0.7 < num_found / num_pairs < 0.9


def test_thirty_problems_by_32_cannot_tell_a_point_and_a_half():
    assert detectable_difference(30, 32) > 0.05
    assert detectable_difference(30, 32, between=1.0) > 0.03  # however alike the models are
    assert detectable_difference(30, 10**6) == pytest.approx(detectable_difference(30, 10**9), rel=1e-3)


@pytest.mark.parametrize(("num_problems", "num_samples"), [(0, 1), (1, 0)])
def test_nothing_tells_nothing(num_problems, num_samples):
    with pytest.raises(ValueError, match="give 1 or more of each"):
        detectable_difference(num_problems, num_samples)
