"""Page, card and reasons of a run that learns from a teacher's traces, which are chosen and learned for real."""

import json
import shutil
from functools import partial

import pytest
import torch
import yaml
from polaris_data import read_problems, synthetic_problems, write_problems
from polaris_data.files import append_records
from polaris_data.problems import Source
from polaris_data.profile import trace_problems
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store import RolloutStore
from polaris_train.controller import explain_run
from polaris_train.embedded import tiny_model
from polaris_train.recipe import Recipe, Stage
from polaris_train.recipe.sft import SftStage
from polaris_train.recipe.tables import Distillation
from polaris_train.release import write_release
from polaris_train.report import write_comparison, write_report
from polaris_train.report.lineage import public_name, teacher_name
from polaris_train.run_folder import RunFolder, StageFolder
from polaris_train.sft import Traces, prepare_sft
from polaris_train.sft.loop import train_sft
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.ending import Ending, end_stage
from polaris_train.stage.settings import load_stage_policy, stage_identity, start_state

NUM_PROBLEMS = 24


def write_store(path, problems, *, model):
    """Write what a teacher said: one right answer to each problem, too long to the last, and one wrong answer."""
    with RolloutStore(path) as store:
        for number, problem in enumerate(problems):
            padding = 400 if number == NUM_PROBLEMS - 1 else number
            said = ["It is so. " * padding + f"\\boxed{{{problem.references[0]}}}"] + ["\\boxed{no}"] * (number == 0)
            answers = [Completion(token_ids=(7,), logprobs=(0.0,), text=each, finish_reason="stop") for each in said]
            store.append(
                Group(problem_id=problem.problem_id, prompt_token_ids=(1,), completions=tuple(answers)),
                SamplingParams(),
            )
    (path / "settings.json").write_text(json.dumps({"model": str(model), "temperature": 0.6}))


def learn(folder):
    """Train a stage as its worker does, alone in this process."""
    config = folder.read_resolved()
    load = partial(load_stage_policy, config, device=torch.device("cpu"))
    state, ending = start_state(config, load(), folder), Ending(config, folder)
    checkpointer = Checkpointer(folder.checkpoints, keep=1, identity=stage_identity(config))
    try:
        steps = train_sft(
            config,
            config.sft,
            state=state,
            traces=Traces(folder.sequences, num_validated=config.sft.validation_traces, seed=config.seed),
            evaluate=lambda step, phases, *, last=False: {},
            ending=ending,
            checkpointer=checkpointer,
        )
        for each in steps:
            append_records(folder.metrics, [each.metrics])
            append_records(folder.performance, [each.performance])
        end_stage(state, config, folder, ending, load=load)
    finally:
        checkpointer.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_rank) -> RunFolder:
    """Of two stages, of which that of supervised fine-tuning has ended."""
    place = tmp_path_factory.mktemp("secret")
    teacher = place / "Teacher-9B"
    shutil.copytree(tiny_model(), teacher)
    (teacher / "README.md").write_text("---\nlicense: mit\n---\n")
    write_problems(place / "problems.jsonl", synthetic_problems(NUM_PROBLEMS, seed=0, split="train"))
    write_store(place / "store", read_problems(str(place / "problems.jsonl")), model=teacher)
    trace_problems(Source(str(place / "problems.jsonl")), place / "store", place / "said.jsonl")
    supervised = SftStage(
        kind="sft", name="sft", context=256, traces=str(place / "said.jsonl"), epochs=2, traces_per_step=16,
        validation_traces=2, learning_rate=1e-3,
    )  # fmt: skip
    recipe = Recipe(
        name="taught",
        model="tiny",
        problems=str(place / "problems.jsonl"),
        max_prompt_tokens=160,
        num_processes=1,
        evaluation={"benchmarks": [], "yarn_context": 0},
        stages=(supervised, Stage(name="rl", context=256, temperature=1.0, steps=1)),
    )
    folder = RunFolder(place / "run")
    folder.path.mkdir()
    folder.recipe.write_text(recipe.model_dump_json())
    learn(StageFolder(prepare_sft(recipe, supervised, folder.path)))
    return folder


def lines_of(run):
    return [json.loads(line) for line in run.stage("sft").metrics.read_text().splitlines()]


CHOSEN = "24 traces of 24 problems, chosen from 25 answers (said.jsonl)"
LEFT_OUT, WRITTEN = "left out: incorrect (1)", "written by Teacher-9B"
SET_ASIDE = "set aside: longer than context = 256 tokens (1)"


