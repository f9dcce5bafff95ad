"""Sampling ahead with made-up answers: what is begun when, in which order it is consumed, what a kill leaves."""

import threading
import time
from collections import defaultdict
from contextlib import ExitStack

import pytest
import torch.distributed as dist
from polaris_data import to_prompt
from polaris_data.problems import synthetic_problems, write_problems
from polaris_reward import boxed_grader
from polaris_rollout import Completion, EndpointError, Group
from polaris_train.errors import WeightsError
from polaris_train.grpo.lag import token_lags
from polaris_train.recipe import load_recipe
from polaris_train.run_folder import StageFolder
from polaris_train.stage.ahead import AheadRollouts
from polaris_train.stage.launch import prepare_stage
from polaris_train.stage.rollouts import StepSource

STEPS, PROMPTS, SAMPLES = 5, 2, 4


class Servers:
    """Draw an answer a token at a time, each with the weights that are held then; a step waits until it is let go on.

    ``log`` says what happened in which order.
    """

    def __init__(self, source):
        self.log, self.version, self.lock = [], "", threading.Lock()
        numbers = range(1, STEPS + 1)
        self.steps = {to_prompt(each, suffix=""): step for step in numbers for each in source.problems(step)}
        self.may_end = defaultdict(threading.Event)
        self.began = defaultdict(threading.Event)
        self.broken, self.has_little_room = None, False

    def feed(self, steps_done):
        if self.version != f"run/stage-1+{steps_done}":
            with self.lock:
                self.version = f"run/stage-1+{steps_done}"
                self.log.append(f"weights {steps_done}")
        return self

    def sample(self, prompts, params, *, n):
        prompts = iter(prompts)
        taken = [next(prompts)] if self.has_little_room else list(prompts)
        step = self.steps[taken[0].text]
        with self.lock:
            first = self.version
            self.log.append(f"step {step}")
        self.began[step].set()
        assert self.may_end[step].wait(60)
        self.log.append(f"room {step}")
        taken += prompts
        if step == self.broken:
            raise EndpointError("no endpoint is left")
        spans = ((0, first),) if first == self.version else ((0, first), (1, self.version))
        completion = Completion(token_ids=(1, 2), logprobs=(-1.0, -1.0), text="", finish_reason="stop", weights=spans)
        for prompt in reversed(taken):
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=(completion,) * n)


@pytest.fixture
def ahead(tmp_path):
    """Give rollouts of a stage of five steps and their servers; may be asked again, as after a kill."""
    problems = synthetic_problems(STEPS * PROMPTS, seed=1, split="train", levels=(1,))
    write_problems(tmp_path / "problems.jsonl", problems)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    with ExitStack() as stack:
        stack.callback(dist.destroy_process_group)
        grade_many = stack.enter_context(boxed_grader(1)).grade_many

        def start(sampling_ahead):
            values = {"prompts_per_step": PROMPTS, "samples_per_prompt": SAMPLES, "evaluate_every": 0}
            values |= {"stages.0.temperature": 1, "stages.0.steps": STEPS, "prompt_suffix": ""}
            values |= {"sampling_ahead": sampling_ahead, "endpoints": '["http://127.0.0.1:9"]'}
            recipe = load_recipe("tiny-cpu", [f"{name}={value}" for name, value in values.items()])
            folder = StageFolder(
                prepare_stage(recipe, recipe.stages[0], tmp_path / "run", problems=str(tmp_path / "problems.jsonl"))
            )
            config = folder.read_resolved()
            source = StepSource(problems, config, folder=folder, grade_many=grade_many)
            servers = Servers(source)
            rollouts = AheadRollouts(source, config, servers=servers, stack=stack)
            stack.callback(lambda: [servers.may_end[step].set() for step in range(1, STEPS + 1)])
            return rollouts, servers, source

        yield start


def ids(rollout):
    return [each.group.problem_id for each in rollout.groups]


def test_steps_are_consumed_in_the_order_in_which_they_were_scheduled_whichever_is_finished_first(ahead):
    rollouts, servers, source = ahead(1)
    servers.may_end[2].set()

    def end_last():
        while not source.is_kept(2):
            time.sleep(0.01)
        servers.may_end[1].set()

    threading.Thread(target=end_last).start()
    first = rollouts.next(1)
    assert source.is_kept(2)
    second = rollouts.next(2)
    assert [ids(each) for each in (first, second)] == [[p.problem_id for p in source.problems(step)] for step in (1, 2)]
    assert not first.replayed and not second.replayed


@pytest.mark.parametrize("sampling_ahead", [1, 2])
def test_every_step_is_drawn_once_and_no_token_is_older_than_the_steps_ahead(ahead, sampling_ahead):
    rollouts, servers, _ = ahead(sampling_ahead)
    lags = set()
    for step in range(1, STEPS + 1):
        servers.may_end[step].set()
        groups = rollouts.next(step).groups
        assert servers.began[min(step + sampling_ahead, STEPS)].wait(60)
        lags |= {
            lag for each in groups for one in each.group.completions for lag in token_lags(each.group, one, step=step)
        }
    assert lags == set(range(sampling_ahead + 1))
    begun = [int(entry.split()[1]) for entry in servers.log if entry.startswith("step")]
    assert begun == list(range(1, STEPS + 1))
    for step in begun:
        before = servers.log[: servers.log.index(f"step {step}")]
        assert f"weights {max(0, step - sampling_ahead - 1)}" in before


def test_a_step_is_begun_only_when_all_of_the_one_before_it_is_being_sampled(ahead):
    rollouts, servers, _ = ahead(1)
    servers.has_little_room = True
    servers.may_end[2].set()
    threading.Timer(0.5, servers.may_end[1].set).start()
    rollouts.next(1)
    rollouts.next(2)
    assert servers.log.index("room 1") < servers.log.index("step 2")


def test_steps_that_a_kill_left_on_disk_are_replayed_and_what_was_in_flight_is_drawn_again(ahead):
    rollouts, servers, source = ahead(1)
    servers.may_end[1].set(), servers.may_end[3].set()
    rollouts.next(1)
    again, servers, source = ahead(1)
    for step in range(1, STEPS + 1):
        servers.may_end[step].set()
    found = [again.next(step) for step in range(1, STEPS + 1)]
    assert found[0].replayed and not any(each.replayed for each in found[1:])
    assert [ids(each) for each in found] == [[p.problem_id for p in source.problems(s)] for s in range(1, STEPS + 1)]


def test_what_fails_in_the_background_is_raised_where_its_step_is_asked_for(ahead):
    rollouts, servers, source = ahead(1)
    servers.broken = 2
    servers.may_end[1].set(), servers.may_end[2].set()
    rollouts.next(1)
    with pytest.raises(EndpointError, match="no endpoint is left"):
        rollouts.next(2)
    assert not source.is_kept(2)


@pytest.mark.parametrize("version", ["run/stage-1+7", "other/stage-1+0", ""])
def test_tokens_of_other_weights_are_refused_and_not_kept(ahead, version):
    rollouts, servers, source = ahead(1)
    servers.feed = lambda _: servers
    servers.version = version
    servers.may_end[1].set()
    with pytest.raises(WeightsError, match=r"step 1: an answer to .* only 'run/stage-1\+0' are expected"):
        rollouts.next(1)
    assert not source.is_kept(1)
