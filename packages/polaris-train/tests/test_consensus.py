"""CORE in a stage: what wrong answers earn, what is remembered over a kill and in the next stage, and what is said."""

import json
import logging

import pytest
import torch
import torch.distributed as dist
from polaris_data import DataError, Problem, write_problems
from polaris_data.files import write_text
from polaris_data.profile import GradedAnswers, ProfileRollouts, rollouts_path
from polaris_reward import Outcome
from polaris_rollout import Completion, Group, SamplingParams
from polaris_train.embedded import tiny_model
from polaris_train.errors import RecipeError
from polaris_train.grpo.batches import BatchSettings, training_batches
from polaris_train.grpo.consensus import Consensuses
from polaris_train.recipe import load_recipe
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import RunFolder, StageFolder
from polaris_train.stage.capsule import record_step
from polaris_train.stage.checkpoint import Checkpointer
from polaris_train.stage.ending import Ending
from polaris_train.stage.launch import prepare_stage
from polaris_train.stage.loop import train_stage
from polaris_train.stage.replay import replay_step
from polaris_train.stage.rollouts import Rollout, visits
from polaris_train.stage.settings import load_stage_policy, stage_identity, start_core, start_state

PROBLEMS = [Problem(problem_id=name, question="Start with 2. Add 50.", references=("52",)) for name in ("a", "b")]
RIGHT, WRONG = Outcome.CORRECT, Outcome.INCORRECT


def group(name, *answers):
    """Answers that underline these results; each is an outcome and the results."""
    completions = tuple(
        Completion(
            token_ids=(7 + index, 8, 9), logprobs=(-2.0,) * 3, finish_reason="stop",
            text=" ".join(rf"\underline{{{each}}}" for each in results),
        )
        for index, (_, *results) in enumerate(answers)
    )  # fmt: skip
    outcomes = tuple(outcome for outcome, *_ in answers)
    return GradedGroup(
        group=Group(problem_id=name, prompt_token_ids=(10, 11), completions=completions),
        outcomes=outcomes, answers=(None,) * len(outcomes),
    )  # fmt: skip


STEPS = {
    1: [group("a", (RIGHT, "17"), (RIGHT, "17", "18"), (WRONG, "17"), (WRONG,)), group("b", *[(WRONG, "17")] * 4)],
    2: [group("a", (RIGHT, "18"), (WRONG, "18"), (WRONG,), (WRONG,)), group("b", (RIGHT, "9"), *[(WRONG, "9")] * 3)],
    3: [group("a", *[(WRONG, "99")] * 4), group("b", (RIGHT, "9.0"), (WRONG, "9"), (WRONG, "8"), (WRONG, "9", "8"))],
}
OVERLAPS = {
    1: [(None, None, 1.0, 0.0), (None,) * 4],
    2: [(None, 0.5, 0.0, 0.0), (None,) * 4],
    3: [(0.0,) * 4, (None, 1.0, 0.0, 0.5)],
}
KNOWN = {"a": [["17", 2], ["18", 2]], "b": [["9", 2]]}


class MadeUp:
    """The answers of three steps."""

    def next(self, step):
        return Rollout(groups=STEPS[step], replayed=False)

    def position(self, step):
        return {"cursor": step}


def train(folder, *, steps):
    """Train some steps, or continue after those that have a checkpoint; return the results."""
    config = ResolvedStage(
        run="run", stage="stage-1", model=str(tiny_model()), problems="made up", problems_sha256="", context=64,
        max_prompt_tokens=6, temperature=1.0, steps=steps, learning_rate=1e-3, prompts_per_step=2, samples_per_prompt=4,
        core={}, checkpoint_every=1, keep_checkpoints=9, record_steps=1,
    )  # fmt: skip
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        state = start_state(config, load_stage_policy(config, device=torch.device("cpu")), folder)
        state.core = start_core(config, PROBLEMS, folder)
        checkpointer = Checkpointer(folder.checkpoints, keep=9, identity=stage_identity(config))
        checkpointer.restore(state)
        results = []
        for result in train_stage(
            config, state=state, rollouts=MadeUp(), evaluate=lambda *_, **__: {}, ending=Ending(config, folder),
            checkpointer=checkpointer,
        ):  # fmt: skip
            record_step(result.taken, state.policy, config, folder)
            results.append(result)
        state.core.write(folder.consensus)
        checkpointer.close()
        return results
    finally:
        dist.destroy_process_group()


