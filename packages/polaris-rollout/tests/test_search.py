"""The search on models whose curves are known."""

from dataclasses import replace

import numpy as np
import pytest
from polaris_rollout.errors import SettingError
from polaris_rollout.temperature.budget import GRID, Probe, ProbeRun
from polaris_rollout.temperature.doubts import doubts
from polaris_rollout.temperature.rising import filled, fit_diversity, rising
from polaris_rollout.temperature.search import find_diversity, find_exploration_start, measure_given

NUM_PROBLEMS = 40


class Model:
    """Diversity rises in a straight line; accuracy holds to 1.2, falls slowly to 1.5, then collapses."""

    def __init__(self, noise=0.0, seed=0):
        self.calls = []
        self.noise = noise
        self.generator = np.random.default_rng(seed)
        self.offsets = np.linspace(-0.1, 0.1, NUM_PROBLEMS)

    @staticmethod
    def accuracy(temperature):
        return 0.6 * np.exp(-0.5 * max(temperature - 1.2, 0) - 8 * max(temperature - 1.5, 0))

    @staticmethod
    def diversity(temperature):
        return 0.1 + 0.4 * temperature

    def measure(self, temperature, num_samples, asked=range(NUM_PROBLEMS)):
        self.calls.append((temperature, num_samples))
        size = len(asked)
        noise = self.noise / np.sqrt(num_samples) * self.generator.standard_normal((2, size))
        diversity = self.diversity(temperature) + self.offsets[list(asked)] + noise[0]
        return Probe(
            temperature=temperature,
            num_samples=num_samples,
            accuracy=np.clip(self.accuracy(temperature) + 0.3 * noise[1], 0, 1),
            diversity=diversity if temperature < 1.9 else np.full(size, np.nan),
            truncated=np.zeros(size),
            tokens=np.full(size, 100.0),
        )


def run(model, *, lowest=0.6, highest=2.0, **options):
    options = {"num_problems": NUM_PROBLEMS, "batch": 4, "max_answers": 80, **options}
    return ProbeRun(model.measure, bounds=(lowest, highest), **options)


@pytest.mark.parametrize("target", [0.4, 0.5, 0.57, 0.63])
def test_a_target_is_found_without_noise(target):
    choice = find_diversity(run(Model()), target)
    assert Model.diversity(choice.temperature) == pytest.approx(target, abs=0.005)
    assert choice.diversity.low <= target <= choice.diversity.high


def test_a_target_is_found_through_noise_within_its_interval():
    for seed in range(4):
        model = Model(noise=0.1, seed=seed)
        choice = find_diversity(run(model, max_answers=40), 0.55)
        assert Model.diversity(choice.temperature) == pytest.approx(0.55, abs=0.02)


def test_a_target_for_each_problem_cancels_what_differs_between_problems():
    model = Model()
    earlier = model.measure(1.15, 4).diversity
    assert find_diversity(run(model), earlier).temperature == pytest.approx(1.15, abs=0.01)
    # Half of the problems, the less diverse ones: their own target, not everyone's.
    half = Model()
    half.offsets = half.offsets - 0.05
    assert find_diversity(run(half), earlier - 0.05).temperature == pytest.approx(1.15, abs=0.01)


def test_a_target_in_collapse_is_not_followed_there():
    choice = find_diversity(run(Model()), 0.82)
    assert choice.collapse is not None
    assert choice.temperature <= choice.collapse.value < 1.8
    assert "collapsed" in choice.reason and "1.8" in choice.reason


@pytest.mark.parametrize(("target", "closest"), [(0.2, "0.340 at 0.6"), (0.95, "0.8")])
def test_a_target_that_no_temperature_has_names_the_closest(target, closest):
    with pytest.raises(SettingError, match=f"reaches diversity {target:.3f}.*{closest}"):
        find_diversity(run(Model()), target)


@pytest.mark.parametrize("max_answers", [24, 80])
def test_an_earlier_stage_that_was_more_diverse_than_any_temperature_is_followed_up_to_collapse(max_answers):
    model = Model()
    earlier = np.full(NUM_PROBLEMS, 0.95)
    choice = find_diversity(run(model, max_answers=max_answers), earlier)
    assert choice.collapse is not None
    assert 1.3 < choice.temperature <= choice.collapse.value
    assert "up to 2" in choice.reason and "0.950" in choice.reason
    assert max(temperature for temperature, _ in model.calls) == 2.0


