import json
import random
from collections import Counter
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data.errors import SettingError
from polaris_data.files.journal import settings_path
from polaris_data.profile.adaptive import (
    BETAS,
    Population,
    Settling,
    count_cells,
    expected_histogram,
    fit_population,
    profile_histogram,
    settled_cells,
)
from polaris_data.profile.schedule import Schedule, pooled
from polaris_data.profile.shape import histogram
from polaris_data.records import Difficulty
from polaris_data.selection.reach import unsettled_rules
from polaris_data.selection.reading import parse_rule


def difficulty(problem_id, num_samples, num_correct):
    return Difficulty(
        problem_id=problem_id,
        num_samples=num_samples,
        num_correct=num_correct,
        num_truncated=0,
        mean_tokens=float(num_samples),
    )


def only(*betas):
    """A population of some of the components, in equal shares."""
    return Population(tuple(float(beta in betas) / len(betas) for beta in BETAS))


populations = st.lists(st.floats(0.01, 1), min_size=len(BETAS), max_size=len(BETAS)).map(
    lambda weights: Population(tuple(weight / sum(weights) for weight in weights))
)
settlings = st.builds(
    Settling,
    bounds=st.lists(st.sampled_from([0.01, 0.25, 0.5, 0.75, 0.9, 1.0]), min_size=1, max_size=3).map(tuple),
)


def test_a_uniform_population_predicts_by_the_rule_of_succession():
    uniform = only((1.0, 1.0))
    assert uniform.predict((0, 0), 1) == pytest.approx((1 / 2, 1 / 2))
    assert uniform.predict((7, 7), 1) == pytest.approx((1 / 9, 8 / 9))
    assert uniform.predict((3, 1), 2) == pytest.approx((3 * 4 / 30, 2 * 2 * 3 / 30, 2 * 3 / 30))
    assert uniform.predict((8, 5), 0) == pytest.approx((1.0,))


@pytest.mark.parametrize("cell", [(1, 0), (2, 1), (5, 5), (8, 3)])
def test_predictions_agree_with_numerical_integration_over_the_rate(cell):
    betas = [(1.0, 4.0), (4.0, 1.0), (16.0, 16.0)]
    (n, k), num_more, steps = cell, 3, 20_000

    def density(rate):
        return sum(rate ** (a - 1) * (1 - rate) ** (b - 1) / mass[a, b] for a, b in betas)

    rates = [(step + 0.5) / steps for step in range(steps)]
    mass = {(a, b): sum(rate ** (a - 1) * (1 - rate) ** (b - 1) for rate in rates) for a, b in betas}
    posterior = [density(rate) * rate**k * (1 - rate) ** (n - k) for rate in rates]
    slow = [
        sum(
            share * comb(num_more, j) * rate**j * (1 - rate) ** (num_more - j)
            for share, rate in zip(posterior, rates, strict=True)
        )
        / sum(posterior)
        for j in range(num_more + 1)
    ]
    assert only(*betas).predict(cell, num_more) == pytest.approx(slow, abs=1e-6)


