"""Groups that teach nothing: the published copying has the expected gradient of re-weighting."""

import itertools
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from polaris_train.grpo.advantage import group_multiplicities
from polaris_train.grpo.weights import token_weights

NUM_SAMPLES = 3
MAX_TOKENS = 12
CASES = [  # informative groups, groups that teach nothing
    (2, 1),
    (3, 2),
    (4, 4),
    (2, 3),  # fewer than are needed: drawn with replacement
    (3, 5),
]


def every_substitution(num_good, num_bad):
    """All outcomes of the draw, each as likely as the others."""
    draws = (
        itertools.combinations(range(num_good), num_bad)
        if num_good >= num_bad
        else itertools.product(range(num_good), repeat=num_bad)
    )
    return [tuple(1 + draw.count(group) for group in range(num_good)) for draw in draws]


def gradient(counts, slopes, lengths, aggregation):
    """The gradient of a step whose completions have these slopes, summed over their tokens."""
    repeated = [count for count in counts for _ in range(NUM_SAMPLES)]
    weights = token_weights(lengths, repeated, aggregation=aggregation, max_tokens=MAX_TOKENS)
    return sum(weight * slope for weight, slope in zip(weights, slopes, strict=True))


def slopes_and_lengths(num_good, *, equal):
    generator = torch.Generator().manual_seed(num_good)
    size = num_good * NUM_SAMPLES
    lengths = [MAX_TOKENS] * size if equal else torch.randint(1, MAX_TOKENS, (size,), generator=generator).tolist()
    return torch.randn(size, 5, dtype=torch.float64, generator=generator), lengths


@pytest.mark.numerics
@pytest.mark.parametrize(("num_good", "num_bad"), CASES)
@pytest.mark.parametrize(
    ("aggregation", "equal"), [("sequence-mean", False), ("constant", False), ("token-mean", True)]
)
def test_over_all_substitutions_the_mean_gradient_is_that_of_reweighting(num_good, num_bad, aggregation, equal):
    slopes, lengths = slopes_and_lengths(num_good, equal=equal)
    gradients = [gradient(each, slopes, lengths, aggregation) for each in every_substitution(num_good, num_bad)]
    expected = gradient((1,) * num_good, slopes, lengths, aggregation)
    assert torch.allclose(torch.stack(gradients).mean(dim=0), expected, atol=1e-12)
    if num_good != num_bad:
        assert torch.stack(gradients).std(dim=0).min() > 1e-3  # but a single one has another gradient


@pytest.mark.parametrize(("num_good", "num_bad"), CASES)
def test_every_substitution_is_drawn_and_each_as_often(num_good, num_bad):
    num_draws = 4000
    informative = [True] * num_good + [False] * num_bad
    seen = Counter(
        tuple(group_multiplicities(informative, substitution="copy", seed=seed)[:num_good]) for seed in range(num_draws)
    )
    outcomes = every_substitution(num_good, num_bad)
    shares = {each: count / len(outcomes) for each, count in Counter(outcomes).items()}
    assert seen.keys() == shares.keys()
    for each, share in shares.items():
        spread = (share * (1 - share) / num_draws) ** 0.5
        assert abs(seen[each] / num_draws - share) <= 5 * spread


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 2**32))
def test_copies_fill_the_batch_and_only_informative_groups_count(informative, seed):
    counts = group_multiplicities(informative, substitution="copy", seed=seed)
    num_good = sum(informative)
    assert [count > 0 for count in counts] == informative
    if num_good > len(informative) // 3:
        assert sum(counts) == len(informative)
    if num_good >= len(informative) - num_good:
        assert max(counts, default=0) <= 2


@given(st.lists(st.booleans(), max_size=40), st.integers(0, 2**32))
def test_reweighting_lets_every_informative_group_count_once(informative, seed):
    assert group_multiplicities(informative, substitution="reweight", seed=seed) == [int(each) for each in informative]


@pytest.mark.parametrize(("num_good", "copied"), [(0, False), (4, False), (5, True), (12, False)])
def test_a_third_of_informative_groups_or_fewer_are_reweighted(num_good, copied):
    """Of twelve; the published code threw such a step away."""
    informative = [True] * num_good + [False] * (12 - num_good)
    counts = group_multiplicities(informative, substitution="copy", seed=0)
    assert (max(counts) > 1) == copied
    assert sum(counts) == (12 if copied else num_good)
