"""DAPO's soft punishment of long answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_train.grpo.advantage import soft_overlong_penalty


@pytest.mark.parametrize(
    ("num_tokens", "expected"), [(1, 0.0), (16_384, 0.0), (17_408, -0.25), (18_432, -0.5), (20_480, -1.0)]
)
def test_the_penalty_has_the_published_shape(num_tokens, expected):
    assert soft_overlong_penalty(num_tokens, max_tokens=20_480, cache_tokens=4096) == expected


@given(st.integers(1, 200), st.data())
def test_the_penalty_is_the_three_cases_of_the_paper(max_tokens, data):
    cache = data.draw(st.integers(1, max_tokens))
    num_tokens = data.draw(st.integers(0, max_tokens + 20))
    if num_tokens <= max_tokens - cache:
        expected = 0.0
    elif num_tokens <= max_tokens:
        expected = ((max_tokens - cache) - num_tokens) / cache
    else:
        expected = -1.0
    assert soft_overlong_penalty(num_tokens, max_tokens=max_tokens, cache_tokens=cache) == pytest.approx(expected)
