"""Sampling from servers that fail, against a small stand-in server on loopback."""

import random
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import count

import pytest
from polaris_rollout.digest import model_digest
from polaris_rollout.errors import EndpointError, PromptTooLongError
from polaris_rollout.records import ChatFormat, Prompt, SamplingParams, completion_seed
from polaris_rollout.servers.sampler import ServerSampler
from polaris_rollout.servers.server import Patience

MODEL = "lab/model"
PARAMS = SamplingParams(temperature=1.3, max_tokens=40, seed=5)
PATIENCE = Patience(health_every_s=0.1, health_timeout_s=10, first_wait_s=0.02, longest_wait_s=0.2, give_up_after_s=60)


def open_sampler(stand_ins, **options):
    options = {"model": MODEL, "patience": PATIENCE, **options}
    return ServerSampler([it.address for it in stand_ins], **options)


def make_prompts(num):
    return [Prompt(problem_id=f"p{number}", text=f"What is {number} + {number}?") for number in range(num)]


def by_problem(groups):
    """Groups by problem, each of which came once."""
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
    """The groups of 12 prompts as one undisturbed server gives them."""
    with servers({}) as stand_ins, open_sampler(stand_ins) as sampler:
        return by_problem(sampler.sample(make_prompts(12), PARAMS, n=4))


def test_a_group_is_what_the_server_sampled(expected):
    group = expected["p3"]
    assert group.prompt_token_ids == (1, *b"What is 3 + 3?", 2)
    assert group.weights_version == MODEL
    for completion in group.completions:
        assert len(completion.token_ids) == len(completion.logprobs)
        assert completion.finish_reason == "stop" and completion.token_ids[-1] == 0
        assert completion.text == "".join(chr(token) for token in completion.token_ids[:-1])


def test_several_servers_share_the_work_and_the_answers_do_not_tell_who_gave_them(servers, expected):
    with servers({"delay_s": 0.01}, {"delay_s": 0.01}, {"delay_s": 0.01}) as stand_ins:
        with open_sampler(stand_ins, max_in_flight=4) as sampler:
            assert by_problem(sampler.sample(make_prompts(12), PARAMS, n=4)) == expected
        assert all(it.sampled for it in stand_ins)
        seeds = [seed for it in stand_ins for seed in it.sampled]
        assert sorted(seeds) == sorted(
            completion_seed(5, f"p{key}", sample) for key in range(12) for sample in range(4)
        )


def test_a_free_server_is_given_more_than_a_slow_one(servers):
    with servers({"delay_s": 0.2}, {}) as (slow, fast), open_sampler([slow, fast], max_in_flight=2) as sampler:
        assert len(by_problem(sampler.sample(make_prompts(12), PARAMS, n=2))) == 12
        assert len(fast.sampled) > len(slow.sampled)


def test_every_sampling_parameter_is_sent_so_that_no_default_of_the_server_counts(servers):
    params = SamplingParams(temperature=0.7, top_p=0.9, top_k=3, max_tokens=9, seed=2)
    with servers({}) as (it,), open_sampler([it]) as sampler:
        list(sampler.sample(make_prompts(1), params, n=1))
        sent = it.requests[-1]
    assert sent["seed"] == completion_seed(2, "p0", 0)
    assert [sent[name] for name in ("temperature", "top_p", "top_k", "max_tokens")] == [0.7, 0.9, 3, 9]
    neutral = {"min_p": 0, "repetition_penalty": 1, "presence_penalty": 0, "frequency_penalty": 0}
    assert {name: sent[name] for name in neutral} == neutral


def test_what_stands_around_a_question_is_asked_of_the_server_that_knows_the_template(servers):
    chat = ChatFormat(system_prompt="Be brief. ", arguments={"enable_thinking": False})
    with servers({}) as (it,), open_sampler([it], chat=chat) as sampler:
        assert bytes(sampler.encode("1 + 1?")[1:-1]) == b"Be brief. 1 + 1?"
        assert it.turns[-1]["chat_template_kwargs"] == {"enable_thinking": False}
        assert [turn["role"] for turn in it.turns[-1]["messages"]] == ["system", "user"]
    with servers({}) as (it,), open_sampler([it], chat=ChatFormat(is_plain=True)) as sampler:
        assert bytes(sampler.encode("1 + 1?")) == b"1 + 1?"
        assert it.turns == []


