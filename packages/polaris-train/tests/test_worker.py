"""A stage's worker on made-up rollouts, which need no engine: memory runs out, numbers stop being finite."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from polaris_data.problems.reading import read_problems, write_problems
from polaris_data.problems.synthetic import synthetic_problems
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store.folder import write_groups
from polaris_train.embedded import tiny_model
from polaris_train.recipe import load_recipe
from polaris_train.run_folder import StageFolder
from polaris_train.stage.launch import prepare_stage, run_stage
from polaris_train.stage.rollouts import draw_problems
from safetensors.torch import load_file, save_file

SAMPLES, TOKENS = 4, 600


def rollout(folder, *, step, seed=0):
    """Store two groups of which every other answer is right."""
    problems = draw_problems(read_problems(folder / "problems.jsonl"), step=step, num_problems=2, seed=seed)
    completions = tuple(
        Completion(token_ids=(40 + index,) * TOKENS, logprobs=(-3.0,) * TOKENS, text="", finish_reason="stop")
        for index in range(SAMPLES)
    )
    groups = [
        Group(problem_id=problem.problem_id, prompt_token_ids=(1, 2, 3), completions=completions)
        for problem in problems
    ]
    columns = {"outcome": ["correct", "incorrect"] * SAMPLES, "answer": [None] * 2 * SAMPLES}
    write_groups(folder / "rollouts" / f"step-{step:06d}.parquet", groups, SamplingParams(), columns=columns)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Prepare a stage whose steps are all sampled already."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_problems(tmp_path / "problems.jsonl", synthetic_problems(8, seed=1, split="train", levels=(1,)))

    def prepare(name, *, steps, model=None, **settings):
        values = {"prompts_per_step": 2, "samples_per_prompt": SAMPLES, "stages.0.context": 1024}
        values |= {"stages.0.temperature": 1, "evaluate_every": 0, **settings}
        recipe = load_recipe("tiny-cpu", [f"{key}={value}" for key, value in values.items()])
        recipe = recipe.model_copy(update={"stages": (recipe.stages[0].model_copy(update={"steps": steps}),)})
        problems = str(tmp_path / "problems.jsonl")
        folder = prepare_stage(recipe, recipe.stages[0], tmp_path / name, model=model, problems=problems)
        (folder / "rollouts").mkdir(exist_ok=True)
        for step in range(1, steps + 1):
            rollout(folder, step=step)
        return folder

    return prepare


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


SCARCE = """
import sys

if "polaris_train.stage.worker" in sys.orig_argv:
    import os
    import resource
    from pathlib import Path

    import torch

    from polaris_train.stage import worker  # what it needs is there before memory is scarce, autograd's threads too

    torch.ones(1, requires_grad=True).sum().backward()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + int(os.environ["ROOM_MIB"]) * 2**20, resource.RLIM_INFINITY))
"""
"""Read by every Python that starts: limits the memory of a worker beyond its program."""


@pytest.mark.slow
def test_a_stage_that_runs_out_of_memory_continues_with_smaller_micro_batches(stage, tmp_path, monkeypatch, capfd):
    plenty = stage("plenty", steps=2, microbatch_tokens=6000)
    assert run_stage(plenty) == 0
    assert not (plenty / "memory.json").exists()
    scarce = stage("scarce", steps=2, microbatch_tokens=6000)
    (tmp_path / "sitecustomize.py").write_text(SCARCE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ROOM_MIB", "450")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert run_stage(scarce) == 0
    allowed = json.loads((scarce / "memory.json").read_text())["microbatch_tokens"]
    assert allowed < 6000
    assert "out of memory with micro-batches of at most 6000 tokens" in capfd.readouterr().err
    for ours, theirs in zip(metrics(scarce), metrics(plenty), strict=True):
        assert ours["num_tokens"] == theirs["num_tokens"] == 2 * SAMPLES * TOKENS
        assert theirs["grad_norm"] > 1e-3
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


@pytest.fixture
def poisoned(tmp_path):
    """A model whose logits overflow."""
    poisoned = tmp_path / "poisoned"
    poisoned.mkdir()
    for path in tiny_model().iterdir():
        (poisoned / path.name).write_bytes(path.read_bytes())
    weights = load_file(poisoned / "model.safetensors")
    name = next(name for name in weights if name.endswith("embed_tokens.weight"))
    save_file(weights | {name: weights[name] * 1e38}, poisoned / "model.safetensors", metadata={"format": "pt"})
    return str(poisoned)


def test_a_stage_whose_numbers_are_not_finite_stops_and_loses_nothing(stage, poisoned, capfd):
    folder = stage("run", steps=6, model=poisoned, max_skipped_steps=1, checkpoint_every=1)
    rollouts = {path: path.read_bytes() for path in (folder / "rollouts").iterdir()}
    assert run_stage(folder) == 2
    said = capfd.readouterr().err
    assert "error: step 2: loss or gradient was not finite in 2 steps in a row" in said and "Traceback" not in said
    assert [(each["step"], each["skipped_updates"], each["loss"], each["grad_norm"]) for each in metrics(folder)] == [
        (1, 1, None, None), (2, 1, None, None),
    ]  # fmt: skip
    assert all("not finite" in " ".join(each["alarms"]) for each in metrics(folder))
    assert {path: path.read_bytes() for path in (folder / "rollouts").iterdir()} == rollouts
    assert StageFolder(folder).checkpoints.steps() == [1] and not (folder / "model").exists()
    assert run_stage(folder) == 2  # continues after step 1, and finds the same
    assert len(metrics(folder)) == 2


def test_the_exit_code_of_several_ranks_is_theirs(stage, poisoned, capfd):
    folder = stage("run", steps=2, model=poisoned, max_skipped_steps=0, num_processes=2)
    assert run_stage(folder) == 2
    said = capfd.readouterr().err
    assert "error: step 1: loss or gradient was not finite" in said and "Traceback" not in said


def test_a_prepared_stage_is_trained_by_the_torchrun_line_that_is_printed(stage, tmp_path):
    folder = tmp_path / "run" / "stage-1"
    options = ["prompts_per_step=2", f"samples_per_prompt={SAMPLES}", "stages.0.context=1024", "stages.0.steps=2"]
    options += ["num_processes=2", "evaluate_every=0", "stages.0.temperature=1"]
    settings = [part for option in options for part in ("--set", option)]
    command = [
        "stage",
        "tiny-cpu",
        "stage-1",
        "--prepare-only",
        "--problems",
        str(tmp_path / "problems.jsonl"),
        *settings,
    ]
    prepared = subprocess.run(
        [sys.executable, "-m", "polaris_train", *command, "--out", str(tmp_path / "run")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {"resolved.json", "problems.jsonl"}
    for step in (1, 2):
        rollout(folder, step=step)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        head = f"127.0.0.1:{free.getsockname()[1]}"
    binaries = str(Path(sys.executable).parent)
    nodes = {"NUM_NODES": "1", "HEAD": head, "PATH": f"{binaries}:{os.environ['PATH']}"}
    line = prepared.stdout.splitlines()[-1]
    done = subprocess.run(line, shell=True, env=os.environ | nodes, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--nproc-per-node 2" in line and len(metrics(folder)) == 2
    assert (folder / "model" / "trained.json").exists()