def test_an_earlier_stage_that_was_less_diverse_than_any_temperature_is_an_error():
    with pytest.raises(SettingError, match=r"reaches diversity 0.200.*0.340 at 0.6"):
        find_diversity(run(Model()), np.full(NUM_PROBLEMS, 0.2))


def test_a_temperature_that_is_given_is_measured_though_it_is_not_on_the_grid():
    model = Model()
    choice = measure_given(run(model, given=1.23, max_answers=24), 1.23)
    assert choice.temperature == 1.23
    assert choice.diversity.value == pytest.approx(Model.diversity(1.23), abs=1e-9)
    assert dict(model.calls) == {0.6: 4, 1.23: 20}


def test_exploration_starts_where_the_stated_accuracy_is_lost():
    model = Model(noise=0.2)
    searched = run(model, batch=20, max_answers=300)
    choice = find_exploration_start(searched, max_loss=0.02)
    assert 1.1 <= choice.temperature <= 1.3
    assert choice.temperature % GRID == pytest.approx(0, abs=1e-9) or choice.temperature % GRID == pytest.approx(GRID)
    assert choice.collapse is not None
    assert choice.collapse.value == pytest.approx(1.51, abs=0.04)


def test_a_looser_bound_allows_a_higher_temperature():
    chosen = [
        find_exploration_start(run(Model(noise=0.2), batch=20, max_answers=240), max_loss=loss).temperature
        for loss in (0.02, 0.12)
    ]
    assert chosen[0] < chosen[1] < 1.5


def test_more_answers_at_a_temperature_count_those_drawn_before():
    model = Model(noise=0.1)
    find_diversity(run(model), 0.55)
    seen = {}
    for temperature, num_samples in model.calls:
        assert num_samples in (seen.get(temperature, 0), seen.get(temperature, 0) + 4)
        seen[temperature] = num_samples


@pytest.mark.parametrize("find", [find_exploration_start, lambda searched: find_diversity(searched, 0.55)])
def test_budgets_and_range_are_kept(find):
    model = Model(noise=0.3)
    searched = run(model, max_answers=30, lowest=0.7, highest=1.7)
    find(searched)
    assert searched.num_answers <= 30
    assert all(0.7 <= temperature <= 1.7 for temperature, _ in model.calls)
    frugal = run(Model(noise=0.3), max_answers=1000, max_tokens=20 * NUM_PROBLEMS * 100)
    find(frugal)
    assert frugal.num_answers == 20


def test_a_precise_answer_stops_the_search_early():
    model = Model()
    searched = run(model, max_answers=4000)
    find_diversity(searched, 0.55, precision=0.2)
    assert searched.num_answers < 100


def test_the_same_measurements_give_the_same_search():
    first, second = Model(noise=0.1, seed=4), Model(noise=0.1, seed=4)
    one, other = find_exploration_start(run(first)), find_exploration_start(run(second))
    assert first.calls == second.calls
    assert (one.temperature, one.exploration) == (other.temperature, other.exploration)


def test_temperatures_without_diversity_do_not_count():
    choice = find_diversity(run(Model()), 0.80)
    assert np.isfinite(choice.diversity.value)


def test_a_model_that_solves_nothing_is_refused():
    model = Model()
    model.accuracy = lambda temperature: 0.0
    with pytest.raises(SettingError, match="easier problems"):
        find_exploration_start(run(model))


@pytest.mark.parametrize(("lowest", "highest"), [(1.4, 1.0), (-0.5, 1.0), (0.6, 2.5), (1.0, 1.0)])
def test_temperatures_out_of_order_are_refused(lowest, highest):
    with pytest.raises(SettingError, match=f"{lowest:g} to {highest:g}"):
        run(Model(), lowest=lowest, highest=highest)


def test_a_budget_for_less_than_three_batches_is_refused():
    with pytest.raises(SettingError, match="12 or more"):
        run(Model(), max_answers=8)


