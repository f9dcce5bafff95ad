"""The learning rate: a function of the step, worked out by hand, and the same after a stage was continued."""

import math

import pytest
import torch
from polaris_data.errors import OtherRunError
from polaris_train.model.learning_rate import learning_rate_share, set_learning_rate
from polaris_train.recipe import load_recipe
from polaris_train.run_folder import StageFolder
from polaris_train.stage.launch import prepare_stage

STAGE = "stage-1"


def shares(num_steps, **options):
    return [learning_rate_share(step, **options) for step in range(1, num_steps + 1)]


def test_a_line_up_and_a_line_down_worked_out_by_hand():
    found = shares(8, schedule="linear", warmup_steps=2, decay_steps=6, min_ratio=0.2)
    assert found == pytest.approx([1 / 3, 2 / 3, 1.0, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_half_a_cosine_worked_out_by_hand():
    found = shares(6, schedule="cosine", decay_steps=4)
    assert found == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0.0, 0.0])


def test_a_constant_rate_may_have_a_warm_up_and_no_end():
    assert shares(5, schedule="constant", warmup_steps=1) == [0.5, 1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_every_step_up_to_the_last_one_that_falls_learns_and_no_rate_is_above_its_highest(schedule):
    found = shares(100, schedule=schedule, warmup_steps=10, decay_steps=100)
    assert max(found) == found[10] == 1.0
    assert min(found) > 0
    assert found[:11] == sorted(found[:11])
    assert found[10:] == sorted(found[10:], reverse=True)


def test_a_rate_is_set_for_every_group_of_parameters():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(2)]
    optimizer = torch.optim.AdamW(groups, lr=1.0)
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_a_stage_keeps_the_end_of_its_schedule_when_it_is_continued_with_more_steps(tmp_path):
    overrides = [
        "stages.0.temperature=1.0", "stages.0.steps=6", "lr_schedule=cosine", "lr_min_ratio=0.1", "prompts_per_step=2",
    ]  # fmt: skip

    def prepare(*more):
        recipe = load_recipe("tiny-cpu", [*overrides, *more])
        return StageFolder(prepare_stage(recipe, recipe.stage(STAGE), tmp_path / "run")).read_resolved()

    assert prepare().lr_decay_steps == 6
    with pytest.raises(OtherRunError, match="lr_decay_steps was 6, now 9"):
        prepare("stages.0.steps=9")
    continued = prepare("stages.0.steps=9", "lr_decay_steps=6")
    assert (continued.steps, continued.lr_decay_steps) == (9, 6)
