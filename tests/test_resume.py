"""``kill -9`` at random moments of a stage with rescue: it continues to the same numbers, bit for bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from polaris_data import Difficulty, read_problems, synthetic_problems, write_problems
from polaris_data.profile import write_profile
from polaris_train.embedded import tiny_model
from polaris_train.recipe import load_recipe
from polaris_train.run_folder import RunFolder
from polaris_train.stage import prepare_stage
from safetensors.torch import load_file, save_file

CHECKPOINT_EVERY = 3
NUM_PROBLEMS = 8
NUM_HELD_OUT = 6
EVALUATE_SAMPLES = 16
PROMPTS_PER_STEP = 2
STEPS_PER_EPOCH = NUM_PROBLEMS // PROMPTS_PER_STEP

SETTINGS = [
    f"prompts_per_step={PROMPTS_PER_STEP}", "samples_per_prompt=4", "max_prompt_tokens=160", "stages.0.context=256",
    "stages.0.temperature=1", "rescue_max_age=20", "learning_rate=1e-3", f"checkpoint_every={CHECKPOINT_EVERY}",
    "evaluate_every=4", f"held_out={NUM_HELD_OUT}", f"evaluate_samples={EVALUATE_SAMPLES}",
]  # fmt: skip

NURSERY = """
import os
import sys

from polaris_rollout.engines import VllmSampler  # imported once: workers are forked with it
from polaris_train.stage import worker

for folder in map(str.strip, sys.stdin):
    child = os.fork()
    if child == 0:
        sys.argv = ["worker", folder]
        worker.main()
        sys.exit()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Starts the ranks of this test: a child that is there at once instead of after the seconds that imports take."""


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start a worker on a stage's folder; return its process id and a function that waits for its exit code."""
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    said = tmp_path_factory.mktemp("said") / "stderr"
    with (
        said.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=os.environ | ranks | {"OMP_NUM_THREADS": "1"},
        ) as nursery,
    ):  # fmt: skip

        def begin(folder):
            nursery.stdin.write(f"{folder}\n")
            nursery.stdin.flush()
            return int(nursery.stdout.readline()), lambda: int(nursery.stdout.readline())

        begin.said = said
        yield begin
        nursery.stdin.close()


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "problems.jsonl"
    write_problems(path, synthetic_problems(NUM_PROBLEMS + NUM_HELD_OUT, seed=3, split="train", levels=(2, 3, 4)))
    return path


def prepare(run, problems, *, steps, extra=()):
    recipe = load_recipe("tiny-cpu", [*SETTINGS, f"stages.0.steps={steps}", *extra])
    return prepare_stage(recipe, recipe.stages[0], run, problems=str(problems))


def is_running(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, pid):
    """Return whether a condition came true while the worker ran."""
    while not condition():
        if not is_running(pid):
            return False
        time.sleep(0.002)
    return True