def test_a_stage_rewards_shared_results_and_goes_on_from_the_same_consensus(tmp_path):
    whole, parts = StageFolder(tmp_path / "whole"), StageFolder(tmp_path / "parts")
    results = train(whole, steps=3)
    assert {each.step: [one.overlaps for one in each.groups] for each in results} == OVERLAPS
    assert json.loads(whole.consensus.read_text()) == KNOWN
    first, second = train(parts, steps=1), train(parts, steps=3)
    assert [each.step for each in second] == [2, 3]
    assert [each.metrics for each in [*first, *second]] == [each.metrics for each in results]
    assert parts.consensus.read_bytes() == whole.consensus.read_bytes()
    for step in (1, 2, 3):
        copies = [each.checkpoints.step(step).consensus.read_bytes() for each in (whole, parts)]
        assert copies[0] == copies[1]
    assert replay_step(parts, 3).identical
    assert results[2].metrics["process_reward"] == pytest.approx((0.5 + 0.5) / 7)
    assert results[2].metrics["overlap"] == pytest.approx((1.0 + 0.5) / 7)
    assert results[2].metrics["process_share"] == pytest.approx(2 / 7)
    seen = visits(results[2].groups, run="r", stage="s", step=3)
    assert [(each.num_correct, each.overlap) for each in seen] == [(0, 0.0), (1, 0.5)]


def test_wrong_answers_are_compared_by_what_they_earn():
    """Scores 1, 1, 0.5, 0 and in the group without any right answer 0.5, 0: advantages less the mean."""
    core = Consensuses(PROBLEMS, min_count=2)
    mixed, unknown = core.reward(STEPS[1], step=1)
    assert mixed.scores == (1.0, 1.0, 0.5, 0.0) and mixed.rewards == (1.0, 1.0, 0.0, 0.0)
    assert not unknown.informative
    (failed,) = core.reward([group("a", (WRONG, "17"), (WRONG,))], step=2)
    assert failed.scores == (0.5, 0.0) and failed.informative and failed.mean_overlap == 0.5
    (batch,) = training_batches(
        [mixed, unknown, failed], BatchSettings(max_answer_tokens=9, normalize_std=False), step=1
    )
    assert [each.advantages for each in batch.sequences] == [0.375, 0.375, -0.125, -0.625, 0.25, -0.25]


def test_problems_without_a_consensus_are_said_once(caplog):
    core = Consensuses(PROBLEMS, min_count=2)
    with caplog.at_level(logging.WARNING):
        core.reward(STEPS[1], step=1)
        core.reward(STEPS[1], step=2)
    assert [each.message for each in caplog.records] == [
        "step 1: 1 of 2 problems with wrong answers have no consensus yet, and these earn nothing until enough right "
        "ones underline the same results (said once); where most have none, begin with more right answers "
        "(data.profile_samples), or let fewer agree (core.min_count)"
    ]


def test_answers_without_underlines_are_said_once(caplog):
    with caplog.at_level(logging.WARNING):
        (found,) = Consensuses(PROBLEMS, min_count=2).reward([group("a", (RIGHT,), (WRONG,))], step=1)
    assert found.scores == (1.0, 0.0)
    (record,) = caplog.records
    assert "no answer underlines a result, so [core] rewards nothing: ask for \\underline{}" in record.message


def test_a_later_stage_begins_with_what_is_known(tmp_path):
    core = Consensuses(PROBLEMS, min_count=2)
    core.reward(STEPS[1], step=1)
    core.write(tmp_path / "known.json")
    later = Consensuses(PROBLEMS, min_count=2)
    later.read(tmp_path / "known.json")
    (found,) = later.reward([group("a", (WRONG, "17"), (WRONG, "18"))], step=1)
    assert found.overlaps == (1.0, 0.0)


OTHER = Problem(problem_id="other", question="Start with 3. Add 50.", references=("53",))
PROFILE = [
    group("a", (RIGHT, "17", "18"), (WRONG, "99")),
    group("b", (WRONG, "9"), (RIGHT, "9")),
    group("other", (RIGHT, "23"), (RIGHT, "23")),
    group("a", (RIGHT, "17.0"), (RIGHT,), (WRONG, "18")),
]


