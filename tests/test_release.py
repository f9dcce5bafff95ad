"""A released model: what servers and libraries read from its folder, fewer bits, and the Hub."""

import json
import math
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from polaris_eval.scores import read_scores
from polaris_train.embedded import tiny_model
from polaris_train.errors import ReleaseError
from polaris_train.release import push_release, write_release
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

CONTEXT = 3072
"""Half as much again as the positions of the embedded model."""
TEMPERATURE, TOP_K = 1.4, 20


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The embedded model as others take it."""
    folder = tmp_path_factory.mktemp("release") / "tiny-released"
    return write_release(tiny_model(), folder, temperature=TEMPERATURE, top_k=TOP_K, context=CONTEXT, licence="mit")


def long_prompt(folder, *, tokens):
    """Return tokens of a prompt beyond the model's own positions, whose next token is open."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.encode("What is 17 + 25? Name a prime above 50. Count down from ten. ")
    return (text * (tokens // len(text) + 1))[:tokens]


def expected(folder, prompt):
    """Return the probabilities of the next token as its folder says it is sampled, from transformers in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    said = GenerationConfig.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1] / said.temperature
    kept = logits.topk(said.top_k)
    return dict(zip(kept.indices.tolist(), kept.values.softmax(-1).tolist(), strict=True))


def distance(found: Counter, probabilities) -> float:
    """Return the chi-square statistic over its degrees of freedom, of tokens expected at least five times."""
    total = found.total()
    often = {token: total * share for token, share in probabilities.items() if total * share >= 5}
    rest = total - sum(often.values())
    terms = [(found[token] - count) ** 2 / count for token, count in often.items()]
    if rest >= 5:
        terms.append((total - sum(found[token] for token in often) - rest) ** 2 / rest)
    return sum(terms) / (len(terms) - 1)


def test_transformers_samples_as_the_folder_says(released):
    prompt = long_prompt(released, tokens=2500)
    model = AutoModelForCausalLM.from_pretrained(released, dtype=torch.float32)
    assert model.config.rope_parameters["attention_factor"] == 1.0
    assert model.model.rotary_emb.attention_scaling == 1.0
    torch.manual_seed(0)
    with torch.inference_mode():
        cache = model(torch.tensor([prompt[:-1]]), use_cache=True).past_key_values
    cache.batch_repeat_interleave(500)
    made = model.generate(torch.tensor([prompt] * 500), past_key_values=cache, max_new_tokens=1)
    found = Counter(made[:, -1].tolist())
    probabilities = expected(released, prompt)
    assert found.keys() <= probabilities.keys()
    assert distance(found, probabilities) < 3
    plain = dict.fromkeys(probabilities, 1 / TOP_K)
    assert distance(found, plain) > 3


def test_the_card_takes_back_the_temperature_that_llama_cpp_adds(released):
    """It scales attention by 1 + 0.1 ln(factor), and once more by what the card names; seen on the real one."""
    factor = json.loads((released / "config.json").read_text())["rope_parameters"]["factor"]
    assert factor > 1
    named = re.search(r"attn\\?_factor=float:(\d\.\d+)", (released / "README.md").read_text())
    assert float(named[1]) * (1 + 0.1 * math.log(factor)) == pytest.approx(1, abs=1e-4)


@contextmanager
def serving(folder, log):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What ``vllm serve FOLDER`` runs, without any flag but the address.
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(folder)]
    environment = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | environment | {"VLLM_NO_USAGE_STATS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 500
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"{address}/health", timeout=5).close()
                break
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.5)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(address, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        return json.load(response)


@pytest.mark.slow
def test_a_server_without_flags_samples_as_transformers_reads_the_folder(released, tmp_path):
    """Temperature, top-k and YaRN are asked of the server: its tokens after a prompt beyond the model's positions."""
    prompt = long_prompt(released, tokens=2500)
    probabilities = expected(released, prompt)
    with serving(released, tmp_path / "log") as address:
        (model,) = ask(address, "/v1/models")["data"]
        assert model["max_model_len"] == CONTEXT
        body = {"model": model["id"], "prompt": prompt, "max_tokens": 1, "n": 125, "return_token_ids": True}
        choices = [choice for seed in range(8) for choice in ask(address, "/v1/completions", body)["choices"]]
    found = Counter(choice["token_ids"][0] for choice in choices)
    assert found.total() == 1000
    assert found.keys() <= probabilities.keys()
    assert distance(found, probabilities) < 3


@pytest.mark.parametrize(("scheme", "levels"), [("w8a8", 127.5), ("w4a16", 7.5)])
def test_quantised_weights_are_the_nearest_that_their_scale_allows(tmp_path, scheme, levels):
    folder = write_release(tiny_model(), tmp_path / scheme, temperature=1.0, scheme=scheme)
    original = load_file(tiny_model() / "model.safetensors")
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    loaded(torch.tensor([[5, 6, 7]]))  # The first pass unpacks what is packed.
    found = dict(loaded.named_parameters())
    layers = [name for name in original if name.endswith("proj.weight")]
    assert len(layers) == 28
    for name in layers:
        weight = original[name].float()
        groups = weight.unflatten(1, (-1, 128)) if scheme == "w4a16" else weight[:, None]
        step = groups.abs().amax(-1, keepdim=True) / levels
        gap = (found[name].detach().float().reshape(groups.shape) - groups).abs()
        # Half a step, the one beyond the largest positive value, and bfloat16's rounding of scale and value.
        assert (gap <= 1.01 * step + 0.01 * groups.abs()).all()
        assert gap.mean() > 0
        assert gap.mean() < 0.3 * step.mean()
    assert torch.equal(found["model.embed_tokens.weight"].bfloat16(), original["model.embed_tokens.weight"].bfloat16())
    again = write_release(tiny_model(), tmp_path / "again", temperature=1.0, scheme=scheme)
    assert (again / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    card = (folder / "README.md").read_text()
    assert scheme in card


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["w8a8", "w4a16"])
def test_what_quantisation_costs_is_measured_by_the_same_commands(tmp_path, command, scheme):
    write_release(tiny_model(), tmp_path / "full", temperature=1.0)
    done = command("polaris-train", "export", "full", "--quantize", scheme, "--out", "few", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    problems = ("--num", 100, "--split", "held-out", "--out", "held-out.jsonl")
    assert command("polaris-data", "synthetic", *problems, cwd=tmp_path).returncode == 0
    for model in ("full", "few"):
        asked = ("--generation-config", "--context", 512, "--samples", 4, "--out", f"eval-{model}")
        done = command("polaris-eval", "run", "held-out.jsonl", "--model", model, *asked, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    compared = command("polaris-eval", "compare", "eval-full", "eval-few", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    full, few = (read_scores(tmp_path / f"eval-{name}").evaluations[0].score("mean@k") for name in ("full", "few"))
    assert few.value > 0.5 * full.value  # It still computes; how much it lost is what the comparison says.
    print(compared.stdout)


class _Hub(BaseHTTPRequestHandler):
    """As much of the Hub's interface as an upload asks for; whatever is given is kept in ``server.files``."""

    def do_GET(self):
        self._answer(404, {})

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer hf_right":
            self._answer(401, {"error": "Invalid username or password."})
        elif self.path == "/api/repos/create":
            self.server.created = json.loads(content)
            self._answer(200, {"url": f"http://127.0.0.1:{self.server.server_port}/me/tiny"})
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(content)["files"]]
            self._answer(200, {"files": [each | {"shouldIgnore": False} for each in files]})
        elif "/commit/" in self.path:
            for line in content.splitlines():
                each = json.loads(line)
                if each["key"] == "file":
                    self.server.files.append(each["value"]["path"])
            self._answer(200, {"commitUrl": "http://127.0.0.1/me/tiny/commit/1", "commitOid": "1", "success": True})
        else:
            self._answer(200, {})

    def _answer(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.files = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def push(folder, hub, token):
    """Upload in a child process: the library reads where the Hub is when it is imported."""
    code = (
        "import sys; from pathlib import Path; from polaris_train.release import push_release\n"
        "try: print(push_release(Path(sys.argv[1]), 'me/tiny', private=True))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    environment = {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=os.environ | environment
    )
    return done.stdout + done.stderr


def test_a_release_is_uploaded_with_its_card(released, hub):
    said = push(released, hub, "hf_right")
    assert said.strip().endswith("/me/tiny"), said
    assert hub.created["name"] == "tiny" and "private" in {*hub.created, hub.created.get("visibility")}, hub.created
    assert set(hub.files) == {path.name for path in released.iterdir()}
    assert {"README.md", "generation_config.json", "model.safetensors", "config.json"} <= set(hub.files)


def test_a_hub_that_refuses_is_a_sentence_and_the_folder_stays(released, hub):
    said = push(released, hub, "hf_wrong")
    assert said.startswith("ReleaseError me/tiny was not uploaded"), said
    assert "hf upload me/tiny" in said
    assert (released / "model.safetensors").exists() and not hub.files


def test_what_cannot_be_released_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ReleaseError, match=r"no scheme 'int3' .* w8a8, w4a16"):
        write_release(tiny_model(), out, temperature=1.0, scheme="int3")
    with pytest.raises(ReleaseError, match="temperature is -1; give 0"):
        write_release(tiny_model(), out, temperature=-1.0)
    with pytest.raises(ReleaseError, match="top_k is -3"):
        write_release(tiny_model(), out, temperature=1.0, top_k=-3)
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model(), bare)
    (bare / "generation_config.json").unlink()
    with pytest.raises(ReleaseError, match="how is the model to be sampled"):
        write_release(bare, out)
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]
    few = write_release(tiny_model(), out, temperature=1.0, scheme="w8a8")
    with pytest.raises(ReleaseError, match="is quantised already"):
        write_release(few, tmp_path / "fewer", temperature=1.0, scheme="w4a16")
    with pytest.raises(ReleaseError, match="exists, and is not overwritten"):
        write_release(tiny_model(), out, temperature=1.0)


def test_a_hub_that_cannot_be_reached_is_a_sentence(released, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ReleaseError, match="me/tiny was not uploaded"):
        push_release(released, "me/tiny", private=False)
    assert math.isclose(GenerationConfig.from_pretrained(released).temperature, TEMPERATURE)
