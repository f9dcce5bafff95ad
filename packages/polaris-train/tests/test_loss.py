"""Losses against cases worked out by hand and loops over tokens, which give value and slope without autograd."""

import math
from functools import partial

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polaris_train.grpo.loss import (
    MAX_LOG_RATIO,
    LossSettings,
    cispo_loss,
    clipped_loss,
    dppo_loss,
    gspo_loss,
    kl_penalty,
    token_losses,
)
from polaris_train.model.packing import TrainingSequence, pack

pytestmark = pytest.mark.numerics

LOW, HIGH, DUAL = 0.2, 0.28, 3.0
PUBLISHED = {"clip_low": LOW, "clip_high": HIGH}

tokens = st.lists(
    st.tuples(st.floats(-4, 0), st.floats(-4, 0), st.floats(-3, 3), st.integers(0, 3)), min_size=1, max_size=20
)
"""Log-probability, old log-probability, advantage and sequence of each token."""


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


def one_token(loss, ratio, advantage, **options):
    """The loss of a token and its derivative by the log-probability."""
    logprob = doubles([math.log(ratio) - 1.0]).requires_grad_()
    value = loss(logprob, doubles([-1.0]), doubles([advantage]), **PUBLISHED | options)
    value.sum().backward()
    return value.item(), logprob.grad.item()


def losses_and_slopes(loss, logprobs, *rows, **options):
    leaf = doubles(logprobs).requires_grad_()
    values = loss(leaf, *rows, **options)
    values.sum().backward()
    return values.tolist(), leaf.grad.tolist()


def slow_clipped(ratio, advantage, *, dual_clip=None):
    """Value and derivative of one token's loss, case by case."""
    if advantage >= 0:
        return (-(1 + HIGH) * advantage, 0.0) if ratio > 1 + HIGH else (-ratio * advantage, -ratio * advantage)
    if ratio < 1 - LOW:
        return -(1 - LOW) * advantage, 0.0
    if dual_clip is not None and ratio > dual_clip:
        return -dual_clip * advantage, 0.0
    return -ratio * advantage, -ratio * advantage


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.27, 1.0, -1.27, -1.27),  # clip-higher: beyond 1.2, still earning
        (1.5, 1.0, -1.28, 0.0),  # clipped high: no more to gain
        (1.5, -1.0, 1.5, 1.5),  # wrong and more likely: not clipped
        (0.5, 1.0, -0.5, -0.5),  # right and less likely: not clipped
        (0.5, -1.0, 0.8, 0.0),  # clipped low
        (5.0, -1.0, 3.0, 0.0),  # wrong and far more likely: the second clip
        (5.0, 1.0, -1.28, 0.0),
    ],
)
def test_the_clipped_loss_matches_cases_worked_out_by_hand(ratio, advantage, value, slope):
    assert one_token(clipped_loss, ratio, advantage, dual_clip=DUAL) == pytest.approx((value, slope))


def test_without_the_second_clip_a_wrong_token_costs_ever_more():
    assert one_token(clipped_loss, 5.0, -1.0) == pytest.approx((5.0, 5.0))


@pytest.mark.parametrize("dual_clip", [None, DUAL])
@given(rows=tokens)
def test_the_clipped_loss_and_its_gradient_are_those_of_a_loop_over_the_tokens(dual_clip, rows):
    logprobs, old, advantages, _ = zip(*rows, strict=True)
    expected = [
        slow_clipped(math.exp(new - before), advantage, dual_clip=dual_clip) for new, before, advantage, _ in rows
    ]
    found = losses_and_slopes(
        clipped_loss, logprobs, doubles(old), doubles(advantages), **PUBLISHED, dual_clip=dual_clip
    )
    assert list(zip(*found, strict=True)) == [pytest.approx(pair, abs=1e-9) for pair in expected]


@given(rows=tokens)
def test_the_gspo_loss_and_its_gradient_are_those_of_a_loop_over_the_sequences(rows):
    logprobs, old, advantages, sequences = zip(*rows, strict=True)
    expected = []
    for _, _, advantage, sequence in rows:
        ratios = [new - before for new, before, _, other in rows if other == sequence]
        expected.append(slow_clipped(math.exp(sum(ratios) / len(ratios)), advantage))
    found = losses_and_slopes(
        gspo_loss, logprobs, doubles(old), doubles(advantages), torch.tensor(sequences), **PUBLISHED
    )
    assert list(zip(*found, strict=True)) == [pytest.approx(pair, abs=1e-9) for pair in expected]