def kill_somewhere(start, folder, target, last, draw):
    """Start the worker and kill it around a step, some of the times while a checkpoint is being written."""
    pid, wait = start(folder)
    checkpointed = min(-(-target // CHECKPOINT_EVERY) * CHECKPOINT_EVERY, last)
    checkpoint = folder / "checkpoints" / f"step-{checkpointed:06d}"
    if draw.random() < 0.4 and not checkpoint.exists():
        reached = wait_for(checkpoint.with_name(f"{checkpoint.name}.partial").exists, pid)
        time.sleep(draw.uniform(0, 0.05))
    else:
        reached = wait_for((folder / "rollouts" / f"step-{target:06d}.parquet").exists, pid)
        time.sleep(draw.uniform(0, 2.0))
    half_written = any((folder / "checkpoints").glob("*.partial"))
    os.kill(pid, signal.SIGKILL)
    code = wait()
    assert reached and code == -signal.SIGKILL, start.said.read_text()
    return half_written


def kill_while_evaluating(start, folder, step):
    """Start the worker and kill it when some answers of an evaluation are on disk; return them."""
    pid, wait = start(folder)
    answers = folder / "eval" / f"step-{step:06d}" / "held-out" / "completions.jsonl.partial"
    before = answers.stat().st_size if answers.exists() else 0
    reached = wait_for(lambda: answers.exists() and answers.stat().st_size > before, pid)
    os.kill(pid, signal.SIGKILL)
    assert reached and wait() == -signal.SIGKILL, start.said.read_text()
    return answers.read_bytes()


def drill(start, problems, place, *, steps, kills, seed, extra=(), also=()):
    whole, killed = place / "whole" / "run", place / "killed" / "run"
    for run in (whole, killed):
        run.mkdir(parents=True, exist_ok=True)
    folder = prepare(whole, problems, steps=steps, extra=extra)
    _, wait = start(folder)
    assert wait() == 0, start.said.read_text()
    whole = folder
    folder = prepare(killed, problems, steps=steps, extra=extra)
    draw = random.Random(seed)
    sampled, half_written = {}, 0
    interrupted = kill_while_evaluating(start, folder, 0)
    assert 0 < interrupted.count(b"\n") < NUM_HELD_OUT * EVALUATE_SAMPLES
    print("answers on disk at the kill:", interrupted.count(b"\n"))
    for target in sorted(draw.sample(range(1, steps), kills)):
        half_written += kill_somewhere(start, folder, target, steps, draw)
        for path in (folder / "rollouts").glob("*.parquet"):
            assert sampled.setdefault(path.name, path.stat().st_mtime_ns) == path.stat().st_mtime_ns
    _, wait = start(folder)
    assert wait() == 0, start.said.read_text()
    evaluated = [path.relative_to(whole) for path in whole.glob("eval/**/*") if path.is_file()]
    assert len(evaluated) == 1 + 3 * len({*range(0, steps, 4), steps})
    for name in map(str, evaluated):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    for name in ("metrics.jsonl", "visits.jsonl", "model/model.safetensors", "model/trained.json", *also):
        found = [next(each.glob(name.replace("model.", "model*."))) for each in (whole, folder)]
        assert found[0].read_bytes() == found[1].read_bytes(), name
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, steps + 1)) and steps > STEPS_PER_EPOCH
    assert any(record["num_tokens"] for record in records)
    assert not [path for path in folder.rglob("*") if path.name.endswith((".tmp", ".partial", ".new", ".damaged"))]
    assert start.said.read_text().count("continuing after step") >= 1
    return records, half_written


def test_a_killed_stage_continues_to_the_same_numbers(start, problems, tmp_path):
    drill(start, problems, tmp_path, steps=8, kills=3, seed=0)


@pytest.mark.slow
def test_a_killed_stage_with_core_remembers_what_right_answers_agree_on(start, problems, tmp_path, underlining):
    """So few answers a step would soon teach this model to say nothing at the rate of the other drills."""
    extra = [f"model={underlining}", "core.min_count=1", "samples_per_prompt=8", "learning_rate=3e-5"]
    records, _ = drill(start, problems, tmp_path, steps=6, kills=2, seed=2, extra=extra, also=["consensus.json"])
    assert any(each["process_share"] for each in records)
    assert json.loads((tmp_path / "killed/run/stage-1/consensus.json").read_text())


@pytest.mark.slow
def test_a_killed_stage_with_a_teacher_continues_to_the_same_numbers(start, problems, tmp_path):
    """The teacher is the model itself, half as sure of everything."""
    teacher = shutil.copytree(tiny_model(), tmp_path / "teacher")
    weights = load_file(teacher / "model.safetensors")
    weights["model.norm.weight"] *= 0.5
    save_file(weights, teacher / "model.safetensors", metadata={"format": "pt"})
    extra = [f"distillation.teacher={teacher}", "distillation.reward=0.5"]
    records, _ = drill(start, problems, tmp_path, steps=8, kills=3, seed=3, extra=extra)
    assert all(each["reverse_kl"] for each in records)


