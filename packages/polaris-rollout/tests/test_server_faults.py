"""Servers that answer garbage, drip, come, go, and fail to take weights, against the small stand-in server."""

import json
import math
import threading
import time
from dataclasses import replace

import pytest
from polaris_rollout.errors import EndpointError, SettingError
from polaris_rollout.records import Prompt, SamplingParams
from polaris_rollout.servers.client import ServerLoad
from polaris_rollout.servers.lease import Lease
from polaris_rollout.servers.sampler import ServerSampler
from polaris_rollout.servers.server import Patience

MODEL = "lab/model"
PARAMS = SamplingParams(temperature=1.3, max_tokens=40, seed=5)
PATIENCE = Patience(health_every_s=0.05, health_timeout_s=10, first_wait_s=0.02, longest_wait_s=0.1, give_up_after_s=60)


def open_sampler(endpoints, patience=PATIENCE, **options):
    endpoints = [getattr(each, "address", each) for each in endpoints]
    return ServerSampler(endpoints, model=MODEL, patience=patience, **options)


def make_prompts(num):
    return [Prompt(problem_id=f"p{number}", text=f"What is {number} + {number}?") for number in range(num)]


def by_problem(groups):
    groups = list(groups)
    named = {group.problem_id: group for group in groups}
    assert len(named) == len(groups)
    return named


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def expected(servers):
    with servers({}) as stand_ins, open_sampler(stand_ins) as sampler:
        return by_problem(sampler.sample(make_prompts(8), PARAMS, n=4))


def one_logprob(value):
    def spoil(choice):
        choice["logprobs"]["token_logprobs"][0] = value

    return spoil


def entry(name, value):
    return lambda choice: choice.__setitem__(name, value)


@pytest.fixture
def inventory(tmp_path):
    """A file of addresses, and a function that writes others into it."""
    path = tmp_path / "servers.txt"

    def write(*stand_ins):
        path.write_text("# those of today\n" + "".join(f"{each.address}  # here\n" for each in stand_ins))
        return str(path)

    return write


GARBAGE = {
    "the log-probability nan at place 0": one_logprob(math.nan),
    "the log-probability 0.5 at place 0": one_logprob(0.5),
    "the log-probability None at place 0": one_logprob(None),
    "the log-probability -9999.0 at place 0": one_logprob(-9999.0),
    "an empty completion": lambda choice: choice.update(token_ids=[], logprobs={"token_logprobs": []}),
    "the token id -1 at place 0": lambda choice: choice["token_ids"].__setitem__(0, -1),
    "the token id 300 at place 0": lambda choice: choice["token_ids"].__setitem__(0, 300),
    "without token ids and log-probabilities": entry("logprobs", None),
    "log-probabilities for": lambda choice: choice["token_ids"].append(0),
    "41 tokens where 40 were asked for": lambda choice: choice.update(token_ids=[5] * 41),
}


@pytest.mark.parametrize("complaint", GARBAGE)
def test_answers_that_cannot_be_right_are_drawn_elsewhere_and_their_server_is_left_out(
    servers, expected, tmp_path, complaint
):
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 256}))
    (tmp_path / "tokenizer.json").write_text("{}")
    with servers({"root": str(tmp_path)}, {"root": str(tmp_path)}) as (bad, good):
        with open_sampler([bad, good], max_in_flight=4) as sampler:
            bad.spoil = GARBAGE[complaint]
            groups = by_problem(sampler.sample(make_prompts(8), PARAMS, n=4))
            assert {key: group.completions for key, group in groups.items()} == {
                key: group.completions for key, group in expected.items()
            }
            wait_until(lambda: sampler.status()[0].state == "left out")
            good.spoil = GARBAGE[complaint]
            with pytest.raises(EndpointError, match="no endpoint is left that answers properly") as caught:
                list(sampler.sample(make_prompts(8), PARAMS, n=4))
        for it in (bad, good):
            assert f"{it.address} answered" in str(caught.value) and complaint in str(caught.value)


def test_a_server_that_answers_properly_in_between_is_kept(servers, expected):
    count = iter(range(10**6))

    def spoil(choice):
        if next(count) % 5 == 0:
            choice["logprobs"]["token_logprobs"][0] = math.nan

    with servers({"spoil": spoil}) as (it,), open_sampler([it]) as sampler:
        assert by_problem(sampler.sample(make_prompts(8), PARAMS, n=4)) == expected


def test_a_server_that_samples_nothing_for_a_lease_loses_its_work(servers, expected):
    short = replace(PATIENCE, lease_s=1.5)
    with servers({}, {}) as (it, other), open_sampler([it, other], short, max_in_flight=4) as sampler:
        it.gate.clear()
        assert by_problem(sampler.sample(make_prompts(8), PARAMS, n=4)) == expected
        assert any("sampled 0 tokens for" in server.last_error for server in sampler._roster.servers)


