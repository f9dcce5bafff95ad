"""A stage of supervised fine-tuning by its commands: killed anywhere it ends with the same bytes, and it is learned."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from polaris_data import Problem, read_problems, to_prompt
from polaris_data.problems import generate_chains, write_solution
from polaris_rollout import ModelError
from polaris_train.embedded import tiny_model
from polaris_train.errors import RunFolderError
from polaris_train.recipe import load_recipe
from polaris_train.run_folder import StageFolder
from polaris_train.sft import Conversations, prepare_sft
from polaris_train.stage import run_stage
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

RECIPE = """
model = "tiny"
problems = "synthetic"
limit = 40
prompts_per_step = 4
samples_per_prompt = 4
max_prompt_tokens = 160
learning_rate = 1e-4
checkpoint_every = 2
held_out = 8
num_processes = 1
{more}

[[stages]]
name = "sft"
kind = "sft"
context = 256
traces = "{traces}"
epochs = 2
traces_per_step = 8
validation_traces = 4
learning_rate = 1e-3

[[stages]]
name = "rl"
context = 256
temperature = 1.0
steps = 1

[data]
dedup = false
decontaminate = []
profile_samples = 4
profile_temperature = 1.0

[evaluation]
benchmarks = []
yarn_context = 0
"""


def write_traces(path, num_traces):
    rng = random.Random(7)
    chains = generate_chains(rng, split="train")
    with path.open("w") as file:
        for number in range(num_traces):
            question, chain = next(chains)
            asked = to_prompt(Problem(problem_id=str(number), question=question, references=(str(chain.answer),)))
            said = write_solution(chain, "worked", slip_at=None)
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            file.write(json.dumps({"messages": messages}) + "\n")


def recipe_of(place, *, traces="", more=""):
    path = place / "small.toml"
    path.write_text(RECIPE.format(traces=traces or place / "traces.jsonl", more=more))
    return path


WORKER = [sys.executable, "-m", "polaris_train.sft.worker"]
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}


def worker(folder):
    return subprocess.Popen([*WORKER, str(folder)], env=os.environ | ALONE | {"OMP_NUM_THREADS": "1"})


def kill_after(folder, step, delay):
    """Start the worker and kill it some time after a step is recorded."""
    child = worker(folder)
    metrics = folder / "metrics.jsonl"
    while child.poll() is None and not (metrics.exists() and metrics.read_bytes().count(b"\n") >= step):
        time.sleep(0.002)
    time.sleep(delay)
    assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL


LORA = ("lora.rank=8", "lora.alpha=16")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """Read the recipe above with other settings."""
    place = tmp_path_factory.mktemp("recipe")
    write_traces(place / "traces.jsonl", 44)
    path = str(recipe_of(place))
    return lambda *settings: load_recipe(path, settings)


def test_the_engine_of_the_evaluations_has_the_recipes_options(recipe, tmp_path):
    options = ("engine.kv_cache_dtype='fp8'", "engine.max_num_seqs=3")  # one decides what is drawn, the other does not
    asked = recipe(*options)
    resolved = StageFolder(prepare_sft(asked, asked.stages[0], tmp_path / "run")).read_resolved()
    assert (resolved.engine, resolved.engine_room) == ({"kv_cache_dtype": "fp8"}, {"max_num_seqs": 3})


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """Return the folder of a stage that was trained with some settings; each is trained once."""
    known = {}

    def train(*settings):
        if settings not in known:
            read = recipe(*settings)
            known[settings] = prepare_sft(read, read.stages[0], tmp_path_factory.mktemp("finished") / "run")
            assert run_stage(known[settings]) == 0
        return known[settings]

    return train


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "settings", [pytest.param((), id="full"), pytest.param(LORA, id="lora", marks=pytest.mark.slow)]
)
def test_a_stage_that_is_killed_again_and_again_ends_with_the_same_bytes(recipe, finished, settings, tmp_path):
    whole, read = finished(*settings), recipe(*settings)
    killed = prepare_sft(read, read.stages[0], tmp_path / "run")
    draw = random.Random(0)
    for step in (1, 4, 7):
        kill_after(killed, step, draw.uniform(0, 0.05))
        assert not (killed / "outcome.json").exists()
    assert prepare_sft(read, read.stages[0], tmp_path / "run") == killed
    assert worker(killed).wait() == 0
    steps = metrics(whole)
    assert [each["step"] for each in steps] == list(range(1, 11))
    assert steps[-1]["loss"] < steps[0]["loss"] and "validation_loss" in steps[-1]
    model = [str(path.relative_to(whole)) for path in (whole / "model").rglob("*") if path.is_file()]
    assert ("model/adapter/adapter_model.safetensors" in model) == bool(settings)
    for name in ("metrics.jsonl", "outcome.json", "sequences.arrow", *model):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "rounding"),
    [((), 1e-5), (LORA, 1e-5), ((*LORA, "precision=bfloat16"), 1e-2)],
    ids=["full", "lora", "half"],
)
@pytest.mark.parametrize("degree", [1, 2])
def test_two_ranks_learn_the_same_each_from_traces_of_its_own_or_from_a_slice_of_all(
    finished, settings, rounding, degree
):
    one = metrics(finished(*settings))
    two = metrics(finished(*settings, "num_processes=2", f"context_parallel={degree}"))
    assert [each["step"] for each in two] == list(range(1, 11))
    for alone, shared in zip(one, two, strict=True):
        assert (shared["num_tokens"], shared["read_tokens"]) == (alone["num_tokens"], alone["read_tokens"])
        assert abs(shared["loss"] - alone["loss"]) < rounding
        assert abs(shared["grad_norm"] - alone["grad_norm"]) < rounding * max(1, alone["grad_norm"])
    assert two[-1]["validation_loss"] == pytest.approx(one[-1]["validation_loss"], abs=rounding)


def test_adapters_alone_are_trained_and_exported_merged_and_beside_the_first_model(finished):
    """The merged weights are the first ones and ``alpha / rank * B @ A``, as peft reads the adapters."""
    model = finished(*LORA) / "model"
    first, merged = (load_file(next(folder.glob("model*.safetensors"))) for folder in (tiny_model(), model))
    adapters = load_file(model / "adapter" / "adapter_model.safetensors")
    assert first.keys() == merged.keys()
    trained = {name for name in first if not torch.equal(first[name], merged[name])}
    layers = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in adapters}
    assert trained == {f"{layer}.weight" for layer in layers} and len(adapters) == 2 * len(layers)
    settings = json.loads((model / "adapter" / "adapter_config.json").read_text())
    assert settings["target_modules"] == sorted({layer.rpartition(".")[2] for layer in layers})
    assert len(layers) == 7 * AutoConfig.from_pretrained(tiny_model()).num_hidden_layers
    for layer in layers:
        a, b = (adapters[f"base_model.model.{layer}.lora_{factor}.weight"] for factor in "AB")
        assert len(a) == 8
        torch.testing.assert_close(merged[f"{layer}.weight"], first[f"{layer}.weight"] + 2.0 * b @ a)
    start, whole = (AutoModelForCausalLM.from_pretrained(each, dtype=torch.float32) for each in (tiny_model(), model))
    ids = torch.tensor([list(range(5, 60))])
    with torch.no_grad():
        without = start(ids).logits
        found = [each(ids).logits for each in (PeftModel.from_pretrained(start, model / "adapter"), whole)]
    torch.testing.assert_close(*found, atol=1e-4, rtol=0)
    assert (without - found[0]).abs().max() > 0.1


@pytest.mark.slow
def test_one_recipe_learns_from_its_own_correct_answers_and_then_by_reinforcement(tmp_path):
    path = recipe_of(tmp_path, traces="profile", more="evaluate_every = 3")
    run = tmp_path / "run"
    command = [str(Path(sys.executable).with_name("polaris"))]
    planned = subprocess.run(
        [*command, "plan", str(path), "--out", str(run)], check=True, capture_output=True, text=True
    ).stdout
    assert (
        "] sft.traces: " in planned and "] sft.train: " in planned and planned.index("sft.train") < planned.index("rl.")
    )
    subprocess.run([*command, "run", str(path), "--out", str(run)], check=True)
    status = subprocess.run([*command, "status", str(run)], check=True, capture_output=True, text=True).stdout
    assert "finished" in status
    assert json.loads((run / "rl" / "resolved.json").read_text())["model"] == str(run / "sft" / "model")
    held_out = [(run / stage / "eval" / "held-out.jsonl").read_bytes() for stage in ("sft", "rl")]
    assert held_out[0] == held_out[1]
    page = (run / "report.html").read_text()
    assert "damaged" not in page and "Loss on traces, nats a token" in page
    why = subprocess.run([*command, "why", str(run), "sft"], check=True, capture_output=True, text=True).stdout
    assert "answers of the run's own profile" in why and "written by tiny" in why and "all steps are done" in why


def documented_run():
    """The small run of the packaged recipe, as the page for people with such a pipeline shows it."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "from-sft-and-grpo.md").read_text()
    return page.partition("<!-- run by: tests/test_sft.py -->\n```bash\n")[2].partition("```")[0]