@pytest.mark.slow
def test_a_killed_stage_with_hints_refill_and_revisits_continues_to_the_same_numbers(start, problems, tmp_path):
    """Which problems a step has depends on how those before it went, which the resumed stage reads of its log."""
    below = 0.75
    every = read_problems(str(problems))
    for name in ("whole", "killed"):
        profile = RunFolder(tmp_path / name / "run").profile
        profile.parent.mkdir(parents=True)
        # Every second one was never solved.
        counts = {each.problem_id: place % 2 for place, each in enumerate(every)}
        write_profile(
            profile,
            [
                Difficulty(problem_id=key, num_samples=8, num_correct=right, num_truncated=0, mean_tokens=None)
                for key, right in counts.items()
            ],
        )
    extra = ["max_prompt_tokens=192", "stages.0.context=288", "stages.0.hint_share=0.75", "stages.0.refill_below=1"]
    extra += [f"stages.0.revisit_below={below}"]
    records, _ = drill(start, problems, tmp_path, steps=10, kills=4, seed=5, extra=extra)
    (log,) = (tmp_path / "whole").rglob("visits.jsonl")
    steps = {}
    for visit in map(json.loads, log.read_text().splitlines()):
        steps.setdefault(visit["step"], []).append(visit)
    assert any(record["refilled_groups"] for record in records)
    hinted = {each["problem_id"] for own in steps.values() for each in own if each.get("hinted")}
    assert hinted and not any(counts[each] for each in hinted)
    seen = {}
    for step in range(1, STEPS_PER_EPOCH + 1):
        for each in steps[step]:
            right, total = seen.get(each["problem_id"], (0, 0))
            seen[each["problem_id"]] = right + each["num_correct"], total + each["num_samples"]
    hard = {key for key, (right, total) in seen.items() if right < below * total}
    assert len(hard) >= PROMPTS_PER_STEP
    again = [
        each["problem_id"] for step in range(5, 5 + len(hard) // PROMPTS_PER_STEP) for each in planned(steps[step])
    ]
    assert len(set(again)) == len(again) and set(again) <= hard


def planned(visits):
    """Return those of a step that are no refill."""
    return visits[:PROMPTS_PER_STEP]


@pytest.mark.slow
def test_a_killed_stage_ends_by_its_rule_where_it_would_have_ended(start, problems, tmp_path):
    """With room for 12 tokens some answers are cut short: it ends with its tenth step, between two evaluations."""
    limits = ["stages.0.context=172", "stages.0.truncation_limit=0.02", "learning_rate=1e-6"]
    whole, killed = (prepare(tmp_path / name / "run", problems, steps=14, extra=limits) for name in ("whole", "killed"))
    _, wait = start(whole)
    assert wait() == 0, start.said.read_text()
    for reached in ("rollouts/step-000005.parquet", "eval/step-000010/held-out/completions.jsonl.partial"):
        pid, wait = start(killed)
        assert wait_for((killed / reached).exists, pid), start.said.read_text()
        os.kill(pid, signal.SIGKILL)
        assert wait() == -signal.SIGKILL
        assert not (killed / "outcome.json").exists()
    _, wait = start(killed)
    assert wait() == 0, start.said.read_text()
    outcome = json.loads((whole / "outcome.json").read_text())
    assert (outcome["stopped"]["reason"], outcome["stopped"]["step"]) == ("truncation", 10)
    assert [each["step"] for each in outcome["chosen"]["evidence"]["held_out"]] == [0, 4, 8, 10]
    model = [f"model/{path.name}" for path in whole.glob("model/*")]
    for name in ("outcome.json", "metrics.jsonl", "visits.jsonl", *model):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_in_thirty_steps_change_nothing(start, problems, tmp_path, capsys):
    started = time.monotonic()
    records, half_written = drill(start, problems, tmp_path, steps=30, kills=20, seed=1)
    rescued = sum(record["rescued_groups"] for record in records)
    with capsys.disabled():
        print(
            f"\n20 kills in {time.monotonic() - started:.0f} s; {half_written} while a checkpoint was being written; "
            f"{rescued} groups were rescued"
        )
    assert half_written and rescued