class Babbler(Model):
    """Nothing is right and few answers come to an end from 1.5 on; it says how many problems were asked."""

    def measure(self, temperature, num_samples, asked=range(NUM_PROBLEMS)):
        probe = super().measure(temperature, num_samples, asked)
        self.asked = {**getattr(self, "asked", {}), temperature: len(asked)}
        if temperature < 1.5:
            return probe
        return replace(probe, accuracy=np.zeros(len(asked)), truncated=np.ones(len(asked)))


def test_babble_is_left_after_the_first_answers_and_the_search_goes_on_below_it():
    model = Babbler()
    searched = run(model, max_answers=32)
    choice = find_exploration_start(searched)
    hot = [each for each in model.asked if each >= 1.5]
    assert hot and all(model.asked[each] == (10 if each in hot else NUM_PROBLEMS) for each in model.asked)
    assert [num for temperature, num in model.calls if temperature in hot] == [4] * len(hot)
    assert choice.temperature < 1.5
    sentences = [each for each in doubts(searched, choice, target=None, max_loss=0.02) if "collapsed" in each]
    assert len(sentences) == len(hot)
    sentence = sentences[-1]
    assert "none of the first 40 answers was right, 100% of them cut short, and the other 30 problems" in sentence


@pytest.mark.parametrize("target", [0.85, np.full(NUM_PROBLEMS, 0.85)])
def test_a_target_beyond_babble_gives_the_highest_temperature_below_it(target):
    model = Babbler()
    choice = find_diversity(run(model), target)
    assert 1.3 <= choice.temperature < 1.5
    assert "reaches diversity 0.850" in choice.reason
    assert choice.interval is None


def test_one_right_answer_is_no_collapse_and_all_problems_are_asked():
    class Lucky(Babbler):
        def measure(self, temperature, num_samples, asked=range(NUM_PROBLEMS)):
            probe = super().measure(temperature, num_samples, asked)
            if temperature >= 1.5:
                probe.accuracy[0] = 1 / num_samples
            return probe

    model = Lucky()
    searched = run(model)
    searched.add(1.0), searched.add(1.9)
    assert model.asked[1.9] == NUM_PROBLEMS
    assert searched.ceiling == np.inf


def test_a_weak_model_is_not_taken_for_collapsed_by_chance():
    model = Babbler()
    model.accuracy = lambda temperature: 0.03
    searched = run(model)
    searched.add(1.0), searched.add(1.9)
    assert model.asked[1.9] == NUM_PROBLEMS


def test_a_temperature_below_the_best_is_asked_of_all_problems_at_once():
    model = Babbler()
    searched = run(model)
    searched.add(1.0), searched.add(0.6)
    assert [num for _, num in model.calls] == [4, 4]


class Many(Model):
    """A model with fresh problems after the first ones; those are less diverse than problems of the kind."""

    def __init__(self, seed):
        super().__init__(noise=0.05, seed=seed)
        self.offsets = np.concatenate([self.offsets - 0.04, 0.1 * self.generator.standard_normal(400) + 0.0])


def test_fresh_problems_correct_for_those_that_happened_to_be_drawn():
    target = Model.diversity(1.2)
    found = []
    for num_fresh in (0, 400):
        searched = run(Many(seed=3), num_fresh=num_fresh, max_answers=60)
        found.append(find_diversity(searched, target))
        assert bool(searched.fresh) == (num_fresh > 0)
        assert searched.num_answers <= 60
    alone, helped = (abs(each.temperature - 1.2) for each in found)
    # The first problems are 0.04 less diverse: 0.1 of temperature. Some 200 fresh ones leave a sixth of it.
    assert alone == pytest.approx(0.1, abs=0.03)
    assert helped < 0.05
    assert np.ptp([found[1].interval.low, found[1].interval.high]) < np.ptp(
        [found[0].interval.low, found[0].interval.high]
    )


def test_the_interval_of_a_temperature_goes_beyond_what_was_probed():
    model = Model(noise=0.2, seed=1)
    searched = run(model, max_answers=12, lowest=1.0, highest=1.4)
    searched.add(1.0), searched.add(1.4)
    fit = fit_diversity(searched, Model.diversity(1.39), seed=0)
    assert np.quantile(fit.crossings(), 0.975) > 1.4


