"""Tokens that older weights drew: how old each is, what the loss does about it, and what is reported."""

import math

import pytest
import torch
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.grpo.batches import BatchSettings, training_batches
from polaris_train.grpo.lag import steps_done, token_lags
from polaris_train.grpo.loss import LossSettings, token_losses
from polaris_train.grpo.updating import LagStats, update
from polaris_train.model.attention import attention_implementation
from polaris_train.model.packing import TrainingSequence, pack
from polaris_train.model.policy import Policy
from polaris_train.model.step import StepSettings
from polaris_train.records import GradedGroup
from transformers import AutoModelForCausalLM, Qwen3Config

DRAWN_AT_3 = "digest+run/stage-1+3"


def completion(num_tokens, weights=(), logprob=-1.0):
    return Completion(
        token_ids=tuple(range(1, num_tokens + 1)), logprobs=(logprob,) * num_tokens, text="", finish_reason="stop",
        weights=weights,
    )  # fmt: skip


def graded(*completions, version=DRAWN_AT_3, rescued=None):
    return GradedGroup(
        group=Group(problem_id="p", prompt_token_ids=(1, 2), completions=completions, weights_version=version),
        outcomes=tuple(Outcome.INCORRECT if index % 2 else Outcome.CORRECT for index in range(len(completions))),
        answers=(None,) * len(completions),
        rescued=rescued,
    )


SPANNING = completion(5, ((0, "run/stage-1+3"), (2, "run/stage-1+4"), (3, "run/stage-1+6")))


def test_the_lag_of_a_token_is_counted_from_the_weights_that_its_step_begins_with():
    """Step 7 begins with the weights of 6 steps."""
    group = graded(SPANNING, completion(3)).group
    assert token_lags(group, SPANNING, step=7) == (3, 3, 2, 0, 0)
    assert token_lags(group, completion(3), step=7) == (3, 3, 3)
    assert token_lags(group, completion(3), step=4) == (0, 0, 0)


@pytest.mark.parametrize("version", ["", "+3", "run/stage", "run/stage+", "run/stage+x3", "run/stage+-3"])
def test_a_version_that_does_not_say_how_many_steps_made_it_is_refused(version):
    with pytest.raises(ValueError, match="how many steps"):
        steps_done(version)


def test_a_sequence_carries_the_lag_of_each_token_and_a_rescued_one_none():
    settings = BatchSettings(max_answer_tokens=9, max_lag=3)
    rollout = [graded(SPANNING, completion(2)), graded(completion(2), completion(2), rescued=0)]
    (batch,) = training_batches(rollout, settings, step=7)
    assert [each.lags for each in batch.sequences] == [(3, 3, 2, 0, 0), (3, 3), 0, (3, 3)]
    assert pack(batch.sequences).lags.tolist() == [3, 3, 2, 0, 0, 3, 3, 0, 0, 3, 3]


def test_without_sampling_ahead_nothing_is_asked_of_the_versions():
    (batch,) = training_batches(
        [graded(SPANNING, completion(2), version="")], BatchSettings(max_answer_tokens=9), step=7
    )
    assert pack(batch.sequences).lags.tolist() == [0] * 7


def test_the_loss_of_a_spanning_completion_worked_out_by_hand():
    """The policy that the step begins with gives each token 0.4; it was drawn with 0.1, 0.25, 0.4 and 0.8.

    The weights ``pi_old / mu`` are 4 (cut at 2), 1.6, 1 and 0.5; at the first optimizer step ``pi / pi_old`` is 1, so
    a loss is minus the weight times the advantage, which is 3, and so is its slope by the log-probability.
    """
    drawn_with = (0.1, 0.25, 0.4, 0.8)
    sequence = TrainingSequence(
        prompt_token_ids=(1,), token_ids=(2, 3, 4, 5), advantages=3.0, weight=1.0,
        engine_logprobs=tuple(map(math.log, drawn_with)), lags=(2, 2, 1, 0),
    )  # fmt: skip
    logprobs = torch.full((4,), math.log(0.4), requires_grad=True)
    found = token_losses(logprobs, torch.zeros(4), pack([sequence]), LossSettings(max_lag=2))
    assert found.losses.tolist() == pytest.approx([-6.0, -4.8, -3.0, -1.5])
    found.losses.sum().backward()
    assert logprobs.grad.tolist() == pytest.approx([-6.0, -4.8, -3.0, -1.5])
    sums = {name: values.sum().item() for name, values in found.sums.items()}
    assert [sums[f"lag {lag}"] for lag in range(3)] == [1, 1, 2]
    assert [sums[f"prob_gap {lag}"] for lag in range(3)] == pytest.approx([0.4, 0.0, 0.3 + 0.15])
    assert [sums[f"mismatch {lag}"] for lag in range(3)] == [0, 0, 1]
    # Engine and trainer are compared where both had the same weights.
    assert (sums["fresh"], sums["prob_gap"]) == pytest.approx((1, 0.4))
    assert found.maxima["logprob_gap"].tolist() == pytest.approx([math.log(2)])


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    attention = attention_implementation(torch.device("cpu"), torch.float32)
    return Policy(AutoModelForCausalLM.from_config(config, attn_implementation=attention))


