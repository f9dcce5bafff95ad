"""What a step leaves for later ones: its completions and what drew them, and how long each problem's answers were."""

import json
import os
import shutil
from contextlib import nullcontext
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
from polaris_data.problems import read_problems, synthetic_problems, write_problems
from polaris_data.records import Visit
from polaris_reward import Outcome, boxed_grader
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store import read_columns, read_groups, write_groups
from polaris_train.embedded import tiny_model
from polaris_train.errors import RunFolderError
from polaris_train.recipe import load_recipe
from polaris_train.records import GradedGroup
from polaris_train.run_folder import RunFolder, StageFolder
from polaris_train.stage.launch import prepare_stage
from polaris_train.stage.rollouts import StepSource, SynchronousRollouts, expected_tokens, visits
from safetensors.torch import load_file, save_file


def completion(num_tokens, finish_reason="stop"):
    return Completion(
        token_ids=(1,) * num_tokens, logprobs=(-0.125,) * num_tokens, text="", finish_reason=finish_reason
    )


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


@pytest.fixture(scope="module")
def grade_many():
    with boxed_grader(1) as grader:
        yield grader.grade_many


class Guesser:
    """Gives the same answers to every problem."""

    def sample(self, prompts, params, *, n):
        for prompt in prompts:
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=(completion(3),) * n)


class Fickle:
    """Knows the answer to some problems: every second time it is asked for one of them."""

    def __init__(self, references):
        self.references = references

    def sample(self, prompts, params, *, n):
        for prompt in prompts:
            right = f"\\boxed{{{self.references[prompt.problem_id]}}}"
            known = int(prompt.problem_id[-1], 16) % 4 == 0
            texts = [right if known and place % 2 else "" for place in range(n)]
            completions = tuple(replace(completion(3 + place), text=text) for place, text in enumerate(texts))
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=completions)


def no_sampler(step):
    raise AssertionError(f"step {step + 1} would be sampled again")


