"""Ablations: arms are recipes, tokens are equal, intervals say what they promise; runs are in tests/test_ablate.py."""

import dataclasses
import itertools
import json
import math
import random
from statistics import fmean, variance

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data import DataError
from polaris_eval.scores import student_quantile, summarize, write_scores
from polaris_train.ablation import (
    ARMS,
    BASELINE,
    Ablation,
    Spent,
    arm_recipe,
    arms_of,
    chosen_arms,
    contrast,
    describe_ablation,
    run_ablation,
    spent_tokens,
    stage_limit,
    to_toml,
    write_ablation,
)
from polaris_train.ablation.arms import ENDLESS
from polaris_train.ablation.results import RunResult
from polaris_train.ablation.running import _take_over
from polaris_train.ablation.table import arm_tables, found
from polaris_train.controller import Request, plan_steps
from polaris_train.controller.manifest import fingerprint, write_manifest
from polaris_train.errors import RecipeError
from polaris_train.recipe import Stage, load_recipe, packaged_recipes
from polaris_train.run_folder import RunFolder

PARTS = ("data", "temperature", "dropping", "rescue", "full", "single")


def tiny(*overrides):
    return load_recipe("tiny-cpu", ["rescue_max_age=20", *overrides])


def make(out, *arms, seeds=(0,), tokens=None, recipe=None):
    recipe = recipe or tiny()
    return Ablation(recipe=recipe, arms=chosen_arms(recipe, arms or None), seeds=seeds, out=out, tokens=tokens)


@pytest.mark.parametrize(
    ("name", "arm"), [(name, arm) for name in packaged_recipes() for arm in arms_of(load_recipe(name))]
)
def test_every_arm_of_every_packaged_recipe_is_a_recipe_that_its_file_says(name, arm, tmp_path):
    whole = load_recipe(name)
    recipe = arm_recipe(whole, arms_of(whole)[arm])
    path = tmp_path / f"{arm}.toml"
    path.write_text(to_toml(recipe))
    assert load_recipe(str(path)) == recipe
    request = Request(recipe=recipe, argument=str(path), overrides=(), folder=RunFolder(tmp_path / "run"))
    names = [step.name for step in plan_steps(request)]
    assert ("profile" in names) == (arm != "plain")
    assert recipe.evaluation.context == whole.stages[-1].context


def test_what_a_recipe_may_say_survives_its_file(tmp_path):
    sources = 'data.sources=[{path = "a\\"b.jsonl", columns = "question=é"}, {importer = "deepscaler"}]'
    recipe = tiny(
        sources,
        "core={}",
        "distillation.teacher=tiny",
        "learning_rate=1e-7",
        "truncated=penalized",
        "overlong_cache=16",
        "trackers=['wandb']",
    )
    path = tmp_path / "mine.toml"
    path.write_text(to_toml(recipe))
    assert load_recipe(str(path)) == recipe


def test_each_arm_adds_one_part_to_the_one_before():
    recipe = tiny()
    plain, data, temperature, dropping, rescue, full, single = (arm_recipe(recipe, arm) for arm in ARMS.values())
    assert [(stage.context, stage.temperature) for stage in plain.stages] == [(384, 1.0)]
    assert (plain.data.select, plain.data.drop, plain.rescue_max_age) == ((), (), 0)
    assert data.stages == plain.stages and data.data.select == recipe.data.select
    assert [(stage.context, stage.temperature) for stage in temperature.stages] == [(384, "auto")] * 3
    assert temperature.data.drop == () and dropping.data.drop == recipe.data.drop
    assert dropping.stages == rescue.stages == temperature.stages
    assert (dropping.rescue_max_age, rescue.rescue_max_age) == (0, 20)
    assert [stage.context for stage in full.stages] == [384, 448, 512]
    assert (full.data, full.rescue_max_age) == (rescue.data, rescue.rescue_max_age)
    assert [(stage.context, stage.temperature) for stage in single.stages] == [(512, "auto")]
    assert (single.data.select, single.rescue_max_age) == (recipe.data.select, 20)