def test_a_stop_string_ends_the_text_and_not_the_tokens(servers, expected):
    whole = expected["p0"].completions[0]
    stop = whole.text[2:4]
    with servers({}) as (it,), open_sampler([it]) as sampler:
        (group,) = sampler.sample(make_prompts(1), replace(PARAMS, stop=(stop,), min_p=0.1), n=1)
        assert (it.requests[-1]["stop"], it.requests[-1]["min_p"]) == ([stop], 0.1)
    assert group.completions[0].text == whole.text.partition(stop)[0]
    assert group.completions[0].token_ids == whole.token_ids


def test_an_answer_may_fill_the_context(servers):
    prompt = Prompt(problem_id="p", text="x" * 50)
    with servers({}) as (it,), open_sampler([it], context=100) as sampler:
        assert sampler.context == 100
        list(sampler.sample([prompt], SamplingParams(), n=1))
        assert it.requests[-1]["max_tokens"] == 48
        list(sampler.sample([prompt], SamplingParams(max_tokens=60), n=1))
        assert it.requests[-1]["max_tokens"] == 48


def test_without_a_context_the_shortest_of_the_servers_is_taken(servers):
    with servers({"max_model_len": 200}, {"max_model_len": 100}) as stand_ins, open_sampler(stand_ins) as sampler:
        assert sampler.context == 100


def test_a_model_without_a_chat_template_sees_plain_text(servers):
    with servers({"has_chat_template": False}) as stand_ins, open_sampler(stand_ins) as sampler:
        assert sampler.encode("2 + 2") == tuple(b"2 + 2")
        (group,) = sampler.sample([Prompt(problem_id="p", text="2 + 2")], PARAMS, n=1)
        assert group.prompt_token_ids == tuple(b"2 + 2")


def test_groups_say_what_thought_the_chat_template_opened(servers):
    with servers({"prefilled": "<think>\n"}) as stand_ins, open_sampler(stand_ins) as sampler:
        (group,) = sampler.sample(make_prompts(1), PARAMS, n=2)
        assert bytes(group.prompt_token_ids).endswith(b"<think>\n")
        assert group.texts == tuple("<think>\n" + completion.text for completion in group.completions)
    with servers({"has_chat_template": False}) as stand_ins, open_sampler(stand_ins) as sampler:
        prompts = [Prompt(problem_id=text, text=text) for text in ("2 + 2 <think>", "<think> 2 + 2")]
        assert {each.problem_id: each.prefilled for each in sampler.sample(prompts, PARAMS, n=1)} == {
            "2 + 2 <think>": "<think>",
            "<think> 2 + 2": "",
        }


def test_prompts_are_drawn_only_when_a_server_has_room(servers):
    drawn = []

    def source():
        for prompt in make_prompts(12):
            drawn.append(prompt.problem_id)
            yield prompt

    with servers({}, {}) as stand_ins, open_sampler(stand_ins, max_in_flight=3) as sampler:
        for it in stand_ins:
            it.gate.clear()
        groups = []
        thread = threading.Thread(target=lambda: groups.extend(sampler.sample(source(), PARAMS, n=2)))
        thread.start()
        wait_until(lambda: sum(each.running for each in sampler.status()) == 6)
        assert drawn == ["p0", "p1", "p2"]
        for it in stand_ins:
            it.gate.set()
        thread.join(60)
        assert len(groups) == len(drawn) == 12


def test_a_caller_may_stop_early_and_sample_again(servers, expected):
    with servers({"delay_s": 0.05}) as (it,), open_sampler([it], max_in_flight=8) as sampler:
        stream = sampler.sample(make_prompts(12), PARAMS, n=4)
        first = next(stream)
        it.delay_s = 600.0
        wait_until(lambda: 0 < it.num_waiting == sampler.status()[0].running)
        num_left = it.num_waiting
        stream.close()
        assert first == expected[first.problem_id]
        wait_until(lambda: it.num_cancelled == num_left)
        assert sampler.status()[0].running == 0
        it.delay_s = 0.0
        assert by_problem(sampler.sample(make_prompts(12), PARAMS, n=4)) == expected


