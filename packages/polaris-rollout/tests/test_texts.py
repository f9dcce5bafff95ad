"""Texts from a server that speaks OpenAI's protocol and nothing else, on loopback."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from polaris_rollout import ChatFormat, EndpointError, EngineSpec, Prompt, SamplingParams
from polaris_rollout.engines import open_engine
from polaris_rollout.servers import Patience, TextSampler, are_text_only, join_reasoning

PATIENCE = Patience(first_wait_s=0.01, longest_wait_s=0.02, give_up_after_s=5)
PROMPTS = [Prompt(problem_id=name, text=f"What is {name}?") for name in "abcde"]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, body, status=200):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        if self.path == "/v1/models" and self.server.models:
            self.reply({"data": [{"id": each} for each in self.server.models]})
        else:
            self.reply({"error": {"message": "not here"}}, 404)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            return self.reply({"detail": "Not Found"}, 404)
        self.server.asked.append((self.path, body))
        self.reply(*self.server.answer(body))


@contextmanager
def serving(answer, models=("lab/chat",)):
    """Serve answers made by a function of the request's body, and yield the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.answer, server.models, server.asked = answer, models, []
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def say(text, *, reason="stop", usage=None, **message):
    choice = {"message": {"role": "assistant", "content": text, **message}, "finish_reason": reason}
    return {"choices": [choice], **({"usage": {"completion_tokens": usage}} if usage else {})}, 200


def sample(server, params=None, *, n=2, **options):
    with TextSampler([server.address], model="lab/chat", patience=PATIENCE, **options) as sampler:
        groups = list(sampler.sample(PROMPTS, params or SamplingParams(), n=n))
    return {group.problem_id: group for group in groups}


def test_every_prompt_gets_its_group_of_texts_with_the_lengths_that_the_server_tells():
    with serving(lambda body: say(body["messages"][-1]["content"][-2:], usage=body["seed"] % 97 + 1)) as server:
        groups = sample(server, n=3)
        again = sample(server, n=3, max_in_flight=1)
    assert {name: set(group.texts) for name, group in groups.items()} == {name: {f"{name}?"} for name in "abcde"}
    assert all(each.token_ids == () and each.num_tokens for group in groups.values() for each in group.completions)
    assert groups == again
    seeds = [body["seed"] for _, body in server.asked]
    assert len(set(seeds)) == 15 and max(seeds) < 2**31


def test_what_is_not_set_is_not_sent_and_what_is_set_is():
    with serving(lambda body: say("x")) as server:
        sample(server, n=1)
        chat = ChatFormat(system_prompt="Be brief.", arguments={"enable_thinking": False})
        sample(server, SamplingParams(top_k=5, min_p=0.1, stop=("Q:",), max_tokens=9), n=1, chat=chat)
    first, last = server.asked[0][1], server.asked[-1][1]
    assert sorted(first) == ["messages", "model", "seed", "temperature", "top_p"]
    assert [last[name] for name in ("top_k", "min_p", "stop", "max_tokens")] == [5, 0.1, ["Q:"], 9]
    assert last["chat_template_kwargs"] == {"enable_thinking": False}
    assert [turn["role"] for turn in last["messages"]] == ["system", "user"]


def test_without_the_chat_template_the_text_is_completed_as_it_is():
    with serving(lambda body: ({"choices": [{"text": body["prompt"], "finish_reason": "length"}]}, 200)) as server:
        groups = sample(server, n=1, chat=ChatFormat(is_plain=True))
    assert groups["a"].completions[0].text == "What is a?"
    assert groups["a"].completions[0].finish_reason == "length"
    assert groups["a"].completions[0].num_tokens is None


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_what_a_reasoning_parser_took_apart_is_one_text_again(name):
    with serving(lambda body: say(r"So \boxed{4}.", **{name: "2 + 2"})) as server:
        groups = sample(server, n=1)
    assert groups["a"].texts == ("<think>\n2 + 2\n</think>\n\nSo \\boxed{4}.",)


def test_a_thought_that_was_cut_stays_open():
    with serving(lambda body: say(None, reason="length", reasoning_content=r"maybe \boxed{4}")) as server:
        groups = sample(server, n=1)
    assert groups["a"].texts == ("<think>\nmaybe \\boxed{4}",)
    assert join_reasoning("", "4") == "4"


def test_a_busy_server_is_asked_again_and_garbage_is_no_answer():
    failures = [({"error": {"message": "busy"}}, 429), ({"detail": "?"}, 200), ({"error": {}}, 503)]

    def answer(body):
        return failures.pop() if failures else say("fine")

    with serving(answer) as server:
        groups = sample(server, n=1)
    assert {group.texts for group in groups.values()} == {("fine",)}


def test_a_request_that_is_refused_ends_the_sampling_with_what_the_server_said():
    refusal = {"error": {"message": "unknown parameter top_k"}}, 400
    with serving(lambda body: refusal) as server, pytest.raises(EndpointError, match="unknown parameter top_k"):
        sample(server)


def test_a_server_with_other_models_is_refused_and_one_without_a_list_is_not():
    said = "serves 'other' and 'lab/chat' was asked for"
    with serving(lambda body: say("x"), ("other",)) as server, pytest.raises(EndpointError, match=said):
        sample(server)
    with serving(lambda body: say("x"), models=()) as server:
        assert len(sample(server)) == len(PROMPTS)


def test_a_server_without_tokens_is_known_by_asking_and_refused_where_tokens_are_needed():
    with serving(lambda body: say("x")) as server:
        assert are_text_only([server.address])
        spec, said = EngineSpec("lab/chat", endpoints=(server.address,)), r"/health with status 404.*--text-only"
        with pytest.raises(EndpointError, match=said), open_engine(spec):
            pass
    assert not are_text_only([server.address])  # It is down: nothing is known.


def test_an_early_stop_leaves_nothing_behind():
    gate = threading.Event()

    def answer(body):
        if body["messages"][-1]["content"] != "What is a?":
            gate.wait(20)
        return say("x")

    with serving(answer) as server, TextSampler([server.address], model="lab/chat", patience=PATIENCE) as sampler:
        stream = sampler.sample(PROMPTS, SamplingParams(), n=1)
        assert next(stream).problem_id == "a"
        assert sum(status.running for status in sampler.status()) == len(PROMPTS) - 1
        stream.close()
        gate.set()
