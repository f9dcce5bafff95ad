"""``kill -9`` during profiling and evaluation: the same command finishes, sampling nothing twice."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from polaris_rollout.store import read_store

STORE = "out/profile.rollouts"
PROFILE = ["polaris-data", "profile", "synthetic", "--limit", "120", "--seed", "4", "--out", "out/profile.jsonl"]
EVAL = [
    "polaris-eval", "run", "synthetic:held-out", "more.jsonl", "--limit", "60", "--samples", "8", "--no-canary",
    "--out", "out",
]  # fmt: skip
EVALUATED = ("synthetic-held-out", "more")


def lines(path):
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def start(arguments, folder):
    executable = str(Path(sys.executable).with_name(arguments[0]))
    return subprocess.Popen([executable, *arguments[1:]], cwd=folder, stderr=subprocess.DEVNULL)


def kill_when(process, ready):
    while not ready():
        assert process.poll() is None, "finished before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


def require_same_files(broken, whole):
    for path in whole.rglob("*"):
        # Groups are stored in the order in which they finish, which a kill changes.
        if path.is_file() and path.suffix != ".parquet":
            assert (broken / path.relative_to(whole)).read_bytes() == path.read_bytes(), path
    assert {p.relative_to(broken) for p in broken.rglob("*")} == {p.relative_to(whole) for p in whole.rglob("*")}


@pytest.mark.slow
def test_a_killed_profile_continues_where_it_was(command, tmp_path):
    result = "out/profile.jsonl"
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    broken.mkdir(), whole.mkdir()
    partial = broken / f"{result}.partial"
    kill_when(start(PROFILE, broken), lambda: len(lines(partial)) >= 20)
    with partial.open("ab") as file:
        file.write(b'{"problem_id": "cut sh')  # a line that the kill cut short
    finished_before = [line for line in lines(partial) if line.endswith(b"\n")]
    done = command(*PROFILE, cwd=broken)
    assert done.returncode == 0, done.stderr
    assert set(finished_before) <= set(lines(broken / result))
    done = command(*PROFILE, cwd=whole)
    assert done.returncode == 0, done.stderr
    require_same_files(broken, whole)
    stored, expected = ({each.problem_id: each for each in read_store(folder / STORE)} for folder in (broken, whole))
    assert stored == expected and len(stored) == 120
    ids = [json.loads(line)["problem_id"] for line in lines(broken / result)]
    assert len(ids) == len(set(ids)) == 120


@pytest.mark.slow
def test_an_evaluation_killed_three_times_ends_with_the_same_bytes(command, tmp_path):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    for folder in (broken, whole):
        folder.mkdir()
        rows = [{"id": f"p{n}", "problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(40)]
        (folder / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    partials = [broken / "out" / name / "completions.jsonl.partial" for name in EVALUATED]

    def num_finished():
        return sum(len(lines(partial)) for partial in partials)

    for _ in range(3):
        wanted = num_finished() + 60
        kill_when(start(EVAL, broken), lambda wanted=wanted: num_finished() >= wanted)
        with partials[0].open("ab") as file:
            file.write(b'{"problem_id": "cut sh')  # a line that the kill cut short
    kept = [json.loads(line) for path in partials for line in lines(path) if line.endswith(b"\n")]
    for folder in (broken, whole):
        done = command(*EVAL, cwd=folder)
        assert done.returncode == 0, done.stderr
    require_same_files(broken, whole)
    records = [json.loads(line) for name in EVALUATED for line in lines(broken / "out" / name / "completions.jsonl")]
    assert [len(record["completions"]) for record in records] == [8] * 100
    by_id = {record["problem_id"]: record["completions"] for record in records}
    assert len(kept) >= 180
    for each in kept:
        assert each["completion"].items() <= by_id[each["problem_id"]][each["sample"]].items()