@given(rows=tokens)
def test_a_sequence_mean_of_gspo_has_the_gradient_of_the_paper(rows):
    """Which differentiates ``s = exp(mean log-ratio)`` itself, once for each sequence."""
    logprobs, old, advantages, sequences = (list(row) for row in zip(*rows, strict=True))
    by_sequence = [doubles(advantages)[sequences.index(each)] for each in sequences]
    advantages = torch.stack(by_sequence)
    paper = doubles(logprobs).requires_grad_()
    total = doubles(0.0)
    for each in set(sequences):
        members = torch.tensor([index for index, one in enumerate(sequences) if one == each])
        ratio = (paper[members] - doubles(old)[members]).mean().exp()
        advantage = advantages[members[0]]
        clipped = min(max(ratio, ratio.new_tensor(1 - LOW)), ratio.new_tensor(1 + HIGH))
        total = total - torch.minimum(ratio * advantage, clipped * advantage)
    total.backward()
    leaf = doubles(logprobs).requires_grad_()
    losses = gspo_loss(leaf, doubles(old), advantages, torch.tensor(sequences), **PUBLISHED)
    lengths = doubles([sequences.count(each) for each in sequences])
    (losses / lengths).sum().backward()
    assert (losses / lengths).sum().item() == pytest.approx(total.item(), abs=1e-9)
    assert torch.allclose(leaf.grad, paper.grad, atol=1e-9)


@given(rows=tokens)
def test_the_cispo_loss_and_its_gradient_are_those_of_a_loop_over_the_tokens(rows):
    logprobs, old, advantages, _ = zip(*rows, strict=True)
    expected = []
    for new, before, advantage, _ in rows:
        weight = min(max(math.exp(new - before), 0.0), 5.0)
        expected.append((-weight * advantage * new, -weight * advantage))
    found = losses_and_slopes(cispo_loss, logprobs, doubles(old), doubles(advantages), clip_low=1.0, clip_high=4.0)
    assert list(zip(*found, strict=True)) == [pytest.approx(pair, abs=1e-9) for pair in expected]


