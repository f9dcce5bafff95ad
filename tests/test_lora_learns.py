"""The tiny model learns with adapters what it learns with all its weights, in as many steps."""

import json
import math

import pytest
from polaris_data import synthetic_problems, write_problems

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

STEPS, LATE = 24, 10
WAYS = {"full": [], "lora": ["lora.rank=64", "learning_rate=6e-4"]}
"""Adapters take a higher rate: here twice that of the recipe; ten times as high learns faster, and then unlearns."""


def test_adapters_train_the_tiny_model_as_all_weights_do_up_to_noise(tmp_path, command):
    write_problems(tmp_path / "problems.jsonl", synthetic_problems(96, seed=4, split="train"))
    rewards = {}
    for name, overrides in WAYS.items():
        done = command(
            "polaris-train", "stage", "tiny-cpu", "stage-1", "--out", name, "--problems", "problems.jsonl",
            *(part for each in overrides for part in ("--set", each)),
            "--set", f"stages.0.steps={STEPS}", "--set", "stages.0.temperature=1", "--set", "evaluate_every=0",
            cwd=tmp_path, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = (tmp_path / name / "stage-1" / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert max(record["prob_gap_mean"] for record in records) < 1e-4  # the engine has the adapters
        rewards[name] = [record["reward"] for record in records]
        print(name, [round(reward, 3) for reward in rewards[name]])

    def late(name):
        values = rewards[name][-LATE:]
        mean = sum(values) / LATE
        return mean, sum((value - mean) ** 2 for value in values) / (LATE - 1) / LATE

    (full, variance), (lora, other_variance) = late("full"), late("lora")
    assert lora > sum(rewards["lora"][:4]) / 4 + 2 * math.sqrt(other_variance)
    assert abs(lora - full) < 3 * math.sqrt(variance + other_variance)