def test_rising_curves_are_the_closest_ones():
    from scipy.optimize import isotonic_regression

    generator = np.random.default_rng(0)
    values, weights = generator.normal(size=(50, 7)), generator.random(7) + 0.1
    expected = [isotonic_regression(row, weights=weights).x for row in values]
    assert rising(values, weights) == pytest.approx(np.array(expected))


def test_a_missing_value_is_that_of_its_temperature_and_problem():
    values = np.arange(4.0)[:, None] + np.array([0.0, 0.3, -0.2])
    holes = values.copy()
    holes[1, 2] = holes[3, 0] = np.nan
    assert filled(holes) == pytest.approx(values, abs=1e-6)


def said(model, target=None, *, probed=(), **options):
    searched = run(model, **options)
    for temperature in probed:
        searched.add(temperature)
    choice = find_exploration_start(searched) if target is None else find_diversity(searched, target)
    return " | ".join(doubts(searched, choice, target=target, max_loss=0.02)), choice


def test_nothing_is_in_doubt_where_all_is_clear():
    # Seen without noise: accuracy 0.6 to 1.2, and collapse before 2.
    text, _ = said(Model(noise=0.05), 0.55)
    assert text == ""


def test_few_right_answers_leave_a_wide_interval_and_say_so():
    class Weak(Model):
        def measure(self, temperature, num_samples, asked=range(NUM_PROBLEMS)):
            probe = super().measure(temperature, num_samples, asked)
            rates = np.full(len(asked), 0.05 * self.accuracy(temperature))
            return replace(probe, accuracy=self.generator.binomial(num_samples, rates) / num_samples)

    text, choice = said(Weak(), max_answers=24)
    assert "may lie anywhere from" in text and "accuracy" in text
    assert choice.interval.high - choice.interval.low > 0.5


def test_an_accuracy_that_dips_and_recovers_is_crossed_twice():
    model = Model(noise=0.02)
    model.accuracy = lambda temperature: 0.3 if 0.7 < temperature < 0.9 else Model.accuracy(temperature)
    text, _ = said(model, probed=(0.6, 0.8, 1.0), max_answers=24)
    assert "accuracy is not monotone" in text and "crossed more than once" in text


def test_an_accuracy_that_is_low_when_cold_is_named():
    model = Model(noise=0.02)
    model.accuracy = lambda temperature: 0.3 if temperature < 0.7 else Model.accuracy(temperature)
    text, _ = said(model, max_answers=24)
    assert "rises from 0.30" in text and "at 0.6 to 0.60" in text and "crossed more than once" not in text


def test_a_border_outside_what_was_probed_is_named():
    text, choice = said(Model(noise=0.02), highest=1.4, max_answers=24)
    assert "collapse begins above 1.4" in text and "--highest" in text
    assert choice.collapse is None or choice.collapse.value > 1.4


def test_a_diversity_that_falls_names_the_first_crossing():
    model = Model(noise=0.02)
    model.diversity = lambda temperature: 0.7 if temperature < 0.7 else 0.1 + 0.4 * temperature
    text, choice = said(model, 0.6)
    assert "diversity is not monotone" in text
    assert "first reached by 0.6" in text
    assert choice.temperature == pytest.approx(1.25, abs=0.1)


def test_answers_that_are_cut_short_are_named():
    class Cut(Model):
        def measure(self, temperature, num_samples, asked=range(NUM_PROBLEMS)):
            return replace(super().measure(temperature, num_samples, asked), truncated=np.full(len(asked), 0.25))

    text, _ = said(Cut(noise=0.02), 0.55)
    assert "25% of the answers" in text and "cut short" in text


def test_problems_without_a_diversity_are_counted_and_named():
    class Short(Model):
        def measure(self, temperature, num_samples, asked=range(NUM_PROBLEMS)):
            probe = super().measure(temperature, num_samples, asked)
            if temperature == 0.6:
                probe.diversity[:3] = np.nan
            return probe

    text, choice = said(Short(noise=0.02), 0.55)
    assert f"at temperature 0.6 3 of {NUM_PROBLEMS} problems have no diversity" in text
    assert Model.diversity(choice.temperature) == pytest.approx(0.55, abs=0.01)