def test_two_callers_may_sample_at_the_same_time(servers, expected):
    with servers({}) as stand_ins, open_sampler(stand_ins, max_in_flight=8) as sampler:
        one = sampler.sample(make_prompts(12)[:6], PARAMS, n=4)
        other = sampler.sample(make_prompts(12)[6:], PARAMS, n=4)
        groups = [group for pair in zip(one, other, strict=True) for group in pair]
        assert by_problem(groups) == expected


def test_a_killed_servers_unfinished_work_is_given_to_the_others(servers, expected, caplog):
    with servers({"delay_s": 0.02}, {"delay_s": 0.02}) as (dying, other):
        with open_sampler([dying, other], max_in_flight=8) as sampler:
            groups = []
            for group in sampler.sample(make_prompts(12), PARAMS, n=4):
                groups.append(group)
                if len(groups) == 3:
                    dying.kill()
            assert by_problem(groups) == expected
            assert sampler.status()[0].state.startswith("down since ")
        assert dying.sampled and dying.address in caplog.text


def test_finished_completions_of_a_killed_servers_groups_are_kept(servers, expected):
    last = {completion_seed(5, f"p{key}", 3) for key in range(8)}
    with servers({"slow_seeds": last}, {"slow_seeds": last}) as (dying, other), open_sampler([dying, other]) as sampler:
        groups = []
        thread = threading.Thread(target=lambda: groups.extend(sampler.sample(make_prompts(8), PARAMS, n=4)))
        dying.gate.clear()
        other.gate.clear()
        thread.start()
        wait_until(lambda: len(dying.finished) + len(other.finished) == 24)
        wait_until(lambda: dying.num_waiting + other.num_waiting == 8)
        dying.kill()
        other.gate.set()
        thread.join(60)
        assert by_problem(groups) == {key: expected[key] for key in (f"p{number}" for number in range(8))}
        assert dying.finished and not set(dying.finished) & set(other.sampled)


def test_a_server_that_comes_back_is_checked_and_gets_work_again(servers, expected):
    with servers({"delay_s": 0.01}, {"delay_s": 0.01}) as (it, other):
        with open_sampler([it, other], max_in_flight=4) as sampler:
            groups = []
            for group in sampler.sample(make_prompts(12), PARAMS, n=4):
                groups.append(group)
                if len(groups) == 2:
                    it.kill()
                    wait_until(lambda: sampler.status()[0].state.startswith("down"))
                    it.requests.clear()
                    it.start()
                    wait_until(lambda: not sampler.status()[0].state.startswith("down"))
                    assert any("prompt_logprobs" in body for body in it.requests)
            assert by_problem(groups) == expected
        assert it.sampled


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"weights": 0.5}, "other weights"),
        ({"model_id": "lab/other", "root": "lab/other"}, "serves 'lab/other'"),
        ({"max_model_len": 16}, "context of 16 tokens"),
    ],
)
def test_a_server_that_comes_back_as_another_gets_no_work(servers, expected, caplog, change, complaint):
    with servers({"delay_s": 0.01}, {"delay_s": 0.01}) as (it, other):
        with open_sampler([it, other], max_in_flight=4) as sampler:
            groups = []
            for group in sampler.sample(make_prompts(12), PARAMS, n=4):
                groups.append(group)
                if len(groups) == 2:
                    it.kill()
                    wait_until(lambda: sampler.status()[0].state.startswith("down"))
                    it.requests.clear()
                    for name, value in change.items():
                        setattr(it, name, value)
                    it.start()
                    wait_until(lambda: complaint in sampler._roster.servers[0].last_error)
            assert by_problem(groups) == expected
        assert not it.sampled