@pytest.fixture
def stage(tmp_path, one_rank, grade_many):
    """Prepare a stage of a model that is only this test's, in a folder of this name; return what gives its rollouts."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model(), model)

    def prepare(name, *, open_sampler=no_sampler, problems=8, **settings):
        write_problems(source := tmp_path / f"{problems}.jsonl", synthetic_problems(problems, seed=1, split="train"))
        values = {"prompts_per_step": 2, "samples_per_prompt": 4, "stages.0.temperature": 1, "evaluate_every": 0}
        recipe = load_recipe("tiny-cpu", [f"{key}={value}" for key, value in (values | settings).items()])
        folder = StageFolder(
            prepare_stage(recipe, recipe.stages[0], tmp_path / name, model=str(model), problems=str(source))
        )
        if name != "drawn" and (drawn := tmp_path / "drawn" / "stage-1" / "rollouts").exists():
            shutil.copytree(drawn, folder.path / "rollouts", dirs_exist_ok=True)
        drawn_from = StepSource(
            read_problems(folder.problems), folder.read_resolved(), folder=folder, grade_many=grade_many
        )
        rollouts = SynchronousRollouts(drawn_from, open_sampler=open_sampler)
        return SimpleNamespace(next=rollouts.next, require_own=drawn_from.require_own, recall=drawn_from.recall)

    rollouts = prepare("drawn", open_sampler=lambda _: nullcontext(Guesser()))
    prepare.groups = [rollouts.next(step).groups for step in (1, 2)]
    prepare.model = model
    return prepare


def other_weights(model):
    """Train the model a little, at the same path."""
    weights = load_file(model / "model.safetensors")
    save_file(
        {name: each + 1e-3 * each.abs().mean() for name, each in weights.items()}, model / "model.safetensors",
        metadata={"format": "pt"},
    )  # fmt: skip


def test_a_stage_that_continues_replays_what_it_drew(stage):
    again = stage("drawn", **{"stages.0.steps": 9, "checkpoint_every": 3, "num_processes": 1, "record_steps": 1})
    again.require_own(after=0)
    assert [again.next(step).groups for step in (1, 2)] == stage.groups
    assert again.next(2).replayed
    elsewhere = stage("the same under another name, evaluated", evaluate_samples=2)
    assert elsewhere.next(1).groups == stage.groups[0]


@pytest.mark.parametrize(
    ("differing", "said"),
    [
        ({"stages.0.temperature": 1.2}, r"temperature was 1\.0, now 1\.2"),
        ({"seed": 7}, "seed was 0, now 7"),
        ({"problems": 10}, "problems has other content now"),
        ({"learning_rate": 1e-3}, "learning_rate was .*, now 0.001"),
    ],
)
def test_what_something_else_drew_is_not_trained_on(stage, differing, said):
    rollouts = stage("other", **differing)
    for replay in (lambda: rollouts.next(1), lambda: rollouts.require_own(after=1)):
        named = rf"step-00000\d\.parquet was drawn by other weights, settings or problems: {said}; remove"
        with pytest.raises(RunFolderError, match=named):
            replay()


def test_what_other_weights_drew_is_not_trained_on_where_their_folder_has_the_same_name(stage):
    other_weights(stage.model)
    rollouts = stage("drawn")
    for replay in (lambda: rollouts.next(1), lambda: rollouts.require_own(after=1)):
        with pytest.raises(RunFolderError, match=r": model has other content now; remove .*rollouts to sample"):
            replay()
    rollouts.require_own(after=2)  # what a checkpoint holds is not replayed


def test_a_step_is_not_another_one(stage, tmp_path):
    folder = StageFolder(tmp_path / "drawn" / "stage-1")
    folder.rollout(1).replace(folder.rollout(2))
    with pytest.raises(RunFolderError, match=r"step-000002\.parquet was drawn .*: step was 1, now 2; remove"):
        stage("drawn").next(2)


def test_what_does_not_say_what_drew_it_is_not_trained_on(stage, tmp_path):
    path = StageFolder(tmp_path / "drawn" / "stage-1").rollout(1)
    columns = read_columns(path, ["outcome", "answer"])
    write_groups(path, read_groups(path), SamplingParams(), columns=columns)
    with pytest.raises(RunFolderError, match=r"does not say which weights and settings drew it, as in earlier"):
        stage("drawn").next(1)


def test_a_step_grades_answers_after_the_thought_that_the_prompt_opened(tmp_path, one_rank, grade_many):
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

    source = StepSource(problems, folder.read_resolved(), folder=folder, grade_many=grade_many)
    rollouts = SynchronousRollouts(source, open_sampler=lambda _: nullcontext(Thinker()))
    drawn, again = rollouts.next(1), rollouts.next(1)
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


def test_a_stage_that_looks_back_goes_on_after_a_kill_as_if_nothing_had_been(stage, tmp_path):
    problems = {each.problem_id: each for each in synthetic_problems(12, seed=1, split="train")}
    sampler = Fickle({name: each.references[0] for name, each in problems.items()})
    settings = {"stages.0.refill_below": 1.0, "stages.0.revisit_below": 0.25, "problems": 12, "prompts_per_step": 3}
    shutil.rmtree(tmp_path / "drawn" / "stage-1" / "rollouts")
    whole = stage("whole", open_sampler=lambda _: nullcontext(sampler), **settings)
    groups = [whole.next(step).groups for step in range(1, 10)]
    assert any(len(each) > 3 for each in groups) and all(3 <= len(each) <= 6 for each in groups)
    for each in groups:
        ids = [one.group.problem_id for one in each]
        assert len(set(ids)) == len(ids) and set(ids) <= set(problems)
    # After a kill: four steps are in the visit log, two more are on disk, and the others are sampled.
    log = tmp_path / "whole" / "stage-1" / "visits.jsonl"
    with log.open("w") as file:
        for step in range(1, 5):
            for each in visits(groups[step - 1], run="whole", stage="stage-1", step=step):
                file.write(json.dumps(each.to_data()) + "\n")
    for step in range(7, 10):
        (tmp_path / "whole" / "stage-1" / "rollouts" / f"step-{step:06d}.parquet").unlink()
    again = stage("whole", open_sampler=lambda _: nullcontext(sampler), **settings)
    again.recall()
    found = [again.next(step) for step in range(5, 10)]
    assert [each.replayed for each in found] == [True, True, False, False, False]
    assert [each.groups for each in found] == groups[4:]
