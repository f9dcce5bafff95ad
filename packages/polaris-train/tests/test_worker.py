"""A stage's worker on made-up rollouts and evaluations, which need no engine.

Memory runs out, numbers stop being finite, a plateau ends the stage.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from polaris_data import Problem
from polaris_data.problems.reading import read_problems, write_problems
from polaris_data.problems.synthetic import synthetic_problems
from polaris_eval import Evaluation, ProblemResult, mean_at_k
from polaris_eval.records import Score
from polaris_eval.scores import write_scores
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store.folder import write_groups
from polaris_train.embedded import tiny_model
from polaris_train.errors import CheckpointMemoryError, PlanError, RunFolderError
from polaris_train.grpo.rescue import RescueBuffer
from polaris_train.recipe import load_recipe
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import CheckpointFolder, StageFolder, origin
from polaris_train.stage import worker
from polaris_train.stage.checksums import write_manifest
from polaris_train.stage.export import export_checkpoint, is_exported
from polaris_train.stage.launch import prepare_stage, restart_message, run_stage, shell_code
from polaris_train.stage.replay import replay_step
from polaris_train.stage.rollouts import draw_problems, drawn_by
from safetensors.torch import load_file, save_file

SAMPLES, TOKENS = 4, 600
NUM_HELD_OUT = 60


def rollout(folder, *, step, seed=0, tokens=TOKENS, finish_reason="stop"):
    """Store two groups of which every other answer is right."""
    every = read_problems(folder / "problems.jsonl")
    problems = draw_problems(every, step=step, num_problems=2, seed=seed)
    completions = tuple(
        Completion(token_ids=(40 + index,) * tokens, logprobs=(-3.0,) * tokens, text="", finish_reason=finish_reason)
        for index in range(SAMPLES)
    )
    groups = [
        Group(problem_id=problem.problem_id, prompt_token_ids=(1, 2, 3), completions=completions)
        for problem in problems
    ]
    columns = {"outcome": ["correct", "incorrect"] * SAMPLES, "answer": [None] * 2 * SAMPLES}
    stage = StageFolder(folder)
    settings = drawn_by(stage.read_resolved(), every) | {"step": step}
    write_groups(stage.rollout(step), groups, SamplingParams(), columns=columns, settings=settings)


def measured(folder, *, step, accuracy):
    """Store an evaluation of which the same share of every problem's answers is right."""
    problems = read_problems(folder / "eval" / "held-out.jsonl")
    correct = round(accuracy * 10)
    score = mean_at_k([[True] * correct + [False] * (10 - correct)] * len(problems))
    evaluation = Evaluation(
        benchmark="held-out", num_problems=len(problems), num_samples=10,
        scores=(
            Score(
                benchmark="held-out", metric="mean@k", k=10, value=score.value, interval=score.interval,
                num_problems=len(problems),
            ),
        ),
        bootstrap=score.interval, distinct_4=1.0, lengths=None, length_groups=(), budgets=(), outcomes={}, unscored=(),
        problems=tuple(
            ProblemResult(
                problem_id=each.problem_id, references=each.references, num_correct=correct, num_samples=10,
                mean_tokens=None,
            )
            for each in problems
        ),
    )  # fmt: skip
    (folder / "eval" / f"step-{step:06d}").mkdir(exist_ok=True)
    write_scores(folder / "eval" / f"step-{step:06d}", [evaluation], model="made up", protocol={})


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Prepare a stage whose steps are all sampled already."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_problems(tmp_path / "problems.jsonl", synthetic_problems(8, seed=1, split="train", levels=(1,)))
    write_problems(tmp_path / "held-out.jsonl", synthetic_problems(NUM_HELD_OUT, seed=1, split="held-out"))

    def prepare(name, *, steps, model=None, accuracies=(), tokens=TOKENS, **settings):
        values = {"prompts_per_step": 2, "samples_per_prompt": SAMPLES, "stages.0.context": 1024}
        values |= {"stages.0.temperature": 1, "evaluate_every": 0, **settings}
        recipe = load_recipe("tiny-cpu", [f"{key}={value}" for key, value in values.items()])
        recipe = recipe.model_copy(update={"stages": (recipe.stages[0].model_copy(update={"steps": steps}),)})
        problems, held_out = (str(tmp_path / file) for file in ("problems.jsonl", "held-out.jsonl"))
        run = tmp_path / name
        folder = prepare_stage(
            recipe, recipe.stages[0], run, model=model, problems=problems, held_out=held_out if accuracies else None
        )
        (folder / "rollouts").mkdir(exist_ok=True)
        for step in range(1, steps + 1):
            rollout(folder, step=step, tokens=tokens)
        for step, accuracy in enumerate(accuracies):
            measured(folder, step=step, accuracy=accuracy)
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
    monkeypatch.setenv("ROOM_MIB", "500")  # 6,000 tokens take between 550 and 600, 3,000 between 400 and 450
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # what is freed is the system's again, and counts no longer
    assert run_stage(scarce) == 0
    said = capfd.readouterr().err
    assert "out of memory with micro-batches of at most 6000 tokens: once more with 3000" in said
    assert "restart" not in said and not (scarce / "memory.json").exists()  # It went on in the same process.
    for ours, theirs in zip(metrics(scarce), metrics(plenty), strict=True):
        assert ours["num_tokens"] == theirs["num_tokens"] == 2 * SAMPLES * TOKENS
        assert theirs["grad_norm"] > 1e-3
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)


