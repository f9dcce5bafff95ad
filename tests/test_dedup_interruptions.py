"""``kill -9`` at any moment of dedup and decontaminate: the same command then writes the same files."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARK = "A farmer counts {n} red hens and ${n}^2$ white geese on the way to a market. How many birds are there?"
NUM_PROBLEMS = 1_500


def write_problems(path, rows):
    text = (json.dumps({"id": name, "problem": question, "answer": "1"}) + "\n" for name, question in rows)
    path.write_text("".join(text), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_problems(folder / "bench.jsonl", [(f"b{n}", BENCHMARK.format(n=n)) for n in range(20)])
    questions = [
        BENCHMARK.format(n=n % 500).replace("are there", "are there" if n % 3 else "walk") for n in range(NUM_PROBLEMS)
    ]
    write_problems(folder / "train.jsonl", [(f"t{n}", question) for n, question in enumerate(questions)])
    return folder


COMMANDS = {
    "dedup": ["dedup", "train.jsonl", "--out", "out"],
    "decontaminate": ["decontaminate", "train.jsonl", "--against", "bench.jsonl", "--out", "out"],
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_killed_run_leaves_no_wrong_file_and_can_be_repeated(name, processes, data, command, tmp_path):
    executable = str(Path(sys.executable).with_name("polaris-data"))
    arguments = [str(data / each) if each.endswith(".jsonl") else each for each in COMMANDS[name]]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    started = time.monotonic()
    done = command("polaris-data", *arguments, "--processes", processes, cwd=whole)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    for share in (0.5, 0.8, 0.95):
        process = subprocess.Popen(
            [executable, *arguments, "--processes", processes],
            cwd=broken,
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            process.wait(share * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        for path in (broken / "out").glob("*.json*"):  # whatever has its name is whole
            assert (
                path.suffix == ".lock"
                or path.suffix == ".tmp"
                or path.read_bytes() == (whole / path.relative_to(broken)).read_bytes()
            )
    done = command("polaris-data", *arguments, "--processes", processes, cwd=broken)
    assert done.returncode == 0, done.stderr
    names = {path.relative_to(whole) for path in whole.rglob("*")}
    assert {path.relative_to(broken) for path in broken.rglob("*")} == names
    assert all((broken / path).read_bytes() == (whole / path).read_bytes() for path in names if path.suffix)
