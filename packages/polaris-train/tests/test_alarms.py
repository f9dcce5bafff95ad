"""Every alarm rings where it should, and is silent elsewhere."""

import pytest
from polaris_train.stage.monitor import alarms

HEALTHY = {
    "prob_gap_mean": 0.004, "truncated_share": 0.08, "informative_share": 0.5, "entropy": 0.6, "grad_norm": 0.4,
    "num_tokens": 5000, "skipped_updates": 0,
}  # fmt: skip
HISTORY = [HEALTHY] * 30
UNTRAINED = HEALTHY | {"informative_share": 0.4, "num_tokens": 0, "entropy": 0.0, "grad_norm": 0.0}

RINGS = {
    "engine and trainer disagree": ({"prob_gap_mean": 0.011}, HISTORY),
    "answers are cut short": ({"truncated_share": 0.11}, HISTORY),
    "70% of the groups are all right or all wrong": ({"informative_share": 0.3}, HISTORY),
    "entropy is 0.17, of 0.6 at the start": ({"entropy": 0.17}, HISTORY),
    "entropy is 0.5, of 2 at the start": ({"entropy": 0.5}, [HEALTHY | {"entropy": 2.0}] * 5 + [HEALTHY] * 40),
    "grad_norm is 2.1, usually 0.4": ({"grad_norm": 2.1}, HISTORY),
    "the update was skipped": ({"skipped_updates": 1, "grad_norm": None, "loss": None}, HISTORY),
    "prob_gap_mean is 0.02, above 0.01": ({"prob_gap_mean": 0.02}, []),
}


@pytest.mark.parametrize("sentence", RINGS)
def test_an_alarm_rings_alone(sentence):
    changed, history = RINGS[sentence]
    (said,) = alarms(HEALTHY | changed, history)
    assert sentence in said


SILENT = {
    "a healthy step": (HEALTHY, HISTORY),
    "the levels themselves": (
        HEALTHY | {"prob_gap_mean": 0.01, "truncated_share": 0.1, "informative_share": 0.34}, HISTORY,
    ),
    "a first step has nothing to be compared with": (HEALTHY | {"grad_norm": 50.0, "entropy": 0.01}, []),
    "nor has a fifth": (HEALTHY | {"grad_norm": 50.0, "entropy": 0.01}, [HEALTHY] * 4),
    "steps that trained nothing are no measure": (
        HEALTHY | {"grad_norm": 50.0, "entropy": 0.01}, [UNTRAINED] * 30 + [HEALTHY] * 4,
    ),
    "a step that trained nothing has no entropy": (UNTRAINED, HISTORY),
    "a spike in the past is no measure": (HEALTHY, [HEALTHY | {"grad_norm": 1e6}, *HISTORY]),
    "a step that was skipped in the past is no measure": (HEALTHY, [HEALTHY | {"grad_norm": None}] * 5 + HISTORY),
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_alarms_are_silent(case):
    metrics, history = SILENT[case]
    assert alarms(metrics, history) == []


def test_a_spike_is_measured_by_the_newest_steps():
    grown = [HEALTHY] * 30 + [HEALTHY | {"grad_norm": 4.0}] * 20
    assert alarms(HEALTHY | {"grad_norm": 4.0}, grown) == []
    assert len(alarms(HEALTHY | {"grad_norm": 21.0}, grown)) == 1
