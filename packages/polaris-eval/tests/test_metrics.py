"""Intervals against hand-computed cases, slow formulations and simulation."""

import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_eval.scores.means import (
    bootstrap_interval,
    clustered_mean,
    mean_at_k,
    paired_difference,
    sign_probability,
    student_quantile,
)

GROUPS = st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=12)


def test_mean_at_k_of_three_problems_matches_the_hand_calculation():
    # Problem means 1, 0.5, 0: mean 0.5, s = 0.5, t(2) = 4.302653, half = 4.302653 * 0.5 / sqrt(3) = 1.242.
    estimate = mean_at_k([[True, True], [True, False], [False, False]])
    assert estimate.value == 0.5
    assert estimate.interval == (0.0, 1.0)


def test_the_interval_of_five_problems_matches_the_hand_calculation():
    # Means .4 .5 .6 .5 .5: mean .5, s = sqrt(.02 / 4) = .0707107, t(4) = 2.776445, half = .0877989.
    samples = [4, 5, 6, 5, 5]
    estimate = mean_at_k([[True] * right + [False] * (10 - right) for right in samples])
    assert estimate.value == pytest.approx(0.5)
    assert estimate.interval == pytest.approx((0.5 - 0.0877989, 0.5 + 0.0877989), abs=1e-6)


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (5, 2.5706),
        (10, 2.2281),
        (29, 2.0452),
        (120, 1.9799),
    ],
)
def test_student_quantiles_equal_the_printed_table(degrees: int, quantile: float):
    assert student_quantile(degrees) == pytest.approx(quantile, abs=5e-5)


def test_student_quantile_approaches_the_normal_one():
    assert student_quantile(5000) == pytest.approx(statistics.NormalDist().inv_cdf(0.975), abs=1e-3)


def test_student_quantile_encloses_the_share_that_integration_of_the_density_gives():
    degrees, t = 7, student_quantile(7)
    grid = np.linspace(-t, t, 200_001)
    constant = math.gamma((degrees + 1) / 2) / (math.sqrt(degrees * math.pi) * math.gamma(degrees / 2))
    density = constant * (1 + grid**2 / degrees) ** (-(degrees + 1) / 2)
    assert float(np.trapezoid(density, grid)) == pytest.approx(0.95, abs=1e-6)


@given(GROUPS)
def test_mean_at_k_equals_an_obvious_slow_formulation(correct: list[list[bool]]):
    means = [statistics.fmean(group) for group in correct]
    estimate = mean_at_k(correct)
    assert estimate.value == pytest.approx(statistics.fmean(means))
    assert 0 <= estimate.interval[0] <= estimate.value <= estimate.interval[1] <= 1
    if len(set(means)) > 1:
        half = student_quantile(len(means) - 1) * statistics.stdev(means) / len(means) ** 0.5
        expected = (max(0.0, estimate.value - half), min(1.0, estimate.value + half))
        assert estimate.interval == pytest.approx(expected)


@given(GROUPS)
def test_counting_every_completion_twice_changes_nothing(correct: list[list[bool]]):
    once, twice = mean_at_k(correct), mean_at_k([group * 2 for group in correct])
    assert twice.value == pytest.approx(once.value)
    assert twice.interval == pytest.approx(once.interval)


@given(GROUPS)
def test_right_and_wrong_exchanged_mirror_the_interval(correct: list[list[bool]]):
    estimate = mean_at_k(correct)
    mirrored = mean_at_k([[not value for value in group] for group in correct])
    assert mirrored.interval == pytest.approx((1 - estimate.interval[1], 1 - estimate.interval[0]))


def test_no_correct_completion_at_all_is_not_reported_as_certainty():
    estimate = mean_at_k([[False] * 8] * 30)
    assert estimate.value == 0
    assert estimate.interval == pytest.approx((0.0, 0.1135), abs=1e-4)


def test_one_problem_says_little():
    assert mean_at_k([[True] * 8]).interval == pytest.approx((0.2065, 1.0), abs=1e-4)


def test_equal_differences_are_not_reported_as_certainty():
    estimate = paired_difference([[False, False]] * 30, [[False, False]] * 30)
    assert estimate.value == 0
    low, high = estimate.interval
    assert low == pytest.approx(-high)
    assert 0.3 < high < 0.4


