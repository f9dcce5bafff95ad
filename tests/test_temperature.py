"""The temperature search on the embedded model with the real engine and grader."""

import json
from dataclasses import replace

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
    from polaris_rollout.temperature.measure import ModelProbe, read_probe_problems
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
                batch=4,
                num_tokens=num_tokens,
                settings={},
            )

        for seed in range(10):
            searched = probe(seed, tmp_path / str(seed))
            run = ProbeRun(searched.measure, batch=4, max_answers=40, lowest=0.2)
            choice = find_exploration_start(run, seed=seed)
            fresh = probe(1000 + seed, tmp_path / f"fresh-{seed}", searched.num_tokens)
            again = fresh.measure(choice.temperature, 8).diversity.mean()
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
