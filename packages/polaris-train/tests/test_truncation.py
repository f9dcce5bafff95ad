"""A first step whose answers are cut short: refused, with the length that would fit."""

import math
from random import Random

import pytest
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.errors import RecipeError
from polaris_train.records import GradedGroup
from polaris_train.resolved import FREE_FIELDS, ResolvedStage
from polaris_train.stage.truncation import fitting_length, refuse_truncated_start


def stage(**values):
    given = {"context": 1100, "max_prompt_tokens": 100, "temperature": 1.0, "steps": 3, "problems": "any"}
    names = {"run": "r", "stage": "s", "model": "m", "problems_sha256": ""}
    return ResolvedStage.model_validate(given | names | values)


def groups(lengths, *, budget):
    completions = [
        Completion(
            token_ids=(1,) * min(each, budget),
            logprobs=(0.0,) * min(each, budget),
            text="",
            finish_reason="stop" if each < budget else "length",
        )
        for each in lengths
    ]
    group = Group(problem_id="p", prompt_token_ids=(1, 2), completions=tuple(completions))
    return [GradedGroup(group=group, outcomes=(Outcome.CORRECT,) * len(lengths), answers=(None,) * len(lengths))]


@pytest.mark.parametrize("sigma", [0.3, 0.8])
@pytest.mark.parametrize(("cut", "within"), [(0.35, 0.02), (0.5, 0.05), (0.7, 0.1)])
def test_the_length_that_is_named_leaves_a_tenth_over(sigma, cut, within):
    random = Random(5)
    lengths = [round(random.lognormvariate(math.log(4000), sigma)) for _ in range(1024)]
    budget = sorted(lengths)[round((1 - cut) * len(lengths))]
    ended = [each for each in lengths if each < budget]
    length = fitting_length(ended, len(lengths), budget=budget)
    assert sum(each > length for each in lengths) / len(lengths) == pytest.approx(0.1, abs=within)


def test_too_few_answers_tell_no_length():
    assert fitting_length([10] * 100, 300, budget=20) is None
    assert fitting_length([10, 12, 13], 9, budget=20) is None
    assert fitting_length(list(range(1, 40)), 4000, budget=40) is None  # the line would have to be drawn out too far


def test_a_first_step_is_refused_above_the_limit_alone():
    seven, three = [300 + 10 * each for each in range(70)], [5000] * 30
    refuse_truncated_start(groups(seven + three, budget=1000), stage())
    with pytest.raises(RecipeError) as refused:
        refuse_truncated_start(groups(seven + three + [5000], budget=1000), stage())
    said = str(refused.value)
    assert "31% of the first step's 101 answers were cut short by a context of 1,100" in said
    assert "more than first_step_truncation = 0.3; by their lengths 90% would end within" in said
    assert "--set stages.N.first_step_truncation=1" in said
    refuse_truncated_start(groups([5000] * 9, budget=1000), stage(first_step_truncation=1))


def test_the_limit_may_change_and_leaves_no_trace_where_it_is_usual():
    assert "first_step_truncation" in FREE_FIELDS
    assert "first_step_truncation" not in stage().model_dump()