@pytest.mark.slow
def test_the_packaged_pipeline_goes_from_traces_over_all_problems_to_hard_ones(tmp_path):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", documented_run()],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = tmp_path / "small"
    stages = ["sft", "rl", "continued", "hard"]
    started = [json.loads((run / name / "resolved.json").read_text())["model"] for name in stages]
    assert [Path(model).parts[-2:] for model in started[1:]] == [(name, "model") for name in stages[:-1]]

    def levels(path):
        return {problem.extra["level"] for problem in read_problems(str(run / path))}

    hard = {4, 5, 6, 7, 8}
    assert levels("continued/problems.jsonl") > hard and levels("hard/selection/selected.jsonl") > hard
    assert levels("hard/problems.jsonl") == hard
    visited = [json.loads(line)["problem_id"] for line in (run / "hard" / "visits.jsonl").read_text().splitlines()]
    trained = {problem.problem_id for problem in read_problems(str(run / "hard" / "problems.jsonl"))}
    assert len(visited) == 2 * 8 and set(visited) <= trained
    assert "level is not 4 or 5 or 6 or 7 or 8" in done.stdout  # polaris why
    assert {path.parent.name for path in run.glob("eval/*/scores.json")} == {"start", "final"}


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ('{"messages": [{"role": "user", "content": "Hi"}]}\n', "no turn of the role 'assistant'"),
        ('{"text": "<|im_start|>user"}\n', r"no row has 'messages'.*\['text'\]"),
        ("", "the file is empty"),
    ],
)
def test_traces_with_nothing_to_learn_are_refused_before_anything_is_written(tmp_path, rows, reason):
    (tmp_path / "traces.jsonl").write_text(rows)
    recipe = load_recipe(str(recipe_of(tmp_path)))
    with pytest.raises((RunFolderError, ValueError), match=reason):
        prepare_sft(recipe, recipe.stages[0], tmp_path / "run")
    assert not (tmp_path / "run" / "sft" / "resolved.json").exists()
    assert not list((tmp_path / "run" / "sft").glob("*.partial"))


