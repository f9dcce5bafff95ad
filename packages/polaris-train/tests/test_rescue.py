"""Rescue: one failure of an all-wrong group is replaced by an earlier correct answer, and nothing else changes."""

import tempfile
from dataclasses import replace
from math import exp
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.errors import RunFolderError
from polaris_train.grpo.batches import BatchSettings, training_batches
from polaris_train.grpo.loss import LossSettings, token_losses
from polaris_train.grpo.rescue import RescueBuffer
from polaris_train.model.packing import pack
from polaris_train.records import GradedGroup
from polaris_train.resolved import ResolvedStage
from polaris_train.run_folder import StepFiles
from polaris_train.stage.rollouts import visits

MAX_AGE, MAX_TOKENS = 3, 6
SAMPLES = 3


def completion(number, length):
    """A completion that no other step has."""
    return Completion(
        token_ids=(number,) * length,
        logprobs=tuple(-0.125 * (number % 7 + position + 1) for position in range(length)),
        text=f"answer {number}",
        finish_reason="stop",
    )


def graded(problem_id, outcomes, lengths, *, first=0):
    completions = tuple(completion(first + index, length) for index, length in enumerate(lengths))
    return GradedGroup(
        group=Group(problem_id=problem_id, prompt_token_ids=(1, 2), completions=completions),
        outcomes=tuple(Outcome.CORRECT if right else Outcome.INCORRECT for right in outcomes),
        answers=tuple(str(first + index) for index in range(len(lengths))),
    )


def stage(**values):
    return ResolvedStage(
        **{"run": "run", "stage": "stage", "model": "tiny", "problems": "synthetic", "problems_sha256": ""}
        | {"context": 20, "max_prompt_tokens": 10, "temperature": 1.0, "steps": 1}
        | values
    )


def new_buffer(folder=None, *, max_age=MAX_AGE, seed=0):
    return RescueBuffer(
        StepFiles(folder or Path(tempfile.mkdtemp())), max_age=max_age, max_tokens=MAX_TOKENS, seed=seed
    )


outcome_rows = st.one_of(
    st.just([False] * SAMPLES), st.lists(st.booleans(), min_size=SAMPLES, max_size=SAMPLES)
)  # often all wrong
length_rows = st.lists(st.integers(1, 9), min_size=SAMPLES, max_size=SAMPLES)
histories = st.lists(
    st.dictionaries(st.sampled_from("abc"), st.tuples(outcome_rows, length_rows), min_size=1), min_size=1, max_size=12
)


def steps_of(history):
    return [
        [
            graded(name, outcomes, lengths, first=100 * step + 10 * "abc".index(name))
            for name, (outcomes, lengths) in sorted(problems.items())
        ]
        for step, problems in enumerate(history, start=1)
    ]


def usable(rollouts, problem_id, *, step):
    """What a group of this step may be rescued with, found the slow way: the correct ones of its newest such step."""
    for earlier in range(step - 1, max(0, step - 1 - MAX_AGE), -1):
        for each in rollouts[earlier - 1]:
            found = [
                one
                for one, reward in zip(each.group.completions, each.rewards, strict=True)
                if each.group.problem_id == problem_id and reward and len(one.token_ids) <= MAX_TOKENS
            ]
            if found:
                return found, step - earlier
    return [], 0


@settings(max_examples=40, deadline=None)
@given(history=histories, seed=st.integers(0, 100))
def test_only_groups_all_wrong_are_rescued_and_only_where_an_answer_is_kept(history, seed):
    rollouts = steps_of(history)
    buffer = new_buffer(seed=seed)
    for step, rollout in enumerate(rollouts, start=1):
        before = list(rollout)
        rescued = buffer.rescue(rollout, step=step)
        assert rollout == before
        assert visits(rollout, run="r", stage="s", step=step) == visits(before, run="r", stage="s", step=step)
        for old, new in zip(rollout, rescued, strict=True):
            answers, age = usable(rollouts, old.group.problem_id, step=step)
            if any(old.rewards) or not answers:
                assert new is old
                continue
            assert sum(new.rewards) == 1 and new.rewards[new.rescued] == 1
            assert new.rescue_age == age and 1 <= age <= MAX_AGE
            one = new.group.completions[new.rescued]
            assert one in answers
            assert new.answers[new.rescued] == one.text.removeprefix("answer ")
            others = [index for index in range(SAMPLES) if index != new.rescued]
            for name in ("outcomes", "answers"):
                assert [getattr(new, name)[i] for i in others] == [getattr(old, name)[i] for i in others]
            assert [new.group.completions[i] for i in others] == [old.group.completions[i] for i in others]
            assert replace(new.group, completions=()) == replace(old.group, completions=())


@settings(max_examples=30, deadline=None)
@given(history=histories, seed=st.integers(0, 100), cut=st.integers(2, 6))
def test_what_is_rescued_is_the_same_again_and_after_a_kill(history, seed, cut):
    rollouts = steps_of(history)
    buffer, killed = new_buffer(seed=seed), Path(tempfile.mkdtemp())
    resumed, checkpoint = new_buffer(killed, seed=seed), {}
    for step, rollout in enumerate(rollouts, start=1):
        expected = buffer.rescue(rollout, step=step)
        assert resumed.rescue(rollout, step=step) == expected
        if step == cut - 1:
            checkpoint = dict(resumed.stored)
    last = min(cut - 1, len(rollouts))
    whole = {path.name: path.read_bytes() for path in killed.iterdir()}
    resumed = new_buffer(killed, seed=seed)
    resumed.restore(checkpoint if last == cut - 1 else buffer.stored, step=last)
    assert all(int(path.stem.removeprefix("step-")) <= last for path in killed.iterdir())
    again = new_buffer(seed=seed)
    for step, rollout in enumerate(rollouts, start=1):
        expected = again.rescue(rollout, step=step)
        assert step <= last or resumed.rescue(rollout, step=step) == expected
    assert resumed.stored == buffer.stored
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == whole


