"""The real engine on the embedded model: seeds, log-probabilities, weight updates."""

import pytest
import torch
from polaris_data.prompt import to_prompt
from polaris_data.synthetic import synthetic_problems
from polaris_rollout import Prompt, PromptTooLongError, SamplingParams
from polaris_train.embedded import tiny_model
from transformers import AutoModelForCausalLM

PARAMS = SamplingParams(temperature=1.3, max_tokens=64, seed=11)


@pytest.fixture(scope="module")
def sampler():
    from polaris_rollout.vllm_sampler import VllmSampler  # not while tests are collected: others watch who loads it

    with VllmSampler("tiny", context=512, max_in_flight=128) as sampler:
        yield sampler


@pytest.fixture(scope="module")
def prompts():
    problems = synthetic_problems(32, seed=3, split="held-out")
    return [Prompt(problem_id=problem.problem_id, text=to_prompt(problem)) for problem in problems]


@pytest.fixture(scope="module")
def groups(sampler, prompts):
    return {group.problem_id: group for group in sampler.sample(prompts, PARAMS, n=8)}


def transformers_logprobs(model, group, temperature):
    prompt = list(group.prompt_token_ids)
    logprobs = []
    for completion in group.completions:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + list(completion.token_ids)])).logits[0, len(prompt) - 1 : -1]
        whole = (logits.float() / temperature).log_softmax(-1)
        logprobs.append(whole.gather(-1, torch.tensor(completion.token_ids)[:, None])[:, 0].tolist())
    return logprobs


def largest_gap(model, groups):
    return max(
        abs(ours - theirs)
        for group in groups
        for completion, expected in zip(
            group.completions, transformers_logprobs(model, group, PARAMS.temperature), strict=True
        )
        for ours, theirs in zip(completion.logprobs, expected, strict=True)
    )


def same(ours, theirs):
    """Whether two groups hold the same tokens and, to the rounding of float32, the same log-probabilities."""
    return all(
        one.token_ids == other.token_ids and one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        for one, other in zip(ours.completions, theirs.completions, strict=True)
    )


def test_the_same_request_gives_the_same_bits_again(sampler, prompts, groups):
    assert {group.problem_id: group for group in sampler.sample(prompts, PARAMS, n=8)} == groups


def test_a_completion_does_not_depend_on_what_else_is_in_flight(sampler, prompts, groups):
    for group in sampler.sample(prompts[::-1], PARAMS, n=8):
        assert same(group, groups[group.problem_id])
    alone = next(sampler.sample(prompts[5:6], PARAMS, n=8))
    assert same(alone, groups[alone.problem_id])
    fewer = next(sampler.sample(prompts[5:6], PARAMS, n=3))
    assert [each.token_ids for each in fewer.completions] == [each.token_ids for each in alone.completions[:3]]


def test_another_seed_gives_other_completions(sampler, prompts, groups):
    other = SamplingParams(temperature=1.3, max_tokens=64, seed=12)
    again = {group.problem_id: group for group in sampler.sample(prompts, other, n=8)}
    assert again.keys() == groups.keys()
    assert all(again[key].completions != groups[key].completions for key in groups)


def test_a_caller_may_stop_early_and_sample_again(sampler, prompts, groups):
    stream = sampler.sample(prompts, PARAMS, n=8)
    next(stream)
    stream.close()
    assert same(next(sampler.sample(prompts[:1], PARAMS, n=8)), groups[prompts[0].problem_id])


def test_logprobs_are_those_of_transformers_at_the_sampling_temperature(groups):
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    assert largest_gap(model, list(groups.values())[:8]) < 1e-4


def test_finish_reasons_tell_a_full_answer_from_a_cut_one(sampler, prompts):
    cut = next(sampler.sample(prompts[:1], SamplingParams(max_tokens=2), n=4))
    assert {completion.finish_reason for completion in cut.completions} == {"length"}
    assert {len(completion.token_ids) for completion in cut.completions} == {2}
    whole = next(sampler.sample(prompts[:1], SamplingParams(seed=1), n=4))
    assert {completion.finish_reason for completion in whole.completions} == {"stop"}


def test_a_prompt_without_room_for_an_answer_is_listed(sampler):
    long = Prompt(problem_id="long", text="word " * 2000)
    with pytest.raises(PromptTooLongError, match="'long'"):
        sampler.check_prompts([long])
    with pytest.raises(PromptTooLongError, match="'long'"):
        list(sampler.sample([long], PARAMS, n=1))


def test_new_weights_change_the_distribution_at_once(sampler, prompts, groups):
    """Last in the file: it leaves the engine with other weights."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model(), dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    sampler.update_weights(model.named_parameters())
    changed = list(sampler.sample(prompts[:8], PARAMS, n=8))
    assert largest_gap(model, changed) < 1e-4
    assert changed != [groups[group.problem_id] for group in changed]
