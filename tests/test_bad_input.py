"""What a user can get wrong: one sentence that says what to do, exit code 2, nothing overwritten."""

import json
import shutil

import pytest
from polaris_train.embedded import tiny_model

PROBLEM = {"id": "a", "problem": "1+1?", "answer": "2"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "good.jsonl").write_text("".join(json.dumps(PROBLEM | {"id": str(i)}) + "\n" for i in range(40)))
    (folder / "malformed.jsonl").write_text(json.dumps(PROBLEM) + '\n{"id": "b", "problem"\n')
    (folder / "empty.jsonl").write_text("")
    (folder / "duplicate.jsonl").write_text(2 * (json.dumps(PROBLEM) + "\n"))
    (folder / "no-reference.jsonl").write_text(json.dumps(PROBLEM | {"answer": ""}) + "\n")
    (folder / "no-question.jsonl").write_text('{"id": "a", "text": "1+1?", "answer": "2"}\n')
    shutil.copytree(tiny_model(), folder / "no-tokenizer")
    for path in (folder / "no-tokenizer").glob("token*"):
        path.unlink()
    (folder / "taken").mkdir()
    (folder / "taken" / "good").mkdir()
    (folder / "taken" / "good" / "settings.json").write_text('{"model": "another"}\n')
    (folder / "taken" / "stage-1").mkdir()
    (folder / "taken" / "stage-1" / "resolved.json").write_text('{"model": "another"}\n')
    return folder


PROFILE, EVAL = ["polaris-data", "profile"], ["polaris-eval", "run"]
TINY = ["polaris-train", "stage", "tiny-cpu", "stage-1", "--set", "stages.0.temperature=1", "--set", "evaluate_every=0"]
STAGE = [*TINY, "--out", "run", "--problems"]

TEMPERATURE = ["polaris-rollout", "temperature", "good.jsonl", "--out", "x"]