def test_without_an_age_nothing_is_kept():
    buffer = new_buffer(max_age=0)
    right, wrong = graded("a", [True, False], [2, 2]), graded("a", [False, False], [2, 2])
    assert buffer.rescue([right], step=1) == [right]
    assert buffer.rescue([wrong], step=2) == [wrong]
    assert buffer.stored == {}


def fill(buffer, *, steps):
    """Keep an answer of problem ``a`` in every other step and of a problem of its own in every step."""
    for step in range(1, steps + 1):
        names = [f"only {step}", *(["a"] if step % 2 else [])]
        buffer.rescue([graded(name, [True, False], [2, 2], first=10 * step) for name in names], step=step)


def test_answers_are_on_disk_and_only_their_steps_in_memory(tmp_path):
    buffer = new_buffer(tmp_path)
    fill(buffer, steps=3)
    assert buffer.stored == {"only 1": 1, "a": 3, "only 2": 2, "only 3": 3}
    found = buffer.read(["a", "only 2"])
    assert [(each.step, each.answer, each.group.texts) for each in found.values()] in (
        [(3, "30", ("answer 30",)), (2, "20", ("answer 20",))], [(2, "20", ("answer 20",)), (3, "30", ("answer 30",))],
    )  # fmt: skip


def test_a_file_goes_when_no_step_that_may_still_be_taken_can_need_it(tmp_path):
    buffer = new_buffer(tmp_path)
    fill(buffer, steps=6)
    buffer.remove_before(6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{step:06d}.parquet" for step in (3, 4, 5, 6)]


def test_a_lost_answer_is_named_with_what_to_do(tmp_path):
    buffer = new_buffer(tmp_path)
    fill(buffer, steps=3)
    known = dict(buffer.stored)
    path = tmp_path / "step-000003.parquet"
    spoilt = bytearray(path.read_bytes())
    spoilt[len(spoilt) // 3] ^= 255
    path.write_bytes(spoilt)
    with pytest.raises(RunFolderError, match=r"step-000003.parquet has the answers for rescue of step 3 and cannot"):
        buffer.read(["a", "only 3"])
    path.unlink()
    with pytest.raises(RunFolderError, match=r"it is missing\); put it back, or remove the stage's checkpoints"):
        new_buffer(tmp_path).restore(known, step=3)


def test_the_failure_that_is_replaced_and_the_answer_that_is_kept_are_drawn_evenly():
    replaced, kept = set(), set()
    for seed in range(60):
        buffer = new_buffer(max_age=1, seed=seed)
        buffer.rescue([graded("a", [True, True, True], [2, 2, 2])], step=1)
        (new,) = buffer.rescue([graded("a", [False] * 3, [2, 2, 2], first=50)], step=2)
        replaced.add(new.rescued), kept.add(new.answers[new.rescued])
    assert (replaced, kept) == ({0, 1, 2}, {"0", "1", "2"})


def rescued_batch():
    buffer = new_buffer(max_age=2)
    buffer.rescue([graded("a", [True, False, False], [3, 2, 2])], step=1)
    rescued = buffer.rescue([graded("a", [False] * 3, [4, 5, 2], first=50)], step=3)
    (batch,) = training_batches(rescued, BatchSettings(max_answer_tokens=10), step=3)
    return rescued[0], batch


@pytest.mark.numerics
def test_a_rescued_answer_pulls_by_its_ratio_to_the_policy_that_sampled_it():
    new, batch = rescued_batch()
    micro = pack(batch.sequences)
    assert micro.off_policy.sum() == 3
    stored = micro.engine_logprobs[micro.off_policy]
    # By the first token the policy has moved little, by the second too far up, by the third far down.
    now = micro.engine_logprobs.clone()
    now[micro.off_policy] = stored + torch.tensor([0.1, 0.5, -2.0])
    logprobs = now.requires_grad_()
    settings = LossSettings(dual_clip=None, clip_low=0.2, clip_high=0.28)
    token_losses(logprobs, torch.zeros_like(logprobs), micro, settings).losses.sum().backward()
    advantage = batch.sequences[new.rescued].advantages
    assert advantage > 0 and logprobs.grad is not None
    expected = [-advantage * exp(0.1), 0.0, -advantage * exp(-2.0)]
    assert logprobs.grad[micro.off_policy].tolist() == pytest.approx(expected, rel=1e-5)
    assert logprobs.grad[~micro.off_policy].tolist() == pytest.approx(
        [-each for each in micro.advantages[~micro.off_policy].tolist()]
    )


@pytest.mark.parametrize("correction", ["truncate", "mask"])
def test_a_rescued_answer_is_no_mismatch_of_engine_and_trainer(correction):
    _, batch = rescued_batch()
    micro = pack(batch.sequences)
    moved = micro.engine_logprobs - 3.0
    corrected, plain = (
        token_losses(moved, torch.zeros_like(moved), micro, LossSettings(mismatch_correction=each)).losses
        for each in (correction, "none")
    )
    weights = corrected / plain
    assert weights[micro.off_policy].tolist() == [1.0, 1.0, 1.0]
    assert weights[~micro.off_policy].max() < 0.1


def test_the_ages_of_rescued_answers_are_counted():
    _, batch = rescued_batch()
    assert (batch.rescued_groups, batch.rescue_ages) == (1, (2,))
