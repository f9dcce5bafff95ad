"""Recipes: the packaged ones load, mistakes are all named, overrides work."""

import pytest
from polaris_train.errors import RecipeError
from polaris_train.recipe import FREE_FIELDS, ResolvedStage, load_recipe, packaged_recipes

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
def test_every_packaged_recipe_loads(name):
    assert load_recipe(name).name == name


def test_the_published_values_of_qwen3_4b_are_in_its_recipe():
    recipe = load_recipe("qwen3-4b")
    assert [stage.temperature for stage in recipe.stages] == [1.4, 1.45, 1.5]
    assert [stage.context for stage in recipe.stages] == [39936 + 1024, 48128 + 1024, 52224 + 1024]
    assert (recipe.prompts_per_step, recipe.samples_per_prompt, recipe.learning_rate) == (128, 8, 1e-6)
    assert (recipe.clip_low, recipe.clip_high) == (0.2, 0.28)


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
        ("loss=ppo", "loss: .*'grpo', 'gspo' or 'cispo', got 'ppo'"),
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