def test_a_server_that_stops_answering_is_found_by_its_health_check(servers, expected):
    quick = Patience(health_every_s=0.1, health_timeout_s=0.5, first_wait_s=0.02, longest_wait_s=0.2)
    with (
        servers({"delay_s": 0.02}, {"delay_s": 0.02}) as (it, other),
        open_sampler([it, other], max_in_flight=8, patience=quick) as sampler,
    ):
        groups = []
        for group in sampler.sample(make_prompts(12), PARAMS, n=4):
            groups.append(group)
            if len(groups) == 3:
                it.hung.set()
        assert by_problem(groups) == expected


@pytest.mark.parametrize("status", [500, 502, 503, 429, 404])
def test_a_server_that_fails_for_a_while_is_asked_again(servers, expected, status):
    with servers({"delay_s": 0.01}) as (it,), open_sampler([it], max_in_flight=4) as sampler:
        groups = []
        for group in sampler.sample(make_prompts(12), PARAMS, n=4):
            groups.append(group)
            if len(groups) == 3:
                it.status = status
                wait_until(lambda: sampler.status()[0].state.startswith("down"))
                it.status = 200
        assert by_problem(groups) == expected


def test_a_completion_that_a_closing_server_broke_off_is_drawn_again(servers, expected):
    with servers({"delay_s": 0.01}) as (it,), open_sampler([it], max_in_flight=4) as sampler:
        groups = []
        for group in sampler.sample(make_prompts(12), PARAMS, n=4):
            groups.append(group)
            if len(groups) == 3:
                it.finish_reason = "abort"
                wait_until(lambda: sampler.status()[0].state.startswith("down"))
                it.finish_reason = None
        assert by_problem(groups) == expected


def test_a_refused_request_ends_the_run_with_the_servers_message(servers):
    with servers({}) as (it,), open_sampler([it]) as sampler:
        it.status = 400
        with pytest.raises(EndpointError, match=r"refused /v1/completions with status 400: the stand-in was told"):
            list(sampler.sample(make_prompts(4), PARAMS, n=2))
        it.status = 200
        assert len(list(sampler.sample(make_prompts(4), PARAMS, n=2))) == 4


def test_a_request_that_fails_wherever_it_goes_is_named(servers):
    with servers({}, {}) as stand_ins, open_sampler(stand_ins) as sampler:
        for it in stand_ins:
            it.broken_prompt = [1, *b"What is 2 + 2?", 2]
        groups = []
        with pytest.raises(EndpointError, match=r"completion \d of 'p2' failed 10 times"):
            groups.extend(sampler.sample(make_prompts(6), PARAMS, n=2))


def test_when_no_server_works_for_long_the_errors_of_all_are_told_and_no_group_is_lost(servers, expected):
    impatient = Patience(health_every_s=0.05, first_wait_s=0.02, longest_wait_s=0.05, give_up_after_s=0.5)
    with (
        servers({"delay_s": 0.02}, {"delay_s": 0.02}) as (dead, ill),
        open_sampler([dead, ill], max_in_flight=4, patience=impatient) as sampler,
    ):
        stream = sampler.sample(make_prompts(12), PARAMS, n=4)
        groups = [next(stream) for _ in range(3)]
        dead.kill()
        ill.health = ill.status = 503
        with pytest.raises(EndpointError, match="no endpoint has worked for") as caught:
            groups += stream
        assert f"{dead.address} cannot be reached" in str(caught.value)
        assert f"{ill.address} answered /health with status 503" in str(caught.value)
        assert all(group == expected[group.problem_id] for group in groups)
        with pytest.raises(EndpointError, match="no endpoint has worked for"):
            list(sampler.sample(make_prompts(2), PARAMS, n=1))
        with pytest.raises(EndpointError, match="no endpoint has worked for"):
            sampler.check_prompts(make_prompts(2))


