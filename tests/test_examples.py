"""The examples run as they are, without arguments, and say what they should."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

SAYS = {
    "ablation_task.py": "polaris ablate ablation-task/calibrated.toml",
    "custom_reward.py": "[0.9955, 0.54375, 0.0, None]",
    "evaluate_checkpoint.py": "tiny on synthetic-held-out: mean@8 0.",
    "grader_in_trl.py": "mean reward of each step: ",
    "other_ways_to_learn.py": "polaris ablate other-ways/other-ways.toml --tokens 400000",
    "profile_your_data.py": "of 16 problems are not always solved: selected.jsonl",
    "temperature_of_your_model.py": "temperature/temperature.json says why",
    "word_problems.py": "How many pencils does Julia have now?  ",
}

ELSEWHERE = {"real_model.py"}
"""Run by `test_real_model`."""

SLOW = {"other_ways_to_learn.py"}
"""Trains two models first."""


def test_every_example_is_run():
    assert {*SAYS, *ELSEWHERE} == {path.name for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in sorted(SAYS)]
)
def test_an_example_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
