"""A teacher on a server: what is refused before anything is written, and what it may not say later.

A small HTTP server speaks as ``vllm serve`` does, or not quite; ``tests/test_servers.py`` has a stage with a real one.
"""

import json
import socket
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torch.distributed as dist
from polaris_rollout import EndpointError
from polaris_train.cli.main import main
from polaris_train.embedded import tiny_model
from polaris_train.errors import RecipeError
from polaris_train.model.packing import TrainingSequence
from polaris_train.recipe import load_recipe
from polaris_train.resolved import ResolvedStage
from polaris_train.stage import teacher
from polaris_train.stage.teacher import check_teacher, open_teacher
from transformers import AutoTokenizer

TOKENIZER = AutoTokenizer.from_pretrained(tiny_model())
CONTEXT = 256
AT_1 = [f"stages.{number}.temperature=1" for number in range(3)]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that has gone is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """Answers as the attributes of its server say."""

    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.server.gate.wait()
        self.answer({"data": [{"id": "lab/teacher", "max_model_len": self.server.max_model_len}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path in self.server.lacks:
            self.answer({"detail": "Not Found"}, 404)
        elif self.path == "/tokenize":
            tokens = TOKENIZER.encode(body["prompt"], add_special_tokens=body["add_special_tokens"])
            self.answer({"tokens": [token + self.server.shift for token in tokens]})
        elif len(body["prompt"]) > self.server.max_model_len - body["max_tokens"]:
            self.answer({"error": {"message": "too long"}}, 400)
        else:
            said = [{str(each): {"logprob": self.server.logprob - each % 7}} for each in body["prompt"][1:]]
            self.answer({"choices": [{"prompt_logprobs": [None, *said]}]})


@pytest.fixture
def served():
    """Start a server that differs from a good one in the given attributes; return its address."""
    with ExitStack() as stack:

        def start(**changes):
            server = Server(("127.0.0.1", 0), Handler)
            server.gate = threading.Event()
            server.gate.set()
            good = {"max_model_len": CONTEXT + 1, "lacks": (), "shift": 0, "logprob": -1.0}
            for name, value in {**good, **changes}.items():
                setattr(server, name, value)
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            for each in (server.server_close, server.shutdown, server.gate.set):
                stack.callback(each)
            return f"http://127.0.0.1:{server.server_address[1]}"

        yield start


def check(address):
    recipe = load_recipe("tiny-cpu", [f"distillation.teacher={address}", *AT_1])
    return check_teacher(recipe, student=str(tiny_model()), context=CONTEXT)


def test_a_server_that_does_has_no_fingerprint(served):
    assert check(served()) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shift": 1}, r"has another vocabulary than .*/tiny.*; serve a teacher of the same family, or fine-tune"),
        ({"max_model_len": CONTEXT}, r"has a context of 256 .* needs 257.*restart it with --max-model-len 257$"),
        ({"max_model_len": "long"}, r"did not answer /v1/models as 'vllm serve' does: .*give the address of one"),
        ({"lacks": ("/tokenize",)}, r"answered /tokenize with status 404: .*give the address of a 'vllm serve'"),
        ({"lacks": ("/v1/completions",)}, r"answered /v1/completions with status 404: .*give the address of a"),
        ({"logprob": -9999.0}, r"gives token \d+ the log-probability -\d+.*serve it with --dtype float32 or b"),
        ({"logprob": 9.0}, r"gives token \d+ the log-probability \d.*serve it with --dtype float32 or bfloat16"),
        ({"gate": threading.Event()}, r"has not answered for 0.5 s; start the server again"),
    ],
    ids=["vocabulary", "room", "length", "tokenize", "completions", "nan", "positive", "hung"],
)
def test_a_server_that_does_not_do_is_refused_with_what_to_do(served, changes, message, monkeypatch):
    if "gate" in changes:
        monkeypatch.setattr(teacher, "_DEADLINE_S", 0.5)
    address = served(**changes)
    with pytest.raises(RecipeError, match=f"^distillation.teacher: {address} {message}"):
        check(address)


def test_a_stage_whose_teacher_cannot_be_reached_ends_with_one_sentence_and_writes_nothing(
    tmp_path, monkeypatch, capsys
):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        settings = [word for each in (f"distillation.teacher={address}", *AT_1) for word in ("--set", each)]
        monkeypatch.setattr(
            "sys.argv", ["polaris-train", "stage", "tiny-cpu", "stage-1", "--out", str(tmp_path / "run"), *settings]
        )
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: distillation.teacher: {address} cannot be reached (") and said.count("\n") == 1
    assert said.endswith("); start the server again, and the same command continues\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def ask(address, sequences):
    config = ResolvedStage(
        run="run", stage="stage-1", model=str(tiny_model()), problems="made up", problems_sha256="", context=CONTEXT,
        max_prompt_tokens=6, temperature=1.0, steps=1, distillation={"teacher": address},
    )  # fmt: skip
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with ExitStack() as stack:
            return open_teacher(config, torch.device("cpu"), stack)(sequences)
    finally:
        dist.destroy_process_group()


def sequence(*, prompt, completion):
    return TrainingSequence(prompt_token_ids=tuple(prompt), token_ids=tuple(completion))


def test_what_a_server_says_stands_at_the_tokens_that_it_was_asked_about(served):
    asked = [sequence(prompt=[10, 11], completion=[14, 15, 20]), sequence(prompt=[10], completion=[21] * (CONTEXT - 1))]
    assert ask(served(), asked) == [(-1.0, -2.0, -7.0), (-1.0,) * (CONTEXT - 1)]


def test_another_vocabulary_is_noticed_when_the_stage_starts(served):
    """Another model may stand at the address than when the stage was prepared."""
    with pytest.raises(RecipeError, match="has another vocabulary than"):
        ask(served(shift=1), [])


def test_one_refusal_among_many_answers_is_one_sentence(served):
    asked = [sequence(prompt=[10], completion=[11] * length) for length in (3, CONTEXT, 5)]
    with pytest.raises(EndpointError, match="refused /v1/completions with status 400: too long"):
        ask(served(), asked)
