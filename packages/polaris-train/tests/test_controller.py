"""What a run plans, takes for done, refuses, and puts aside; the commands themselves run in tests/test_run.py."""

import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from polaris_train.controller import describe_status, explain_run, missing_inputs, plan_steps, request_of, step_states
from polaris_train.controller.manifest import fingerprint, write_manifest
from polaris_train.controller.running import run_recipe
from polaris_train.errors import RecipeError, RunFolderError
from polaris_train.recipe import load_recipe, packaged_recipes

RECIPE = """
model = "tiny"
problems = "raw.jsonl"
prompts_per_step = 4
evaluate_every = 2

[[stages]]
name = "short"
context = 1536
temperature = "auto"
steps = 4

[[stages]]
name = "long"
context = 2048
temperature = "auto"
steps = 4

[evaluation]
benchmarks = ["benchmark.jsonl"]
yarn_context = 4096
"""


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """What is asked for in a folder with a recipe and its files, with changes of the recipe."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(RECIPE)
    for name in ("raw.jsonl", "benchmark.jsonl"):
        (tmp_path / name).write_text(json.dumps({"problem": f"What is {len(name)} + 1?", "answer": "7"}) + "\n")

    def request(*overrides, out=None):
        return request_of("mine.toml", overrides, out)

    return request


def test_what_is_set_together_is_given_to_every_stage_together(ask):
    """A recipe is checked as a whole: longer prompts need longer contexts in all stages."""
    request = ask("max_prompt_tokens=3000", "stages.0.context=4096", "stages.1.context=5120", "evaluation.limit=1")
    for name, stage in zip(("short.train", "long.train"), request.recipe.stages, strict=True):
        (words,) = (step.argv for step in plan_steps(request) if step.name == name)
        sets = [value for option, value in pairwise(words) if option == "--set"]
        assert load_recipe("mine.toml", sets).stage(stage.name) == stage


def finish(request, up_to=None):
    """Leave what the steps would leave."""
    for step in plan_steps(request):
        if step.name == up_to:
            break
        for path in step.outputs:
            if path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{step.name}\n")
            else:
                path.mkdir(parents=True, exist_ok=True)
                (path / "problems.jsonl").write_text(f"{step.name}\n")
        record = {"step": step.name, "argv": list(step.argv), "fingerprint": fingerprint(step, request.folder)}
        write_manifest(request.folder.manifest(step.name), record)
    request.folder.recipe.write_text(request.recipe.model_dump_json())


def states(request):
    return {each.step.name: each.state for each in step_states(plan_steps(request), request.folder)}


def test_the_plan_is_the_recipe_in_its_order(ask):
    names = [step.name for step in plan_steps(ask())]
    assert names == [
        *("import", "check", "dedup", "decontaminate", "split", "profile", "select", "evaluate.start"),
        *("short.temperature", "short.train", "long.drop", "long.temperature", "long.train"),
        *("evaluate.final", "evaluate.yarn", "report"),
    ]


def test_every_input_of_a_step_is_the_users_or_what_an_earlier_step_left(ask):
    made = []
    for step in plan_steps(ask()):
        for path in step.inputs:
            from_user = path.name in ("raw.jsonl", "benchmark.jsonl", "tiny")
            assert from_user or any(path == each or each in path.parents for each in made), path
        made += [*step.outputs, *step.owns]


def test_a_number_needs_no_search_and_no_rules_no_drop(ask):
    names = [
        step.name for step in plan_steps(ask("stages.0.temperature=1.0", "stages.1.temperature=1.1", "data.drop=[]"))
    ]
    assert not [name for name in names if name.endswith((".temperature", ".drop"))]


def test_the_model_is_asked_as_in_training_wherever_it_is_asked(ask):
    asked = {step.name: step.argv for step in plan_steps(ask("prompt_suffix=' Go.'")) if "--suffix" in step.argv}
    sampled = {"profile", "short.temperature", "long.temperature", "evaluate.start", "evaluate.final"}
    assert set(asked) >= {"check", *sampled}
    assert all(words[words.index("--suffix") + 1] == " Go." for words in asked.values())


def test_what_is_said_of_a_source_is_said_to_its_import(ask):
    said = '{ path = "raw.jsonl", answer_from = "solution", join_parts = true, where = { level = ["4", "5"] } }'
    (step,) = (step for step in plan_steps(ask(f"data.sources=[{said}]")) if step.name == "import")
    line = shlex.join(step.argv)
    assert "--where level=4,5 --answer-from solution --join-parts --out" in line


def test_no_rules_of_selection_need_no_profile(ask):
    steps = {step.name: step for step in plan_steps(ask("data.select=[]"))}
    assert not {"profile", "select"} & steps.keys()
    assert " --problems runs/mine/data/split/train.jsonl " in steps["short.train"].line
    assert " select runs/mine/data/split/train.jsonl --visits " in steps["long.drop"].line


def test_evaluations_may_have_a_context_of_their_own(ask):
    lines = {step.name: step.line for step in plan_steps(ask("evaluation.context=1900"))}
    assert " --context 1900 " in lines["evaluate.start"] and " --context 1900 " in lines["evaluate.final"]
    assert " --context 4096 " in lines["evaluate.yarn"]
    assert "evaluate.yarn" not in {step.name for step in plan_steps(ask("evaluation.context=4096"))}


def test_a_temperature_is_searched_with_the_positions_that_training_extends(ask):
    plain = {step.name: step for step in plan_steps(ask())}["long.temperature"]
    extended = {step.name: step for step in plan_steps(ask("extend_positions=true"))}["long.temperature"]
    assert "--extend-positions" not in plain.argv
    assert [word for word in extended.argv if word != "--extend-positions"] == list(plain.argv)
    assert "--extend-positions" in extended.argv
    # What an older version found, which opened the model with YaRN, is not thrown away.
    assert set(extended.free) == {"--extend-positions"}


def test_a_number_is_measured_where_a_later_stage_restores_its_diversity(ask):
    lines = {step.name: step.line for step in plan_steps(ask("stages.0.temperature=1.0"))}
    assert " --at 1 " in lines["short.temperature"]
    assert " --like runs/mine/short " in lines["long.temperature"]


def test_every_stage_may_have_the_temperature_of_one_entropy(ask):
    entropy = "temperature.target_entropy=0.3"
    lines = {step.name: step.line for step in plan_steps(ask(entropy))}
    for stage in ("short", "long"):
        assert " --target-entropy 0.3 " in lines[f"{stage}.temperature"]
        assert "--like" not in lines[f"{stage}.temperature"] and "--max-loss" not in lines[f"{stage}.temperature"]
    assert "short.temperature" not in {step.name for step in plan_steps(ask(entropy, "stages.0.temperature=1.0"))}


def test_several_sources_are_put_together(ask):
    sources = 'data.sources=[{importer = "deepscaler"}, {path = "raw.jsonl", columns = "question=problem"}]'
    lines = [step.line for step in plan_steps(ask(sources))]
    assert lines[0] == "polaris-data import --from deepscaler --out runs/mine/data/import/1.jsonl"
    assert lines[1] == "polaris-data import raw.jsonl --columns question=problem --out runs/mine/data/import/2.jsonl"
    assert lines[2].startswith("polaris-data import runs/mine/data/import/1.jsonl runs/mine/data/import/2.jsonl --ids")


def test_a_published_set_brings_its_importer(ask):
    (first, *_) = plan_steps(ask("problems=POLARIS-Project/Polaris-Dataset-53K"))
    assert first.argv[:4] == ("polaris-data", "import", "--from", "polaris-53k")


def test_a_stage_is_told_what_concerns_stages_only(ask):
    steps = plan_steps(ask("seed=3", "stages.0.steps=2", "stages.1.steps=9", "data.profile_samples=4"))
    lines = {step.name: step.line for step in steps}
    for stage in ("short", "long"):
        assert lines[f"{stage}.train"].endswith("--set seed=3 --set stages.0.steps=2 --set stages.1.steps=9")


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_every_packaged_recipe_plans(name, tmp_path):
    steps = plan_steps(request_of(name, [], tmp_path / "run"))
    assert len({step.name for step in steps}) == len(steps)
    assert all(step.argv[0].startswith("polaris") for step in steps)


def test_what_is_finished_is_done_wherever_the_folder_is(ask, tmp_path):
    finish(ask())
    assert set(states(ask()).values()) == {"done"}
    (tmp_path / "runs" / "mine").rename(tmp_path / "elsewhere")
    assert set(states(ask(out=tmp_path / "elsewhere")).values()) == {"done"}


def test_a_change_of_a_later_stage_redoes_no_earlier_one(ask):
    finish(ask())
    found = states(ask("stages.1.context=2047"))
    behind = {"evaluate.final", "evaluate.yarn", "report"}
    changed = {"long.temperature", "long.train", "evaluate.start"}  # read out at the last stage's context
    assert {name for name, state in found.items() if state == "behind"} <= behind
    assert {name for name, state in found.items() if state == "changed"} - behind == changed
    assert found["short.train"] == found["profile"] == "done"


def test_a_change_of_the_data_names_what_it_makes_out_of_date_and_does_nothing(ask, tmp_path):
    finish(ask())
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("*.json*")}
    with pytest.raises(RunFolderError) as refused:
        run_recipe(ask("data.profile_samples=16"))
    message = str(refused.value)
    assert "profile: --samples was 8, is 16" in message
    assert "select, short.train, long.drop, long.temperature, long.train, evaluate.final, evaluate.yarn" in message
    assert "--redo" in message
    assert {path: path.read_bytes() for path in before} == before


def test_another_input_is_noticed_wherever_it_comes_from(ask, tmp_path):
    finish(ask())
    (tmp_path / "raw.jsonl").write_text(json.dumps({"problem": "What is 2?", "answer": "2"}) + "\n")
    found = states(ask())
    assert found["import"] == "changed"
    assert found["check"] == found["evaluate.final"] == "behind"
    assert found["evaluate.start"] == "done"


def test_more_steps_continue_a_stage(ask):
    finish(ask())
    found = states(ask("stages.1.steps=6"))
    assert found["long.train"] == "extended"
    assert found["evaluate.final"] == "behind"
    assert found["short.train"] == "done"


LEVELS = ("stages.0.select=['keep level=1,2']", "stages.1.select=['accuracy between 0.1 0.8']")
"""A rule that asks for columns alone, and one that asks how often problems were solved."""


def test_a_stage_with_rules_of_its_own_waits_for_what_they_ask(ask):
    def evidence(*overrides):
        request = ask(*overrides)
        known = {request.folder.profile: "profile", request.folder.stage("short").visits: "short.visits"}
        steps = {step.name: step.inputs for step in plan_steps(request)}
        return {name: [known[path] for path in steps[name] if path in known] for name in ("short.train", "long.train")}

    assert evidence() == {"short.train": [], "long.train": []}
    assert evidence(*LEVELS) == {"short.train": ["profile"], "long.train": ["profile", "short.visits"]}
    assert evidence(LEVELS[1]) == {"short.train": [], "long.train": ["profile", "short.visits"]}
    assert evidence("stages.1.hint_share=0.5") == {"short.train": [], "long.train": ["profile", "short.visits"]}
    # A consensus begins with the profile, and a stage goes on with what it began with.
    assert evidence("core.min_count=2") == {"short.train": ["profile"], "long.train": []}
    begun = ask().folder.stage("short").resolved
    begun.parent.mkdir(parents=True)
    begun.write_text("{}")
    assert evidence("core.min_count=2") == {"short.train": [], "long.train": []}
    # Nothing is profiled: only what was seen on the way says anything.
    assert evidence(*LEVELS, "data.select=[]") == {"short.train": [], "long.train": ["short.visits"]}


def test_the_plan_says_which_problems_a_stage_is_about(ask):
    meanings = {step.name: step.meaning for step in plan_steps(ask(*LEVELS, "data.drop=[]"))}
    assert meanings["short.train"] == "train up to 4 steps at a context of 1,536 with keep level=1,2"
    assert meanings["long.train"] == "train up to 4 steps at a context of 2,048 with accuracy between 0.1 0.8"


def test_another_rule_of_a_stage_redoes_it_and_nothing_before_it(ask):
    finish(ask(*LEVELS))
    assert set(states(ask(*LEVELS)).values()) == {"done"}
    request = ask(LEVELS[0], "stages.1.select=['accuracy between 0.2 0.8']")
    found = {name: state for name, state in states(request).items() if state != "done"}
    assert found == {"long.train": "changed"} | dict.fromkeys(("evaluate.final", "evaluate.yarn", "report"), "behind")
    with pytest.raises(RunFolderError, match=r"long\.train: stage\.select was .*0\.1 0\.8.*, is .*0\.2 0\.8"):
        run_recipe(request)


@pytest.mark.parametrize(("rule", "state"), [(LEVELS[1], "changed"), ("stages.1.select=[]", "done")])
def test_what_a_rule_asks_is_an_input_of_its_stage_though_the_problems_are_the_same(ask, rule, state):
    request = ask(rule, "data.drop=[]")
    finish(request)
    assert states(request)["long.train"] == "done"
    request.folder.stage("short").visits.write_text("other\n")
    assert states(request)["long.train"] == state


def test_a_missing_model_between_stages_is_made_again_and_the_rest_waits(ask):
    request = ask()
    finish(request)
    model = request.folder.stage("short").model
    (model / "problems.jsonl").rename(model.parent / "away.jsonl")
    model.rmdir()
    found = states(request)
    assert found["short.train"] == "next"
    assert found["long.train"] == found["long.temperature"] == "waiting"
    model.mkdir()
    (model.parent / "away.jsonl").rename(model / "problems.jsonl")
    assert set(states(request).values()) == {"done"}


def test_what_was_begun_with_other_settings_is_no_start(ask):
    finish(ask(), up_to="profile")
    (step,) = (step for step in plan_steps(ask()) if step.name == "profile")
    folder = ask().folder
    write_manifest(folder.begun("profile"), {"fingerprint": fingerprint(step, folder)})
    assert states(ask())["profile"] == "next"
    assert states(ask("data.profile_samples=16"))["profile"] == "changed"


@pytest.mark.parametrize("text", ["{}", "not json", '{"step": "split", "checksum": "0"}'])
def test_a_manifest_that_was_changed_by_hand_proves_nothing(ask, text):
    request = ask()
    finish(request)
    request.folder.manifest("split").write_text(text)
    with pytest.raises(RunFolderError, match=r"split\.json was changed by hand or is damaged.*remove it"):
        states(request)


def test_the_folder_of_another_recipe_is_refused(ask):
    finish(ask())
    with pytest.raises(RunFolderError, match="a run of the recipe 'mine', not of 'other'; give another --out"):
        run_recipe(ask("name=other", out=ask().folder.path))


def test_one_controller_at_a_time_and_it_says_who(ask):
    request = ask()
    finish(request)
    request.folder.holder.write_text(json.dumps({"pid": 4711, "host": "here", "since": "noon"}))
    holder = (
        "import sys\nfrom pathlib import Path\nfrom polaris_train.run_folder import RunFolder\n"
        f"with RunFolder(Path({str(request.folder.path)!r})).locked():\n    print('held', flush=True)\n"
        "    sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(
            RunFolderError, match="being run by process 4711 on here, since noon; wait for it or stop it"
        ):
            run_recipe(request)
        assert "running as process 4711" in describe_status(request.folder)
        other.stdin.close()
    assert "finished" in describe_status(request.folder)


def test_until_does_what_comes_before_and_names_the_steps_if_there_is_none_such(ask, monkeypatch):
    done = []
    monkeypatch.setattr("polaris_train.controller.running._do", lambda step, folder, heading: done.append(step.name))
    finish(ask(), up_to="split")
    assert run_recipe(ask(), until="profile") == 0
    assert done == ["split"]
    with pytest.raises(RecipeError, match=r"no step 'train'; its steps are import, check, .*, evaluate\.yarn"):
        run_recipe(ask(), until="train")


def test_redo_puts_aside_only_what_is_out_of_date(ask, monkeypatch):
    finish(ask())
    request = ask("stages.1.context=2047")
    kept = request.folder.stage("short").model.stat().st_ino
    monkeypatch.setattr("polaris_train.controller.running._do", lambda step, folder, heading: 3)
    assert run_recipe(request, redo=True) == 3
    aside = request.folder.superseded / "1"
    assert (aside / "long" / "model" / "problems.jsonl").read_text() == "long.train\n"
    assert (aside / "steps" / "long.train.json").is_file()
    assert not request.folder.stage("long").model.exists()
    assert request.folder.stage("short").model.stat().st_ino == kept
    assert request.folder.profile.is_file()


def test_what_is_missing_is_said_with_the_way_to_give_it(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("POLARIS_BENCHMARKS", raising=False)
    request = request_of("qwen3-4b", [], tmp_path / "run")
    missing = "\n".join(missing_inputs(request, plan_steps(request)))
    assert "model: 'Qwen/Qwen3-4B' is not in the local cache" in missing
    assert "--set model=FOLDER" in missing
    assert "--set data.sources.0.path=FILE" in missing
    assert "benchmark: aime24" in missing
    assert "POLARIS_BENCHMARKS=DIR" in missing


@pytest.mark.parametrize(
    ("overrides", "config", "message"),
    [
        ((), {"final_logit_softcapping": 30.0}, "model: {} has final_logit_softcapping = 30.0, and logits with a soft"),
        (
            ("context_parallel=8",),
            {"num_attention_heads": 12},
            "does not divide the 12 attention heads of {}; give one",
        ),
        (("distillation.teacher={}",), {"attn_logit_softcapping": 50.0}, "distillation.teacher: {} has attn_logit"),
    ],
)
@pytest.mark.parametrize("is_cached", [False, True])
def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_begun(
    ask, tmp_path, monkeypatch, overrides, config, message, is_cached
):
    folder, name = tmp_path / "other", "other"
    if is_cached:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        folder, name = tmp_path / "cache" / "models--some--other" / "snapshots" / "1a", "some/other"
        (folder.parents[1] / "refs").mkdir(parents=True)
        (folder.parents[1] / "refs" / "main").write_text("1a")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    (folder / "tokenizer.json").write_text("{}")
    named = [each.format(name) for each in overrides]
    request = ask(*named, *(() if any("teacher" in each for each in named) else (f"model={name}",)))
    (missing,) = (line for line in missing_inputs(request, plan_steps(request)))
    assert message.format(name) in missing
    with pytest.raises(RecipeError, match=re.escape(message.format(name))):
        run_recipe(request)
    assert not request.folder.path.exists()


def test_a_folder_that_is_no_run_has_neither_status_nor_reasons(tmp_path):
    from polaris_train.run_folder import RunFolder

    for tell in (describe_status, explain_run):
        with pytest.raises(RunFolderError, match="is not the folder of a run"):
            tell(RunFolder(tmp_path))


def test_the_status_looks_on(ask):
    request = ask()
    finish(request, up_to="short.train")
    (step,) = (step for step in plan_steps(request) if step.name == "short.train")
    write_manifest(request.folder.begun(step.name), {"fingerprint": fingerprint(step, request.folder)})
    stage = request.folder.stage("short")
    metrics = [
        {"step": 1, "reward": 0.5, "alarms": ["answers are cut short"]},
        {"step": 2, "reward": 0.25, "alarms": []},
    ]
    stage.metrics.write_text("".join(json.dumps(each) + "\n" for each in metrics))
    stage.performance.write_text(
        "".join(json.dumps({"step": each["step"], "seconds": {"a": 30}}) + "\n" for each in metrics)
    )
    text = describe_status(request.folder)
    assert "step 2 of 4, reward 0.250, at most 00:01:00 left; last alarm at step 1: answers are cut short" in text
    assert "not running: 'polaris run' continues it" in text and "sign of life" not in text
    ranks = [{"rank": rank, "phase": phase, "entered": entered, "seconds": 75.2}
             for rank, phase, entered in ((0, "update", 9), (1, "sample", 7))]  # fmt: skip
    spoken = datetime.now(UTC) - timedelta(seconds=5)
    stage.heartbeat.write_text(json.dumps({"time": spoken.isoformat(), "ranks": ranks}))
    assert re.search(
        r"sample on rank 1, the last of 2 for 00:01:15, last sign of life 00:00:0\d ago; step 2",
        describe_status(request.folder),
    )


def test_the_command_says_in_one_sentence_what_is_wrong(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "polaris_train.cli.polaris", "status", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