def test_only_tokens_end_the_stages_of_an_arm_but_the_full_recipe_keeps_its_own_rules_where_it_is_the_measure(tmp_path):
    recipe = load_recipe("deepscaler-1.5b")
    assert recipe.stages[0].truncation_limit is not None
    limited = [stage for arm in ARMS.values() for stage in arm_recipe(recipe, arm).stages]
    assert {(stage.truncation_limit, stage.plateau_window) for stage in limited} == {(None, None)}
    assert make(tmp_path, recipe=recipe).arm_recipe(ARMS["full"]).stages == recipe.stages
    assert make(tmp_path, recipe=recipe, tokens=9).arm_recipe(ARMS["full"]).stages != recipe.stages


def test_an_arm_whose_part_the_recipe_lacks_is_not_run_by_default_and_refused_by_name():
    without = load_recipe("tiny-cpu", ["rescue_max_age=0"])
    assert [arm.name for arm in chosen_arms(without, None)] == [name for name in ARMS if name != "rescue"]
    assert [arm.name for arm in chosen_arms(tiny(), None)] == list(ARMS)
    assert [arm.name for arm in chosen_arms(tiny(), ["full", "plain"])] == ["plain", "full"]
    with pytest.raises(RecipeError, match=r"'rescue' would be 'dropping' again: .*rescue_max_age = 0"):
        chosen_arms(without, ["rescue"])
    same = [f"stages.{index}.context=384" for index in range(3)]
    with pytest.raises(RecipeError, match="'rescue' would be 'full' again"):
        chosen_arms(tiny(*same), ["rescue"])
    with pytest.raises(RecipeError, match="no arm 'plian'; the arms are plain, data"):
        chosen_arms(tiny(), ["plian"])
    with pytest.raises(RecipeError, match=r"give evaluation\.benchmarks"):
        chosen_arms(tiny("evaluation.benchmarks=[]"), None)


SFT_AND_RL = """
model = "tiny"
problems = "synthetic"
max_prompt_tokens = 256
[[stages]]
kind = "sft"
name = "sft"
traces = "profile"
context = 384
[[stages]]
name = "rl"
context = 384
temperature = 1.0
steps = 4
[[arms]]
name = "sft"
label = "SFT"
stages = ["sft"]
[[arms]]
name = "direct"
stages = ["rl"]
set = ["learning_rate=1e-4", "stages.rl.temperature=1.2"]
[[arms]]
name = "lora"
set = ["lora.rank=8"]
before = "direct"
[evaluation]
benchmarks = ["synthetic:held-out"]
yarn_context = 0
"""


def declared(tmp_path, text=SFT_AND_RL):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load_recipe(str(path))


def test_a_recipe_declares_its_own_arms(tmp_path):
    recipe = declared(tmp_path)
    arms = {arm.name: arm_recipe(recipe, arm) for arm in chosen_arms(recipe, None)}
    assert list(arms) == ["sft", "direct", "lora", "full"]
    assert [stage.name for stage in arms["sft"].stages] == ["sft"]
    (stage,) = arms["direct"].stages
    assert (stage.temperature, arms["direct"].learning_rate, arms["direct"].lora) == (1.2, 1e-4, None)
    assert arms["lora"].lora.rank == 8 and [stage.name for stage in arms["lora"].stages] == ["sft", "rl"]
    assert arms["full"].stages[1].temperature == 1.0 and arms["full"].lora is None
    for name, arm in arms.items():
        assert arm.arms == () and arm.evaluation.context == 384 and arm.name == name
        (tmp_path / f"{name}.toml").write_text(to_toml(arm))
        assert load_recipe(str(tmp_path / f"{name}.toml")) == arm


