"""When a stage ends and which checkpoint it leaves: on simulated curves, and on cases worked out by hand.

The rule was tuned with the seeds below 40, the confidence of its intervals with those of 1000 to 1039; what is asserted
is of others. ``two rises`` was never tuned on.
"""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_eval import clustered_mean
from polaris_train.stage.choosing import choose_checkpoint
from polaris_train.stage.rises import WORTH, HeldOut, held_out_rise, reward_rise
from polaris_train.stage.stopping import TRUNCATION_STEPS, decide_stop, expected_steps

WINDOW, STEPS = 100, 800
FLAT = 0.005
"""Rise of the next window below which a curve counts as flat."""
LATE = 3
"""Windows after which a plateau should have been seen."""

SPREAD = 1.6
"""Of difficulties, in logits: with it a third of the problems is solved always or never by a group of 8."""
DIFFICULTIES = np.linspace(-4 * SPREAD, 4 * SPREAD, 201)
ABILITIES = np.linspace(-8, 8, 801)


def sigmoid(logits):
    return 1 / (1 + np.exp(-logits))


DENSITY = np.exp(-((DIFFICULTIES / SPREAD) ** 2) / 2)
ACCURACIES = sigmoid(ABILITIES[:, None] + DIFFICULTIES) @ DENSITY / DENSITY.sum()


def ramp(times, start, end):
    """Rise by one a window from a step to another."""
    return np.clip(times, start, end) / WINDOW - start / WINDOW


def reward_and_accuracy(family, rng):
    """Draw the true curves of a stage: of training reward and of held-out accuracy, at every step."""
    times = np.arange(STEPS + 4 * WINDOW)
    start, rise, turn = rng.uniform(0.25, 0.5), rng.uniform(0.025, 0.1), rng.uniform(1, 3) * WINDOW
    slow = rng.uniform(0.025, 0.04)
    match family:
        case "always":
            one = slow * times / WINDOW
        case "flat after":
            one = rise * ramp(times, 0, turn)
        case "saturating":
            one = rng.uniform(0.1, 0.3) * (1 - np.exp(-times / (turn / 2)))
        case "logarithmic":
            one = rng.uniform(0.02, 0.06) * np.log1p(times / (WINDOW / 10))
        case "flat":
            one = 0 * times
        case "collapse":
            one = rise * ramp(times, 0, turn) - rng.uniform(0.02, 0.2) * ramp(times, turn, math.inf)
        case "two rises":
            one = rise * (ramp(times, 0, turn) + ramp(times, turn + WINDOW / 2, 2 * turn + WINDOW / 2))
        case "only the reward":
            return np.clip(start + slow * times / WINDOW, 0.02, 0.95), start + 0 * times
        case "only held-out":
            return start + 0 * times, np.clip(start + slow * times / WINDOW, 0.02, 0.95)
    curve = np.clip(start + one, 0.02, 0.95)
    return curve, curve


def stage(family, seed, *, prompts=128, held_out=128, samples=4, every=10, wander=0.05, memory=0.8):
    """Simulate a stage until it ends; return its true curves and its last step, ``None`` if it never ends by the rule.

    Args:
        family: Of the curves.
        seed: Of everything.
        prompts: Of a step, each of 8 answers.
        held_out: Problems.
        samples: Answers of each.
        every: Steps between evaluations.
        wander: Spread, in logits, of what all problems have in common: the weights go up and down around the curve.
        memory: Its correlation from step to step.
    """
    rng = np.random.default_rng([seed, *family.encode()])
    curves = reward_and_accuracy(family, rng)
    ability, measured = (np.interp(curve, ACCURACIES, ABILITIES) for curve in curves)
    shared = np.zeros(STEPS + 1)
    for step in range(1, STEPS + 1):
        shared[step] = memory * shared[step - 1] + wander * math.sqrt(1 - memory**2) * rng.normal()
    difficulty, learned = SPREAD * rng.normal(size=held_out), np.zeros(held_out)
    history, evaluations = [], []
    for step in range(STEPS + 1):
        if step:
            asked = SPREAD * rng.normal(size=prompts)
            correct = rng.binomial(8, sigmoid(ability[step - 1] + shared[step - 1] + asked)) / 8
            history.append({"step": step, "reward": float(correct.mean()), "truncated_share": 0.0})
            learned = 0.99 * learned + 0.025 * rng.normal(size=held_out)
        if step % every == 0:
            shares = rng.binomial(samples, sigmoid(measured[step] + shared[step] + difficulty + learned)) / samples
            evaluations.append(HeldOut(step=step, shares=dict(enumerate(shares.tolist()))))
            if decide_stop(history, evaluations, steps=STEPS + 1, plateau_window=WINDOW):
                return curves, step
    return curves, None


