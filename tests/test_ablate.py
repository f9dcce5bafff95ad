"""`polaris ablate` as a user runs it: two arms of two stages, two seeds, killed on the way."""

import hashlib
import json
import signal
import subprocess
import sys
import time

import pytest

POLARIS = [sys.executable, "-m", "polaris_train.cli.polaris"]

RECIPE = """
model = "tiny"
problems = "synthetic"
limit = 60
prompts_per_step = 4
max_prompt_tokens = 128
learning_rate = 3e-4
held_out = 16
data = {decontaminate = [], profile_samples = 2}
evaluation = {benchmarks = ["synthetic:held-out"], limit = 8, samples = 2, temperature = 1.0, yarn_context = 0}

[[stages]]
name = "short"
context = 192
temperature = 1.1
steps = 2

[[stages]]
name = "long"
context = 256
temperature = 1.2
steps = 2
"""


def digests(folder):
    names = ("metrics.jsonl", "model.safetensors", "profile.jsonl", "decisions.json")
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for name in names
        for path in folder.rglob(name)
        if "checkpoints" not in path.parts
    }


@pytest.mark.slow
def test_arms_sample_equal_tokens_are_compared_by_seed_and_continue_after_a_kill(tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE)
    words = [*POLARIS, "ablate", "mine.toml", "--arms", "dropping", "--seeds", "2", "--out", "ablation"]
    out = tmp_path / "ablation"
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.DEVNULL) as first:
        second_stage = out / "dropping" / "seed-0" / "long" / "metrics.jsonl"
        while first.poll() is None and not second_stage.exists():
            time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
    assert not (out / "ablation.json").exists()
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    assert "+ dynamic dropping" in done.stdout

    content = json.loads((out / "ablation.json").read_text())
    assert content["seeds"] == [0, 1]
    rows = {row["arm"]: row for row in content["benchmarks"]["synthetic-held-out"]}
    assert list(rows) == ["dropping", "full"]
    assert rows["full"]["before"] == "dropping" and len(rows["full"]["to_before"]["by_seed"]) == 2
    for run in content["runs"]:
        metrics = [
            json.loads(line)["sampled_tokens"]
            for path in (out / run["arm"] / f"seed-{run['seed']}").glob("*/metrics.jsonl")
            for line in path.read_text().splitlines()
        ]
        assert sum(run["tokens"]["training"].values()) == sum(metrics)
        assert 0 <= run["tokens"]["to_budget"] * run["tokens"]["total"] < 2 * max(metrics)  # the last step passes it

    before = {path: path.stat().st_mtime_ns for path in out.glob("*/seed-*/**/*.json*")}
    again = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0
    assert done.stdout.endswith(again.stdout)  # before the table it has what the commands of the runs say
    changed = {path.name for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert changed <= {"recipe.json", "controller.json"}

    # What it did is what a person types: the commands that it printed, for a run that was not killed.
    printed = [line for line in again.stderr.splitlines() if line.startswith("$ polaris run ")]
    (run,) = (line for line in printed if "dropping/seed-0" in line)
    typed = run.replace("ablation/dropping/seed-0", "typed").removeprefix("$ polaris ").split()
    assert subprocess.run([*POLARIS, *typed], cwd=tmp_path, capture_output=True, timeout=3000).returncode == 0
    assert digests(tmp_path / "typed") == digests(out / "dropping" / "seed-0")
