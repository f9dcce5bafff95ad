"""Recipes: the packaged ones load, mistakes are all named, overrides work."""

import re
from itertools import takewhile

import pytest
from polaris_train.cli.main import app
from polaris_train.errors import RecipeError
from polaris_train.recipe import load_recipe, packaged_recipes
from polaris_train.recipe.sft import SftStage
from polaris_train.resolved import FREE_FIELDS, ResolvedStage
from typer.testing import CliRunner

VALID = """
model = "tiny"
problems = "synthetic"
max_prompt_tokens = 100

[[stages]]
name = "stage-1"
context = 512
temperature = 1.0
steps = 3
"""


@pytest.fixture
def recipe_file(tmp_path):
    def write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return str(path)

    return write


@pytest.mark.parametrize("name", packaged_recipes())
def test_every_packaged_recipe_loads_and_no_stage_is_shorter_than_the_one_before(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    contexts = [stage.context for stage in recipe.stages]
    assert contexts == sorted(contexts)


@pytest.mark.parametrize("path", packaged_recipes().values(), ids=packaged_recipes())
def test_every_packaged_recipe_begins_by_saying_what_it_is_and_where_its_values_are_from(path):
    text = path.read_text(encoding="utf-8")
    comment = "".join(takewhile(lambda line: line.startswith("#"), text.splitlines(keepends=True)))
    assert re.search(r"^# Source: \w", comment, re.MULTILINE), path
    assert "[data]" in text and "[evaluation]" in text


@pytest.mark.parametrize("name", ["qwen3-4b-single-node", "qwen3-1.7b-one-gpu"])
def test_a_recipe_that_was_derived_says_that_it_was_not_run(name):
    words = packaged_recipes()[name].read_text(encoding="utf-8").replace("#", " ").split()
    assert "was not run on such a machine" in " ".join(words)


def test_show_lists_every_packaged_recipe_with_its_file():
    done = CliRunner().invoke(app, ["show"])
    assert dict(line.split(maxsplit=1) for line in done.stdout.splitlines()) == {
        name: str(path) for name, path in packaged_recipes().items()
    }


PUBLISHED = {
    "qwen3-4b": [(39936, 1.4, 450), (48128, 1.45, 150), (52224, 1.5, 100)],
    "qwen3-1.7b": [(39936, 1.5, 270), (48128, 1.55, 230)],
    "r1-distill-qwen-7b": [(15360, 0.7, 520), (23552, 1.0, 370), (31744, 1.1, 600)],
    "deepscaler-1.5b": [(8192, 0.6, 1040), (16384, 0.6, 480), (24576, 0.6, 230)],
}
"""Answer tokens, temperature and steps of each stage."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_values_are_in_the_recipe(name):
    recipe = load_recipe(name)
    stages = [(stage.context - recipe.max_prompt_tokens, stage.temperature, stage.steps) for stage in recipe.stages]
    assert stages == PUBLISHED[name]
    assert (recipe.prompts_per_step, recipe.samples_per_prompt, recipe.learning_rate) == (128, 8, 1e-6)
    assert (recipe.clip_low, recipe.clip_high) == (0.2, 0.2 if name == "deepscaler-1.5b" else 0.28)
    assert recipe.kl_coef == (1e-3 if name == "deepscaler-1.5b" else 0)


def test_the_second_polaris_trains_in_float16_on_half_the_batch():
    recipe = load_recipe("polaris-v2-qwen3-4b-2507")
    assert (recipe.precision, recipe.prompts_per_step, recipe.samples_per_prompt) == ("float16", 64, 8)
    taught, *reinforced = recipe.stages
    assert isinstance(taught, SftStage) and taught.context == 16384 + recipe.max_prompt_tokens
    assert [(stage.temperature, stage.steps) for stage in reinforced] == [(1.2, 300), (1.3, 200)]
    assert r"within \underline{} and output the final answer within \boxed{}." in recipe.prompt_suffix
    assert recipe.core is not None and recipe.data.drop == ("difference above=0.5",)


def test_an_override_replaces_one_value(recipe_file):
    recipe = load_recipe(recipe_file(VALID), ["stages.0.temperature=1.2", "problems=my data.jsonl", "seed=7"])
    assert recipe.stages[0].temperature == 1.2
    assert recipe.problems == "my data.jsonl"
    assert recipe.seed == 7


def test_all_mistakes_are_reported_at_once_with_their_paths(recipe_file):
    text = VALID.replace("temperature = 1.0", "temperature = -1").replace("model =", "modell =")
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe_file(text + "extra = 1\n"))
    message = str(caught.value)
    for part in ("modell: unknown key", "model: missing", "stages.0.temperature:", "-1", "stages.0.extra: unknown key"):
        assert part in message


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("stages.5.steps=1", "stages.5.steps"),
        ("nonsense", "dotted.path=value"),
        ("learning_rat=1", "learning_rat: unknown key"),
        ("samples_per_prompt=1", "samples_per_prompt: .*greater than or equal to 2, got 1"),
        ("top_p=0.95", "top_p: unknown key; training samples from the whole distribution"),
        ("stages.0.top_k=20", "stages.0.top_k: unknown key; training samples from the whole distribution"),
        ("stages.0.temperature=2.5", "stages.0.temperature: .*less than or equal to 2, got 2.5"),
        ("optimizer_steps_per_batch=3", "prompts_per_step is 128, which does not divide into .* = 3 equal parts"),
        ("truncated=penalized", '"penalized" needs it'),
        ("overlong_cache=50", "overlong_cache = 50 do not belong together"),
        ("loss=ppo", "loss: .*'grpo', 'gspo', 'cispo' or 'dppo', got 'ppo'"),
        ("normalize_mean=true", "set normalize_std = false"),
        ("loss=dppo", 'mismatch_correction = "truncate" would count them twice; set mismatch_correction = "none"'),
        ("mismatch_correction=geometric", "a band of 0.5 to 2 keeps every sequence.*set mismatch_low = 0.99"),
        ("lr_min_ratio=0.1", 'lr_schedule is "constant", so lr_decay_steps and lr_min_ratio say nothing'),
        ("betas=[0.9, 1.0]", "betas.1: .*less than 1, got 1.0"),
        ("long2short=1", "long2short: .*less than 1, got 1"),
        ("precision=fp8", "precision: .*got 'fp8'"),
        ("trackers=['mlflow']", "trackers.0: .*got 'mlflow'"),
        ("max_skipped_steps=-1", "max_skipped_steps"),
        ("dual_clip=0.5", "dual_clip: .*greater than 1, got 0.5"),
        ("learning_rate=nan", "learning_rate"),
    ],
)
def test_a_wrong_override_is_refused(recipe_file, override, part):
    with pytest.raises(RecipeError, match=part):
        load_recipe(recipe_file(VALID), [override])


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["truncated=penalized", "overlong_cache=50"], "can make negative; choose one"),
        (["lr_schedule=cosine", "lr_warmup_steps=3"], "has fallen by step 3; give fewer"),
        (["lr_schedule=linear", "lr_decay_steps=2"], "would be 0 after step 2, but stages.0 has 3 steps"),
    ],
)
def test_parts_of_the_objective_that_contradict_each_other_are_refused(recipe_file, overrides, part):
    also = [] if "lr" in overrides[0] else ["normalize_mean=true", "normalize_std=false"]
    with pytest.raises(RecipeError, match=part):
        load_recipe(recipe_file(VALID), [*overrides, *also])


def test_what_older_versions_did_not_have_is_not_in_the_files_of_a_recipe_without_it(recipe_file):
    """So that their run folders go on."""
    text = load_recipe(recipe_file(VALID)).model_dump_json()
    new = ("lr_schedule", "lr_warmup_steps", "lr_decay_steps", "lr_min_ratio", "betas")
    curriculum = ("hint_share", "revisit_below", "refill_below")
    for name in (*new, *curriculum, "normalize_mean", "mgpo_lambda", "long2short"):
        assert f'"{name}"' not in text, name
    assert '"betas":[0.9,0.95]' in load_recipe(recipe_file(VALID), ["betas=[0.9, 0.95]"]).model_dump_json()


def test_an_unknown_recipe_or_stage_is_answered_with_the_known_ones(recipe_file):
    with pytest.raises(RecipeError, match="tiny-cpu"):
        load_recipe("no-such-recipe")
    with pytest.raises(RecipeError, match=r"\['stage-1'\]"):
        load_recipe(recipe_file(VALID)).stage("stage-2")


def test_a_file_that_is_not_toml_is_refused(recipe_file):
    with pytest.raises(RecipeError, match="not a TOML file"):
        load_recipe(recipe_file("model = = 3"))


def test_a_context_without_room_for_an_answer_is_refused(recipe_file):
    with pytest.raises(RecipeError, match=r"stages\.0\.context is 512"):
        load_recipe(recipe_file(VALID), ["max_prompt_tokens=512"])


def test_engines_that_do_not_divide_the_ranks_are_refused(recipe_file):
    assert load_recipe(recipe_file(VALID), ["num_processes=4", "tensor_parallel=2"]).tensor_parallel == 2
    assert load_recipe(recipe_file(VALID), ["tensor_parallel=3"]).tensor_parallel == 3
    with pytest.raises(RecipeError, match="tensor_parallel is 3, which does not divide the 4 ranks"):
        load_recipe(recipe_file(VALID), ["num_processes=4", "tensor_parallel=3"])
    with pytest.raises(RecipeError, match="tensor_parallel"):
        load_recipe(recipe_file(VALID), ["tensor_parallel=0"])


def test_the_soft_penalty_fits_the_answers_of_every_stage(recipe_file):
    path = recipe_file(VALID)
    settings = ["truncated=penalized", "max_prompt_tokens=100"]
    assert load_recipe(path, [*settings, "overlong_cache=411"]).overlong_cache == 411
    with pytest.raises(RecipeError, match=r"overlong_cache is 412, but stages.0 has answers of at most 412 tokens"):
        load_recipe(path, [*settings, "overlong_cache=412"])


def test_what_may_change_when_a_stage_is_continued_are_fields_of_it():
    assert set(FREE_FIELDS) <= set(ResolvedStage.model_fields)