def test_an_update_says_of_each_lag_how_far_its_tokens_are_from_the_policy(policy):
    rollout = [graded(SPANNING, completion(2, logprob=-2.5)), graded(completion(3), completion(4))]
    (batch,) = training_batches(rollout, BatchSettings(max_answer_tokens=9, max_lag=3), step=7)
    gaps = {lag: [] for lag in range(4)}
    for each in batch.sequences:
        old = policy.frozen_logprobs(pack([each]), temperature=1.0).tolist()
        for lag, now, drawn in zip(each.lags, old, each.engine_logprobs, strict=True):
            gaps[lag].append(abs(math.exp(now) - math.exp(drawn)))
    stats = update(
        policy,
        torch.optim.SGD(policy.parameters(), lr=0.0),
        [batch],
        LossSettings(max_lag=3),
        StepSettings(max_tokens=8),
    ).stats
    assert [each.num_tokens for each in stats.lags] == [2, 0, 1, 11] == [len(gaps[lag]) for lag in range(4)]
    assert stats.lags[1] == LagStats(num_tokens=0, prob_gap_mean=None, mismatch_share=None)
    for lag in (0, 2, 3):
        assert stats.lags[lag].prob_gap_mean == pytest.approx(sum(gaps[lag]) / len(gaps[lag]), rel=1e-5)
    assert stats.prob_gap_mean == pytest.approx(stats.lags[0].prob_gap_mean)


def test_divergence_and_effective_sample_size_are_those_of_a_loop_over_the_tokens(policy):
    """Over every token that this run drew; a rescued completion says nothing, however far it is."""
    rollout = [
        graded(SPANNING, completion(2, logprob=-2.5)),
        graded(completion(3, logprob=-9.0), completion(4), rescued=0),
    ]
    (batch,) = training_batches(rollout, BatchSettings(max_answer_tokens=9, max_lag=3), step=7)
    ratios = []
    for each in batch.sequences:
        if not each.off_policy:
            old = policy.frozen_logprobs(pack([each]), temperature=1.0).tolist()
            ratios += [math.exp(now - drawn) for now, drawn in zip(old, each.engine_logprobs, strict=True)]
    for loss in (LossSettings(max_lag=3), LossSettings(loss="dppo", max_lag=3)):
        optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
        stats = update(policy, optimizer, [batch], loss, StepSettings(max_tokens=8)).stats
        expected = sum(ratio - 1 - math.log(ratio) for ratio in ratios) / len(ratios)
        assert stats.mismatch_kl == pytest.approx(expected, rel=1e-4)
        expected = sum(ratios) ** 2 / (len(ratios) * sum(ratio**2 for ratio in ratios))
        assert stats.ess == pytest.approx(expected, rel=1e-4)
        assert len(ratios) == 11
    assert stats.mismatch_share == 0  # dppo cuts none: what it leaves out is clipped


def test_where_all_tokens_are_older_nothing_is_said_of_engine_and_trainer(policy):
    (batch,) = training_batches(
        [graded(completion(3), completion(4))], BatchSettings(max_answer_tokens=9, max_lag=1), step=5
    )
    stats = update(
        policy,
        torch.optim.SGD(policy.parameters(), lr=0.0),
        [batch],
        LossSettings(max_lag=1),
        StepSettings(max_tokens=8),
    ).stats
    assert (stats.prob_gap_mean, stats.logprob_gap_max) == (None, None)
    assert [each.num_tokens for each in stats.lags] == [0, 7]
