"""The demo, as the README promises it."""

import pytest
from polaris_eval.scores import compare_scores, read_scores


@pytest.mark.slow
def test_the_demo_improves_the_tiny_model_beyond_doubt(command, tmp_path):
    done = command("polaris", "demo", "--out", "demo", cwd=tmp_path, timeout=3000)
    assert done.returncode == 0, done.stderr
    before, after = (read_scores(tmp_path / "demo" / "eval" / name) for name in ("start", "final"))
    (compared,) = compare_scores(before, after)
    print(f"\n{100 * compared.before:.1f} -> {100 * compared.after:.1f}, difference {compared.difference}")
    assert compared.difference.value >= 0.20
    assert compared.difference.interval[0] > 0
    assert (tmp_path / "demo" / "report.html").is_file()
    again = command("polaris", "demo", "--out", "demo", cwd=tmp_path, timeout=300)
    assert again.returncode == 0, again.stderr
    assert done.stdout.endswith(again.stdout)
