"""A training stage for real: engine, FSDP2, checkpoints; killed, resumed, and on several ranks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from polaris_data import read_problems, synthetic_problems, write_problems
from polaris_eval.scores.compare import protocol_differences
from polaris_train.embedded import tiny_model
from polaris_train.recipe import load_recipe
from polaris_train.stage import prepare_stage
from transformers import AutoModelForCausalLM, AutoTokenizer

SMALL = [
    *("--set", "prompts_per_step=4", "--set", "max_prompt_tokens=160", "--set", "stages.0.context=256"),
    *("--set", "stages.0.temperature=1", "--set", "evaluate_every=0"),
]
EVALUATED = ["--set", "evaluate_every=3", "--set", "held_out=6", "--set", "evaluate_samples=2"]


def stage_command(run, problems, *, steps, every=2, extra=()):
    settings = [*SMALL, *EVALUATED, "--set", f"stages.0.steps={steps}", "--set", f"checkpoint_every={every}", *extra]
    return ["polaris-train", "stage", "tiny-cpu", "stage-1", "--out", str(run), "--problems", str(problems), *settings]


def scores(folder):
    return json.loads((folder / "scores.json").read_text())


def answers(stage, step):
    return (stage / "eval" / f"step-{step:06d}" / "held-out" / "completions.jsonl").read_bytes()


def metrics(stage):
    return [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]


def weights(stage):
    state = AutoModelForCausalLM.from_pretrained(stage / "model").state_dict()
    return {name: tensor.tolist() for name, tensor in state.items()}


@pytest.fixture(scope="module")
def problems(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "problems.jsonl"
    write_problems(path, synthetic_problems(24, seed=1, split="train", levels=(1, 2, 3)))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, problems, command):
    """A run of six steps that was killed on the way and continued by the same command.

    That this changes no number is shown in ``test_resume.py``.
    """
    run = tmp_path_factory.mktemp("run")
    arguments = stage_command(run, problems, steps=6)
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name(arguments[0])), *arguments[1:]],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    rollouts = run / "stage-1" / "rollouts"
    while len(list(rollouts.glob("*.parquet"))) < 4:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for_orphans(run)
    sampled = {path: path.stat().st_mtime_ns for path in rollouts.glob("*.parquet")}
    done = command(*arguments, cwd=run)
    assert done.returncode == 0, done.stderr
    assert "continuing after step" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in sampled} == sampled
    return run / "stage-1"


def wait_for_orphans(folder):
    """The ranks end with their parent; give the kernel a moment."""
    for _ in range(100):
        running = subprocess.run(
            ["pgrep", "-f", f"polaris_train.stage.worker {folder}"], capture_output=True, text=True
        )
        if not running.stdout:
            return
        time.sleep(0.1)
    raise AssertionError(f"workers outlived the command: {running.stdout}")


def test_a_stage_leaves_a_record_of_every_step(finished):
    records = metrics(finished)
    assert [record["step"] for record in records] == list(range(1, 7))
    costs = [json.loads(line) for line in (finished / "performance.jsonl").read_text().splitlines()]
    assert [cost["step"] for cost in costs] == list(range(1, 7))
    for cost in costs:
        assert {"sample", "update"} <= cost["seconds"].keys() == cost["peak_memory_gib"].keys()
        assert cost["replayed"] == (cost["tokens_per_second"]["sample"] == 0)
    visits = [json.loads(line) for line in (finished / "visits.jsonl").read_text().splitlines()]
    assert len(visits) == 6 * 4
    assert {visit["num_samples"] for visit in visits} == {8}
    for record in records:
        lengths = [visit["mean_tokens"] for visit in visits if visit["step"] == record["step"]]
        assert sum(lengths) / 4 == pytest.approx(record["mean_tokens"])
    assert all(
        record["reward"] * 32 == sum(v["num_correct"] for v in visits if v["step"] == record["step"])
        for record in records
    )
    assert any(record["num_tokens"] for record in records)
    leftovers = [path for path in finished.rglob("*") if path.name.endswith((".tmp", ".partial", ".new"))]
    assert leftovers == []
    assert len(list((finished / "checkpoints").iterdir())) == 2


def test_trainer_and_engine_agree_on_every_logprob(finished):
    assert max(record["logprob_gap_max"] for record in metrics(finished)) < 1e-4


def test_the_exported_model_loads_in_transformers_and_differs_from_the_start(finished):
    trained = weights(finished)
    start = AutoModelForCausalLM.from_pretrained(tiny_model()).state_dict()
    assert trained.keys() == start.keys()
    assert any(trained[name] != start[name].tolist() for name in start)
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(tiny_model()).chat_template


def test_a_stage_is_evaluated_before_its_first_step_at_its_intervals_and_after_its_last(finished):
    evaluations = sorted(path.parent for path in finished.glob("eval/*/scores.json"))
    assert [folder.name for folder in evaluations] == ["step-000000", "step-000003", "step-000006"]
    assert len({answers(finished, step) for step in (0, 3, 6)}) == 3
    for record in metrics(finished):
        assert ("evaluations" in record) == (record["step"] in (3, 6))
    for folder, record in zip(evaluations[1:], metrics(finished)[2::3], strict=True):
        (mean,) = (each for each in scores(folder)["evaluations"][0]["scores"] if each["metric"] == "mean@k")
        low, high = mean["interval"]
        assert record["evaluations"] == {"held-out": {"mean@2": mean["value"], "low": low, "high": high}}


def test_held_out_problems_are_never_trained_on(finished, problems):
    held_out = {problem.problem_id for problem in read_problems(finished / "eval" / "held-out.jsonl")}
    visits = [json.loads(line) for line in (finished / "visits.jsonl").read_text().splitlines()]
    trained = {visit["problem_id"] for visit in visits}
    assert len(held_out) == 6 and not held_out & trained
    left = {problem.problem_id for problem in read_problems(finished / "problems.jsonl")}
    assert trained <= left and held_out | left == {problem.problem_id for problem in read_problems(problems)}


@pytest.mark.slow
def test_evaluations_change_nothing_of_the_training(finished, tmp_path, command):
    arguments = stage_command(tmp_path, finished / "problems.jsonl", steps=6, extra=["--set", "evaluate_every=0"])
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "stage-1" / "eval").exists()
    without = [{key: value for key, value in each.items() if key != "evaluations"} for each in metrics(finished)]
    assert metrics(tmp_path / "stage-1") == without
    assert weights(tmp_path / "stage-1") == weights(finished)


def test_the_exported_model_gives_the_answers_of_the_last_evaluation(finished, command):
    done = command(
        "polaris-eval", "run", finished / "eval" / "held-out.jsonl", "--model", finished / "model", "--samples", "2",
        "--context", "256", "--max-tokens", "96", "--budgets", "none", "--out", "after", cwd=finished,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (finished / "after" / "held-out" / "completions.jsonl").read_bytes() == answers(finished, 6)
    after, last = scores(finished / "after"), scores(finished / "eval" / "step-000006")
    assert after["evaluations"] == last["evaluations"]
    assert protocol_differences(last["protocol"], after["protocol"]) == []


def test_evaluations_of_a_stage_are_compared_and_reported_by_polaris_eval(finished, command):
    compared = command("polaris-eval", "compare", "eval/step-000000", "eval/step-000006", cwd=finished)
    assert compared.returncode == 0, compared.stderr
    assert f"{finished.parent.name}/stage-1+6" in compared.stdout
    first, last = (scores(finished / "eval" / f"step-{step:06d}")["protocol"] for step in (0, 6))
    assert protocol_differences(first, last) == []
    reported = command("polaris-eval", "report", "eval/step-000006", cwd=finished)
    assert reported.returncode == 0, reported.stderr
    assert (finished / "eval" / "step-000006" / "report.html").is_file()


def test_a_finished_stage_is_not_trained_again(finished, problems, command):
    logs = finished / "metrics.jsonl", finished / "outcome.json"
    before = [each.read_bytes() for each in logs], weights(finished)
    done = command(*stage_command(finished.parent, problems, steps=6), cwd=finished)
    assert done.returncode == 0, done.stderr
    assert ([each.read_bytes() for each in logs], weights(finished)) == before
    assert done.stdout.startswith("stopped: step 6: all steps are done\nchosen: step ")


@pytest.fixture(scope="module")
def two_ranks(finished, problems, tmp_path_factory, command):
    """The same first steps on two ranks: two from the same rollouts, the third sampled with an engine each."""
    run = tmp_path_factory.mktemp("ranks")
    (run / "stage-1" / "rollouts").mkdir(parents=True)
    for step in (1, 2):
        shutil.copy(finished / "rollouts" / f"step-{step:06d}.parquet", run / "stage-1" / "rollouts")
    arguments = stage_command(run, problems, steps=3, every=3, extra=["--set", "num_processes=2"])
    done = command(*arguments, cwd=run)
    assert done.returncode == 0, done.stderr
    return run / "stage-1"


def test_two_ranks_give_the_same_loss_and_gradient_norm(finished, two_ranks):
    for one, two in zip(metrics(finished)[:3], metrics(two_ranks), strict=True):
        assert (two["reward"], two["num_tokens"]) == (one["reward"], one["num_tokens"])
        assert abs(two["loss"] - one["loss"]) < 1e-5
        assert abs(two["grad_norm"] - one["grad_norm"]) < 1e-5 * max(1, one["grad_norm"])


def test_two_ranks_give_the_same_answers_in_an_evaluation(finished, two_ranks):
    assert answers(two_ranks, 0) == answers(finished, 0)
    assert len(scores(two_ranks / "eval" / "step-000003")["evaluations"][0]["problems"]) == 6


def test_what_two_ranks_began_one_continues(two_ranks, finished, problems, command):
    done = command(*stage_command(two_ranks.parent, problems, steps=4), cwd=two_ranks)
    assert done.returncode == 0, done.stderr
    assert "continuing after step 3" in done.stderr and "of 2 ranks, now 1" in done.stderr
    for one, two in zip(metrics(finished)[:4], metrics(two_ranks), strict=True):
        assert two["reward"] == one["reward"]
        assert abs(two["loss"] - one["loss"]) < 1e-5


@pytest.mark.slow
def test_two_ranks_that_share_tokens_give_the_same_loss_and_one_rank_continues(finished, problems, tmp_path, command):
    """Each has an engine of its own, and a slice of every micro-batch."""
    extra = ["--set", "num_processes=2", "--set", "context_parallel=2"]
    done = command(*stage_command(tmp_path, problems, steps=3, every=3, extra=extra), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    continued = command(*stage_command(tmp_path, problems, steps=4), cwd=tmp_path)
    assert "continuing after step 3" in continued.stderr and "of 2 ranks, now 1" in continued.stderr
    for one, two in zip(metrics(finished)[:4], metrics(tmp_path / "stage-1"), strict=True):
        assert (two["reward"], two["num_tokens"]) == (one["reward"], one["num_tokens"])
        assert abs(two["loss"] - one["loss"]) < 1e-5
        assert abs(two["grad_norm"] - one["grad_norm"]) < 1e-5 * max(1, one["grad_norm"])
    assert answers(tmp_path / "stage-1", 0) == answers(finished, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            ["context_parallel=3", "num_processes=3"],
            "which does not divide the 4 attention heads",
        ),
        (["context_parallel=2", "num_processes=3"], "which does not divide the 3 ranks"),
    ],
)
def test_ranks_that_cannot_share_tokens_are_refused(settings, message, problems, tmp_path, command):
    extra = [each for setting in settings for each in ("--set", setting)]
    done = command(*stage_command(tmp_path, problems, steps=1, extra=extra), cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert not list(tmp_path.glob("stage-1/rollouts/*"))


@pytest.mark.slow
def test_two_ranks_that_form_one_engine_sample_the_same(finished, problems, tmp_path, command):
    extra = ["--set", "num_processes=2", "--set", "tensor_parallel=2"]
    done = command(*stage_command(tmp_path, problems, steps=1, extra=extra), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (one,), (two,) = metrics(finished)[:1], metrics(tmp_path / "stage-1")
    assert (two["reward"], two["sampled_tokens"]) == (one["reward"], one["sampled_tokens"])
    assert abs(two["loss"] - one["loss"]) < 1e-5
    assert answers(tmp_path / "stage-1", 0) == answers(finished, 0)


def test_ranks_that_do_not_divide_into_engines_are_refused(problems, tmp_path, command):
    done = command(*stage_command(tmp_path, problems, steps=1, extra=["--set", "tensor_parallel=7"]), cwd=tmp_path)
    assert done.returncode == 2
    assert "tensor_parallel is 7, which does not divide" in done.stderr


UNFAITHFUL = """
from polaris_train.stage import worker
from polaris_train.model.policy import Policy

