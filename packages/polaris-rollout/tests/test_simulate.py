"""The simulation of shared work: its lengths, its engine, and what longest-first work gains."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_rollout.errors import SettingError
from polaris_rollout.sharing.simulate import (
    SCHEMES,
    Workload,
    draw_lengths,
    fit_log_mean,
    makespan,
    print_simulation,
    simulate,
)

SMALL = Workload(num_problems=16, slots=4)


def makespan_by_steps(lengths, num_engines, slots):
    """The engines by their description: every step, fill the free slots in turn, then advance each by a token."""
    groups, waiting = list(lengths), [[] for _ in range(num_engines)]
    running = [[0] * slots for _ in range(num_engines)]
    steps = 0
    while True:
        for slot in range(slots):
            for engine in range(num_engines):
                if running[engine][slot] == 0:
                    if not waiting[engine] and groups:
                        waiting[engine] = list(groups.pop(0))
                    if waiting[engine]:
                        running[engine][slot] = waiting[engine].pop(0)
        if not any(map(any, running)):
            return steps
        running = [[max(0, left - 1) for left in each] for each in running]
        steps += 1


@pytest.mark.parametrize("sigma", [0.3, 1.0, 1.5])
def test_the_fitted_lengths_have_the_stated_mean_after_cutting(sigma):
    rng = np.random.default_rng(0)
    drawn = np.exp(rng.normal(fit_log_mean(8192, 53248, sigma), sigma, size=400_000)).clip(max=53248)
    assert drawn.mean() == pytest.approx(8192, rel=0.01)


def test_lengths_vary_between_and_within_problems_as_stated_and_earlier_visits_foretell_them():
    workload = Workload(num_problems=2000, max_tokens=10**9, between_share=0.6)
    now, earlier = (np.log(lengths) for lengths in draw_lengths(workload, np.random.default_rng(1)))
    within = now.var(axis=1, ddof=1).mean()
    assert within == pytest.approx(0.4, rel=0.05)
    assert now.mean(axis=1).var() - within / 8 == pytest.approx(0.6, rel=0.1)
    assert np.corrcoef(now.mean(axis=1), earlier.mean(axis=1))[0, 1] == pytest.approx(0.6 / 0.65, abs=0.03)


def test_a_hand_computed_step():
    groups = [[5, 1], [2, 2], [4, 1]]
    assert makespan(groups, num_engines=1, slots=1) == 15
    assert makespan(groups, num_engines=1, slots=6) == 5
    # Engine 0 has a free slot at 1 and takes the last group: its 4 end at 5, and the sample that waited at 6.
    assert makespan(groups, num_engines=2, slots=2) == 6


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=3), min_size=1, max_size=10),
    st.integers(1, 4),
    st.integers(1, 5),
)
def test_the_makespan_equals_that_of_engines_stepped_token_by_token(lengths, num_engines, slots):
    assert makespan(lengths, num_engines=num_engines, slots=slots) == makespan_by_steps(lengths, num_engines, slots)


def test_no_scheme_beats_the_ideal_and_one_engine_has_nothing_to_share():
    alone, several = simulate(SMALL, num_engines=(1, 4), num_seeds=10)
    for balance in (alone, several):
        assert set(balance.ratios) == set(SCHEMES)
        assert all((ratios >= 1).all() for ratios in balance.ratios.values())
    assert (alone.ratios["static split"] == alone.ratios["shared counter"]).all()


def test_the_same_seeds_give_the_same_simulation():
    first, second = (simulate(SMALL, num_engines=(2,), num_seeds=3)[0] for _ in range(2))
    assert all((first.ratios[scheme] == second.ratios[scheme]).all() for scheme in SCHEMES)


def test_a_shared_counter_with_the_longest_first_is_near_the_ideal_where_a_static_split_is_not():
    (balance,) = simulate(Workload(), num_engines=(8,), num_seeds=100)
    means = {scheme: ratios.mean() for scheme, ratios in balance.ratios.items()}
    assert means["static split"] > 1.4
    assert means["longest first"] <= 1.10
    assert means["lengths known"] <= means["longest first"] <= means["shared counter"] <= means["static split"]


def test_the_table_and_the_plot_are_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    print_simulation(SMALL, num_engines=(1, 4), num_seeds=3, plot=tmp_path / "balance.png")
    printed = capsys.readouterr().out
    assert all(scheme in printed for scheme in SCHEMES)
    assert [path.name for path in tmp_path.iterdir()] == ["balance.png"]
    assert (tmp_path / "balance.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"slots": 0}, "slots is 0"),
        ({"mean_tokens": 60_000}, "60000"),
        ({"sigma": 0.0}, "sigma is 0.0"),
        ({"between_share": 1.5}, "between_share 1.5"),
    ],
)
def test_impossible_workloads_are_refused_with_their_value(wrong, part):
    with pytest.raises(SettingError, match=part):
        Workload(**wrong)
