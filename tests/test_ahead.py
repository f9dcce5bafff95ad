"""Sampling ahead for real: a stage and a ``vllm serve`` that takes its weights; measured, and killed at any instant."""

import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from polaris_rollout.store import read_groups
from polaris_train.grpo import token_lags

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

spec = importlib.util.spec_from_file_location("bench_ahead", Path(__file__).parent / "bench" / "ahead.py")
bench = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = bench
spec.loader.exec_module(bench)

PROMPTS, SAMPLES = 4, 4
SIZES = {"prompts_per_step": PROMPTS, "samples_per_prompt": SAMPLES}
CORE = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with bench.serving(tmp_path_factory.mktemp("server") / "log", core=CORE, slots=64) as address:
        yield address


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def require_every_group_once(stage, *, steps, ahead):
    """Every step and every problem of it once, no token without a version of the stage, none older than allowed."""
    lines = records(stage / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, steps + 1))
    visits = [(visit["step"], visit["problem_id"]) for visit in records(stage / "visits.jsonl")]
    assert len(visits) == len(set(visits)) == steps * PROMPTS
    for step, line in enumerate(lines, start=1):
        groups = read_groups(stage / "rollouts" / f"step-{step:06d}.parquet")
        assert [(step, each.problem_id) for each in groups] == [visit for visit in visits if visit[0] == step]
        lags = [lag for each in groups for one in each.completions for lag in token_lags(each, one, step=step)]
        assert len(lags) == line["sampled_tokens"] and set(lags) <= set(range(ahead + 1))
        assert (line["lag_mean"], line["lag_max"]) == (pytest.approx(sum(lags) / len(lags)), max(lags))
        assert sum(each["num_tokens"] for each in line["by_lag"].values()) == line["num_tokens"]
    return lines


def test_the_measurement_compares_steps_that_wait_with_steps_that_do_not(address, tmp_path):
    settings = SIZES | {"stages.0.steps": 5}
    runs = [bench.train(tmp_path / str(ahead), address, ahead, settings, core=CORE) for ahead in (0, 1)]
    waiting, ahead = runs
    assert [line["step"] for line in waiting.metrics] == [1, 2, 3, 4, 5]
    assert not any(name in line for line in waiting.metrics for name in ("lag_mean", "by_lag", "spanning_share"))
    assert max(line["logprob_gap_max"] for line in waiting.metrics) < 1e-3
    lines = require_every_group_once(tmp_path / "1" / "stage-1", steps=5, ahead=1)
    assert lines == ahead.metrics and max(line["lag_max"] for line in lines) == 1
    # The trainer agrees with the weights that drew a token, in the middle of a completion that others began.
    assert max(line["logprob_gap_max"] or 0 for line in lines) < 1e-3
    assert max(line["by_lag"]["1"]["prob_gap_mean"] or 0 for line in lines) > 1e-4
    assert "ahead / synchronous: " in bench.report(runs)
    assert not (tmp_path / "1" / "stage-1" / "weights").exists()


def test_a_stage_that_is_killed_at_any_instant_draws_every_group_once(address, tmp_path):
    """Two ranks, two steps ahead; the server survives, at times in the middle of an update of its weights."""
    steps, ahead, rng = 8, 2, random.Random(0)
    values = SIZES | {
        "stages.0.temperature": 1, "stages.0.context": bench.CONTEXT, "stages.0.steps": steps, "evaluate_every": 0,
        "checkpoint_every": 2, "num_processes": 2, "endpoints": f'["{address}"]', "sampling_ahead": ahead,
    }  # fmt: skip
    command = [sys.executable, "-m", "polaris_train", "stage", "tiny-cpu", "stage-1", "--out", str(tmp_path / "run")]
    command += [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    stage = tmp_path / "run" / "stage-1"

    def num_stored():
        return len(list(stage.glob("rollouts/*.parquet")))

    for _ in range(4):
        before, process = num_stored(), subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and num_stored() == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    require_every_group_once(stage, steps=steps, ahead=ahead)
    assert json.loads((stage / "outcome.json").read_text())["chosen"]["step"] == steps