@settings(deadline=None)
@given(populations, st.integers(0, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.integers(0, 8))
def test_predictions_are_probabilities(population, cell, num_more):
    chances = population.predict(cell, num_more)
    assert all(0 <= chance <= 1 for chance in chances)
    assert sum(chances) == pytest.approx(1)


def test_the_fit_finds_the_population_also_where_sampling_stopped_early():
    chance = random.Random(0)
    cells, whole = Counter(), Counter()
    for _ in range(20_000):
        rate = chance.betavariate(0.5, 1.5)
        answers = [chance.random() < rate for _ in range(8)]
        whole[8, sum(answers)] += 1
        drawn = answers.index(False) + 1 if False in answers else 8
        cells[drawn, drawn - (False in answers)] += 1
    population = fit_population(cells)
    expected = [comb(8, k) * chance_of(k) for k in range(9)]
    assert sum(expected) == pytest.approx(1)
    # Nothing was drawn after a wrong answer, so how often one is followed by right ones is less certain.
    assert population.predict((0, 0), 8) == pytest.approx(expected, abs=0.03)
    assert population.predict((7, 7), 1)[1] == pytest.approx(7.5 / 9, abs=0.025)
    assert fit_population(whole).predict((0, 0), 8) == pytest.approx(expected, abs=0.01)


def chance_of(k):
    """Probability of one sequence with k of 8 right under Beta(1/2, 3/2), by the recursion of Polya's urn."""
    chance, a, b = 1.0, 0.5, 1.5
    for number in range(8):
        chance *= (a if number < k else b) / (a + b)
        a, b = (a + 1, b) if number < k else (a, b + 1)
    return chance


def test_sampling_stops_exactly_where_nothing_can_change():
    assert {cell for cell in settled_cells(8, Settling()) if cell[0] < 8} == {
        (n, k) for n in range(1, 8) for k in range(n)
    }
    never_or_always = settled_cells(4, Settling(bounds=(0.01, 1.0)))
    assert {cell for cell in never_or_always if cell[0] < 4} == {(2, 1), (3, 1), (3, 2)}


@settings(deadline=None)
@given(settlings, st.lists(st.booleans(), min_size=1, max_size=8))
def test_a_settled_cell_decides_like_all_samples(settling, answers):
    def side(k, n):
        return sum(k / n >= bound for bound in settling.bounds)

    settled = settled_cells(len(answers), settling)
    stops = next(n for n in range(1, len(answers) + 1) if (n, sum(answers[:n])) in settled)
    assert side(sum(answers[:stops]), stops) == side(sum(answers), len(answers))


@settings(deadline=None)
@given(
    settling=settlings,
    answers=st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=30),
    at_a_time=st.sampled_from([1, 2, 3, 6]),
    order=st.randoms(use_true_random=False),
)
def test_a_schedule_draws_between_one_and_all_and_the_order_of_answers_changes_nothing(
    settling, answers, at_a_time, order
):
    settling = Settling(bounds=settling.bounds, at_a_time=at_a_time)
    results = [play(answers, settling), play(answers, settling, order=order)]
    assert results[0] == results[1]
    for name, each in results[0].items():
        assert at_a_time <= each.num_samples <= 6 and each.num_samples % at_a_time == 0
        assert each.num_correct == sum(answers[int(name)][: each.num_samples])


def play(answers, settling, *, order=None, drawn=(), stop_after=None):
    """Answer a schedule from what is known in advance, in order or in any; return the tallies."""
    num_samples = len(answers[0])
    schedule = Schedule(list(map(str, range(len(answers)))), num_samples=num_samples, settling=settling, drawn=drawn)
    settled = [each.problem_id for each in schedule.settled]
    in_flight, records = [], []
    while schedule or in_flight:
        in_flight += schedule.draw()
        name = in_flight.pop(order.randrange(len(in_flight)) if order else 0)
        start = schedule.tallies[name].num_samples if name in schedule.tallies else 0
        new = answers[int(name)][start : start + schedule.at_a_time]
        records.append(difficulty(name, len(new), sum(new)))
        settled += [each.problem_id for each in schedule.add(records[-1])]
        if stop_after is not None and len(records) == stop_after:
            return records
    assert sorted(settled) == sorted(schedule.tallies) and len(schedule.tallies) == len(answers)
    return schedule.tallies


@pytest.fixture(scope="module")
def population_of_answers():
    """Most problems are solved nearly always or nearly never."""
    chance = random.Random(1)
    rates = [chance.betavariate(0.1, 0.1) for _ in range(1200)]
    return [[chance.random() < rate for _ in range(8)] for rate in rates]


@pytest.mark.parametrize("settling", [Settling(), Settling(bounds=(0.01, 1.0))])
def test_stops_and_arrival_in_any_order_end_with_the_same_counts(population_of_answers, settling):
    whole = play(population_of_answers, settling)
    order = random.Random(2)
    assert play(population_of_answers, settling, order=order) == whole
    drawn = []
    for stop_after in (100, 700, 1200):
        drawn += play(population_of_answers, settling, order=order, drawn=drawn, stop_after=stop_after)
    assert play(population_of_answers, settling, order=order, drawn=drawn) == whole