def test_losses_and_traces_are_on_both_pages_and_nothing_is_damaged(run, tmp_path):
    page, markdown = (path.read_text() for path in write_report(run.path, out=tmp_path / "r.html"))
    first, *_, last = steps = lines_of(run)
    assert len(steps) == 3 and last["loss"] < first["loss"]
    losses = f"loss {first['loss']:.3f} to {last['loss']:.3f} nats a token over 3 steps"
    validated = f"validation loss {last['validation_loss']:.3f} after step 3"
    for text in (page, markdown):
        assert "damaged" not in text and "nothing that can be read" not in text
        assert f"context 256, 2 epochs, {losses}, {validated}; ended (steps): step 3" in text
        assert f"{CHOSEN}; {LEFT_OUT}; {WRITTEN}; 23 can be learned from: " in text and SET_ASIDE in text
    learned = sum(line["num_tokens"] for line in steps)
    row = f"| sft | 3/3 | 256 | 2 | {first['loss']:.3f} to {last['loss']:.3f} | {last['validation_loss']:.3f} |"
    assert f"{row}  | {learned:,} | step 3 |" in markdown
    assert "Loss on traces, nats a token" in page and f"learned sft step 1: {first['loss']:.4g}" in page
    assert f"validation sft step 3: {last['validation_loss']:.4g}" in page


def test_a_stage_of_traces_has_no_temperature_and_nothing_is_dropped_after_it(run, tmp_path):
    _, markdown = (path.read_text() for path in write_report(run.path, out=tmp_path / "r.html"))
    names = [line.partition("**")[2].partition("**")[0] for line in markdown.splitlines() if ". **" in line[:6]]
    assert names[names.index("select") + 1 :] == [
        "sft: traces", "sft: train", "rl: temperature", "rl: train", "evaluate: first model", "evaluate: last model",
    ]  # fmt: skip
    assert "No selection before rl is there yet." in markdown and "before sft" not in markdown.lower()
    assert "sft: 1, as given" not in markdown


def test_two_runs_that_learned_from_traces_are_compared(run, tmp_path):
    page, _ = write_comparison(run.path, run.path, tmp_path / "both.html")
    text = page.read_text()
    assert "damaged" not in text and "Loss on traces, nats a token" in text and "A learned" in text
    assert "<td>sft: traces</td><td>24 traces</td><td>24 traces</td>" in text


def test_why_says_whence_the_traces_are(run):
    traces, end = explain_run(run, "sft")
    assert traces.title == "sft: traces" and traces.evidence == run.stage("sft").sequences_made
    assert traces.lines[:3] == (CHOSEN, LEFT_OUT, WRITTEN) and traces.lines[-1] == SET_ASIDE
    assert end.title == "sft: end"


def test_the_card_of_a_model_that_saw_no_rewards_speaks_of_none(run, tmp_path):
    released = write_release(run.path, tmp_path / "Made-1M", temperature=1.0)
    card = (released / "README.md").read_text()
    _, metadata, text = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["tags"] == ["polaris", "reasoning", "math", "sft"]
    assert "Trained from tiny with supervised fine-tuning on traces (polaris, recipe taught)." in text
    assert "reinforcement" not in text
    assert "Stage sft learned from traces, said.jsonl, written by Teacher-9B (licence: mit)." in text
    assert CHOSEN in text and "secret" not in card


def test_a_stage_of_before_these_counts_says_what_is_known(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    older = RunFolder(tmp_path / "run")
    made = json.loads(older.stage("sft").sequences_made.read_text())
    assert made.pop("chosen")["num_traces"] == 24 and made.pop("writers") == {str(run.path.parent / "Teacher-9B"): 23}
    older.stage("sft").sequences_made.write_text(json.dumps(made))
    lines = explain_run(older, "sft")[0].lines
    assert lines[:2] == (
        "24 traces of said.jsonl; how they were chosen is not recorded",
        "who wrote them is not recorded",
    )
    older.stage("sft").sequences_made.write_text("{")
    (line,) = explain_run(older, "sft")[0].lines
    assert line.startswith("sft/sequences.json is left out: Invalid JSON")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("Qwen/Qwen3-4B", "Qwen/Qwen3-4B"),
        ("open-r1/OpenR1-Math:all", "open-r1/OpenR1-Math:all"),
        ("tiny", "tiny"),
        ("/home/me/Teacher-9B", "Teacher-9B"),
        ("data/said.jsonl", "said.jsonl"),
        ("/home/me/runs/r1/stage-2/model", "r1/stage-2"),
        ("stage-2/model", "stage-2/model"),
    ],
)
def test_models_and_files_have_names_that_hold_elsewhere(source, name):
    assert public_name(source) == name


def test_the_address_of_a_server_that_teaches_is_not_said():
    table = Distillation(teacher="http://10.0.0.7:8000")
    assert teacher_name(table) == "a model on a server"