def error_rates(family, seeds, **size):
    """Return the shares of stages that ended while still rising, and that went on long after their plateau."""
    false, late, num_flat = 0, 0, 0
    for seed in seeds:
        curves, end = stage(family, seed, **size)
        to_come = np.max([curve[WINDOW:] - curve[:-WINDOW] for curve in curves], axis=0)[: STEPS + 1]
        false += end is not None and to_come[end] > WORTH
        flat = np.flatnonzero(to_come <= FLAT)
        if flat.size and flat[0] + LATE * WINDOW <= STEPS:
            num_flat += 1
            late += end is None or end > flat[0] + LATE * WINDOW
    return false / len(seeds), late / num_flat if num_flat else 0.0


BOUNDS = {
    "always": (0.05, 0),
    "only the reward": (0.1, 0),
    "only held-out": (0.1, 0),
    "two rises": (0.05, 0.1),
    "logarithmic": (0.02, 0.05),
    "saturating": (0.02, 0.05),
    "flat after": (0.02, 0.1),
    "flat": (0.0, 0.1),
    "collapse": (0.02, 0.05),
}
"""Of each family: how many may end while still rising, and may not have ended three windows after their plateau."""


@pytest.mark.parametrize("family", BOUNDS)
def test_a_stage_neither_ends_while_it_rises_nor_goes_on_long_after(family):
    false, late = error_rates(family, range(3000, 3020))
    assert false <= BOUNDS[family][0] and late <= BOUNDS[family][1]


@pytest.mark.slow
@pytest.mark.parametrize("family", BOUNDS)
def test_both_rates_over_many_seeds(family, capsys):
    false, late = error_rates(family, range(2000, 2200))
    with capsys.disabled():
        print(f"\n{family}: {false:.1%} ended while still rising, {late:.1%} not within {LATE} windows of the plateau")
    assert false <= BOUNDS[family][0] and late <= BOUNDS[family][1]


def test_noise_makes_a_stage_longer_not_the_rule_looser():
    few = {"prompts": 16, "held_out": 32, "samples": 2, "every": 50}
    assert error_rates("always", range(3000, 3020), **few)[0] <= 0.05
    assert error_rates("flat", range(3000, 3020), **few)[1] > 0.5


def test_the_same_line_is_a_rise_without_noise_and_a_plateau_below_what_it_is_worth():
    rising = [0.3 + 0.03 * step / 20 for step in range(40)]
    assert reward_rise(rising, window=20).estimate.value == pytest.approx(0.03)
    assert reward_rise(rising, window=20).span == 20
    level = (0.3 + 0.01 * np.random.default_rng(0).normal(size=60)).tolist()
    low, high = reward_rise(level, window=20).estimate.interval
    assert low < 0 < high < WORTH


def test_a_rise_is_not_known_before_a_window_is_over():
    assert reward_rise([0.3] * 19, window=20) is None
    assert reward_rise([0.3] * 20, window=20).estimate.interval == (0, 0)