def test_the_arms_of_the_sft_and_rl_recipe_are_the_ways_through_it():
    recipe = load_recipe("sft-rl-qwen3-4b")
    arms = {arm.name: arm for arm in chosen_arms(recipe, None)}
    made = {name: arm_recipe(recipe, arm) for name, arm in arms.items()}
    assert {name: [stage.name for stage in each.stages] for name, each in made.items()} == {
        "sft": ["sft"],
        "direct": ["rl"],
        "sft-rl": ["sft", "rl"],
        "continued": ["sft", "rl", "continued"],
        "hard": ["sft", "rl", "hard"],
        "lora": ["sft", "rl"],
        "full": ["sft", "rl", "continued", "hard"],
    }
    assert {name: arm.before for name, arm in arms.items()} == {
        "sft": None, "direct": None, "sft-rl": "direct", "continued": "sft-rl", "hard": "continued", "lora": "sft-rl",
        "full": None,
    }  # fmt: skip
    # Hard problems are a rule of the last stage: it alone tells the two arms apart, on the same data.
    hard, continued = made["hard"].stages[-1], made["continued"].stages[-1]
    assert (hard.select, continued.select) == (("keep level=Level 4,Level 5",), ())
    assert hard.model_copy(update={"name": continued.name, "select": ()}) == continued
    assert made["hard"].data == made["continued"].data == recipe.data
    # LoRA is the only arm that trains adapters, with learning rates of its own.
    assert {name for name, each in made.items() if each.lora is not None} == {"lora"}
    lora, whole = made["lora"], made["sft-rl"]
    assert (lora.lora.rank, lora.learning_rate, whole.learning_rate) == (64, 4e-5, 1e-6)
    assert [stage.learning_rate for stage in (lora.stages[0], whole.stages[0])] == [1e-4, 1e-5]
    # One stage has nothing to drop before it; all are measured alike, and end with their tokens.
    assert {name for name, each in made.items() if each.data.drop == ()} == {"sft", "direct"}
    assert all(each.evaluation == whole.evaluation for each in made.values())
    assert {stage.steps for each in made.values() for stage in each.stages if isinstance(stage, Stage)} == {ENDLESS}


def test_declared_arms_are_compared_with_the_first_model_and_with_the_arm_that_they_name(tmp_path):
    recipe = declared(tmp_path)
    known = {arm.name: arm for arm in chosen_arms(recipe, None)}
    runs = {
        name: [dataclasses.replace(result("plain", seed, shares(0.5, share)), arm=known[name]) for seed in (0, 1)]
        for name, share in (("sft", 0.25), ("direct", 0.5), ("lora", 1.0))
    }
    baseline, sft, direct, lora = arm_tables(known, runs)["made-up"]
    assert (baseline.mean.value, sft.to_plain.value, direct.to_plain.value) == (0.0, 0.375, 0.5)
    assert lora.before is known["direct"] and lora.to_before.value == 0.25 and sft.before is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('stages = ["rl"]', 'stages = ["lr"]', "arms.1.stages has 'lr', which is no stage of the recipe"),
        ('name = "direct"', 'name = "full"', r"arms.1.name is 'full', which is taken"),
        (
            'before = "direct"',
            'before = "lora"',
            "arms.2.before is 'lora'; give an arm above it",
        ),
    ],
)
def test_arms_that_make_no_sense_are_refused(tmp_path, old, new, message):
    with pytest.raises(RecipeError, match=message):
        declared(tmp_path, SFT_AND_RL.replace(old, new))


def test_an_arm_that_would_be_the_recipe_again_stands_for_it(tmp_path):
    recipe = declared(tmp_path, SFT_AND_RL.replace('set = ["lora.rank=8"]', ""))
    assert [arm.name for arm in chosen_arms(recipe, None)] == ["sft", "direct", "lora"]


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in records))


def leave_tokens(folder, *, profile=(), temperature=None, training=None):
    lines = [
        {"problem_id": f"p{index}", "num_samples": 4, "num_correct": 1, "num_truncated": 0, "mean_tokens": tokens / 4}
        for index, tokens in enumerate(profile)
    ]
    if lines:
        write_lines(folder.profile, lines)
    for stage, tokens in (temperature or {}).items():
        write_lines(folder.stage(stage).temperature, [{"sampled_tokens": tokens}])
    for stage, counts in (training or {}).items():
        metrics = [{"step": step, "sampled_tokens": count} for step, count in enumerate(counts, 1)]
        write_lines(folder.stage(stage).metrics, metrics)


def test_everything_that_trains_is_counted(tmp_path):
    folder = RunFolder(tmp_path)
    assert spent_tokens(folder, tiny()).total == 0
    leave_tokens(folder, profile=[10, 31], temperature={"stage-1": 100}, training={"stage-1": [7, 8], "stage-2": [1]})
    spent = spent_tokens(folder, tiny())
    assert (spent.profile, spent.temperature["stage-1"], spent.training["stage-1"]) == (41, 100, 15)
    assert spent.total == 41 + 100 + 15 + 1


