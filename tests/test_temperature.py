"""The temperature search on the embedded model with the real engine and grader."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

SUFFIX = "\nLet's think step by step and output the final answer within \\boxed{}."


@pytest.fixture(scope="module")
def held_out(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("held-out")
    command("polaris-data", "synthetic", "--num", "64", "--split", "held-out", "--out", "problems.jsonl", cwd=folder)
    return folder / "problems.jsonl"


def arguments(held_out, *more):
    few = ["--num-problems", "24", "--answers", "24", "--context", "512", "--max-tokens", "64", "--lowest", "0.2"]
    return ["polaris-rollout", "temperature", held_out, "--suffix", SUFFIX, *few, *more]


@pytest.mark.slow
def test_a_search_finds_zones_and_a_later_one_its_diversity(command, held_out, tmp_path):
    done = command(*arguments(held_out, "--out", "stage-1"), cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "stage-1" / "temperature.json").read_text())
    assert first["zones"]["exploration"]["value"] < first["zones"]["collapse"]["value"] < 2
    assert 0.2 <= first["temperature"] < first["zones"]["collapse"]["value"]
    diversities = [point["diversity"]["value"] for point in first["curve"]]
    assert diversities[-1] > diversities[0] + 0.2
    assert f"temperature {first['temperature']:.2f}" in done.stdout
    assert (tmp_path / "stage-1" / "temperature.png").stat().st_size > 10_000

    # Everything is on disk, so no engine is asked for: there is none at this address.
    again = command(
        *arguments(held_out, "--out", "stage-1", "--endpoint", "http://127.0.0.1:9"), cwd=tmp_path, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "stage-1" / "temperature.json").read_text()) == first

    done = command(*arguments(held_out, "--out", "stage-2", "--like", "stage-1"), cwd=tmp_path, timeout=900)
    assert done.returncode == 0, done.stderr
    later = json.loads((tmp_path / "stage-2" / "temperature.json").read_text())
    assert later["measure"] == first["measure"]
    assert later["temperature"] == pytest.approx(first["temperature"], abs=0.2)


@pytest.mark.slow
def test_the_diversity_found_is_measured_again_with_fresh_seeds(held_out, tmp_path, capsys):
    """Ten searches, each of its own answers: fresh answers at the chosen temperature lie in the stated interval."""
    from polaris_rollout import SamplingParams
    from polaris_rollout.engines import VllmSampler
    from polaris_rollout.temperature.budget import ProbeRun
    from polaris_rollout.temperature.graders import open_grader
    from polaris_rollout.temperature.measure import DiversityMeasure, ModelProbe, read_probe_problems
    from polaris_rollout.temperature.search import find_exploration_start

    problems = read_probe_problems(held_out, suffix=SUFFIX, num_problems=64, seed=0)
    params = SamplingParams(max_tokens=64)
    held, zones = 0, 0
    with VllmSampler("tiny", context=512) as sampler, open_grader("polaris") as grade_many:

        def probe(seed, folder, num_tokens=None):
            return ModelProbe(
                problems,
                sampler,
                grade_many,
                folder=folder,
                params=replace(params, seed=seed),
                measure=DiversityMeasure(name="expected", num_samples=4, num_tokens=num_tokens),
                settings={},
            )

        for seed in range(10):
            searched = probe(seed, tmp_path / str(seed))
            run = ProbeRun(searched.measure, num_problems=64, batch=4, max_answers=40, bounds=(0.2, 2.0))
            choice = find_exploration_start(run, seed=seed)
            fresh = probe(1000 + seed, tmp_path / f"fresh-{seed}", searched.num_tokens)
            again = fresh.measure(choice.temperature, 8, range(64)).diversity.mean()
            held += choice.diversity.low <= again <= choice.diversity.high
            zones += choice.collapse is not None and choice.exploration.value < choice.collapse.value
            with capsys.disabled():
                print(
                    f"\nseed {seed}: temperature {choice.temperature:.2f}, diversity {choice.diversity.value:.3f} "
                    f"[{choice.diversity.low:.3f}, {choice.diversity.high:.3f}], again {again:.3f}; exploration "
                    f"{choice.exploration.value:.2f}, collapse {choice.collapse and round(choice.collapse.value, 2)}"
                )
    assert held >= 9
    assert zones == 10


def test_the_simulation_of_the_search_runs(shared_data):
    """Its table takes a quarter of an hour; here is one trial of each kind, whose outcome is known."""
    path = Path(__file__).parent / "bench" / "temperature.py"
    spec = importlib.util.spec_from_file_location("bench_temperature", path)
    bench = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = bench
    spec.loader.exec_module(bench)
    curve = bench.curves()["Qwen3-4B"]
    assert curve.temperature_of(0.63) == pytest.approx(1.4, abs=0.001)
    for world in (bench.World(), bench.World(centred=False, truncated=0.5, on_hard=True, pool=105, base=15)):
        trial = bench.search(curve, world, 0.63, seed=1)
        assert trial.choice is not None
        assert trial.choice.temperature == pytest.approx(1.4, abs=0.1)
        assert trial.choice.interval.low < 1.4 < trial.choice.interval.high
        assert trial.num_warnings == (world.truncated > 0)
    measured = bench.Model(curve, bench.World(truncated=0.5, on_hard=True), seed=1).measure(0.6, 200, range(30))
    assert measured.truncated.mean() == pytest.approx(0.5, abs=0.05)
    assert np.all(measured.accuracy <= 1 - measured.truncated)