faithful = Policy.weights
Policy.weights = lambda policy: ((name, tensor * 1.1) for name, tensor in faithful(policy))
worker.main()
"""


def test_an_engine_that_holds_other_weights_than_the_policy_ends_the_stage(problems, tmp_path):
    settings = [each for each in [*SMALL, "stages.0.steps=2"] if each != "--set"]
    recipe = load_recipe("tiny-cpu", settings)
    folder = prepare_stage(recipe, recipe.stages[0], tmp_path, problems=str(problems))
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", UNFAITHFUL, str(folder)], env=os.environ | ranks, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "the engine does not sample from the model it should hold" in done.stderr
    assert not list(folder.glob("rollouts/*"))


STALLED = """
import sys
import time
from pathlib import Path

from vllm.v1.engine.llm_engine import LLMEngine
from polaris_train.stage import worker

step = LLMEngine.step
first = Path(sys.argv[1]) / "rollouts" / "step-000001.parquet"
LLMEngine.step = lambda engine: time.sleep(600) if first.exists() else step(engine)
worker.main()
"""


def test_an_engine_that_stalls_ends_the_rank_and_says_where(problems, tmp_path):
    settings = [each for each in [*SMALL, "stages.0.steps=2", "stall_limit_s=6"] if each != "--set"]
    recipe = load_recipe("tiny-cpu", settings)
    folder = prepare_stage(recipe, recipe.stages[0], tmp_path / "run", problems=str(problems))
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    done = subprocess.run(
        [sys.executable, "-c", STALLED, str(folder)], env=os.environ | ranks, capture_output=True, text=True
    )
    assert done.returncode == 75, done.stderr
    assert "run/stage-1: nothing has moved for 6 s: it is in 'sample' after 1 steps; " in done.stderr
    assert "engine of rank 0: " in done.stderr and " running, " in done.stderr
    assert [path.name for path in folder.glob("rollouts/*")] == ["step-000001.parquet"]


def test_a_folder_in_use_is_refused(finished, problems, command):
    import fcntl

    with (finished / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = command(*stage_command(finished.parent, problems, steps=7), cwd=finished)
    assert done.returncode == 2
    assert "in use by another run" in done.stderr