def test_a_stage_may_sample_what_the_full_recipes_did_and_the_last_what_is_left():
    recipe, like = arm_recipe(tiny(), ARMS["dropping"]), {"stage-1": 400, "stage-2": 300, "stage-3": 200}
    spent = Spent(profile=50, temperature={"stage-1": 30}, training={})
    assert stage_limit(1000, spent, recipe, 0, like=like) == 400
    assert stage_limit(100, spent, recipe, 0, like=like) == 20  # no more than is left
    assert stage_limit(1000, spent, recipe, 0, like=None) == 306  # a third of 1000 - 50 - 30
    later = Spent(
        profile=50,
        temperature={"stage-1": 30, "stage-2": 20, "stage-3": 10},
        training={"stage-1": 410, "stage-2": 305, "stage-3": 100},
    )
    assert stage_limit(1000, later, recipe, 2, like=like) == 1000 - 50 - 60 - 715
    assert stage_limit(1000, later, recipe, 1, like=None) == (1000 - 50 - 50 - 410) // 2
    plain = arm_recipe(tiny(), ARMS["plain"])
    assert stage_limit(1000, Spent(profile=0, temperature={}, training={}), plain, 0, like=like) == 1000


def test_a_budget_that_is_gone_before_training_is_refused():
    recipe = arm_recipe(tiny(), ARMS["full"])
    with pytest.raises(RecipeError, match="full: 80 tokens are sampled before stage-1 trains, and the budget is 80"):
        stage_limit(80, Spent(profile=50, temperature={"stage-1": 30}, training={}), recipe, 0, like=None)


def test_the_folder_of_another_ablation_is_refused_and_more_arms_are_not(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "polaris_train.ablation.running.run_recipe", lambda request, until=None: asked.append(request) or 3
    )
    assert run_ablation(make(tmp_path, "plain")) == 3
    assert run_ablation(make(tmp_path, "plain", "data", seeds=(0, 1))) == 3
    assert [request.folder.path for request in asked] == [tmp_path / "full" / "seed-0"] * 2
    assert asked[0].overrides == ("seed=0",)
    with pytest.raises(DataError, match=r"another run: learning_rate was 0\.0003, now 0\.001; choose"):
        run_ablation(make(tmp_path, recipe=tiny("learning_rate=1e-3")))
    with pytest.raises(DataError, match="belongs to another run: tokens was None, now 5; choose another --out"):
        run_ablation(make(tmp_path, tokens=5))


def test_what_two_arms_do_alike_is_done_once(tmp_path):
    ablation = make(tmp_path, "plain", "data", "single")
    for arm in ablation.to_run:
        ablation.recipe_file(arm).parent.mkdir(exist_ok=True)
        ablation.recipe_file(arm).write_text(to_toml(ablation.arm_recipe(arm)))
    full = ablation.run(ARMS["full"], 0, [])
    for step in plan_steps(full):
        for path in (each for each in step.outputs if step.name != "stage-1.train"):
            file = path if path.suffix else path / "problems.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(step.name)
        if step.name == "stage-1.train":
            break
        record = {"step": step.name, "argv": list(step.argv), "fingerprint": fingerprint(step, full.folder)}
        write_manifest(full.folder.manifest(step.name), record)
    taken = {}
    for name in ("plain", "data", "single"):
        request = ablation.run(ARMS[name], 0, [])
        _take_over(request, ablation, 0)
        taken[name] = {path.stem for path in (request.folder.path / "steps").iterdir()}
    common = {"import", "check", "dedup", "split", "evaluate"}
    assert {each.partition(".")[0] for each in taken["plain"]} == common
    assert {each.partition(".")[0] for each in taken["data"]} == common | {"profile", "select"}
    assert {each.partition(".")[0] for each in taken["single"]} == common  # profiled at another context
    copied = ablation.folder(ARMS["data"], 0)
    assert copied.profile.read_text() == "profile"
    assert str(copied.profile) in json.loads(copied.manifest("profile").read_text())["argv"]


