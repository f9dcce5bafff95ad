"""The change-point fit of accuracy against known curves, a grid of hypotheses, and its own claims."""

import numpy as np
import pytest
from polaris_rollout.temperature.zones import COLLAPSE_LOSS, AccuracyFit, fit_accuracy
from scipy.optimize import brentq

TEMPERATURES = np.round(np.arange(0.6, 1.85, 0.1), 2)
FIRST, FIRST_SLOPE, SECOND, SECOND_SLOPE = 1.2, 0.6, 1.5, 6.0


def curve(temperatures, level=0.7):
    temperatures = np.asarray(temperatures)
    fall = FIRST_SLOPE * np.maximum(temperatures - FIRST, 0) + SECOND_SLOPE * np.maximum(temperatures - SECOND, 0)
    return level * np.exp(-fall)


def border(loss):
    return brentq(lambda temperature: curve(temperature) - (1 - loss) * curve(0.0), 0.5, 3)


def draw(num_problems, num_samples, seed):
    """Answers of problems that are all equally hard."""
    generator = np.random.default_rng(seed)
    shape = (len(TEMPERATURES), num_problems)
    return generator.binomial(num_samples, curve(TEMPERATURES)[:, None], shape) / num_samples


def fit(accuracies, num_samples, seed=0):
    counts = np.full(len(TEMPERATURES), float(num_samples))
    return fit_accuracy(TEMPERATURES, accuracies, counts, bounds=(0.6, 2.0), seed=seed)


def test_a_border_is_where_the_curve_has_lost_that_share():
    shapes = np.array([[1.0, 0.5, 1.3, 5.0], [0.8, 2.0, 0.85, 30.0], [1.4, 0.1, 1.5, 0.5]])
    drawn = AccuracyFit(np.full(3, 0.6), *shapes.T, variance_share=1.0)
    for loss in (0.01, 0.05, COLLAPSE_LOSS, 0.6):
        at_border = np.diag(drawn.accuracy(drawn.border(loss)))
        assert at_border == pytest.approx(np.full(3, 0.6 * (1 - loss)))


def test_many_answers_show_the_true_borders():
    found = fit(draw(200, 400, seed=1), 400)
    for loss in (0.02, COLLAPSE_LOSS):
        assert np.median(found.border(loss)) == pytest.approx(border(loss), abs=0.03)
    assert np.median(found.level) == pytest.approx(0.7, abs=0.01)


def test_the_sample_has_the_quantiles_of_a_fine_grid_of_hypotheses():
    # Few answers: a grid cannot follow the narrow peaks that many leave.
    accuracies = draw(20, 4, seed=2)
    found = fit(accuracies, 4)
    # The same posterior without any sampling: every hypothesis of a grid, weighted by its probability.
    means, count = accuracies.mean(axis=1), 4 * 20
    within = (accuracies * (1 - accuracies) * 4 / 3).sum() / ((means * (1 - means)).sum() * 20)
    smooth = (means * count + 1) / (count + 2)
    binomial = within * smooth * (1 - smooth) / count
    robust = accuracies[np.argmax(means - np.sqrt(binomial))]
    spread = (accuracies - np.outer(means / robust.mean(), robust)).var(axis=1) / 20
    variances = np.maximum(binomial, spread) + (0.01 * means.max()) ** 2
    first, slope, gap, second = np.meshgrid(
        np.arange(0.4, 2.0, 0.025) + 0.0125,
        np.log(0.1) + np.log(100) * (np.arange(20) + 0.5) / 20,
        (np.arange(40) + 0.5) / 40,
        np.log(0.5) + np.log(100) * (np.arange(20) + 0.5) / 20,
        indexing="ij",
    )
    first, slope, gap, second = first.ravel(), np.exp(slope.ravel()), gap.ravel(), np.exp(second.ravel())
    curves = np.exp(
        -slope[:, None] * np.maximum(TEMPERATURES - first[:, None], 0)
        - second[:, None] * np.maximum(TEMPERATURES - (first + gap)[:, None], 0)
    )
    precision, weighted = (curves**2 / variances).sum(axis=1), (curves * means / variances).sum(axis=1)
    log_weights = weighted**2 / precision / 2 - np.log(precision) / 2
    weights = np.exp(log_weights - log_weights.max())
    hypotheses = AccuracyFit(np.ones(len(first)), first, slope, first + gap, second, variance_share=1.0)
    for loss in (0.02, COLLAPSE_LOSS):
        borders = hypotheses.border(loss)
        order = np.argsort(borders)
        cumulative = weights[order].cumsum() / weights.sum()
        for share in (0.1, 0.5, 0.9):
            expected = borders[order][np.searchsorted(cumulative, share)]
            assert np.quantile(found.border(loss), share) == pytest.approx(expected, abs=0.05)


def test_intervals_hold_the_truth_about_as_often_as_they_claim():
    held = {0.02: 0, COLLAPSE_LOSS: 0}
    for seed in range(30):
        found = fit(draw(30, 8, seed), 8, seed)
        for loss in held:
            low, high = np.quantile(found.border(loss), [0.1, 0.9])
            held[loss] += low <= border(loss) <= high
    # 80% intervals: fewer than 19 of 30 has a probability of 1%.
    assert min(held.values()) >= 19


def test_fewer_answers_give_wider_intervals():
    widths = [np.ptp(np.quantile(fit(draw(30, n, 3), n).border(0.02), [0.1, 0.9])) for n in (4, 400)]
    assert widths[0] > 2 * widths[1]


def test_a_model_that_never_falls_has_its_borders_beyond_the_range():
    found = fit(np.full((len(TEMPERATURES), 30), 0.5), 50)
    assert np.median(found.border(COLLAPSE_LOSS)) > TEMPERATURES[-1]


def test_the_same_seed_gives_the_same_fit():
    accuracies = draw(30, 4, seed=5)
    assert fit(accuracies, 4, seed=9).border(0.02).tolist() == fit(accuracies, 4, seed=9).border(0.02).tolist()