def test_a_lease_is_renewed_by_a_token_for_each_completion_that_is_worked_on(monkeypatch):
    lease, now = Lease(), [100.0]
    monkeypatch.setattr("polaris_rollout.servers.lease.time.monotonic", lambda: now[0])

    def note(sampled, *, is_waited_for=True):
        now[0] += 6
        return lease.note(
            ServerLoad(running=10, waiting=3, sampled_tokens=sampled), is_waited_for=is_waited_for, length_s=15
        )

    assert note(1000) is None
    assert [note(1010), note(1020)] == [None, None]
    assert [note(1023), note(1026)] == [None, None]
    assert note(1029) == "sampled 9 tokens for 10 completions in 18 s"
    assert note(1030) is None
    assert note(5) is None  # It was restarted.
    assert [note(5, is_waited_for=False) for _ in range(5)] == [None] * 5


def test_servers_join_and_leave_by_the_inventory(servers, expected, inventory):
    with servers({"delay_s": 0.02}, {"delay_s": 0.02}) as (first, second):
        with open_sampler([inventory(first)], max_in_flight=2) as sampler:
            groups = []
            for group in sampler.sample(make_prompts(8), PARAMS, n=4):
                groups.append(group)
                if len(groups) == 2:
                    inventory(second)
                    wait_until(lambda: [each.name for each in sampler.status()] == [second.address])
                    first.requests.clear()
            assert by_problem(groups) == expected
        assert second.sampled and not first.sampled


def test_a_server_of_an_inventory_that_is_not_there_yet_joins_later(servers, expected, inventory):
    with servers({}, {}) as (it, late):
        late.kill()
        with open_sampler([inventory(it, late)]) as sampler:
            assert sampler.status()[1].state.startswith("down since")
            late.start()
            wait_until(lambda: sampler.status()[1].state == "idle")
            assert by_problem(sampler.sample(make_prompts(8), PARAMS, n=4)) == expected
            assert late.sampled


def test_servers_of_an_inventory_may_still_be_starting_when_it_is_opened(servers, expected, inventory):
    with servers({}) as (it,):
        it.kill()
        threading.Timer(0.3, it.start).start()
        with open_sampler([inventory(it)]) as sampler:
            assert by_problem(sampler.sample(make_prompts(8), PARAMS, n=4)) == expected


def test_an_inventory_that_becomes_empty_ends_the_run_in_a_sentence(servers, inventory, tmp_path):
    patience = Patience(health_every_s=0.05, first_wait_s=0.02, give_up_after_s=0.5)
    with servers({}) as (it,), ServerSampler([inventory(it)], model=MODEL, patience=patience) as sampler:
        it.gate.clear()
        thread = threading.Timer(0.1, inventory)
        thread.start()
        it.gate.set()
        wait_until(lambda: not sampler.status())
        with pytest.raises(
            EndpointError, match=r"no endpoint has worked for .* s: .*servers\.txt lists no servers; add"
        ):
            list(sampler.sample(make_prompts(8), PARAMS, n=4))


def test_an_inventory_that_is_empty_or_lists_something_else_is_refused(tmp_path):
    path = tmp_path / "servers.txt"
    path.write_text("# none\n")
    with pytest.raises(EndpointError, match=r"servers\.txt are \[\]; give one or more"):
        open_sampler([str(path)])
    path.write_text("node-1:8000\n")
    with pytest.raises(EndpointError, match="endpoint 'node-1:8000' is no address; give one like"):
        open_sampler([str(path)])


@pytest.fixture
def weights():
    torch = pytest.importorskip("torch")
    return [("embed", torch.ones(3, 2)), ("norm", torch.arange(2.0))]


def test_every_server_is_given_the_weights_and_each_group_says_which_drew_it(servers, weights, tmp_path):
    with servers({"trains": True, "label": "of yesterday"}, {"trains": True}) as stand_ins:
        with open_sampler(stand_ins, weights_folder=tmp_path) as sampler:
            first = by_problem(sampler.sample(make_prompts(4), PARAMS, n=2))
            sampler.update_weights(iter(weights), version="v1")
            assert sampler.weights_version == "v1"
            assert [it.label for it in stand_ins] == ["v1", "v1"]
            second = by_problem(sampler.sample(make_prompts(4), PARAMS, n=2))
            sampler.update_weights(weights)
            assert [it.label for it in stand_ins] == [sampler.weights_version] * 2
        assert {group.weights_version for group in first.values()} <= {f"{MODEL}", f"{MODEL}+of yesterday"}
        assert {group.weights_version for group in second.values()} == {"v1"}
        assert all(completion.weights == () for group in second.values() for completion in group.completions)