def test_a_server_that_cuts_answers_short_is_refused(servers):
    with servers({}) as (it,), open_sampler([it]) as sampler:
        it.longest, it.finish_reason = 3, "length"
        with pytest.raises(EndpointError, match=r"cut a completion at \d tokens where 40 were asked for"):
            list(sampler.sample(make_prompts(1), PARAMS, n=1))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"model_id": "served", "root": "lab/other"},
            r"serves 'served' \(from 'lab/other'\) and 'lab/model' was asked",
        ),
        ({"max_model_len": 64}, r"has a context of 64 tokens and 128 were asked for; restart it with --max-model-len"),
        (
            {"logprobs_mode": "raw_logprobs"},
            r"restart it with: vllm serve lab/model --logprobs-mode processed_logprobs",
        ),
        ({"logprobs_mode": "raw_logits"}, "--logprobs-mode processed_logprobs"),
        ({"logprobs_mode": "processed_logits"}, "--logprobs-mode processed_logprobs"),
        ({"weights": 0.06}, r"holds other weights than http://127.0.0.1:\d+: .* differ by 0.06 nats"),
        ({"weight_version": "step-2"}, r"holds weights 'lab/model\+step-2' and http.* 'lab/model\+step-1'"),
        ({"has_chat_template": False}, "different chat templates"),
        ({"release": "0.33.1"}, r"runs vLLM 0\.33\.1 and http://127.0.0.1:\d+ runs 0\.32\.0, whose .*; install one"),
        ({"health": 503}, r"answered /health with status 503: .*; start a server of lab/model there"),
        ({"status": 400}, "refused /v1/completions with status 400: the stand-in was told to fail"),
    ],
)
def test_a_server_that_cannot_share_the_work_is_refused_by_name(servers, change, complaint):
    with servers(*[{"weight_version": "step-1"}] * 2, {"weight_version": "step-1", **change}) as stand_ins:
        for order in (stand_ins, stand_ins[::-1]):
            with pytest.raises(EndpointError, match=complaint) as caught:
                open_sampler(order, context=128)
            assert str(caught.value).startswith(stand_ins[2].address) or "chat templates" in complaint


def test_a_server_that_is_not_there_is_refused_by_name(servers):
    with servers({}, {}) as stand_ins:
        stand_ins[1].kill()
        with pytest.raises(EndpointError, match=rf"{stand_ins[1].address} cannot be reached \(.+\); start a server"):
            open_sampler(stand_ins)


def test_a_server_that_never_answers_is_refused_by_name(servers):
    with servers({}) as (it,):
        it.hung.set()
        with pytest.raises(EndpointError, match=r"left a request unanswered for 0\.3 s"):
            open_sampler([it], patience=Patience(open_timeout_s=0.3))


@pytest.mark.parametrize("endpoints", [[], ["localhost:8000"], ["http://"], ["http://a:1", "http://a:1/v1/"]])
def test_addresses_that_name_no_servers_are_refused(endpoints):
    with pytest.raises(EndpointError, match="give one"):
        ServerSampler(endpoints, model=MODEL)


def test_an_address_may_end_as_other_clients_want_it(servers, expected):
    with servers({}) as (it,), ServerSampler([f"{it.address}/v1/"], model=MODEL, patience=PATIENCE) as sampler:
        assert sampler.status()[0].name == it.address