@pytest.mark.parametrize(("tokens", "allowed"), [(6000, 3000), (1500, 1024), (1024, None)])
def test_memory_that_runs_out_while_a_checkpoint_is_written_makes_micro_batches_smaller(stage, tokens, allowed):
    folder = StageFolder(stage("run", steps=1, microbatch_tokens=tokens))
    with pytest.raises(CheckpointMemoryError), worker.smaller_next_time(folder.read_resolved(), folder):
        raise CheckpointMemoryError("memory ran out")
    assert folder.read_allowed_tokens() == allowed  # an answer may have all of the context's 1024 tokens


def scaled(model, factor):
    """Write the tiny model with its embedding scaled; return its folder."""
    shutil.copytree(tiny_model(), model, dirs_exist_ok=True)
    weights = load_file(model / "model.safetensors")
    name = next(name for name in weights if name.endswith("embed_tokens.weight"))
    save_file(weights | {name: weights[name] * factor}, model / "model.safetensors", metadata={"format": "pt"})
    return str(model)


@pytest.fixture
def poisoned(tmp_path):
    """A model whose logits overflow."""
    return scaled(tmp_path / "poisoned", 1e38)


def continued(whole, folder, *, scale):
    """Continue a stage of two steps in another folder after its first, with another scale of the loss; return it."""
    for log in StageFolder(whole).logs:
        shutil.copy(log, folder / log.name)
    checkpoint = CheckpointFolder(folder / "checkpoints" / "step-000001")
    shutil.copytree(whole / "checkpoints" / "step-000001", checkpoint.path)
    said = json.loads(checkpoint.state.read_text())
    said["scaler"]["scale"] = scale
    checkpoint.state.write_text(json.dumps(said))
    write_manifest(checkpoint)
    assert run_stage(folder) == 0
    return folder