def test_the_held_out_rise_is_the_mean_of_each_problems_own_with_the_spread_of_problems():
    slopes = {f"p{index}": (0.1, 0.14)[index % 2] for index in range(20)}
    evaluations = [
        HeldOut(step=step, shares={name: 0.01 * int(name[1:]) + slope * step / 20 for name, slope in slopes.items()})
        for step in range(0, 80, 10)
    ]
    rise = held_out_rise(evaluations, window=20)
    half = 2.860935 * np.std(list(slopes.values()), ddof=1) / math.sqrt(20)  # Student's, 19 degrees of freedom
    assert rise.estimate.value == pytest.approx(0.12)
    assert rise.estimate.interval == pytest.approx((0.12 - half, 0.12 + half), abs=1e-6)
    assert rise.span == 34  # the shortest with four evaluations, which is when a scatter can be seen


def test_a_plateau_is_decided_on_held_out_problems_and_says_its_numbers():
    flat = [{"step": step, "reward": 0.5, "truncated_share": 0.0} for step in range(1, 101)]
    shares = {f"p{index}": index / 63 for index in range(64)}
    evaluations = [HeldOut(step=step, shares=shares) for step in range(0, 101, 10)]
    assert decide_stop(flat, steps=200, plateau_window=50) is None
    assert decide_stop(flat[:-1], evaluations[:-1], steps=200, plateau_window=50) is None  # not evaluated now
    stop = decide_stop(flat, evaluations, steps=200, plateau_window=50)
    assert (stop.step, stop.reason) == (100, "plateau")
    assert stop.sentence.startswith("step 100 of 200: 50 steps no longer raise the reward (+0.0 points [")
    assert json.loads(json.dumps(stop.evidence)) == stop.evidence
    assert stop.evidence["reward"]["steps"] == 50
    assert decide_stop(flat, evaluations, steps=200) is None


def cut_short(*shares):
    return [{"step": step, "reward": 0.5, "truncated_share": share} for step, share in enumerate(shares, 1)]


def test_more_truncation_than_the_limit_ends_a_stage():
    stop = decide_stop(cut_short(*[0.24, 0.26] * 5), steps=50, truncation_limit=0.2)
    assert (stop.step, stop.reason) == (10, "truncation")
    assert "25.0% [24.2%, 25.8%] of the answers of the newest 10 steps were cut short" in stop.sentence
    assert decide_stop(cut_short(*[0.24, 0.26] * 5), steps=50) is None
    assert decide_stop(cut_short(*[0.24, 0.26] * 4), steps=50, truncation_limit=0.2) is None
    assert decide_stop(cut_short(*[0.19, 0.21] * 5), steps=50, truncation_limit=0.2) is None
    assert decide_stop(cut_short(*[1.0] * 10), steps=50, truncation_limit=0.2).reason == "truncation"


@given(st.integers(0, TRUNCATION_STEPS - 1), st.floats(0.01, 1))
def test_one_bad_step_never_ends_a_stage(index, share):
    shares = [0.0] * TRUNCATION_STEPS
    shares[index] = share
    assert decide_stop(cut_short(*shares), steps=50, truncation_limit=0.001) is None


def test_truncation_below_the_limit_goes_on_and_above_it_ends_soon():
    rng = np.random.default_rng(0)

    def end(share):
        """Of 16 prompts of 8, whose answers are long together."""
        per_prompt = rng.beta(10 * share, 10 * (1 - share), size=(200, 16))
        records = cut_short(*rng.binomial(8, per_prompt).mean(axis=1) / 8)
        stops = (decide_stop(records[:step], steps=500, truncation_limit=0.2) for step in range(1, 201))
        return next((stop.step for stop in stops if stop), math.inf)

    assert sum(end(0.15) < math.inf for _ in range(100)) <= 2
    assert sum(end(0.3) > 20 for _ in range(100)) <= 5


def test_the_last_step_ends_a_stage_and_more_steps_continue_it():
    records = cut_short(*[0.0] * 6)
    stop = decide_stop(records, steps=6)
    assert (stop.step, stop.reason, stop.evidence) == (6, "steps", {"steps": 6})
    assert decide_stop(records, steps=7) is None
    assert decide_stop([], steps=1) is None


