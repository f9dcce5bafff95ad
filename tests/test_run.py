"""`polaris run` as a user runs it: to the end, killed on the way, and typed by hand."""

import hashlib
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

POLARIS = [sys.executable, "-m", "polaris_train.cli.polaris"]

SHORT = """
model = "tiny"
problems = "synthetic"
limit = 48
held_out = 8
prompts_per_step = 4
max_prompt_tokens = 256

[data]
profile_samples = 2

[[stages]]
name = "only"
context = 512
temperature = 1.0
steps = 1

[evaluation]
benchmarks = []
"""


DECIDED = [
    *("problems.jsonl", "selected.jsonl", "held-out.jsonl", "profile.jsonl", "decisions.json", "temperature.json"),
    *("metrics.jsonl", "visits.jsonl", "outcome.json", "scores.json", "step-*.parquet", "*.safetensors"),
]
"""What a run decides, measures and learns, without what depends on the clock."""


def sets(overrides):
    return [word for override in overrides for word in ("--set", override)]


def polaris(*words, cwd):
    done = subprocess.run([*POLARIS, *words], cwd=cwd, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    return done.stdout


def digests(run):
    found = {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for pattern in DECIDED
        for path in sorted(run.rglob(pattern))
        if "checkpoints" not in path.parts
    }
    assert len(found) > 20
    return found


def proofs(run):
    """Manifests of what is done."""
    return [path for path in run.glob("steps/*.json") if not path.name.endswith(".begun.json")]


def kill_after(steps, seconds, command, folder):
    """Run until so many steps are done, and so many seconds longer; then kill the whole process tree."""
    log = (folder / "log").open("a")
    process = subprocess.Popen([*POLARIS, *command], cwd=folder, stdout=log, stderr=log, start_new_session=True)
    while len(proofs(folder / "run")) < steps:
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.1)
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    print(f"killed {seconds:.1f} s after {len(proofs(folder / 'run'))} steps were done")


