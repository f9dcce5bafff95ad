"""Engines side by side in processes of their own: the completions of one engine, and what happens when one ends."""

import os
import signal

import pytest
from polaris_data import synthetic_problems, to_prompt
from polaris_rollout import EngineDiedError, EngineSpec, Prompt, PromptTooLongError, SamplingParams, model_digest
from polaris_rollout.engines import open_engine
from polaris_train.embedded import tiny_model

pytestmark = pytest.mark.slow

SPEC = {"context": 512, "max_in_flight": 16, "canary": False}
PARAMS = SamplingParams(temperature=1.2, max_tokens=48, seed=5)


def by_problem(groups):
    found = {group.problem_id: group for group in groups}
    return {
        name: [(each.token_ids, each.text, each.finish_reason) for each in found[name].completions]
        for name in sorted(found)
    }


def test_two_engines_draw_what_one_draws_and_a_lost_one_is_named():
    problems = synthetic_problems(48, seed=3, split="held-out")
    prompts = [Prompt(problem_id=each.problem_id, text=to_prompt(each)) for each in problems]
    with open_engine(EngineSpec("tiny", **SPEC)) as engine:
        alone = by_problem(engine.sample(prompts, PARAMS, n=4))
    with open_engine(EngineSpec("tiny", data_parallel=2, **SPEC)) as engines:
        assert (engines.context, engines.weights_version) == (512, model_digest(str(tiny_model())))
        with pytest.raises(PromptTooLongError, match="'long'"):
            engines.check_prompts([Prompt(problem_id="long", text="word " * 2000)])
        assert by_problem(engines.sample(prompts, PARAMS, n=4)) == alone
        tokens = {status.name: status.sampled_tokens for status in engines.status()}
        drawn = sum(len(token_ids) for group in alone.values() for token_ids, _, _ in group)
        assert set(tokens) == {"engine 0", "engine 1"}
        assert 0 <= sum(tokens.values()) <= drawn  # As of a second ago.
        os.kill(engines._processes[1].pid, signal.SIGKILL)
        with pytest.raises(EngineDiedError, match="the process of engine 1 ended with exit code -9"):
            list(engines.sample(prompts, PARAMS, n=4))
        assert all(process.returncode is not None for process in engines._processes)
