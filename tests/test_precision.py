"""The tiny model learns in half precision what it learns in float32."""

import json
import math

import pytest
from polaris_data import synthetic_problems, write_problems

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

STEPS = 24


@pytest.fixture(scope="module")
def runs(tmp_path_factory, command):
    """The same stage in three precisions; the engine is a CPU's, in float32, each time."""
    folder = tmp_path_factory.mktemp("precisions")
    write_problems(folder / "problems.jsonl", synthetic_problems(96, seed=4, split="train"))
    records = {}
    for precision in ("float32", "bfloat16", "float16"):
        done = command(
            "polaris-train", "stage", "tiny-cpu", "stage-1", "--out", precision, "--problems", "problems.jsonl",
            "--set", f"stages.0.steps={STEPS}", "--set", f"precision={precision}", "--set", "stages.0.temperature=1",
            "--set", "evaluate_every=0",
            cwd=folder, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        lines = (folder / precision / "stage-1" / "metrics.jsonl").read_text().splitlines()
        records[precision] = [json.loads(line) for line in lines]
        print(precision, [round(record["reward"], 3) for record in records[precision]])
    return records


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_trains_as_float32_does_up_to_noise(runs, precision):
    exact, rounded = runs["float32"], runs[precision]
    assert not any(record["skipped_updates"] for record in rounded[5:])  # float16 finds its scale at first

    def late(records):
        rewards = [record["reward"] for record in records[-10:]]
        mean = sum(rewards) / 10
        return mean, sum((reward - mean) ** 2 for reward in rewards) / 9 / 10

    (mean, variance), (other, other_variance) = late(exact), late(rounded)
    early = sum(record["reward"] for record in rounded[:4]) / 4
    assert other > early
    assert abs(other - mean) < 3 * math.sqrt(variance + other_variance)


def test_half_precision_disagrees_with_the_engine_by_its_rounding_only(runs):
    gaps = {precision: max(record["prob_gap_mean"] for record in records) for precision, records in runs.items()}
    assert gaps["float32"] < 1e-5
    assert gaps["float32"] < gaps["float16"] < 2e-3
    assert gaps["float16"] < gaps["bfloat16"] < 2e-2
