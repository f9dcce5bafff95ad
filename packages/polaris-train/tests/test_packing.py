"""Packing must change nothing: not which sequences are trained on, nor what the model says about them."""

import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_train.model.packing import TrainingSequence, pack, partition
from polaris_train.model.policy import Policy
from transformers import Qwen3Config, Qwen3ForCausalLM


def sequence(prompt, answer, advantage=1.0):
    return TrainingSequence(
        prompt_token_ids=tuple(prompt),
        token_ids=tuple(answer),
        engine_logprobs=tuple(-float(token) for token in answer),
        advantages=advantage,
    )


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), min_size=0, max_size=40),
    max_tokens=st.integers(10, 120),
    num_ranks=st.integers(1, 4),
)
def test_every_sequence_is_in_one_micro_batch_and_all_ranks_have_equally_many(lengths, max_tokens, num_ranks):
    shares = partition(lengths, max_tokens=max_tokens, num_ranks=num_ranks)
    assert len(shares) == num_ranks
    assert len({len(share) for share in shares}) == 1
    members = [index for share in shares for batch in share for index in batch]
    assert sorted(members) == list(range(len(lengths)))
    for share in shares:
        for batch in share:
            assert sum(lengths[index] for index in batch) <= max_tokens or len(batch) == 1


def test_a_long_answer_runs_beside_several_short_ones():
    """Attention makes one of 100 tokens as costly as the three of 50 together, where it costs as much as the rest."""
    lengths = [100, 50, 50, 50]
    assert partition(lengths, max_tokens=200, num_ranks=2, quadratic_length=50) == [[[0]], [[1, 2, 3]]]
    assert partition(lengths, max_tokens=200, num_ranks=2) == [[[0, 3]], [[1, 2]]]


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=12), num_ranks=st.integers(1, 3))
def test_sequences_that_may_not_be_packed_are_alone_in_as_few_micro_batches_as_can_be(lengths, num_ranks):
    shares = partition(lengths, max_tokens=1000, num_ranks=num_ranks, alone=True)
    batches = [batch for share in shares for batch in share]
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(map(len, batches)) == 1
    assert {len(share) for share in shares} == {-(-len(lengths) // num_ranks)}


def test_sequences_that_fit_together_go_through_together():
    assert partition([60, 50, 40, 30], max_tokens=180, num_ranks=1) == [[[0, 1, 2, 3]]]
    assert partition([60, 50, 40, 30], max_tokens=90, num_ranks=1) == [[[0, 3], [1, 2]]]


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=7), num_ranks=st.integers(1, 3))
def test_ranks_that_run_together_cost_nearly_what_the_best_partition_does(lengths, num_ranks):
    """The bound of costliest first is 4/3; the best is found by trying all."""
    costs = [length + length**2 / 20 for length in lengths]

    def slowest(members):
        return max(sum(costs[index] for index in each) for each in members)

    every = itertools.product(range(num_ranks), repeat=len(lengths))
    best = min(
        slowest([[index for index, each in enumerate(owners) if each == rank] for rank in range(num_ranks)])
        for owners in every
    )
    shares = partition(lengths, max_tokens=1000, num_ranks=num_ranks, quadratic_length=20)
    assert slowest([share[0] for share in shares]) <= best * 4 / 3


def test_a_packed_micro_batch_matches_one_worked_out_by_hand():
    batch = pack([sequence([1, 2], [3, 4], advantage=0.5), sequence([5], [6], advantage=-1.0)])
    assert batch.input_ids.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert batch.predicting.tolist() == [1, 2, 4]
    assert batch.targets.tolist() == [3, 4, 6]
    assert batch.advantages.tolist() == [0.5, 0.5, -1.0]
    assert batch.engine_logprobs.tolist() == [-3.0, -4.0, -6.0]
    assert batch.sequences.tolist() == [0, 0, 1]
    assert batch.weights.tolist() == [1.0] * 3
    assert batch.off_policy.tolist() == [False] * 3
    assert batch.has_old_logprobs.tolist() == [False] * 3


def test_what_belongs_to_a_sequence_is_repeated_for_its_tokens():
    first = replace(sequence([1, 2], [3, 4]), weight=0.25, old_logprobs=(-0.5, -0.25))
    second = replace(sequence([5], [6]), weight=0.5, off_policy=True, old_logprobs=(-2.0,))
    batch = pack([first, second])
    assert batch.weights.tolist() == [0.25, 0.25, 0.5]
    assert batch.off_policy.tolist() == [False, False, True]
    assert batch.old_logprobs.tolist() == [-0.5, -0.25, -2.0]
    assert batch.has_old_logprobs.all()


def test_advantages_are_one_a_token_or_one_for_all():
    scalar, each = sequence([1, 2], [3, 4], advantage=0.5), sequence([5], [6, 7], advantage=(-1.0, 2.0))
    assert pack([scalar, each]).advantages.tolist() == [0.5, 0.5, -1.0, 2.0]
    assert pack([replace(scalar, advantages=(0.5, 0.5))]).advantages.equal(pack([scalar]).advantages)


@pytest.mark.parametrize("name", ["advantages", "engine_logprobs", "old_logprobs"])
def test_values_of_another_number_of_tokens_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} has 3 values for 2 tokens; give one a token"):
        replace(sequence([1], [2, 3]), **{name: (0.0, 0.0, 0.0)})


def test_what_one_sequence_has_and_another_lacks_is_told_apart():
    known = replace(sequence([1], [2, 3]), old_logprobs=(-0.5, -0.25))
    supervised = TrainingSequence(prompt_token_ids=(4,), token_ids=(5,))
    batch = pack([known, supervised])
    assert batch.has_old_logprobs.tolist() == [True, True, False]
    assert batch.old_logprobs[:2].tolist() == [-0.5, -0.25]
    assert batch.engine_logprobs.isnan().tolist() == [False, False, True]


def test_a_micro_batch_without_sequences_predicts_nothing():
    batch = pack([])
    assert batch.input_ids.shape == batch.position_ids.shape == (1, 1)
    per_token = ("predicting", "targets", "sequences", "advantages", "weights", "engine_logprobs", "off_policy")
    for name in (*per_token, "old_logprobs", "has_old_logprobs"):
        assert getattr(batch, name).shape == (0,)


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=True,
    )
    return Policy(Qwen3ForCausalLM(config))


@pytest.mark.numerics
def test_packed_sequences_do_not_see_each_other(policy):
    sequences = [sequence(range(3), range(5, 12)), sequence([7], [9, 9]), sequence(range(20), range(20, 25))]
    packed, entropies = policy(pack(sequences), temperature=1.2)
    alone = [policy(pack([each]), temperature=1.2) for each in sequences]
    assert torch.allclose(packed, torch.cat([logprobs for logprobs, _ in alone]), atol=1e-6)
    assert torch.allclose(entropies, torch.cat([entropy for _, entropy in alone]), atol=1e-6)


@pytest.mark.numerics
def test_logprobs_are_those_of_the_whole_model_at_the_sampling_temperature(policy):
    prompt, answer = [1, 2, 3], [4, 5, 6, 7]
    logprobs, _ = policy(pack([sequence(prompt, answer)]), temperature=1.4)
    logits = policy.model(input_ids=torch.tensor([prompt + answer])).logits[0] / 1.4
    expected = [logits[len(prompt) - 1 + i].log_softmax(-1)[token] for i, token in enumerate(answer)]
    assert torch.allclose(logprobs, torch.stack(expected), atol=1e-6)
