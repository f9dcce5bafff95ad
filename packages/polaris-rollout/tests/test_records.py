"""Sampling parameters and seeds."""

import pytest
from polaris_rollout import Prompt, SamplingParams, completion_seed, derive_seed
from polaris_rollout.errors import SettingError
from polaris_rollout.records import distinct


def test_seeds_differ_by_every_part_and_repeat():
    seeds = {completion_seed(seed, problem, sample) for seed in range(5) for problem in "abc" for sample in range(8)}
    assert len(seeds) == 5 * 3 * 8
    assert completion_seed(3, "a", 1) == completion_seed(3, "a", 1)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_parts_of_a_seed_do_not_run_into_each_other():
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


@pytest.mark.parametrize(
    ("wrong", "part"),
    [({"temperature": -0.1}, "-0.1"), ({"top_p": 0.0}, "top_p"), ({"top_k": -1}, "top_k"), ({"max_tokens": 0}, "max_")],
)
def test_impossible_parameters_are_refused_with_their_value(wrong, part):
    with pytest.raises(ValueError, match=part):
        SamplingParams(**wrong)


@pytest.mark.parametrize("cut", [{"top_p": 0.95}, {"top_k": 20}])
def test_a_truncated_distribution_is_refused_where_the_whole_one_is_needed(cut):
    with pytest.raises(SettingError, match="training samples from the whole distribution"):
        SamplingParams(**cut).require_untruncated()


def test_the_whole_distribution_is_accepted_at_any_temperature():
    SamplingParams(temperature=1.4, top_p=1.0, top_k=0).require_untruncated()


def test_two_prompts_of_one_name_are_refused_by_it():
    prompts = [Prompt(problem_id=name, text="x") for name in "aba"]
    assert list(distinct(prompts[:2])) == prompts[:2]
    with pytest.raises(SettingError, match="called 'a'"):
        list(distinct(prompts))


def test_a_prompt_comes_again_for_its_next_samples():
    prompts = [Prompt(problem_id="a", text="x", first_sample=first) for first in (0, 4)]
    assert list(distinct(prompts)) == prompts
    with pytest.raises(SettingError, match="called 'a'"):
        list(distinct([*prompts, prompts[1]]))