@pytest.mark.slow
def test_a_stage_whose_first_answers_are_cut_short_learns_nothing_from_them_before_the_user_says_so(stage, capfd):
    folder = stage("run", steps=1, tokens=50)
    rollout(folder, step=1, tokens=50, finish_reason="length")
    sampled = (folder / "rollouts" / "step-000001.parquet").read_bytes()
    assert run_stage(folder) == 2
    said = capfd.readouterr().err
    assert "error: 100% of the first step's 8 answers were cut short by a context of 1,024" in said
    assert "or go on all the same with --set stages.N.first_step_truncation=1" in said
    assert "restart" not in said and "Traceback" not in said
    assert not (folder / "metrics.jsonl").exists() and not StageFolder(folder).checkpoints.steps()
    assert (folder / "rollouts" / "step-000001.parquet").read_bytes() == sampled
    stage("run", steps=1, tokens=50, **{"stages.0.first_step_truncation": 1})
    (folder / "rollouts" / "step-000001.parquet").write_bytes(sampled)
    assert run_stage(folder) == 0
    (only,) = metrics(folder)
    assert only["truncated_share"] == 1.0 and only["num_tokens"] == 2 * SAMPLES * 50


@pytest.mark.slow
def test_a_step_whose_gradients_overflow_in_float16_is_learned_from_at_a_lower_scale(stage):
    settings = {"steps": 2, "precision": "float16", "checkpoint_every": 1, "max_skipped_steps": 0, "tokens": 20}
    whole = stage("whole/run", **settings)
    assert run_stage(whole) == 0
    high = continued(whole, stage("high/run", **settings), scale=2.0**32)
    found = metrics(high)[1]
    overflows = found.pop("overflows")
    assert overflows > 0
    low = continued(whole, stage("low/run", **settings), scale=2.0 ** (32 - overflows))
    assert metrics(low)[1] == found
    assert weights(low) == weights(high) != b""
    assert all(each["skipped_updates"] == 0 and "overflows" not in each for each in metrics(whole) + metrics(low))


def test_rollouts_of_other_weights_under_the_same_name_end_the_stage_and_lose_nothing(stage, tmp_path, capfd):
    folder = stage("run", steps=2, model=scaled(tmp_path / "model", 1))
    for log in ("metrics.jsonl", "visits.jsonl"):
        (folder / log).write_text('{"step": 1}\n')  # of a stage without checkpoints
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    scaled(tmp_path / "model", 1.01)
    assert run_stage(folder) == 2
    said = capfd.readouterr().err
    assert "was drawn by other weights, settings or problems: model has other content now" in said
    assert "Traceback" not in said and (folder / "rollouts").is_dir()
    assert {path: path.read_bytes() for path in before} == before


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
    assert "restart" not in said  # It would end so again.


