"""Real problems through the real engine: the tiny model solves almost none, and that is reported as such."""

import json

import pyarrow.parquet as pq
import pytest


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_profile_of_gsm8k(shared_data, command, tmp_path):
    done = command(
        "polaris-data", "profile", shared_data / "gsm8k_test.jsonl", "--limit", 64, "--max-tokens", 64, cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = read(tmp_path / "gsm8k_test.profile.jsonl")
    assert [record["problem_id"] for record in records] == [f"gsm8k-test-{i:04d}" for i in range(64)]
    assert all(0 <= record["num_correct"] <= record["num_samples"] == 8 for record in records)
    assert sum(record["num_correct"] for record in records) < 64 * 8 / 5
    assert "mean accuracy" in done.stdout


def test_evaluation_of_aime24(shared_data, command, tmp_path):
    done = command("polaris-eval", "run", shared_data / "aime24.jsonl", "--max-tokens", 64, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (scores,) = tmp_path.rglob("scores.json")
    (evaluation,) = json.loads(scores.read_text())["evaluations"]
    assert evaluation["num_problems"] == 30
    (mean,) = [score for score in evaluation["scores"] if score["metric"] == "mean@k"]
    assert 0 <= mean["interval"][0] <= mean["value"] <= mean["interval"][1] <= 1
    assert mean["value"] < 0.1
    (completions,) = tmp_path.rglob("completions.jsonl")
    assert len(read(completions)) == 30


@pytest.mark.slow
def test_two_steps_on_math_train(shared_data, command, tmp_path):
    done = command(
        "polaris-train", "stage", "tiny-cpu", "stage-1", "--out", "run",
        "--problems", shared_data / "math_train.jsonl", "--set", "limit=200",
        "--set", "stages.0.steps=2", "--set", "stages.0.temperature=1", "--set", "evaluate_every=0",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stage = tmp_path / "run" / "stage-1"
    assert "set aside" in done.stderr  # prompts longer than the recipe's 256 tokens
    assert [record["step"] for record in read(stage / "metrics.jsonl")] == [1, 2]
    assert len(read(stage / "visits.jsonl")) == 2 * 16
    rollouts = pq.read_table(stage / "rollouts" / "step-000001.parquet")
    assert rollouts.num_rows == 16 * 8
    assert any((stage / "model").glob("*.safetensors"))