def test_a_short_run_goes_to_its_end_and_tells_its_reasons(tmp_path):
    (tmp_path / "short.toml").write_text(SHORT)
    command = ("run", "short.toml", "--out", "run")
    assert "report: run/report.html" in polaris(*command, cwd=tmp_path)
    run = tmp_path / "run"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.jsonl")}
    assert "report: run/report.html" in polaris(*command, cwd=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert "8 of 8 steps done, finished" in polaris("status", "run", cwd=tmp_path)
    why = polaris("why", "run", cwd=tmp_path)
    for title in ("import", "dedup", "split", "select", "only: end"):
        assert f"\n{title}\n" in f"\n{why}", title
    visited = json.loads((run / "only" / "visits.jsonl").read_text().splitlines()[0])["problem_id"]
    assert "visits.jsonl" in polaris("why", "run", visited, cwd=tmp_path)


TWO_WITH_CORE = """
[core]
min_count = 1

[data]
dedup = false
select = []
drop = ["difference above=0.95"]

[[stages]]
name = "first"
context = 384
temperature = 1.0
steps = 4

[[stages]]
name = "second"
context = 384
temperature = 1.0
steps = 1

[evaluation]
benchmarks = []
"""


@pytest.mark.slow
def test_what_right_answers_agree_on_chooses_the_problems_of_the_next_stage_and_is_known_there(tmp_path, underlining):
    (tmp_path / "core.toml").write_text(SHORT.split("[data]")[0] + TWO_WITH_CORE)
    polaris("run", "core.toml", "--out", "run", "--set", f"model={underlining}", cwd=tmp_path)
    first, second = (tmp_path / "run" / name for name in ("first", "second"))
    known = (first / "consensus.json").read_bytes()
    assert json.loads(known) and (second / "consensus-before.json").read_bytes() == known
    seen = [json.loads(line) for line in (first / "visits.jsonl").read_text().splitlines()]
    kept = {json.loads(line)["problem_id"] for line in (second / "problems.jsonl").read_text().splitlines()}
    near = {visit["problem_id"] for visit in seen if visit.get("overlap", 0) >= 0.05}
    visited = {visit["problem_id"] for visit in seen}
    assert near and visited - near and near == kept & visited
    after = json.loads((second / "consensus.json").read_text())
    assert json.loads(known).keys() <= after.keys()


@pytest.mark.slow
def test_the_first_visits_of_problems_earn_by_what_right_answers_of_the_profile_agree_on(tmp_path, underlining):
    (tmp_path / "core.toml").write_text(SHORT.split("[data]")[0] + TWO_WITH_CORE)
    options = sets([f"model={underlining}", "data.select=['drop solved=always']", "data.profile_samples=4"])
    options += sets(["prompts_per_step=24", "samples_per_prompt=4", "stages.0.steps=1"])
    polaris("run", "core.toml", "--out", "run", "--until", "second.drop", *options, cwd=tmp_path)
    run, first = tmp_path / "run", tmp_path / "run" / "first"
    known = json.loads((first / "consensus-before.json").read_text()).keys()
    solved = [json.loads(line) for line in (run / "data" / "profile.jsonl").read_text().splitlines()]
    assert known <= {each["problem_id"] for each in solved if each["num_correct"]}
    seen = [json.loads(line) for line in (first / "visits.jsonl").read_text().splitlines()]
    earning = {each["problem_id"] for each in seen if "overlap" in each}
    failed = {each["problem_id"] for each in seen if not each["num_correct"]}
    assert earning & known and failed - known and not earning & (failed - known)
    assert known <= json.loads((first / "consensus.json").read_text()).keys()


@pytest.mark.slow
def test_two_nodes_give_the_numbers_of_one_node_with_two_ranks(tmp_path):
    """Two machines are two processes on loopback, each with one rank and an engine of its own."""
    recipe = SHORT.replace("[data]", "[data]\nselect = []").replace("steps = 1", "steps = 2")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "short.toml").write_text(recipe)
    command = ("run", "short.toml", "--out", "run", "--until", "report")
    polaris(*command, "--set", "num_processes=2", cwd=tmp_path / "one")
    with socket.create_server(("127.0.0.1", 0)) as free:
        head = f"127.0.0.1:{free.getsockname()[1]}"
    nodes = [
        subprocess.Popen(
            [*POLARIS, *command, "--set", "num_processes=1"],
            cwd=tmp_path / "two",
            env=os.environ | {"PET_NNODES": "2", "PET_NODE_RANK": rank, "PET_RDZV_ENDPOINT": head},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("1", "0")
    ]
    said = [node.communicate(timeout=3000)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert "node 1 of 2: waiting for the stages of 127.0.0.1" in said[0] and "step 2/2" in "".join(said)
    one, two = (
        {path.name: path.read_bytes() for pattern in DECIDED for path in (tmp_path / name / "run/only").rglob(pattern)}
        for name in ("one", "two")
    )
    assert {"metrics.jsonl", "visits.jsonl", "step-000002.parquet"} <= one.keys() and one == two
    assert any(name.endswith(".safetensors") for name in one)


@pytest.mark.slow
def test_ten_kills_and_typing_by_hand_change_nothing(tmp_path):
    """The process tree is killed at random moments; then every planned command is typed, in a third folder."""
    overrides = [*(f"stages.{index}.steps=4" for index in range(3)), "limit=120", "held_out=24", "evaluation.limit=24"]
    overrides += ["evaluate_every=4", "temperature.num_problems=16", "temperature.answers=12"]
    for name in ("whole", "killed", "typed"):
        (tmp_path / name).mkdir()
    command = ("run", "tiny-cpu", "--out", "run", *sets(overrides))
    polaris(*command, cwd=tmp_path / "whole")
    undisturbed = digests(tmp_path / "whole" / "run")

    draw = random.Random(0)
    finished = len(proofs(tmp_path / "whole" / "run"))
    for steps in sorted(draw.choices(range(finished - 2), k=10)):
        kill_after(steps, draw.uniform(0, 25), command, tmp_path / "killed")
    polaris(*command, cwd=tmp_path / "killed")
    assert digests(tmp_path / "killed" / "run") == undisturbed

    plan = polaris("plan", "tiny-cpu", "--out", "run", *sets(overrides), cwd=tmp_path / "typed")
    lines = [line.strip().removeprefix("$ ") for line in plan.splitlines() if line.strip().startswith("$ ")]
    assert len(lines) > 10
    scripts = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for line in lines:
        subprocess.run(shlex.split(line), cwd=tmp_path / "typed", env=os.environ | scripts, check=True)
    assert digests(tmp_path / "typed" / "run") == undisturbed


@pytest.mark.slow
def test_real_problems_go_through_to_the_end(shared_data, tmp_path, monkeypatch):
    """200 problems of MATH with the tiny model, which solves next to none of them; that is then what is said."""
    monkeypatch.setenv("POLARIS_BENCHMARKS", str(shared_data))
    overrides = [
        *(f"problems={shared_data / 'math_train.jsonl'}", "limit=200", "held_out=24", "prompts_per_step=4"),
        *('data.decontaminate=["aime24", "math500"]', 'evaluation.benchmarks=["aime24"]', "evaluation.limit=8"),
        *("max_prompt_tokens=512", "evaluate_every=0", "data.profile_samples=2", "evaluation.samples=2"),
        *(f"stages.{index}.steps=1" for index in range(3)),
        *(f"stages.{index}.context={1024 + 128 * index}" for index in range(3)),
        *(f"stages.{index}.temperature=1.0" for index in range(3)),
    ]
    polaris("run", "tiny-cpu", "--out", "run", *sets(overrides), cwd=tmp_path)
    why = polaris("why", "run", cwd=tmp_path)
    print(why)
    assert "evaluate: final" in why
    assert "aime24 mean@2" in why