def test_a_difference_by_hand():
    after, before = [[1.0, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.25, 0.0]]
    found = contrast(after, before)
    assert found.by_seed == (0.25, 0.375)
    assert found.value == 0.3125
    # Two seeds: t of one degree of freedom is 12.706, s = 0.0884, s / sqrt(2) = 0.0625.
    assert found.seeds == pytest.approx((0.3125 - 12.7062 * 0.0625, 1.0), abs=1e-4)
    assert contrast(after).value == 0.625
    assert contrast(after[:1], before[:1]).seeds is None and contrast(after[:1], before[:1]).both is None


def test_arms_that_agree_everywhere_are_not_known_to_be_equal():
    found = contrast([[0.5] * 8] * 2, [[0.5] * 8] * 2)
    assert found.value == 0
    assert found.both == found.seeds  # two seeds say less than eight problems
    assert found.seeds[0] < found.problems[0] < -0.3


@given(st.integers(2, 5), st.integers(2, 7), st.integers(0, 10**6))
def test_the_interval_over_both_is_the_sum_over_all_pairs_that_share_a_seed_or_a_problem(num_seeds, num_problems, seed):
    """Of the residuals: what `contrast` finds from sums of squares, as the covariance of every pair of cells."""
    draw = random.Random(seed)
    rows = [[draw.uniform(-0.2, 0.2) for _ in range(num_problems)] for _ in range(num_seeds)]
    found = contrast(rows, [[0.0] * num_problems] * num_seeds)
    mean = fmean(map(fmean, rows))
    cells = list(itertools.product(range(num_seeds), range(num_problems)))

    def shared(alike):
        pairs = ((one, other) for one in cells for other in cells if alike(one, other))
        return sum((rows[s][p] - mean) * (rows[t][q] - mean) for (s, p), (t, q) in pairs) / len(cells) ** 2

    over_seeds = shared(lambda one, other: one[0] == other[0]) * num_seeds / (num_seeds - 1)
    over_problems = shared(lambda one, other: one[1] == other[1]) * num_problems / (num_problems - 1)
    assert over_seeds == pytest.approx(variance(map(fmean, rows)) / num_seeds)
    grid = np.array(rows)
    residuals = grid - grid.mean(axis=0) - grid.mean(axis=1, keepdims=True) + grid.mean()
    twice = (residuals**2).sum() / ((num_seeds - 1) * (num_problems - 1)) / len(cells)
    total = max(over_seeds + over_problems - twice, over_seeds, over_problems)
    half = student_quantile(min(num_seeds, num_problems) - 1) * math.sqrt(total)
    assert found.both == pytest.approx((max(-1, mean - half), min(1, mean + half)))


def planted(rng, *, num_seeds=5, num_problems=60, effect=0.06, seed_spread=0.03, problem_spread=0.1):
    """Two arms whose true difference varies by seed and by problem, and what the problems at hand would show."""
    level = rng.uniform(0.25, 0.7, num_problems)
    by_problem = rng.normal(0, problem_spread, num_problems).clip(-0.2, 0.2)
    by_seed = rng.normal(0, seed_spread, num_seeds)
    gains = effect + by_seed[:, None] + by_problem[None, :]
    before = rng.binomial(8, np.broadcast_to(level, gains.shape)) / 8
    after = rng.binomial(8, (level + gains).clip(0, 1)) / 8
    return after.tolist(), before.tolist(), effect + by_problem.mean()


def test_intervals_cover_a_planted_effect_as_often_as_they_say():
    rng = np.random.default_rng(0)
    num_tables = 600
    over_seeds = over_both = 0
    for _ in range(num_tables):
        after, before, here = planted(rng)
        each = contrast(after, before)
        over_seeds += each.seeds[0] <= here <= each.seeds[1]
        over_both += each.both[0] <= 0.06 <= each.both[1]
    assert 0.93 <= over_seeds / num_tables <= 0.97  # of 600 draws, 0.95 is seen within 0.018
    assert over_both / num_tables >= 0.94  # fewest degrees of freedom: it may cover more


def shares(*values):
    return {"made-up": {f"p{index}": value for index, value in enumerate(values)}}