@pytest.mark.parametrize("ratio", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_cispo_takes_the_gradient_of_no_token_away(ratio, advantage):
    assert one_token(cispo_loss, ratio, advantage)[1] != 0


@pytest.mark.parametrize(
    ("prob", "drawn", "advantage", "slope"),
    [
        (0.69, 0.5, 1.0, -0.69 / 0.5),  # has risen by less than 0.2: still earning
        (0.71, 0.5, 1.0, 0.0),  # by more: no more to gain
        (0.71, 0.5, -1.0, 0.71 / 0.5),  # wrong and more likely: not masked
        (0.31, 0.5, -1.0, 0.31 / 0.5),
        (0.29, 0.5, -1.0, 0.0),  # wrong, and has fallen enough
        (0.29, 0.5, 1.0, -0.29 / 0.5),  # right and less likely: not masked
        (0.011, 0.001, 1.0, -11.0),  # eleven times as likely, and next to nothing has moved
        (0.1, 0.001, 1.0, -20.0),  # the weight is cut at 20
        (0.9, 0.1, 0.0, 0.0),
    ],
)
def test_the_dppo_loss_matches_cases_worked_out_by_hand(prob, drawn, advantage, slope):
    logprob = doubles([math.log(prob)]).requires_grad_()
    value = dppo_loss(logprob, doubles([math.log(drawn)]), doubles([advantage]), clip_low=0.2, clip_high=0.2)
    value.sum().backward()
    assert logprob.grad.item() == pytest.approx(slope)
    assert value.item() == pytest.approx(slope * math.log(prob))


@given(rows=tokens)
def test_the_dppo_loss_and_its_gradient_are_those_of_a_loop_over_the_tokens(rows):
    logprobs, drawn, advantages, _ = zip(*rows, strict=True)
    expected = []
    for new, before, advantage, _ in rows:
        moved = math.exp(new) - math.exp(before)
        masked = moved > HIGH if advantage > 0 else moved < -LOW and advantage < 0
        slope = 0.0 if masked else -min(math.exp(new - before), 20.0) * advantage
        expected.append((slope * new, slope))
    found = losses_and_slopes(dppo_loss, logprobs, doubles(drawn), doubles(advantages), **PUBLISHED)
    assert list(zip(*found, strict=True)) == [pytest.approx(pair, abs=1e-9) for pair in expected]


@pytest.mark.parametrize(
    "loss",
    [
        clipped_loss,
        cispo_loss,
        dppo_loss,
        lambda *rows, **clips: gspo_loss(*rows, torch.zeros(7, dtype=torch.long), **clips),
    ],
)
def test_on_policy_every_loss_has_the_policy_gradient(loss):
    logprobs = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    advantages = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    loss(logprobs, logprobs.detach(), advantages, **PUBLISHED).sum().backward()
    assert torch.allclose(logprobs.grad, -advantages)


@pytest.mark.parametrize("loss", [partial(clipped_loss, dual_clip=DUAL), clipped_loss, cispo_loss, dppo_loss])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
@pytest.mark.parametrize("log_ratio", [-1e4, 1e4])
def test_a_completion_of_any_age_gives_finite_losses_and_gradients(loss, advantage, log_ratio):
    logprob = torch.tensor([-1.0], requires_grad=True)
    value = loss(logprob, logprob.detach() - log_ratio, torch.tensor([advantage]), **PUBLISHED)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(logprob.grad).all()
    assert value.abs() <= math.exp(MAX_LOG_RATIO) * 1.001


def test_no_tokens_give_no_losses():
    none, index = torch.empty(0), torch.empty(0, dtype=torch.long)
    assert gspo_loss(none, none, none, index, **PUBLISHED).shape == (0,)
    assert clipped_loss(none, none, none, **PUBLISHED).shape == (0,)


@pytest.mark.parametrize("difference", [-1e-3, 1e-4, -1e-5])
def test_a_small_divergence_keeps_its_digits(difference):
    """Against the series; ``exp(d) - d - 1`` has none of them left.

    ``expm1`` and the subtraction round by an ulp of ``d`` each, which is ``4 * eps / d`` of ``d * d / 2``.
    """
    reference = torch.tensor([difference])
    d, eps = float(reference), torch.finfo(torch.float32).eps
    assert kl_penalty(torch.zeros(1), reference).item() == pytest.approx(d * d / 2 + d**3 / 6, rel=4 * eps / abs(d))


@given(rows=tokens)
@example(rows=[(-1.3709101597873607e-09, 0.0, 0.0, 0)])
def test_the_divergence_is_that_of_a_loop_over_the_tokens_and_never_negative(rows):
    logprobs, reference, _, _ = zip(*rows, strict=True)
    values, slopes = losses_and_slopes(kl_penalty, logprobs, doubles(reference))
    differences = [before - new for new, before, _, _ in rows]
    assert values == pytest.approx([math.exp(d) - d - 1 for d in differences], abs=1e-9)
    assert slopes == pytest.approx([1 - math.exp(d) for d in differences], abs=1e-9)
    assert min(values) >= 0


def test_the_mean_of_the_divergence_is_the_true_one():
    """Exactly, over every token of a distribution."""
    generator = torch.Generator().manual_seed(2)
    policy, reference = torch.randn(2, 9, dtype=torch.float64, generator=generator).log_softmax(dim=1)
    expected = (policy.exp() * (policy - reference)).sum()
    assert torch.allclose((policy.exp() * kl_penalty(policy, reference)).sum(), expected, atol=1e-12)


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 1000))
def test_autograd_of_the_losses_agrees_with_finite_differences(seed):
    """Of those that are functions of the log-probabilities alone; in the others, parts are held constant."""
    generator = torch.Generator().manual_seed(seed)
    old, advantages = torch.randn(2, 12, dtype=torch.float64, generator=generator)
    # Ratios on both sides of every bound, and away from it: there the loss has a kink.
    ratios = doubles([0.3, 0.7, 0.9, 1.1, 1.2, 1.4, 2.0, 2.8, 3.2, 5.0, 0.5, 1.0])
    logprobs = (old + ratios.log()).requires_grad_()
    for loss in (
        lambda new: clipped_loss(new, old, advantages, **PUBLISHED),
        lambda new: clipped_loss(new, old, advantages, **PUBLISHED, dual_clip=DUAL),
        lambda new: kl_penalty(new, old),
    ):
        assert torch.autograd.gradcheck(loss, logprobs)


def test_the_clipped_share_of_gspo_is_that_of_its_sequences():
    """One token went far up and the other as far down: the tokens' ratios are out of range, their sequence's is 1."""
    sampled = (-1.0, -1.0)
    batch = pack(
        [TrainingSequence(prompt_token_ids=(1,), token_ids=(2, 3), engine_logprobs=sampled, old_logprobs=sampled)]
    )
    logprobs = torch.tensor([-0.5, -1.5])
    clipped = {
        loss: token_losses(logprobs, torch.zeros(2), batch, LossSettings(loss=loss)).sums["clipped"].tolist()
        for loss in ("grpo", "gspo")
    }
    assert clipped == {"grpo": [True, True], "gspo": [False, False]}
    both = token_losses(torch.tensor([-0.5, -1.0]), torch.zeros(2), batch, LossSettings(loss="gspo", clip_high=0.2))
    assert both.sums["clipped"].tolist() == [True, True]  # one moved, and the sequence's ratio is exp(0.25)