def test_ranks_that_cannot_share_tokens_are_refused_before_anything_is_written(recipe, tmp_path):
    read = recipe("context_parallel=3", "num_processes=3")
    with pytest.raises(ModelError, match=r"does not divide the 4 attention heads of .*; give one of 1, 2, 4"):
        prepare_sft(read, read.stages[0], tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3"])
@pytest.mark.parametrize("thought", ["", "<think>\nCount them.\n</think>\n\n"])
def test_what_is_learned_is_what_the_tags_of_trls_templates_mark(name, thought):
    """TRL has put ``{% generation %}`` into copies of these templates; ours are the published ones without."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    published, tagged = (
        (files("trl") / "chat_templates" / f"{name}{suffix}.jinja").read_text() for suffix in ("", "_training")
    )
    asked = [{"role": "user", "content": "What is 2 + 3?"}]
    messages = [*asked, {"role": "assistant", "content": f"{thought}It is 5."}]
    tokenizer.chat_template = tagged
    found = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    marked = [place for place, is_said in enumerate(found["assistant_masks"]) if is_said]
    tokenizer.chat_template = published
    (learned,) = Conversations(tokenizer, stop_token_ids=[]).learn(messages)
    (start, end) = learned.spans[0]
    assert list(learned.token_ids) == found["input_ids"][: len(learned.token_ids)]
    # Theirs also marks the line break that stands after the end of a turn, which no engine samples.
    ours = set(range(start, end))
    assert (
        ours <= set(marked)
        and tokenizer.decode([found["input_ids"][each] for each in set(marked) - ours]).strip() == ""
    )


def test_qwen3_forgets_thoughts_and_the_answer_with_them_is_learned_where_it_was_said():
    tokenizer = AutoTokenizer.from_pretrained(tiny_model())
    tokenizer.chat_template = (files("trl") / "chat_templates" / "qwen3.jinja").read_text()
    said = ["<think>\nCount.\n</think>\n\nFive.", "<think>\nAdd.\n</think>\n\nSix."]
    messages = [
        {"role": "user", "content": "2 + 3?"}, {"role": "assistant", "content": said[0]},
        {"role": "user", "content": "3 + 3?"}, {"role": "assistant", "content": said[1]},
    ]  # fmt: skip
    parts = Conversations(tokenizer, stop_token_ids=[]).learn(messages)
    texts = [[tokenizer.decode(each.token_ids[start:end]) for start, end in each.spans] for each in parts]
    assert texts == [[f"{said[0]}<|im_end|>"], [f"{said[1]}<|im_end|>"]]
    assert "Count" not in tokenizer.decode(parts[1].token_ids)
