"""What is said of graded completions, against hand calculation and the published tables."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_eval.records import LengthGroup
from polaris_eval.scores.lengths import group_by_length
from polaris_eval.scores.means import bootstrap_interval, mean_at_k
from polaris_eval.scores.summary import summarize

FIGURES = Path(__file__).resolve().parents[3] / ".." / "shared" / "facts" / "figures.json"
NUM_PROBLEMS, NUM_SAMPLES = 30, 32

needs_figures = pytest.mark.skipif(not FIGURES.is_file(), reason="the published figures are not beside the repository")


def completion(correct: bool, num_tokens: int | None = 10, **more: Any) -> dict[str, Any]:
    outcome = "correct" if correct else "incorrect"
    answer = "1" if correct else "2"
    return {
        "text": "a b c d e",
        "num_tokens": num_tokens,
        "finish_reason": "stop",
        "outcome": outcome,
        "answer": answer,
    } | more


def in_groups(completions: list[dict[str, Any]], size: int = NUM_SAMPLES) -> list[dict[str, Any]]:
    random.Random(0).shuffle(completions)
    return [
        {"problem_id": f"p{start // size}", "references": ["1"], "completions": completions[start : start + size]}
        for start in range(0, len(completions), size)
    ]


@needs_figures
@pytest.mark.parametrize("kind", ["base", "yarn"])
def test_the_published_length_groups_come_out_of_completions_that_have_them(kind: str):
    published = json.loads(FIGURES.read_text())["length_group_accuracy_aime24_25_1920_rollouts"]
    lengths = {"<16K": (900, 16_383), "16K-32K": (16_384, 32_767), ">32K": (32_768, 95_000)}
    completions = [
        completion(number < 10 * published[name][kind], length)
        for name, ends in lengths.items()
        for number in range(1000)
        for length in [ends[number % 2]]
    ]
    groups = summarize("aime", in_groups(completions, 30)).length_groups
    assert [round(100 * group.accuracy, 1) for group in groups] == [each[kind] for each in published.values()]
    assert [(group.low, group.high) for group in groups] == [(0, 16_384), (16_384, 32_768), (32_768, None)]
    assert [group.num_completions for group in groups] == [1000, 1000, 1000]


@needs_figures
@pytest.mark.parametrize("benchmark", ["AIME24", "AIME25"])
@pytest.mark.parametrize("kind", ["yarn", "no_yarn"])
def test_the_published_budget_curve_comes_out_of_one_run(benchmark: str, kind: str):
    published = json.loads(FIGURES.read_text())["inference_scaling_mean32"]
    budgets = [1024 * budget for budget in published["context_K"]]
    percents = published[benchmark][kind]
    counts = [round(percent / 100 * NUM_PROBLEMS * NUM_SAMPLES) for percent in percents]

    def finished_at(number: int) -> dict[str, Any]:
        """Is correct from the first budget on at which so many are."""
        enough = [budget for budget, count in zip(budgets, counts, strict=True) if number < count]
        num_tokens = enough[0] if enough else budgets[-1] + 1
        cut = {str(budget): "no_answer" for budget in budgets if budget < num_tokens}
        return completion(bool(enough), num_tokens, budgets=cut)

    evaluation = summarize(benchmark, in_groups([finished_at(number) for number in range(NUM_PROBLEMS * NUM_SAMPLES)]))
    assert [point.max_tokens for point in evaluation.budgets] == budgets
    step = 100 / (NUM_PROBLEMS * NUM_SAMPLES)
    for point, percent, count in zip(evaluation.budgets, percents, counts, strict=True):
        assert 100 * point.accuracy.value == pytest.approx(percent, abs=step / 2 + 1e-9)
        assert point.cut == pytest.approx(1 - count / (NUM_PROBLEMS * NUM_SAMPLES))
    assert evaluation.budgets[-1].accuracy.value == evaluation.score("mean@k").value


def test_a_budget_at_which_a_longer_completion_was_not_graded_is_left_out():
    records = in_groups([completion(True, 20, budgets={"10": "correct", "15": "correct"}), completion(True, 12)], 1)
    assert [point.max_tokens for point in summarize("x", records).budgets] == [15]


def test_short_completions_are_grouped_in_thirds():
    groups = group_by_length(in_groups([completion(number < 4, 100 + number) for number in range(9)], 3))
    assert groups == (
        LengthGroup(low=0, high=103, num_completions=3, num_problems=groups[0].num_problems, accuracy=1.0),
        LengthGroup(low=103, high=106, num_completions=3, num_problems=groups[1].num_problems, accuracy=1 / 3),
        LengthGroup(low=106, high=None, num_completions=3, num_problems=groups[2].num_problems, accuracy=0.0),
    )


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40_000)), min_size=1, max_size=40))
def test_every_completion_is_in_one_length_group(drawn: list[tuple[bool, int]]):
    groups = group_by_length(in_groups([completion(*each) for each in drawn], 1))
    assert sum(group.num_completions for group in groups) == len(drawn)
    assert sum(group.num_completions * group.accuracy for group in groups) == pytest.approx(sum(c for c, _ in drawn))


def test_unknown_lengths_leave_lengths_out():
    evaluation = summarize("x", in_groups([completion(True), completion(False, None)], 2))
    assert evaluation.lengths is None
    assert evaluation.length_groups == ()
    assert evaluation.problems[0].mean_tokens is None
    assert evaluation.score("mean@k").value == 0.5


def test_equivalent_answers_vote_together_and_old_files_vote_by_text():
    answers = ["1", "1.0", "2", "4/2", "2"]
    outcomes = ["correct", "correct", "incorrect", "incorrect", "incorrect"]
    new = [
        completion(outcome == "correct", answer=answer, vote=vote)
        for answer, outcome, vote in zip(answers, outcomes, [0, 0, 1, 1, 1], strict=True)
    ]
    old = [{key: value for key, value in each.items() if key != "vote"} for each in new]
    assert summarize("x", in_groups(new[:4], 4)).score("maj@k", 4).value == 0.5  # a tie of two and two
    assert summarize("x", in_groups(old[:4], 4)).score("maj@k", 4).value == 1  # two, one and one


def test_scores_of_another_model_choose_among_completions():
    scored = [completion(True, score=0.5), completion(False, score=0.4), completion(False, score=0.3)]
    evaluation = summarize("x", in_groups(scored, 3))
    assert evaluation.score("best_of").value == 1
    assert evaluation.score("weighted_vote").value == 0
    with pytest.raises(KeyError):
        summarize("x", in_groups([*scored, completion(True)], 4)).score("best_of")


def test_votes_are_weighted_by_what_negative_scores_mean_as_logits():
    scored = [completion(True, score=-3.0)] * 2 + [completion(False, score=-2.5)]
    # 2 / (1 + e^3) = 0.095 and 1 / (1 + e^2.5) = 0.076; as they stand, -6 would lose to -2.5.
    assert summarize("x", in_groups(scored, 3)).score("weighted_vote").value == 1
    assert summarize("x", in_groups(scored, 3)).score("best_of").value == 0
    extreme = [completion(True, score=-1e4), completion(False, score=1e4)]
    assert summarize("x", in_groups(extreme, 2)).score("weighted_vote").value == 0


def test_an_evaluation_survives_json_and_is_the_same_twice():
    records = in_groups([completion(number % 3 == 0, 10 * number) for number in range(64)], 8)
    first, second = summarize("x", records), summarize("x", records)
    assert first == second
    assert first.bootstrap == bootstrap_interval([(each.num_correct or 0) / 8 for each in first.problems])
    assert first.distinct_4 == pytest.approx(2 / 16)  # eight times the same two 4-grams


def test_both_intervals_cover_the_truth_about_as_often_as_they_say():
    # Beta(2, 3) difficulties have mean 0.4; the clustered interval is to cover it 95 times in 100.
    draw, trials = random.Random(5), 1000
    covered = {"clustered": 0, "bootstrap": 0}
    for _ in range(trials):
        rates = [draw.betavariate(2, 3) for _ in range(NUM_PROBLEMS)]
        groups = [[draw.random() < rate for _ in range(NUM_SAMPLES)] for rate in rates]
        shares = [sum(group) / NUM_SAMPLES for group in groups]
        low, high = mean_at_k(groups).interval
        covered["clustered"] += low <= 0.4 <= high
        low, high = bootstrap_interval(shares, num_draws=1000)
        covered["bootstrap"] += low <= 0.4 <= high
    assert 0.93 * trials <= covered["clustered"] <= 0.97 * trials
    assert 0.91 * trials <= covered["bootstrap"] <= 0.97 * trials
    assert covered["bootstrap"] <= covered["clustered"]