def test_paired_difference_is_the_interval_of_the_differences_of_problem_means():
    # Means .5 .25 .0 .75 before, 1 .5 .25 .75 after: differences .5 .25 .25 0, mean .25, s = .2041241,
    # t(3) = 3.182446, half = .3248072.
    before = [[True, False] * 2, [True, *[False] * 3], [False] * 4, [True, True, True, False]]
    after = [[True] * 4, [True, False] * 2, [True, *[False] * 3], [True, True, True, False]]
    estimate = paired_difference(before, after)
    assert estimate.value == pytest.approx(0.25)
    assert estimate.interval == pytest.approx((0.25 - 0.3248072, 0.25 + 0.3248072), abs=1e-6)


def test_pairing_narrows_the_interval_when_difficulty_is_shared():
    before = [[True] * right + [False] * (8 - right) for right in (0, 1, 3, 5, 6)]
    after = [[True] * right + [False] * (8 - right) for right in (1, 3, 4, 7, 8)]
    low, high = paired_difference(before, after).interval
    assert low > 0
    assert mean_at_k(before).interval[1] > mean_at_k(after).interval[0]
    assert high < 0.5


def test_different_numbers_of_problems_cannot_be_paired():
    with pytest.raises(ValueError, match="2 problems before and 1 after"):
        paired_difference([[True], [False]], [[True]])


@pytest.mark.parametrize("correct", [[], [[True], []]])
def test_nothing_to_take_a_mean_over_is_refused(correct: list[list[bool]]):
    with pytest.raises(ValueError, match="no "):
        mean_at_k(correct)


def test_intervals_cover_the_truth_in_about_95_of_100_simulated_benchmarks():
    # 30 problems whose difficulties are drawn from a beta distribution of mean 0.4, 32 completions each.
    rng = np.random.default_rng(20251120)
    covered, trials = 0, 2000
    for _ in range(trials):
        rates = rng.beta(0.8, 1.2, size=30)
        low, high = clustered_mean((rng.binomial(32, rates) / 32).tolist(), low=0, high=1).interval
        covered += low <= 0.4 <= high
    assert 0.93 <= covered / trials <= 0.97


def test_paired_intervals_cover_the_true_difference():
    rng = random.Random(7)
    covered, trials = 0, 400
    for _ in range(trials):
        rates = [rng.betavariate(2, 3) for _ in range(30)]
        before = [[rng.random() < rate for _ in range(8)] for rate in rates]
        after = [[rng.random() < rate + 0.1 * (1 - rate) for _ in range(8)] for rate in rates]
        low, high = paired_difference(before, after).interval
        covered += low <= 0.1 * 0.6 <= high
    assert 0.92 <= covered / trials <= 0.98


def test_differences_equal_up_to_rounding_are_not_reported_as_certainty():
    before = [[True] * 2 + [False] * 8, [True] * 1 + [False] * 9]
    after = [[True] * 3 + [False] * 7, [True] * 2 + [False] * 8]
    low, high = paired_difference(before, after).interval
    assert high - low > 1


def test_the_bootstrap_agrees_with_a_loop_over_draws_and_with_theory():
    random = np.random.default_rng(3)
    values = random.beta(0.6, 0.6, size=200)
    low, high = bootstrap_interval(values)
    normal = 1.959964 * values.std() / math.sqrt(200)
    assert (high - low) / 2 == pytest.approx(normal, rel=0.05)
    assert low < values.mean() < high
    assert bootstrap_interval(values) == (low, high)
    means = sorted(random.choice(values, 200).mean() for _ in range(4000))
    assert (low, high) == pytest.approx((means[100], means[3900]), abs=0.01)


def test_the_sign_is_a_coin_toss_without_evidence_and_975_where_the_interval_touches_zero():
    assert sign_probability([0.1]) == sign_probability([0.5, -0.5]) == 0.5
    assert sign_probability([0.25, 0.25]) == 1.0
    values = [0.3, -0.1, 0.2, 0.05, 0.15]
    estimate = clustered_mean(values, low=-1, high=1)
    touching = [value - estimate.interval[0] for value in values]
    assert sign_probability(touching) == pytest.approx(0.975, abs=1e-6)


def test_the_probability_of_the_sign_is_that_of_students_distribution():
    stats = pytest.importorskip("scipy.stats")

    values = np.random.default_rng(5).normal(0.1, 1, size=17)
    expected = stats.t(16).cdf(abs(values.mean()) / (values.std(ddof=1) / math.sqrt(17)))
    assert sign_probability(values.tolist()) == pytest.approx(expected)