def test_weights_in_a_folder_here_are_known_by_their_content(servers, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    folder = {"root": str(tmp_path), "model_id": "served"}
    with servers(folder) as stand_ins:
        for model in ("served", str(tmp_path), str(tmp_path / ".")):
            with open_sampler(stand_ins, model=model) as sampler:
                assert sampler.weights_version == model_digest(str(tmp_path))
                (group,) = sampler.sample(make_prompts(1), PARAMS, n=1)
                assert group.weights_version == sampler.weights_version
    with (
        servers(folder | {"weight_version": "step-7"}) as stand_ins,
        open_sampler(stand_ins, model="served") as sampler,
    ):
        assert sampler.weights_version == f"{model_digest(str(tmp_path))}+step-7"


def test_prompts_without_room_for_an_answer_are_listed(servers):
    prompts = [*make_prompts(70), Prompt(problem_id="long", text="x" * 254), Prompt(problem_id="fits", text="x" * 253)]
    with servers({}) as stand_ins, open_sampler(stand_ins) as sampler:
        with pytest.raises(
            PromptTooLongError, match=r"1 of 72 prompts .* context of 256: 'long' \(256 tokens\); raise"
        ):
            sampler.check_prompts(prompts)
        with pytest.raises(PromptTooLongError, match="2 of 72 prompts leave no room for 2 answer tokens"):
            sampler.check_prompts(prompts, 2)
        with pytest.raises(PromptTooLongError, match="'long'"):
            list(sampler.sample(prompts[-2:], PARAMS, n=1))
        sampler.check_prompts(prompts[:70], 100)


def test_the_status_tells_of_every_server_while_it_samples(servers):
    with servers({}, {"has_metrics": False}) as stand_ins, open_sampler(stand_ins, max_in_flight=4) as sampler:
        assert [each.state for each in sampler.status()] == ["idle", "idle"]
        assert [each.name for each in sampler.status()] == [it.address for it in stand_ins]
        for it in stand_ins:
            it.gate.clear()
        groups = []
        thread = threading.Thread(target=lambda: groups.extend(sampler.sample(make_prompts(8), PARAMS, n=2)))
        thread.start()
        wait_until(lambda: all((each.state, each.running) == ("sampling", 4) for each in sampler.status()))
        stand_ins[0].num_generated += 1000  # Of completions that are not finished.
        wait_until(lambda: sampler.status()[0].sampled_tokens >= 1000)
        assert sampler.status()[1].sampled_tokens == 0
        for it in stand_ins:
            it.gate.set()
        thread.join(60)
        tokens = sum(len(completion.token_ids) for group in groups for completion in group.completions)
        wait_until(lambda: sum(each.sampled_tokens for each in sampler.status()) == 1000 + tokens)


def test_any_number_of_failures_loses_and_repeats_no_group(servers, expected):
    """Three servers die and come back at random while 12 groups are drawn."""
    chance = random.Random(0)
    stopped = threading.Event()

    def disturb(stand_ins):
        for _ in count():
            it = chance.choice(stand_ins)
            it.kill()
            time.sleep(0.03)
            it.start()
            if stopped.wait(0.03):
                return

    with servers(*[{"delay_s": 0.02}] * 3) as stand_ins, open_sampler(stand_ins, max_in_flight=4) as sampler:
        thread = threading.Thread(target=disturb, args=(stand_ins[:2],))
        thread.start()
        groups = list(sampler.sample(make_prompts(12), PARAMS, n=4))
        stopped.set()
        thread.join(60)
        assert by_problem(groups) == expected


def test_closing_ends_a_call_that_is_still_waiting(servers):
    with servers({}) as (it,):
        it_sampler = open_sampler([it])
        it.gate.clear()
        failures = []

        def sample():
            try:
                list(it_sampler.sample(make_prompts(4), PARAMS, n=1))
            except EndpointError as error:
                failures.append(str(error))

        thread = threading.Thread(target=sample)
        thread.start()
        wait_until(lambda: it_sampler.status()[0].running == 4)
        it_sampler.close()
        it_sampler.close()
        thread.join(60)
        assert failures == ["the sampler was closed while it was sampling"]


def test_a_request_for_no_completions_is_refused(servers):
    with servers({}) as stand_ins, open_sampler(stand_ins) as sampler, pytest.raises(ValueError, match="n is 0"):
        list(sampler.sample(make_prompts(1), PARAMS, n=0))


def test_no_prompts_give_no_groups(servers):
    with servers({}) as stand_ins, open_sampler(stand_ins) as sampler:
        assert list(sampler.sample([], PARAMS, n=2)) == []


def test_servers_are_sampled_from_without_an_engine_here():
    code = "import sys, polaris_rollout.servers.sampler; print({'torch', 'vllm', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_limit_on_open_files_is_raised_for_the_connections_or_the_call_is_refused():
    code = """if True:
        import resource
        from polaris_rollout.errors import EndpointError
        from polaris_rollout.servers.sampler import ServerSampler

        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 600))
        for max_in_flight in (300, 400):
            try:
                ServerSampler(["http://127.0.0.1:1"], model="m", max_in_flight=max_in_flight)
            except EndpointError as error:
                print(resource.getrlimit(resource.RLIMIT_NOFILE), error)
    """
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.splitlines()
    assert lines[0].startswith("(556, 600) http://127.0.0.1:1 cannot be reached")
    assert lines[1].startswith("(556, 600) 400 completions in flight need as many connections and only 600 files")