def result(name, seed, final, yarn=None):
    spent = Spent(profile=0, temperature={}, training={"stage-1": 100 + 10 * (name == "plain")})
    return RunResult(
        arm=ARMS[name], seed=seed, spent=spent, steps=3, seconds=2.0, start=shares(0, 0), final=final, yarn=yarn
    )


def test_a_row_compares_with_plain_and_with_the_nearest_arm_that_was_run():
    results = {
        "plain": [result("plain", 0, shares(0.0, 0.5)), result("plain", 1, shares(0.25, 0.25))],
        "full": [
            result("full", 0, shares(0.5, 0.75), yarn=shares(0.75, 0.75)),
            result("full", 1, shares(0.5, 0.5), yarn=shares(0.5, 0.5)),
        ],
        "single": [result("single", 0, shares(0.0, 0.0)), result("single", 1, shares(0.0, 0.25))],
    }
    baseline, plain, full, single = arm_tables(ARMS, results)["made-up"]
    assert baseline.arm is BASELINE and baseline.mean.by_seed == (0.0, 0.0)
    assert (plain.to_plain, plain.before, found(plain.to_before)) == (None, None, "")
    assert full.before is ARMS["plain"] and full.to_before == full.to_plain
    assert full.to_plain.by_seed == (0.375, 0.25)
    assert full.to_yarn.value == 0.0625 and plain.yarn is None
    assert single.before is ARMS["full"] and single.to_before.by_seed == (-0.625, -0.375)
    assert found(contrast([[0.5, 0.6], [0.55, 0.55]], [[0.2, 0.3], [0.25, 0.26]])) == "helps"
    assert found(contrast([[0.2, 0.3], [0.25, 0.26]], [[0.5, 0.6], [0.55, 0.55]])) == "harms"
    assert found(contrast([[0.5, 0.6], [0.1, 0.1]], [[0.2, 0.3], [0.5, 0.5]])) == "not shown"


def leave_run(ablation, name, seed, share):
    folder, rng = ablation.folder(ARMS[name], seed), random.Random(f"{name} {seed}")
    leave_tokens(folder, profile=[40], training={"stage-1": [500 + 10 * seed]})
    for evaluation, rate in (("start", 0.2), ("final", share), ("yarn", share)):
        records = [
            {
                "problem_id": f"p{problem}",
                "references": ["1"],
                "completions": [
                    {
                        "outcome": "correct" if rng.random() < rate else "incorrect",
                        "answer": "1",
                        "text": "x",
                        "num_tokens": 3,
                        "finish_reason": "stop",
                    }
                    for _ in range(4)
                ],
            }
            for problem in range(12)
        ]
        write_scores(folder.evaluation(evaluation), [summarize("made-up", records)], model="m", protocol={})
        write_manifest(folder.manifest(f"evaluate.{evaluation}"), {"seconds": 9.0})
    write_manifest(folder.manifest("stage-1.train"), {"seconds": 30.5})


def test_an_ablation_is_written_as_numbers_text_and_page(tmp_path):
    ablation = make(tmp_path, "plain", "full", seeds=(0, 1, 2))
    for name, share in (("plain", 0.3), ("full", 0.9)):
        for seed in (0, 1):
            leave_run(ablation, name, seed, share)
    leave_run(ablation, "full", 2, 0.9)
    write_ablation(ablation)
    numbers, text, page = ablation.results
    content = json.loads(numbers.read_text())
    assert (content["seeds"], content["missing_seeds"]) == ([0, 1], [2])
    assert [run["tokens"]["total"] for run in content["runs"]] == [540, 550, 540, 550]
    assert {run["tokens"]["to_budget"] for run in content["runs"]} == {0.0}
    assert {run["seconds"] for run in content["runs"]} == {30.5}
    (baseline, plain, full) = content["benchmarks"]["made-up"]
    assert baseline["arm"] == "baseline" and baseline["to_plain"] is None
    assert full["to_plain"]["value"] == pytest.approx(full["mean"]["value"] - plain["mean"]["value"])
    assert "2 of 3 seeds" in text.read_text() and text.read_text() == describe_ablation(ablation)
    assert "| + staged context = full recipe | " in text.read_text()
    assert "<svg" in page.read_text() and page.read_text().count("<table") == 2