def test_enough_sampled_tokens_end_a_stage_and_more_continue_it():
    records = [each | {"sampled_tokens": 400} for each in cut_short(*[0.0] * 3)]
    stop = decide_stop(records, steps=50, max_sampled_tokens=1200)
    assert (stop.step, stop.reason) == (3, "tokens")
    assert stop.evidence == {"max_sampled_tokens": 1200, "sampled_tokens": 1200}
    assert stop.sentence == "step 3 of 50: 1,200 tokens are sampled, max_sampled_tokens is 1,200"
    assert decide_stop(records, steps=50, max_sampled_tokens=1201) is None
    assert decide_stop(records, steps=3, max_sampled_tokens=1201).reason == "steps"
    assert decide_stop([], steps=50, max_sampled_tokens=1) is None


def test_the_time_left_goes_by_the_tokens_where_they_end_a_stage():
    assert expected_steps(4, 400, steps=50, max_sampled_tokens=None) == 50
    assert expected_steps(4, 400, steps=50, max_sampled_tokens=1050) == 11
    assert expected_steps(4, 400, steps=8, max_sampled_tokens=1050) == 8
    assert expected_steps(4, 1200, steps=50, max_sampled_tokens=1050) == 4


def evaluation(step, *num_correct, samples=4):
    return HeldOut(step=step, shares={f"p{index}": count / samples for index, count in enumerate(num_correct)})


def test_the_latest_step_that_is_not_worse_than_the_best_is_chosen():
    start, best, alike = evaluation(0, *[1] * 20), evaluation(10, *[3, 2] * 10), evaluation(20, *[2, 3] * 9, 2, 2)
    worse = evaluation(30, *[1, 0] * 10)
    assert choose_checkpoint([start], last=0).step == 0
    assert choose_checkpoint([start, best], last=10).evidence["difference"] is None
    choice = choose_checkpoint([start, best, alike, worse], last=30)
    assert choice.step == 20
    assert choice.evidence["difference"]["value"] == pytest.approx(-1 / 80)
    assert [each["step"] for each in choice.evidence["held_out"]] == [0, 10, 20, 30]
    assert "the latest not worse than the best, step 10 (" in choice.sentence
    assert "; step 30, the last, is worse (-50.0 points [" in choice.sentence


def test_the_model_that_a_stage_started_from_is_chosen_when_training_made_it_worse():
    choice = choose_checkpoint([evaluation(0, *[3, 4] * 8), evaluation(10, *[1, 0] * 8)], last=10)
    assert choice.step == 0 and choice.evidence["difference"] is None


def test_without_evaluations_the_last_step_is_chosen():
    choice = choose_checkpoint([], last=7)
    assert (choice.step, choice.evidence) == (7, {"held_out": [], "difference": None})


def test_significantly_worse_is_what_the_interval_of_the_paired_differences_says():
    rng = np.random.default_rng(0)
    for _ in range(200):
        counts = rng.integers(0, 5, size=(2, 12))
        one, two = sorted(counts.tolist(), key=sum, reverse=True)
        differences = [(after - before) / 4 for before, after in zip(one, two, strict=True)]
        worse = clustered_mean(differences, low=-1, high=1).interval[1] < 0
        choice = choose_checkpoint([evaluation(0, *one), evaluation(1, *two)], last=1)
        assert choice.step == (0 if worse else 1)


@given(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=12))
def test_a_choice_only_moves_to_the_newest_step_so_one_checkpoint_is_enough(counts):
    evaluations = [evaluation(step, *row) for step, row in enumerate(counts)]
    choices = [choose_checkpoint(evaluations[: step + 1], last=step).step for step in range(len(counts))]
    assert all(after in (before, step) for step, (before, after) in enumerate(pairwise(choices), 1))
