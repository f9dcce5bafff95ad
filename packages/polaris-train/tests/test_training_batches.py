"""From graded groups to what an optimizer step trains on: who is left out, and what every token weighs."""

import pytest
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.grpo.batches import BatchSettings, training_batches
from polaris_train.records import GradedGroup

MAX_ANSWER_TOKENS = 20


def settings(**values):
    return BatchSettings(max_answer_tokens=MAX_ANSWER_TOKENS, **values)


def graded(rewards, lengths, *, rescued=None, name="p"):
    """A group; an answer as long as the budget was truncated."""
    completions = tuple(
        Completion(
            token_ids=tuple(range(length)),
            logprobs=(-1.0,) * length,
            text="",
            finish_reason="length" if length == MAX_ANSWER_TOKENS else "stop",
        )
        for length in lengths
    )
    return GradedGroup(
        group=Group(problem_id=name, prompt_token_ids=(1, 2), completions=completions),
        outcomes=tuple(Outcome.CORRECT if reward else Outcome.INCORRECT for reward in rewards),
        answers=("1",) * len(rewards),
        rescued=rescued,
    )


def lengths_of(batch):
    return [len(sequence.token_ids) for sequence in batch.sequences]


MIXED = graded([1, 0, 0, 0], [3, 4, 5, 20])
ALL_RIGHT = graded([1, 1, 1, 1], [6, 6, 6, 6])
ALL_WRONG = graded([0, 0, 0, 0], [7, 7, 7, 7])


def test_groups_that_teach_nothing_are_in_neither_the_loss_nor_its_denominator():
    (batch,) = training_batches([ALL_RIGHT, MIXED, ALL_WRONG], settings(), step=1)
    assert lengths_of(batch) == [3, 4, 5, 20]
    assert [sequence.weight for sequence in batch.sequences] == pytest.approx([1 / 32] * 4)
    assert [sequence.advantages for sequence in batch.sequences] == pytest.approx([1.5, -0.5, -0.5, -0.5], abs=1e-5)


def test_a_masked_answer_is_left_out_of_the_loss_but_its_siblings_were_compared_with_it():
    (batch,) = training_batches([MIXED], settings(mask_truncated=True), step=1)
    assert lengths_of(batch) == [3, 4, 5]
    assert [sequence.weight for sequence in batch.sequences] == pytest.approx([1 / 12] * 3)
    assert [sequence.advantages for sequence in batch.sequences] == pytest.approx([1.5, -0.5, -0.5], abs=1e-5)


def test_a_soft_penalty_lowers_the_reward_of_long_answers_before_they_are_compared():
    penalized = settings(overlong_cache=8, normalize_std=False)
    (batch,) = training_batches([graded([1, 1, 0, 0], [3, 14, 16, 20])], penalized, step=1)
    rewards = [1.0, 0.75, -0.5, -1.0]
    mean = sum(rewards) / 4
    assert [each.advantages for each in batch.sequences] == pytest.approx([reward - mean for reward in rewards])


def test_short_correct_answers_are_preferred_where_the_group_has_wrong_ones():
    groups = [graded([1, 1, 0, 0], [2, 4, 5, 6]), graded([1, 1, 1, 1], [2, 4, 5, 6])]
    (batch,) = training_batches(groups, settings(long2short=0.2, normalize_std=False), step=1)
    assert [each.advantages for each in batch.sequences] == pytest.approx([0.7, 0.3, -0.5, -0.5])


def test_groups_count_by_how_undecided_they_are():
    groups = [graded([1, 1, 0, 0], [3] * 4), graded([1, 0, 0, 0], [3] * 4)]
    (batch,) = training_batches(groups, settings(mgpo_lambda=1.0, normalize_mean=True, normalize_std=False), step=1)
    weight = 0.25**-0.25 * 0.75**-0.75 / 2  # exp of the entropy, over 2
    expected = [1, 1, -1, -1, 3 * weight, *[-weight] * 3]
    assert [each.advantages for each in batch.sequences] == pytest.approx(expected, abs=1e-4)


def test_each_optimizer_step_has_its_own_denominator():
    first, second = training_batches(
        [MIXED, ALL_RIGHT, graded([1, 0], [2, 3]), graded([0, 1], [4, 5])], settings(num_optimizer_steps=2), step=1
    )
    assert {sequence.weight for sequence in first.sequences} == {1 / 32}
    assert {sequence.weight for sequence in second.sequences} == {1 / 14}


def test_a_copied_group_counts_as_if_it_were_there_as_often():
    groups = [graded([1, 0], [2, 3], name="a"), graded([1, 0], [5, 7], name="b"), ALL_WRONG]
    (batch,) = training_batches(groups, settings(substitution="copy"), step=1)
    assert batch.copied_groups == 1
    assert lengths_of(batch) == [2, 3, 5, 7]
    weights = [sequence.weight for sequence in batch.sequences]
    counts = [2, 1] if weights[0] > weights[2] else [1, 2]
    num_tokens = counts[0] * 5 + counts[1] * 12
    assert weights == pytest.approx([count / num_tokens for count in counts for _ in range(2)])


def test_only_the_rescued_completion_is_off_policy():
    (batch,) = training_batches([graded([0, 1, 0, 0], [3, 4, 5, 6], rescued=1), MIXED], settings(), step=1)
    assert [sequence.off_policy for sequence in batch.sequences] == [False, True, *[False] * 6]
    assert [sequence.old_logprobs for sequence in batch.sequences] == [None, (-1.0,) * 4, *[None] * 6]
    assert batch.rescued_groups == 1


def test_a_step_in_which_no_group_can_teach_has_nothing_to_train_on():
    (batch,) = training_batches([ALL_RIGHT, ALL_WRONG], settings(), step=1)
    assert batch.sequences == []
    assert batch.copied_groups == 0
