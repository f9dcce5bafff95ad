"""Token budgets: which ones, and what a completion cut to them is."""

import pytest
from polaris_eval.errors import SettingError
from polaris_eval.running.budgets import PUBLISHED_BUDGETS, cut_texts, default_budgets, parse_budgets


def test_budgets_are_the_published_ones_below_the_longest_completion_else_sixths_of_it():
    assert default_budgets(90_000) == (32768, 49152, 65536, 81920)
    assert default_budgets(96 * 1024) == PUBLISHED_BUDGETS[:-1]
    assert default_budgets(None) == default_budgets(200_000) == PUBLISHED_BUDGETS
    assert default_budgets(600) == (100, 200, 300, 400, 500)
    assert default_budgets(2) == (1,)
    assert default_budgets(1) == ()


def test_budgets_are_read_in_any_order_and_none_is_none():
    assert parse_budgets("64, 32,64") == (32, 64)
    assert parse_budgets("none") == ()


@pytest.mark.parametrize("text", ["", "32K", "0", "-5", "1,,2", "1.5"])
def test_budgets_that_are_no_token_counts_are_refused(text: str):
    with pytest.raises(SettingError, match="give token counts like 32768,49152, or none"):
        parse_budgets(text)


def test_a_completion_is_cut_at_the_budgets_that_are_shorter_than_it():
    cuts = cut_texts((5, 6, 7, 8), (1, 3, 4, 9), lambda ids: "".join(map(str, ids)))
    assert cuts == {"1": "5", "3": "567"}
