"""A small server that speaks vLLM's protocol, or fails to in many ways, for tests of those who use servers."""

import json
import math
import random
import select
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

MODEL = "lab/model"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""SHA-256 of nothing."""

LOGITS = [-0.4 * rank for rank in range(12)]


class StandIn:
    """What one pretended server serves, how it behaves, and what it was asked for."""

    def __init__(self):
        self.model_id = self.root = MODEL
        self.max_model_len = 256
        self.weights = 0.0
        self.weight_version = None
        self.release = "0.32.0"
        self.logprobs_mode = "processed_logprobs"
        self.has_chat_template = True
        self.prefilled = ""
        self.has_metrics = True
        self.status = 200  # of completions
        self.health = 200
        self.broken_prompt = None
        self.finish_reason = None
        self.longest = None
        self.delay_s = 0.0
        self.trains = False  # Whether it was started for a trainer.
        self.spoil = None  # Changes a choice before it is sent.
        self.label = "default"
        self.updates = []
        self.update_status = 200
        self.loses_labels = False
        self.sums = {"embed": "1", "packed": EMPTY}
        self.hung = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.slow_seeds = None  # Only these wait; None: all.
        self.turns = []
        self.requests = []
        self.finished = []
        self.num_waiting = 0
        self.num_cancelled = 0
        self.num_generated = 0
        self.port = 0
        self.lock = threading.Lock()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def sampled(self):
        """Seeds of the completions it was asked for, in order."""
        return [body["seed"] for body in self.requests if body["seed"] and body["logprobs"] == 0]

    def told(self):
        """What it says to a trainer, by route."""
        return {
            "/server_info?config_format=json": {
                "vllm_config": {"weight_transfer_config": {"backend": "polaris_files"}}
            },
            "/is_paused": {"is_paused": False},
            "/weight_info": {"weight_version": self.label},
        }

    def flat(self, body):
        """A request for tokens in the shape of one for text."""
        if "token_ids" not in body:
            return body
        return {"model": body["model"], "prompt": body["token_ids"], **body["sampling_params"]}

    def start(self):
        self.sockets = set()
        self.server = Server(("127.0.0.1", self.port), Handler)
        self.server.stand_in = self
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def kill(self):
        """Vanish as a killed process does: the port is closed and so is every connection."""
        self.server.shutdown()
        self.server.server_close()
        with self.lock:
            for each in self.sockets:
                with suppress(OSError):  # The client was faster.
                    each.shutdown(socket.SHUT_RDWR)
            self.sockets.clear()

    def wait(self, connection, seed):
        """Take the time of an answer; tell whether the client is still there."""
        if self.slow_seeds is not None and seed not in self.slow_seeds:
            return True
        with self.lock:
            self.num_waiting += 1
        started = time.monotonic()
        left = False
        while not left and (self.hung.is_set() or not self.gate.is_set() or time.monotonic() < started + self.delay_s):
            left = bool(select.select([connection], [], [], 0.01)[0])
        with self.lock:
            self.num_waiting -= 1
            self.num_cancelled += left
        return not left


ROUTES = ("/tokenize", "/detokenize", "/v1/completions")


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """Killed connections are part of the tests."""

    def process_request(self, request, client_address):
        with self.stand_in.lock:
            self.stand_in.sockets.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with self.stand_in.lock:
            self.stand_in.sockets.discard(request)
        super().shutdown_request(request)


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def answer(self, body, status=200):
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status, message):
        self.answer({"error": {"message": message, "code": status}}, status)

    def do_GET(self):
        it = self.server.stand_in
        while it.hung.is_set():
            time.sleep(0.01)
        if self.path == "/health":
            self.answer("", it.health)
        elif self.path == "/v1/models":
            card = {"id": it.model_id, "root": it.root, "max_model_len": it.max_model_len, "parent": None}
            self.answer({"object": "list", "data": [card]})
        elif self.path == "/version" and it.release:
            self.answer({"version": it.release})
        elif self.path == "/weight_info" and it.weight_version:
            self.answer({"weight_version": it.weight_version})
        elif self.path == "/metrics" and it.has_metrics:
            label = f'{{engine="0",model_name="{it.model_id}"}}'
            self.answer(
                f"# HELP\nvllm:num_requests_running{label} {float(it.num_waiting)}\n"
                f"vllm:num_requests_waiting{label} 0.0\n"
                f"vllm:num_requests_waiting_by_reason{label} 7.0\n"
                f"vllm:generation_tokens_total{label} {float(it.num_generated)}\n"
            )
        elif it.trains and self.path in it.told():
            self.answer(it.told()[self.path])
        else:
            self.answer({"detail": "Not Found"}, 404)

    def do_POST(self):
        it = self.server.stand_in
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
        body = it.flat(body) if self.path == "/inference/v1/generate" else body
        if self.path not in ROUTES and not it.trains:
            self.answer({"detail": "Not Found"}, 404)
        elif self.path not in ROUTES and "model" not in body:
            self.control(it, body)
        elif body["model"] != it.model_id:
            self.refuse(404, f"The model `{body['model']}` does not exist.")
        elif self.path == "/tokenize":
            self.tokenize(it, body)
        elif self.path == "/detokenize":
            self.answer({"prompt": bytes(body["tokens"]).decode()})
        elif it.status != 200 or body["prompt"] == it.broken_prompt:
            it.requests.append(body)
            self.refuse(it.status if it.status != 200 else 500, "the stand-in was told to fail")
        else:
            it.requests.append(body)
            if it.wait(self.connection, body["seed"]):
                self.complete(it, body)

    def control(self, it, body):
        """What a trainer asks for; of an empty request for tokens, that it is refused."""
        if self.path == "/inference/v1/generate":
            self.refuse(400, "token_ids is missing")
        elif self.path == "/update_weights" and it.update_status != 200:
            self.refuse(it.update_status, "the stand-in was told to fail")
        else:
            if self.path == "/update_weights":
                it.updates.append(body["update_info"])
            elif self.path == "/finish_weight_update" and not it.loses_labels:
                it.label = body["weight_version"]
            self.answer({"checksums": it.sums})

    def tokenize(self, it, body):
        if "prompt" in body:
            self.answer({"tokens": list(body["prompt"].encode())})
        elif it.has_chat_template:
            it.turns.append(body)
            texts = "".join(turn["content"] for turn in body["messages"])
            self.answer({"tokens": [1, *texts.encode(), 2, *it.prefilled.encode()]})
        else:
            self.refuse(400, "default chat template is no longer allowed, so you must provide a chat template")

    def complete(self, it, body):
        prompt_logprobs = None
        if "prompt_logprobs" in body:
            prompt_logprobs = [None] + [
                {str(token): {"logprob": -1 - token % 7 - it.weights}} for token in body["prompt"][1:]
            ]
        drawn = random.Random(json.dumps([body["prompt"], body["seed"], body["temperature"], body["top_k"]]))
        tokens = [drawn.randrange(3, 256) for _ in range(drawn.randrange(1, 30))] + [0]
        tokens = tokens[: min(body["max_tokens"], it.longest or 999)]
        it.num_generated += len(tokens)
        top = {f"token_id:{token}": value for token, value in enumerate(top_logprobs(it, body))}
        logprobs = {
            "token_logprobs": [-drawn.random() for _ in tokens],
            "top_logprobs": [top] * len(tokens),
            "tokens": [f"token_id:{token}" for token in tokens],
        }
        choice = {
            "weight_versions": [{"start": 0, "end": len(tokens), "version": it.label}],
            "text": "".join(chr(token) for token in tokens if token),
            "token_ids": tokens,
            "logprobs": logprobs,
            "prompt_logprobs": prompt_logprobs,
            "finish_reason": it.finish_reason or ("length" if tokens[-1] else "stop"),
        }
        it.finished += [body["seed"]] if body["seed"] else []
        if body["logprobs"] == 0 and body["seed"] and it.spoil:
            it.spoil(choice)
        if self.path == "/inference/v1/generate":
            choice["logprobs"] = {"content": [{"logprob": each} for each in logprobs["token_logprobs"]]}
        self.answer({"choices": [choice]})


def top_logprobs(it, body):
    """What each of the engine's modes reports of the next token, the highest first."""
    processed = it.logprobs_mode.startswith("processed")
    values = [logit / body["temperature"] for logit in LOGITS] if processed else LOGITS
    if processed and body["top_k"]:
        values = [value if rank < body["top_k"] else -9999.0 for rank, value in enumerate(values)]
    if it.logprobs_mode.endswith("logprobs"):
        whole = math.log(sum(map(math.exp, values)))
        values = [max(value - whole, -9999.0) for value in values]
    return values[: max(1, body["logprobs"])]


@contextmanager
def servers(*changes):
    """Start a server for each dict of changed attributes."""
    with ExitStack() as stack:
        stand_ins = []
        for change in changes:
            it = StandIn()
            for name, value in change.items():
                setattr(it, name, value)
            it.start()
            stand_ins.append(it)

            @stack.callback
            def end(it=it):
                it.hung.clear()
                it.gate.set()
                it.server.shutdown()
                it.server.server_close()

        yield stand_ins


@pytest.fixture(scope="session", name="servers")
def _servers():
    """The context manager that starts a stand-in for each dict of changed attributes."""
    return servers
