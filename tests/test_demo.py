"""The demo, as the README promises it."""

import json

import pytest


@pytest.mark.slow
def test_the_demo_improves_the_tiny_model_beyond_doubt(command, tmp_path):
    done = command("polaris", "demo", "--out", "demo", cwd=tmp_path, timeout=1200)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert summary["difference"]["value"] >= 0.10
    assert summary["difference"]["interval"][0] > 0
    before, after = summary["before"], summary["after"]
    assert summary["difference"]["value"] == pytest.approx(after["value"] - before["value"])
    assert summary["sampled_tokens"] > 0
    again = command("polaris", "demo", "--out", "demo", cwd=tmp_path, timeout=300)
    assert again.returncode == 0, again.stderr
    repeated = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert {**repeated, "seconds": 0} == {**summary, "seconds": 0}
