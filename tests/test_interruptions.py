"""``kill -9`` during profiling and evaluation: the same command finishes, sampling nothing twice."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMANDS = {
    "profile": (
        ["polaris-data", "profile", "synthetic", "--limit", "120", "--seed", "4", "--out", "out/profile.jsonl"],
        "out/profile.jsonl",
    ),
    "eval": (
        ["polaris-eval", "run", "synthetic:held-out", "--limit", "120", "--samples", "8", "--out", "out"],
        "out/synthetic-held-out/completions.jsonl",
    ),
}


def lines(path):
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_run_continues_where_it_was(name, command, tmp_path):
    arguments, result = COMMANDS[name]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    broken.mkdir(), whole.mkdir()
    executable = str(Path(sys.executable).with_name(arguments[0]))
    process = subprocess.Popen([executable, *arguments[1:]], cwd=broken, stderr=subprocess.DEVNULL)
    partial = broken / f"{result}.partial"
    while len(lines(partial)) < 20:
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with partial.open("ab") as file:
        file.write(b'{"problem_id": "cut sh')  # a line that the kill cut short
    finished_before = [line for line in lines(partial) if line.endswith(b"\n")]
    done = command(*arguments, cwd=broken)
    assert done.returncode == 0, done.stderr
    assert set(finished_before) <= set(lines(broken / result))
    done = command(*arguments, cwd=whole)
    assert done.returncode == 0, done.stderr
    for path in whole.rglob("*"):
        if path.is_file():
            assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert {p.relative_to(broken) for p in broken.rglob("*")} == {p.relative_to(whole) for p in whole.rglob("*")}
    ids = [json.loads(line)["problem_id"] for line in lines(broken / result)]
    assert len(ids) == len(set(ids)) == 120