def write_profile(run, profile, *, num_graded=4):
    """Write the training problems of a run and the graded answers of their profile, as `polaris-data profile` does."""
    run.training.parent.mkdir(parents=True, exist_ok=True)
    write_problems(run.training, [*PROBLEMS, OTHER])
    with ProfileRollouts(rollouts_path(run.profile), {}, SamplingParams(max_tokens=9)) as rollouts:
        num_before = dict.fromkeys("ab", 0) | {"other": 0}
        for number, each in enumerate(profile):
            name, count = each.group.problem_id, len(each.outcomes)
            rollouts.append(num_before[name], each.group)
            outcomes = each.outcomes if number < num_graded else each.outcomes[:1]
            lists = {"num_tokens": (3,) * len(outcomes), "truncated": (False,) * len(outcomes)}
            rollouts.add_grades(
                [GradedAnswers(problem_id=name, first_sample=num_before[name], outcomes=outcomes, **lists)]
            )
            num_before[name] += count
        rollouts.finish({"a": 0, "b": 1, "other": 2})


def prepare(tmp_path):
    """Prepare a stage on the two problems and one whose id is that of another in the profile."""
    problems = [*PROBLEMS, Problem(problem_id="other", question="Start with 4. Add 50.", references=("54",))]
    write_problems(tmp_path / "problems.jsonl", problems)
    sets = ["core.min_count=2", "prompts_per_step=2", "stages.0.temperature=1.0", "evaluate_every=0"]
    recipe = load_recipe("tiny-cpu", sets)
    run = tmp_path / "run"
    return StageFolder(prepare_stage(recipe, recipe.stages[0], run, problems=str(tmp_path / "problems.jsonl")))


def test_a_first_stage_begins_with_what_right_answers_of_the_profile_underline(tmp_path, caplog):
    write_profile(RunFolder(tmp_path / "run"), PROFILE)
    folder = prepare(tmp_path)
    assert json.loads(folder.first_consensus.read_text()) == {"a": [["17", 2], ["18", 1]], "b": [["9", 1]]}
    assert caplog.messages[-1] == (
        "consensus of the profile: 4 right answers, 1 of which underline nothing; 1 of 3 problems begin with results "
        "that 2 agree on"
    )
    (found,) = start_core(folder.read_resolved(), PROBLEMS, folder).reward(
        [group("a", (WRONG, "17"), (WRONG,))], step=1
    )
    assert found.scores == (0.5, 0.0) and found.informative


def test_a_stage_goes_on_with_the_consensus_that_it_began_with(tmp_path):
    run = RunFolder(tmp_path / "run")
    write_profile(run, PROFILE)
    before = prepare(tmp_path)
    known, resolved = before.first_consensus.read_bytes(), before.resolved.read_bytes()
    (rollouts_path(run.profile) / "grades.jsonl").unlink()
    after = prepare(tmp_path)
    assert (after.first_consensus.read_bytes(), after.resolved.read_bytes()) == (known, resolved)
    write_text(after.first_consensus, ["{}"])
    with pytest.raises(DataError, match="belongs to another run"):
        prepare(tmp_path)


def test_a_stage_that_began_without_a_profile_goes_on_without_it(tmp_path):
    before = prepare(tmp_path).resolved.read_bytes()
    write_profile(RunFolder(tmp_path / "run"), PROFILE)
    folder = prepare(tmp_path)
    assert folder.resolved.read_bytes() == before and folder.read_resolved().consensus is None
    assert not folder.first_consensus.exists()


def test_answers_of_the_profile_that_underline_nothing_or_have_no_grade_are_counted(tmp_path, caplog):
    silent = [group("a", (RIGHT,), (RIGHT,)), group("b", (WRONG, "9"), (RIGHT, "9"))]
    write_profile(RunFolder(tmp_path / "run"), silent, num_graded=1)
    assert prepare(tmp_path).read_resolved().consensus is None
    assert "2 right answers, 2 of which underline nothing, 1 answers without a grade; 0 of 3" in caplog.messages[-1]


@pytest.mark.parametrize("name", ["long2short=0.2", "mgpo_lambda=1"])
def test_what_asks_whether_answers_are_right_does_not_go_with_core(name):
    with pytest.raises(RecipeError, match=r"leave out \w+, or \[core\]"):
        load_recipe("tiny-cpu", ["core.min_count=2", name])
