"""What a step leaves for later ones: how long each problem's answers were."""

import json
import os
from contextlib import nullcontext
from dataclasses import asdict, replace

import pytest
import torch.distributed as dist
from polaris_data.problems import synthetic_problems, write_problems
from polaris_data.records import Visit
from polaris_reward import Outcome, boxed_grader
from polaris_rollout import Completion, Group
from polaris_train.recipe import load_recipe
from polaris_train.records import GradedGroup
from polaris_train.run_folder import RunFolder, StageFolder
from polaris_train.stage.launch import prepare_stage
from polaris_train.stage.rollouts import SynchronousRollouts, expected_tokens, visits


def completion(num_tokens, finish_reason="stop"):
    return Completion(token_ids=(1,) * num_tokens, logprobs=(-0.1,) * num_tokens, text="", finish_reason=finish_reason)


def visit(problem_id, step, mean_tokens):
    return Visit(
        run="run", stage="stage", step=step, problem_id=problem_id, num_samples=8, num_correct=3, num_truncated=0,
        mean_tokens=mean_tokens,
    )  # fmt: skip


def write_log(folder, records, *, modified):
    folder.mkdir()
    log = folder / "visits.jsonl"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    os.utime(log, (modified, modified))
    return log


def test_a_visit_says_how_long_the_answers_were():
    group = Group(problem_id="p", prompt_token_ids=(1,), completions=(completion(3), completion(8, "length")))
    graded = GradedGroup(group=group, outcomes=(Outcome.CORRECT, Outcome.NO_ANSWER), answers=("1", None))
    (record,) = visits([graded], run="run", stage="stage", step=7)
    assert record == Visit(
        run="run", stage="stage", step=7, problem_id="p", num_samples=2, num_correct=1, num_truncated=1, mean_tokens=5.5
    )


def test_a_step_grades_answers_after_the_thought_that_the_prompt_opened(tmp_path):
    problems = synthetic_problems(4, seed=1, split="train", levels=(1,))
    write_problems(tmp_path / "problems.jsonl", problems)
    recipe = load_recipe(
        "tiny-cpu", ["prompts_per_step=2", "samples_per_prompt=4", "stages.0.temperature=1", "evaluate_every=0"]
    )
    folder = StageFolder(
        prepare_stage(recipe, recipe.stages[0], tmp_path / "run", problems=str(tmp_path / "problems.jsonl"))
    )

    class Thinker:
        """Gives the right answer by turns within the thought and after it."""

        def sample(self, prompts, params, *, n):
            for prompt in prompts:
                (answer,) = next(each.references for each in problems if each.problem_id == prompt.problem_id)
                box = f"\\boxed{{{answer}}}"
                completions = (replace(completion(3), text=box), replace(completion(3), text=f"</think>{box}"))
                yield Group(
                    problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=completions * (n // 2),
                    prefilled="<think>\n",
                )  # fmt: skip

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with boxed_grader(1) as grader:
            rollouts = SynchronousRollouts(
                problems, folder.read_resolved(), folder=folder, open_sampler=lambda _: nullcontext(Thinker()),
                grade_many=grader.grade_many,
            )  # fmt: skip
            drawn, again = rollouts.next(1), rollouts.next(1)
    finally:
        dist.destroy_process_group()
    assert [each.outcomes for each in drawn.groups] == [(Outcome.NO_ANSWER, Outcome.CORRECT) * 2] * 2
    assert again.replayed
    assert [(each.group.prefilled, each.outcomes) for each in again.groups] == [
        ("<think>\n", each.outcomes) for each in drawn.groups
    ]


def test_the_latest_visit_of_any_stage_says_what_to_expect(tmp_path):
    write_log(tmp_path / "stage-2", [asdict(visit("a", 1, 500.0))], modified=200)
    write_log(
        tmp_path / "stage-1", [asdict(visit(key, step, 10.0 * step)) for step in (1, 2) for key in "ab"], modified=100
    )
    assert expected_tokens(RunFolder(tmp_path)) == {"a": 500.0, "b": 20.0}


def test_older_records_and_a_line_cut_short_are_passed_over(tmp_path):
    older = asdict(visit("a", 1, None))
    del older["mean_tokens"]
    assert Visit(**older).mean_tokens is None
    log = write_log(tmp_path / "stage-1", [older, asdict(visit("b", 1, 30.0))], modified=100)
    with log.open("a") as file:
        file.write('{"run": "run", "problem_id": "c", "mean_to')
    assert expected_tokens(RunFolder(tmp_path)) == {"b": 30.0}


@pytest.mark.parametrize("stages", [[], ["stage-1"]])
def test_a_run_without_visits_expects_nothing(tmp_path, stages):
    for stage in stages:
        (tmp_path / stage).mkdir()
    assert expected_tokens(RunFolder(tmp_path)) == {}
