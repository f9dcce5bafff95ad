"""Threads fit the processors that a process may use, and what the user has set stays."""

import os

import pytest
from polaris_rollout.engines.openmp import openmp_environment, usable_cores


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)


def test_threads_sleep_while_they_wait_and_are_shared_out():
    cores = usable_cores()
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
    assert openmp_environment() == {"OMP_NUM_THREADS": str(cores), **waiting}
    assert openmp_environment(3 * cores)["OMP_NUM_THREADS"] == "1"


def test_what_is_set_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")  # beside which KMP_BLOCKTIME=0 would say the opposite
    assert openmp_environment(2) == {}


def test_cores_are_those_that_the_process_may_run_on(tmp_path):
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({}, 64),
    ],
)
def test_a_containers_quota_bounds_them(files, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert usable_cores(tmp_path) == expected
