"""Sampling parameters and seeds."""

from dataclasses import replace

import pytest
from polaris_rollout import ChatFormat, Prompt, SamplingParams, completion_seed, derive_seed
from polaris_rollout.errors import SettingError
from polaris_rollout.records import cut_at_stop, distinct


def test_seeds_differ_by_every_part_and_repeat():
    seeds = {completion_seed(seed, problem, sample) for seed in range(5) for problem in "abc" for sample in range(8)}
    assert len(seeds) == 5 * 3 * 8
    assert completion_seed(3, "a", 1) == completion_seed(3, "a", 1)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_parts_of_a_seed_do_not_run_into_each_other():
    assert derive_seed("ab", "c") != derive_seed("a", "bc")


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"temperature": -0.1}, "-0.1"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"max_tokens": 0}, "max_"),
        ({"min_p": 1.0}, "min_p is 1.0"),
        ({"min_p": -0.1}, "min_p is -0.1"),
        ({"stop": ("Q:", "")}, "a stop string is empty"),
    ],
)
def test_impossible_parameters_are_refused_with_their_value(wrong, part):
    with pytest.raises(ValueError, match=part):
        SamplingParams(**wrong)


@pytest.mark.parametrize("cut", [{"top_p": 0.95}, {"top_k": 20}, {"min_p": 0.05}])
def test_a_truncated_distribution_is_refused_where_the_whole_one_is_needed(cut):
    with pytest.raises(SettingError, match="training samples from the whole distribution"):
        SamplingParams(**cut).require_untruncated()


def test_the_whole_distribution_is_accepted_at_any_temperature():
    SamplingParams(temperature=1.4, top_p=1.0, top_k=0).require_untruncated()


def test_completions_that_a_text_ends_are_refused_for_training():
    with pytest.raises(SettingError, match=r"stop is \('Q:',\); training samples whole completions"):
        SamplingParams(stop=("Q:",)).require_untruncated()


def test_settings_of_earlier_versions_are_still_those_of_the_same_parameters():
    """What folders were claimed with before there were min_p and stop strings."""
    earlier = {"temperature": 0.5, "top_p": 1.0, "top_k": 0, "max_tokens": 9, "seed": 3}
    params = SamplingParams(temperature=0.5, max_tokens=9, seed=3)
    assert params.settings() == earlier
    assert replace(params, min_p=0.1).settings() == earlier | {"min_p": 0.1}
    assert replace(params, stop=("Q:",)).settings() == earlier | {"stop": ["Q:"]}


@pytest.mark.parametrize(
    ("text", "expected"), [("so 4.\nQ: next", "so 4.\n"), ("A: Q:", ""), ("nothing", "nothing"), ("Q:", "")]
)
def test_a_text_ends_where_the_first_stop_string_begins(text, expected):
    assert cut_at_stop(text, ("Q:", "A:")) == expected


def test_without_a_chat_template_there_is_no_place_for_a_system_prompt():
    with pytest.raises(SettingError, match="no place for a system prompt"):
        ChatFormat(is_plain=True, system_prompt="Be brief.")
    assert ChatFormat(is_plain=True).settings() == {"plain_prompt": True}
    assert ChatFormat().settings() == {}


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