def test_a_completion_that_spans_versions_says_from_which_token_on(servers, weights, tmp_path):
    with servers({"trains": True}) as (it,), open_sampler([it], weights_folder=tmp_path) as sampler:
        sampler.update_weights(weights, version="v1")
        sampler.update_weights(weights, version="v2")
        spans = [{"start": 0, "end": 1, "version": "v1"}, {"start": 1, "end": 99, "version": "v2"}]
        it.spoil = lambda choice: choice.update(weight_versions=spans if len(choice["token_ids"]) > 1 else spans[:1])
        for group in sampler.sample(make_prompts(4), PARAMS, n=4):
            assert group.weights_version == "v1"
            for each in group.completions:
                assert each.weights == (((0, "v1"), (1, "v2")) if len(each.token_ids) > 1 else ())


def test_tokens_of_weights_that_nobody_here_gave_are_refused(servers, weights, tmp_path):
    with servers({"trains": True}) as (it,), open_sampler([it], weights_folder=tmp_path) as sampler:
        sampler.update_weights(weights, version="v1")
        it.label = "theirs"
        with pytest.raises(EndpointError, match=r"sampled with the weights .*'theirs'.* which another trainer gave"):
            list(sampler.sample(make_prompts(4), PARAMS, n=2))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"update_status": 400}, "refused /update_weights with status 400: the stand-in was told to fail"),
        ({"update_status": 500}, "answered /update_weights with status 500: the stand-in was told to fail"),
        ({"loses_labels": True}, "holds weights 'default' after it was given 'v1'"),
        ({"sums": {"embed": "2"}}, "hold other bytes in embed after both took the weights 'v1'"),
    ],
)
def test_a_server_that_does_not_take_the_weights_gets_no_work_until_it_does(
    servers, weights, tmp_path, change, complaint
):
    with (
        servers(*[{"trains": True}] * 2) as (good, bad),
        open_sampler([good, bad], weights_folder=tmp_path) as sampler,
    ):
        before = {name: getattr(bad, name) for name in change}
        for name, value in change.items():
            setattr(bad, name, value)
        sampler.update_weights(weights, version="v1")
        bad.requests.clear()
        groups = by_problem(sampler.sample(make_prompts(4), PARAMS, n=2))
        assert {group.weights_version for group in groups.values()} == {"v1"}
        assert not bad.sampled
        assert complaint in sampler._roster.servers[1].last_error
        for name, value in before.items():
            setattr(bad, name, value)
        wait_until(lambda: sampler.status()[1].state == "idle")
        assert bad.label == "v1"


def test_answers_are_kept_back_until_their_server_is_known_to_hold_the_weights(servers, weights, tmp_path):
    begun, updating = threading.Event(), threading.Event()

    def prompts():
        begun.set()
        updating.wait()
        yield from make_prompts(2)

    with servers({"trains": True}) as (it,), open_sampler([it], weights_folder=tmp_path) as sampler:
        groups = []
        sampling = threading.Thread(target=lambda: groups.extend(sampler.sample(prompts(), PARAMS, n=2)))
        sampling.start()
        begun.wait()
        it.slow_seeds = {0}  # Of the fixed texts that it is asked about.
        it.gate.clear()
        update = threading.Thread(target=lambda: sampler.update_weights(weights, version="v1"))
        update.start()
        wait_until(lambda: it.num_waiting)
        updating.set()
        wait_until(lambda: len(it.finished) == 4)
        time.sleep(0.1)
        assert groups == [] and sampler.status()[0].state == "taking weights"
        it.gate.set()
        update.join(60)
        sampling.join(60)
        assert [group.weights_version for group in groups] == ["v1", "v1"]


def test_where_no_server_takes_the_weights_the_error_says_why(servers, weights, tmp_path):
    with servers({"trains": True}) as (it,), open_sampler([it], weights_folder=tmp_path) as sampler:
        it.update_status = 500
        with pytest.raises(EndpointError, match=r"no endpoint took the weights 'v1': .* with status 500"):
            sampler.update_weights(weights, version="v1")


def test_a_server_restarted_with_old_weights_gets_the_current_ones_before_any_work(servers, weights, tmp_path):
    with servers({"trains": True}) as (it,), open_sampler([it], weights_folder=tmp_path) as sampler:
        sampler.update_weights(weights, version="v1")
        it.kill()
        wait_until(lambda: sampler.status()[0].state.startswith("down"))
        it.label = "default"
        it.start()
        groups = by_problem(sampler.sample(make_prompts(4), PARAMS, n=2))
        assert {group.weights_version for group in groups.values()} == {"v1"}
        assert len(it.updates) == 2 and it.updates[0] == it.updates[1]


def test_a_server_that_was_not_started_for_a_trainer_is_refused_with_the_command(servers, tmp_path):
    with servers({}) as stand_ins:
        with pytest.raises(
            EndpointError,
            match=r"init_weight_transfer_engine with status 404: .*; for a trainer .* VLLM_SERVER_DEV_MODE=1 vllm",
        ):
            open_sampler(stand_ins, weights_folder=tmp_path)
        with open_sampler(stand_ins) as sampler, pytest.raises(SettingError, match="with a weights_folder"):
            sampler.update_weights([])