CASES = [
    ([*PROFILE, "missing.jsonl"], ["missing.jsonl"]),
    ([*PROFILE, "malformed.jsonl"], ["malformed.jsonl:2"]),
    ([*PROFILE, "empty.jsonl"], ["empty.jsonl", "no problems"]),
    ([*PROFILE, "duplicate.jsonl"], ["duplicate.jsonl:2", "'a'"]),
    ([*PROFILE, "no-reference.jsonl"], ["no-reference.jsonl:1", "answer"]),
    ([*PROFILE, "no-question.jsonl"], ["no-question.jsonl:1", "text"]),
    ([*PROFILE, "good.jsonl", "--samples", "0"], ["--samples", "0"]),
    ([*PROFILE, "good.jsonl", "--model", "no-tokenizer"], ["no tokenizer"]),
    ([*PROFILE, "good.jsonl", "--temperature", "3"], ["temperature is 3.0", "0 to 2"]),
    ([*PROFILE, "good.jsonl", "--endpoint", "http://127.0.0.1:1"], ["http://127.0.0.1:1"]),
    ([*PROFILE, "good.jsonl", "--completions", "good.jsonl"], ["good.jsonl:1", "neither an answer"]),
    ([*EVAL, "missing.jsonl"], ["missing.jsonl"]),
    ([*EVAL, "malformed.jsonl"], ["malformed.jsonl:2"]),
    ([*EVAL, "empty.jsonl"], ["empty.jsonl"]),
    ([*EVAL, "good.jsonl", "--samples", "0"], ["--samples", "0"]),
    ([*EVAL, "good.jsonl", "--model", "no-tokenizer"], ["no tokenizer"]),
    ([*EVAL, "good.jsonl", "--out", "taken"], ["another run", "--out"]),
    ([*STAGE, "missing.jsonl"], ["missing.jsonl"]),
    ([*STAGE, "duplicate.jsonl"], ["duplicate.jsonl:2"]),
    ([*STAGE, "good.jsonl", "--set", "typo=1", "--set", "stages.0.steps=0"], ["typo: unknown key", "stages.0.steps"]),
    ([*STAGE, "good.jsonl", "--set", "stages.0.context=4096"], ["4096", "2048"]),
    ([*STAGE, "good.jsonl", "--set", "prompts_per_step=64"], ["40 problems", "prompts_per_step"]),
    ([*STAGE, "good.jsonl", "--model", "no-tokenizer"], ["no tokenizer"]),
    ([*STAGE, "good.jsonl", "--set", "samples_per_prompt=1"], ["samples_per_prompt", "got 1"]),
    ([*STAGE, "good.jsonl", "--set", "optimizer_steps_per_batch=3"], ["prompts_per_step is 16", "does not divide"]),
    ([*STAGE, "good.jsonl", "--set", "top_p=0.9"], ["top_p: unknown key", "whole distribution"]),
    ([*STAGE, "good.jsonl", "--set", "truncated=penalized"], ["overlong_cache", '"penalized" needs it']),
    ([*STAGE, "good.jsonl", "--set", "evaluate_every=1", "--set", "evaluate_on=['aime24']"], ["'benchmark:aime24'"]),
    ([*STAGE, "good.jsonl", "--set", "evaluate_every=1"], ["held out", "held_out"]),
    (["polaris-train", "stage", "tiny-cpu", "stage-9"], ["stage-9", "stage-1"]),
    (["polaris-train", "stage", "qwen3-4b", "stage-2", "--out", "run"], ["stage-1", "--model"]),
    ([*TINY, "--out", "taken"], ["another run"]),
    (["polaris-train", "stage", "tiny-cpu", "stage-1", "--out", "run"], ['temperature = "auto"', "temperature.json"]),
    (["polaris-train", "show", "no-recipe"], ["no-recipe", "tiny-cpu"]),
    (["polaris-train", "export", "run"], ["no folder 'run'"]),
    (["polaris-rollout", "sample", "missing.jsonl", "--out", "x"], ["missing.jsonl"]),
    ([*TEMPERATURE, "--lowest", "1.5", "--highest", "1.2"], ["1.5 to 1.2"]),
    ([*TEMPERATURE, "--lowest", "-0.5"], ["-0.5 to 2"]),
    ([*TEMPERATURE, "--target-diversity", "63"], ["--target-diversity", "63", "between 0 and 1"]),
    ([*TEMPERATURE, "--target-diversity", "0.6", "--like", "taken"], ["not two"]),
    ([*TEMPERATURE, "--target-diversity", "0.6", "--at", "1"], ["--at searches for nothing"]),
    ([*TEMPERATURE, "--at", "3"], ["--at is 3", "at most 2"]),
    (["polaris", "run", "no-recipe"], ["no-recipe", "tiny-cpu"]),
    (
        ["polaris", "run", "tiny-cpu", "--out", "x", "--set", "problems=missing.jsonl"],
        ["missing.jsonl", "--set problems"],
    ),
    (["polaris", "run", "tiny-cpu", "--out", "x", "--set", "evaluation.benchmarks=['aime99']"], ["aime99", "aime24"]),
    (["polaris", "status", "taken"], ["is not the folder of a run"]),
    (["polaris", "why", "taken"], ["is not the folder of a run"]),
    ([*TEMPERATURE, "--like", "taken"], ["temperature.json"]),
    ([*TEMPERATURE, "--num-problems", "2"], ["2 problems", "give at least 4"]),
    ([*TEMPERATURE, "--answers", "8"], ["12 or more"]),
    ([*TEMPERATURE, "--grader", "nobody"], ["nobody", "polaris-reward"]),
    (["polaris-rollout", "temperature", "no-reference.jsonl", "--out", "x"], ["'a'", "references"]),
    (["polaris-rollout", "sample", "good.jsonl", "--out", "x", "--temperature", "3"], ["temperature is 3", "0 to 2"]),
    (["polaris-reward", "grade", "missing.jsonl"], ["missing.jsonl"]),
]


@pytest.mark.parametrize(("arguments", "parts"), CASES, ids=lambda value: " ".join(value) if len(value) > 2 else None)
def test_bad_input_is_one_sentence_and_exit_code_2(place, command, arguments, parts):
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    done = command(*arguments, cwd=place)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr
    after = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert after == before