@pytest.fixture
def two_nodes(stage, tmp_path):
    """A stage that the printed line has trained on two nodes of one rank, which are two processes on loopback."""
    settings = {"prompts_per_step": 2, "samples_per_prompt": SAMPLES, "stages.0.context": 1024, "stages.0.steps": 2}
    settings |= {"num_processes": 1, "evaluate_every": 0, "stages.0.temperature": 1}
    command = ["stage", "tiny-cpu", "stage-1", "--prepare-only", "--problems", str(tmp_path / "problems.jsonl")]
    command += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    prepared = subprocess.run(
        [sys.executable, "-m", "polaris_train", *command, "--out", str(tmp_path / "two nodes")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    folder = tmp_path / "two nodes" / "stage-1"
    assert {path.name for path in folder.iterdir()} == {"resolved.json", "problems.jsonl"}
    for step in (1, 2):
        rollout(folder, step=step)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        head = f"127.0.0.1:{free.getsockname()[1]}"
    binaries = str(Path(sys.executable).parent)
    environment = {"NUM_NODES": "2", "HEAD": head, "PATH": f"{binaries}:{os.environ['PATH']}"}
    line = prepared.stdout.splitlines()[-1]
    assert "--nproc-per-node 1 --max-restarts 3" in line
    agents = [
        subprocess.Popen(line, shell=True, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [agent.communicate(timeout=200)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    return folder


def test_a_prepared_stage_is_trained_by_the_torchrun_line_that_is_printed(two_nodes):
    assert [each["step"] for each in metrics(two_nodes)] == [1, 2] and metrics(two_nodes)[1]["grad_norm"] > 1e-3
    assert (two_nodes / "model" / "trained.json").exists()


@pytest.mark.slow
def test_two_nodes_give_the_numbers_of_one_node_with_two_ranks(two_nodes, stage):
    one_node = stage("one node", steps=2, num_processes=2)
    assert run_stage(one_node) == 0
    assert (two_nodes / "metrics.jsonl").read_bytes() == (one_node / "metrics.jsonl").read_bytes()
    assert weights(two_nodes) == weights(one_node) != b""


@pytest.mark.parametrize(("size", "threads"), [(9_999_999, "1"), (10_000_000, "7"), (None, "7")])
def test_a_small_model_computes_with_one_thread_unless_the_user_says_how_many(stage, monkeypatch, size, threads):
    """The worker is not started; what it would be started with is what counts. ``None`` is a model without a plan."""

    def shape(model):
        if size is None:
            raise PlanError(model)
        return SimpleNamespace(parameters=size)

    given = []
    monkeypatch.setattr("polaris_train.stage.launch.model_shape", shape)
    monkeypatch.setattr("polaris_train.stage.launch.openmp_environment", lambda: {"OMP_NUM_THREADS": "7", "A": "B"})
    folder = stage("started", steps=1)

    def start(command, *, env, **_):
        given.append(env)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("polaris_train.stage.launch.subprocess", SimpleNamespace(run=start))
    assert run_stage(folder) == 0
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert run_stage(folder) == 0
    assert [each["OMP_NUM_THREADS"] for each in given] == ["1", threads]  # the fixture has said 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert run_stage(folder) == 0 and given[-1]["OMP_NUM_THREADS"] == "3" and given[-1]["A"] == "B"


def test_ranks_that_share_the_tokens_of_a_step_give_the_numbers_of_one(stage):
    """With divergence from a reference, two optimizer steps, and answers of which two make three micro-batches."""
    settings = {"kl_coef": 0.1, "optimizer_steps_per_batch": 2, "record_steps": 1, "checkpoint_every": 1}
    alone = stage("alone", steps=2, microbatch_tokens=1000, **settings)
    shared = stage("shared", steps=2, microbatch_tokens=500, num_processes=2, context_parallel=2, **settings)
    assert run_stage(alone) == run_stage(shared) == 0
    for one, two in zip(metrics(alone), metrics(shared), strict=True):
        assert two["num_tokens"] == one["num_tokens"] > 0
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert two["kl"] == pytest.approx(one["kl"], abs=1e-5)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-5)
        assert two["entropy"] == pytest.approx(one["entropy"], rel=1e-5)
    assert metrics(alone)[1]["kl"] > 0
    again = replay_step(StageFolder(shared), 2)
    assert again.agrees and again.num_ranks == 2
    assert all(each.largest_gap < 1e-5 for each in again.answers)


PLATEAU = [0.5, 0.5, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
"""Accuracies after each step: best after the second, and flat from the third on."""

MEASURED = {"evaluate_every": 1, "tokens": 20}
WITH_RULE = {**MEASURED, "stages.0.plateau_window": 4, "keep_checkpoints": 1}


def outcome(folder):
    return json.loads((folder / "outcome.json").read_text())


def content(folder):
    """Everything that a stage leaves, apart from what depends on the machine."""
    paths = [*folder.glob("*.json"), folder / "metrics.jsonl", folder / "visits.jsonl", *folder.glob("model/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != "resolved.json"}


def weights(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.glob("model/*.safetensors")))


@pytest.fixture
def plateau(stage):
    return stage("whole/run", steps=12, accuracies=PLATEAU, **WITH_RULE)


def test_a_stage_ends_on_a_plateau_and_leaves_the_checkpoint_that_was_best(plateau, stage, tmp_path):
    assert run_stage(plateau) == 0
    said = outcome(plateau)
    assert (said["stopped"]["reason"], said["stopped"]["step"], said["chosen"]["step"]) == ("plateau", 7, 2)
    assert [each["step"] for each in said["chosen"]["evidence"]["held_out"]] == list(range(8))
    assert json.loads((plateau / "model" / "trained.json").read_text())["step"] == 2
    assert StageFolder(plateau).checkpoints.steps() == [2, 7] and len(metrics(plateau)) == 7
    two = stage("two/run", steps=2, accuracies=PLATEAU[:3], **MEASURED)
    assert run_stage(two) == 0
    assert weights(two) == weights(plateau)
    # The newest is exported beside the chosen one, and over nothing.
    export_checkpoint(StageFolder(plateau), tmp_path / "newest" / "model")
    assert weights(tmp_path / "newest") not in (b"", weights(two))
    with pytest.raises(RunFolderError, match=r"model exists, and is not overwritten: give another folder with --out"):
        export_checkpoint(StageFolder(plateau), tmp_path / "newest" / "model")
    # What a stage that has ended would be exported as is there.
    assert export_checkpoint(StageFolder(plateau)) == plateau / "model"
    assert weights(plateau) == weights(two)


def test_an_export_has_the_precision_of_the_stage_and_needs_a_whole_checkpoint(stage, tmp_path):
    folder = stage("run", steps=1, checkpoint_every=1, tokens=20)
    assert run_stage(folder) == 0
    (checkpoint,) = (folder / "checkpoints").iterdir()
    state = json.loads((checkpoint / "state.json").read_text())
    assert state["precision"] == "float32"
    # As a GPU would have left it, where the recipe names no precision.
    (checkpoint / "state.json").write_text(json.dumps(state | {"precision": "bfloat16"}))
    write_manifest(CheckpointFolder(checkpoint))
    export_checkpoint(StageFolder(folder), tmp_path / "out")
    exported = load_file(next((tmp_path / "out").glob("*.safetensors")))
    assert {each.dtype for each in exported.values()} == {torch.bfloat16}
    (checkpoint / "state.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"no checkpoint in .*checkpoints is whole"):
        export_checkpoint(StageFolder(folder), tmp_path / "other")
    # A model of as many steps, but of others, is none of this stage any more.
    left, config = StageFolder(folder), StageFolder(folder).read_resolved()
    assert is_exported(config, left, step=1) and not is_exported(config, left, step=2)
    written = metrics(folder)
    left.metrics.write_text(json.dumps(written[0] | {"reward": 0.25}) + "\n")
    assert not is_exported(config, left, step=1)
    origin(left.model).write_text('{"run": "run", "stage": "stage-1", "step": 1}\n')  # of an earlier version
    assert is_exported(config, left, step=1)


@pytest.mark.parametrize(("number", "kept"), [(None, [1, 2, 3, 4, 5, 6, 7]), (0, [5, 6, 7]), (3, [4, 5, 6, 7])])
def test_rollouts_are_removed_when_no_checkpoint_needs_them_but_so_many(stage, number, kept):
    chosen = {} if number is None else {"keep_rollouts": number}
    folder = StageFolder(stage("run", steps=7, **chosen))
    for step in (4, 6):
        folder.checkpoints.step(step).path.mkdir(parents=True)
    state = SimpleNamespace(rescue=RescueBuffer(folder.rescue, max_age=2, max_tokens=9, seed=0))
    worker._remove_unneeded(state, folder.read_resolved(), folder, 4)
    assert folder.rollout_steps() == kept


def test_prompts_that_are_too_long_are_set_aside_without_comparing_problems(monkeypatch, caplog):
    """Comparing each with each took 34 minutes for 53,000."""

    def compare(*_):
        raise AssertionError("problems are compared")

    monkeypatch.setattr(Problem, "__eq__", compare)
    monkeypatch.setattr(worker.dist, "get_rank", lambda: 0)
    problems = [
        Problem(problem_id=str(number), question="1+1=" * (400 if number % 4 == 3 else 1), references=("2",))
        for number in range(32)
    ]
    settings = {"context": 256, "max_prompt_tokens": 160, "temperature": 1.0, "steps": 1, "prompts_per_step": 24}
    names = {"run": "run", "stage": "stage", "problems": "made up", "problems_sha256": ""}
    usable = worker._usable_problems(problems, ResolvedStage(model=str(tiny_model()), **settings, **names))
    assert [int(each.problem_id) for each in usable] == [number for number in range(32) if number % 4 != 3]
    assert "8 of 32 problems set aside" in caplog.text and "(3, 7, 11, 15, 19, ...)" in caplog.text


def test_a_stage_that_ended_on_a_plateau_does_nothing_new_when_given_more_steps(plateau, stage, capfd):
    assert run_stage(plateau) == 0
    before = content(plateau)
    shutil.rmtree(plateau / "checkpoints" / "step-000002")  # not needed, since the model is there
    again = stage("whole/run", steps=20, accuracies=PLATEAU, **WITH_RULE)
    assert run_stage(again) == 0
    assert content(again) | {"outcome.json": None} == before | {"outcome.json": None}
    assert outcome(again)["stopped"]["sentence"].startswith("step 7 of 20: 4 steps no longer raise the reward")
    (again / "model" / "trained.json").unlink()  # as if the model had not been written
    capfd.readouterr()
    assert run_stage(again) == 0
    assert "the checkpoint of step 2, the better one, is lost" in capfd.readouterr().err
    assert outcome(again)["chosen"]["step"] == 7


def test_without_its_rule_a_stage_that_had_ended_goes_on(plateau, stage):
    assert run_stage(plateau) == 0
    longer = stage("whole/run", steps=8, accuracies=PLATEAU, **MEASURED)
    assert run_stage(longer) == 0
    assert outcome(longer)["stopped"] == {
        "step": 8, "reason": "steps", "sentence": "step 8: all steps are done", "evidence": {"steps": 8},
    }  # fmt: skip
    assert len(metrics(longer)) == 8


def test_a_stage_that_made_the_model_worse_leaves_the_model_that_it_started_from(stage):
    folder = stage("run", steps=3, accuracies=[0.9, 0.5, 0.5, 0.5], **MEASURED)
    assert run_stage(folder) == 0
    assert outcome(folder)["chosen"]["step"] == 0
    start, left = (load_file(next(each.glob("*.safetensors"))) for each in (tiny_model(), folder / "model"))
    assert start.keys() == left.keys() and all((start[name].float() == left[name].float()).all() for name in start)
    checkpoints = StageFolder(folder).checkpoints
    assert checkpoints.steps() == [2, 3]


@pytest.mark.slow
def test_a_killed_stage_ends_where_it_would_have_ended(plateau, stage):
    assert run_stage(plateau) == 0
    killed = stage("killed/run", steps=12, accuracies=PLATEAU, **WITH_RULE)
    environment = os.environ | {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for reached in ("checkpoints/step-000003", "checkpoints/step-000007.partial", "outcome.json"):
        with subprocess.Popen([sys.executable, "-m", "polaris_train.stage.worker", killed], env=environment) as worker:
            while not (killed / reached).exists() and worker.poll() is None:
                time.sleep(0.002)
            worker.send_signal(signal.SIGKILL)
    assert run_stage(killed) == 0
    assert content(killed) == content(plateau)
    assert StageFolder(killed).checkpoints.steps() == [2, 7]


STEPS = 6
RUN = """
import sys
from pathlib import Path

from polaris_train.stage import run_stage

sys.exit(run_stage(Path(sys.argv[1])))
"""


def started(folder):
    """Run a stage in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", RUN, str(folder)], stderr=subprocess.PIPE, text=True)


def drill(stage, name, *, num_ranks, **settings):
    return stage(name, steps=STEPS, checkpoint_every=1, num_processes=num_ranks, stall_limit_s=20, **settings)


def rank_process(folder, rank):
    """Return the process of a rank that runs now."""
    listed = subprocess.run(["pgrep", "-f", f"polaris_train.stage.worker {folder}"], capture_output=True, text=True)
    for process in map(int, listed.stdout.split()):
        if f"RANK={rank}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
            return process
    raise AssertionError(f"no process of rank {rank}")


def signal_after_step(folder, running, *, step, rank, number):
    while not (folder / "checkpoints" / f"step-{step:06d}").exists():
        assert running.poll() is None
        time.sleep(0.01)
    os.kill(process := rank_process(folder, rank), number)
    return process


@pytest.mark.slow
@pytest.mark.parametrize("num_ranks", [1, 2])
def test_a_rank_that_is_killed_starts_again_and_the_numbers_are_the_same(stage, num_ranks):
    whole = drill(stage, "whole/run", num_ranks=num_ranks)
    assert run_stage(whole) == 0
    killed = drill(stage, "killed/run", num_ranks=num_ranks)
    with started(killed) as running:
        signal_after_step(killed, running, step=2, rank=num_ranks - 1, number=signal.SIGKILL)
        _, said = running.communicate()
    assert running.returncode == 0, said
    who = "the worker" if num_ranks == 1 else "rank 1"
    assert f"{who} was killed, by a person or because the machine's memory was full (see dmesg): restart 1 of 3" in said
    assert "continuing after step" in said
    assert content(killed) == content(whole)


@pytest.mark.slow
def test_a_rank_that_is_stopped_is_named_and_the_same_command_continues(stage):
    whole = drill(stage, "whole/run", num_ranks=2)
    assert run_stage(whole) == 0
    stopped = drill(stage, "stopped/run", num_ranks=2, max_restarts=0)
    with started(stopped) as running:
        process = signal_after_step(stopped, running, step=2, rank=1, number=signal.SIGSTOP)
        _, said = running.communicate()
    assert running.returncode == 75, said
    assert "nothing has moved for 20 s: rank 1 gives no sign of life" in said
    assert f"process {process} on" in said and "state T (stopped)" in said
    assert not Path(f"/proc/{process}").exists()
    assert run_stage(stopped) == 0
    assert content(stopped) == content(whole)


HANGS = """
import os
import sys

if os.environ.get("RANK") == "1" and os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0":
    import time

    from polaris_train.stage import loop

    update, calls = loop.update, []

    def late(*arguments, **settings):
        calls.append(arguments)
        if len(calls) == 3:
            time.sleep(3600)
        return update(*arguments, **settings)

    loop.update = late
"""
"""Read by every Python that starts: rank 1 does not come to the collectives of the third step, but once."""


@pytest.mark.slow
def test_a_collective_that_hangs_ends_the_ranks_names_the_late_one_and_they_start_again(stage, tmp_path, monkeypatch):
    hung = drill(stage, "hung/run", num_ranks=2)
    (tmp_path / "sitecustomize.py").write_text(HANGS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with started(hung) as running:
        _, said = running.communicate()
    assert running.returncode == 0, said
    assert "nothing has moved for 20 s: the others wait for rank 1, which is in 'update' after 2 steps" in said
    assert "sitecustomize.py" in said  # in the stacks of the rank that sleeps
    assert "sitecustomize.py" in (hung / "stalled" / "stacks-1.txt").read_text()
    assert "stalled, as said above: restart 1 of 3 (max_restarts), from the newest checkpoint" in said
    monkeypatch.delenv("PYTHONPATH")
    whole = drill(stage, "whole/run", num_ranks=2)
    assert run_stage(whole) == 0
    assert content(hung) == content(whole)


@pytest.mark.slow
def test_a_full_disk_ends_the_stage_and_is_named_and_with_room_the_same_command_continues(stage, tmp_path, capfd):
    disk = tmp_path / "full"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        folder = drill(stage, "full/run", num_ranks=1)
        assert run_stage(folder) == 2
        said = capfd.readouterr().err
        named = "a checkpoint could not be written: " in said and " GiB are left on its disk" in said
        assert named or "No space left on device" in said
        assert "Traceback" not in said and "restart" not in said
        done = StageFolder(folder).checkpoints.steps()
        assert done and len(metrics(folder)) <= done[-1] + 2  # what is written while a step runs, and that step
        subprocess.run(["mount", "-o", "remount,size=300m", disk], check=True)
        assert run_stage(folder) == 0
        whole = drill(stage, "whole/run", num_ranks=1)
        assert run_stage(whole) == 0
        assert content(folder) == content(whole)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_collective_waits_for_the_longest_answer_and_for_the_watchdog_to_speak_first(stage):
    folder = stage("run", steps=1, stall_limit_s=60, max_prompt_tokens=24)
    assert StageFolder(folder).read_resolved().collective_timeout_s == 1000 / 5 + 2 * 60


@pytest.mark.parametrize(
    ("code", "cause", "shell"),
    [
        (1, "rank 3 ended with exit code 1: restart 2 of 5", 1),
        (75, "rank 3 stalled, as said above: restart 2 of 5", 75),
        (
            -9,
            "rank 3 was killed, by a person or because the machine's memory was full (see dmesg): restart 2 of 5",
            137,
        ),
        (-11, "rank 3 was ended by signal 11: restart 2 of 5", 139),
    ],
)
def test_a_restart_is_said_with_its_cause(code, cause, shell):
    assert restart_message("rank 3", code, number=2, most=5).startswith(cause)
    assert shell_code(code) == shell


TIGHT = """
import os
import sys

if os.environ.get("RANK") == "1" and "polaris_train.stage.worker" in sys.orig_argv:
    import torch

    from polaris_train.model import step

    pack, packed = step.pack, []

    def tight(sequences):
        packed.append(sequences)
        if len(packed) > int(os.environ["ROOMY_STEPS"]) and sum(each.length for each in sequences) > 1500:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return pack(sequences)

    step.pack = tight
"""
"""Read by every Python that starts: after some steps rank 1 alone has no memory for more than 1,500 tokens."""


@pytest.mark.slow
@pytest.mark.parametrize("roomy_steps", [0, 2])
def test_all_ranks_continue_with_smaller_micro_batches_when_one_alone_runs_out_of_memory(
    stage, tmp_path, monkeypatch, roomy_steps
):
    drilled = {"steps": 3, "checkpoint_every": 1, "num_processes": 2}
    small = stage("small/run", microbatch_tokens=1250, **drilled)
    assert run_stage(small) == 0
    tight = stage("tight/run", microbatch_tokens=2500, **drilled)
    sampled = {path: path.stat().st_mtime_ns for path in (tight / "rollouts").iterdir()}
    (tmp_path / "sitecustomize.py").write_text(TIGHT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ROOMY_STEPS", str(roomy_steps))
    with started(tight) as running:
        _, said = running.communicate()
    assert running.returncode == 0, said
    alone_first = "continuing with micro-batches half as large (microbatch_tokens = 1250)" in said
    assert alone_first or "restart 1 of 3" in said  # Rank 0, whose collective is broken off, may be gone before rank 1.
    assert "restart 2" not in said
    assert StageFolder(tight).read_allowed_tokens() == 1250
    assert {path: path.stat().st_mtime_ns for path in (tight / "rollouts").iterdir()} == sampled
    if not roomy_steps:  # Every step was taken with the smaller ones.
        assert weights(tight) == weights(small) and metrics(tight) == metrics(small)
    else:
        assert "continuing after step" in said
    for ours, theirs in zip(metrics(tight), metrics(small), strict=True):
        assert ours["num_tokens"] == theirs["num_tokens"] == 2 * SAMPLES * TOKENS
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-4)