@pytest.mark.parametrize("bounds", [(1.0,), (0.01, 1.0), (0.625,)])
def test_the_decisions_are_those_of_all_samples_and_cost_fewer(population_of_answers, bounds):
    tallies = play(population_of_answers, Settling(bounds=bounds))
    for number, answers in enumerate(population_of_answers):
        ours = tallies[str(number)]
        assert [ours.accuracy >= bound for bound in bounds] == [sum(answers) / 8 >= bound for bound in bounds]
    assert sum(each.num_samples for each in tallies.values()) < 8 * len(population_of_answers)


def test_without_settling_every_problem_is_drawn_once_and_whole():
    schedule = Schedule(["a", "b"], num_samples=8)
    assert list(schedule.draw()) == ["a", "b"]
    assert schedule.add(difficulty("b", 8, 3)) == [difficulty("b", 8, 3)]
    assert not schedule


def test_the_expected_histogram_of_equal_numbers_is_the_counted_one():
    profile = [difficulty(str(k), 8, k % 9) for k in range(30)]
    assert expected_histogram(profile, 8) == profile_histogram(profile) == histogram(profile)


def test_the_expected_histogram_takes_a_random_choice_of_too_many_samples():
    profile = [difficulty(str(number), 4, 2) for number in range(6)]
    assert expected_histogram(profile, 2).counts == (1, 4, 1)


def test_the_expected_histogram_of_an_adaptive_profile_is_near_that_of_all_samples(population_of_answers):
    tallies = play(population_of_answers, Settling())
    ours = profile_histogram(tallies.values())
    full = histogram([difficulty(str(n), 8, sum(answers)) for n, answers in enumerate(population_of_answers)])
    assert ours.num_problems == full.num_problems and ours.shape == full.shape
    difference = sum(abs(one - other) for one, other in zip(ours.counts, full.counts, strict=True))
    assert difference / 2 <= 0.05 * full.num_problems
    kept = [each for each in tallies.values() if each.accuracy < 1]
    after = profile_histogram(kept, part_of=tallies.values())
    assert after.num_problems == len(kept) and after.counts[-1] == 0


@settings(deadline=None)
@given(st.lists(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=1))
def test_the_expected_histogram_counts_every_problem_once(cells):
    profile = [difficulty(str(number), *cell) for number, cell in enumerate(cells)]
    counts = expected_histogram(profile, 8).counts
    assert sum(counts) == len(profile) and min(counts) >= 0
    assert count_cells(profile) == Counter(cells)


def test_pooled_samples_add_up():
    one, other = difficulty("a", 3, 1), difficulty("a", 1, 1)
    both = pooled(one, other)
    assert (both.num_samples, both.num_correct, both.mean_tokens) == (4, 2, (3 * 3 + 1) / 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": ()}, "bounds are"),
        ({"bounds": (0.0,)}, "bounds are"),
        ({"bounds": (1.1,)}, "bounds are"),
        ({"at_a_time": 0}, "at_a_time is 0"),
    ],
)
def test_settings_out_of_range_are_refused(change, message):
    with pytest.raises(SettingError, match=message):
        Settling(**change)


def test_samples_that_cannot_be_drawn_so_many_at_a_time_are_refused():
    with pytest.raises(SettingError, match="8 samples cannot be drawn 3 at a time"):
        Schedule(["a"], num_samples=8, settling=Settling(at_a_time=3))


@pytest.mark.parametrize(
    ("bounds", "rule", "is_settled"),
    [
        ([1.0], "drop", True),
        ([1.0], "accuracy above=0.9", True),  # of 8, only 8 are more than nine tenths
        ([1.0], "drop solved=never", False),
        ([0.01, 1.0], "drop solved=never", True),
        ([1.0], "accuracy above=0.5", False),
        ([0.625], "accuracy above=0.5", True),
        ([0.01, 1.0], "cap bin=0/8 share=0.3", False),
    ],
)
def test_rules_that_ask_what_an_adaptive_profile_did_not_settle_are_named(tmp_path, bounds, rule, is_settled):
    path = tmp_path / "p.jsonl"
    assert unsettled_rules(path, [parse_rule(rule)]) == []
    recorded = {"num_samples": 8, "adaptive": {"bounds": bounds, "error": 0.02, "at_a_time": 1}}
    settings_path(path).write_text(json.dumps(recorded))
    assert bool(unsettled_rules(path, [parse_rule(rule)])) != is_settled
