"""Real ``vllm serve`` processes on the embedded model: same completions as in process, other weights while they sample,
and servers that are stopped, killed, late, or given half of the weights."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from polaris_data import synthetic_problems, to_prompt
from polaris_rollout import Prompt, PromptTooLongError, SamplingParams, encode_prompt
from polaris_rollout.engines import check_parity, transformers_logprobs
from polaris_rollout.errors import EndpointError, SettingError
from polaris_rollout.servers import Patience, ServerSampler, TokenScorer
from polaris_rollout.transfer import StoredWeights
from polaris_train.embedded import tiny_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.slow

CONTEXT = 512
PARAMS = SamplingParams(temperature=1.5, seed=11)
EVALUATION = SamplingParams(temperature=0.8, top_p=0.9, top_k=20, max_tokens=32, seed=3)
GREEDY = SamplingParams(temperature=0.0, max_tokens=32)

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # One process less to start.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # With the routes that a trainer needs.
}
OPTIONS = [
    *("--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill", "--disable-uvicorn-access-log"),
    *("--max-model-len", str(CONTEXT), "--max-num-batched-tokens", "2048", "--max-num-seqs", "256"),
    *("--logprobs-mode", "processed_logprobs", "--served-model-name", "lab/tiny", "--enable-scale-out"),
    *("--weight-transfer-config", json.dumps({"backend": "polaris_files"})),
]


@contextmanager
def serving(folder, log, port=None):
    """Start a server of a model and yield its process and address; it is killed at the end."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    # What ``vllm serve`` runs; that command itself does not start where vLLM's CPU build is installed, since it
    # asks for the version of a distribution named vllm (0.32).
    command = [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", str(folder)]
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *OPTIONS],
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        kill(process)


def post(address):
    urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=60).close()


def wait_until(condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill(process):
    """Kill a server and the engine that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(process, address, log):
    deadline = time.monotonic() + 400
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The embedded model with defaults that would change every answer if they were used."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(tiny_model(), folder)
    path = folder / "generation_config.json"
    leaking = {"temperature": 0.3, "top_p": 0.5, "top_k": 5, "repetition_penalty": 1.5, "max_new_tokens": 7}
    path.write_text(json.dumps(json.loads(path.read_text()) | leaking))
    return folder


@pytest.fixture(scope="module")
def other_folder(folder):
    """The same model with other weights, and without a chat template."""
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    (other / "chat_template.jinja").unlink()
    weights = load_file(other / "model.safetensors")
    torch.manual_seed(0)
    weights = {name: tensor + 0.01 * torch.randn_like(tensor) for name, tensor in weights.items()}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    return other


@pytest.fixture(scope="module")
def servers(folder, other_folder, tmp_path_factory):
    """Two servers of one model and one of other weights: processes and addresses."""
    logs = [tmp_path_factory.mktemp("logs") / f"{number}.log" for number in range(3)]
    with ExitStack() as stack:
        started = [
            stack.enter_context(serving(model, log))
            for model, log in zip((folder, folder, other_folder), logs, strict=True)
        ]
        for (process, address), log in zip(started, logs, strict=True):
            wait_for(process, address, log)
        yield started


@pytest.fixture(scope="module")
def prompts():
    problems = synthetic_problems(64, seed=3, split="held-out")
    return [Prompt(problem_id=problem.problem_id, text=to_prompt(problem)) for problem in problems]


@pytest.fixture(scope="module")
def in_process(folder, prompts):
    """The groups that the engine in this process gives, by the parameters they were asked with."""
    from polaris_rollout.engines import VllmSampler  # not while tests are collected: others watch who loads it

    with VllmSampler(str(folder), context=CONTEXT) as sampler:
        return {
            PARAMS: list(sampler.sample(prompts, PARAMS, n=8)),
            EVALUATION: list(sampler.sample(prompts[:16], EVALUATION, n=4)),
            GREEDY: list(sampler.sample(prompts[:16], GREEDY, n=1)),
        }


def assert_same(ours, theirs):
    """The same groups, each once; log-probabilities to the rounding of float32."""
    named = {group.problem_id: group for group in ours}
    assert len(named) == len(ours)
    assert named.keys() == {group.problem_id for group in theirs}
    for group in theirs:
        assert named[group.problem_id].prompt_token_ids == group.prompt_token_ids
        for one, other in zip(named[group.problem_id].completions, group.completions, strict=True):
            assert one.token_ids == other.token_ids
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
            assert (one.text, one.finish_reason) == (other.text, other.finish_reason)


def test_a_server_gives_the_very_completions_of_the_engine_in_process(servers, folder, prompts, in_process):
    with ServerSampler([servers[0][1]], model=str(folder)) as sampler:
        assert sampler.context == CONTEXT
        assert_same(list(sampler.sample(prompts, PARAMS, n=8)), in_process[PARAMS])
        assert_same(list(sampler.sample(prompts[:16], EVALUATION, n=4)), in_process[EVALUATION])
        assert_same(list(sampler.sample(prompts[:16], GREEDY, n=1)), in_process[GREEDY])
        num_tokens = sum(
            len(completion.token_ids)
            for groups in in_process.values()
            for group in groups
            for completion in group.completions
        )
        deadline = time.monotonic() + 60
        while (
            status := sampler.status()[0]
        ).sampled_tokens < num_tokens:  # What the server counts comes a little later.
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert (status.state, status.running, status.waiting) == ("idle", 0, 0)


@pytest.mark.parametrize(
    "text",
    ["What is 17 + 25?", "", " spaces  and\n\nlines ", "Ünïcode ≤ ∑ 漢字 🙂", "a <|im_end|> of a turn", "x" * 3000],
)
def test_a_server_encodes_prompts_as_the_tokenizer_does(servers, folder, other_folder, text):
    for (_, address), model in ((servers[0], folder), (servers[2], other_folder)):
        tokenizer = AutoTokenizer.from_pretrained(model)
        with ServerSampler([address], model=str(model)) as sampler:
            assert sampler.encode(text) == encode_prompt(tokenizer, text)


def test_a_prompt_without_room_for_an_answer_is_listed(servers, folder):
    with ServerSampler([servers[0][1]], model=str(folder)) as sampler:
        long = Prompt(problem_id="long", text="word " * 2000)
        with pytest.raises(PromptTooLongError, match="'long'"):
            sampler.check_prompts([long])
        with pytest.raises(PromptTooLongError, match="'long'"):
            list(sampler.sample([long], PARAMS, n=1))


def test_servers_of_another_template_or_another_model_or_with_less_context_are_refused(servers, folder):
    (_, first), (_, second), (_, other) = servers
    for addresses, address_of_most in (([first, second, other], first), ([other, second, first], second)):
        with pytest.raises(EndpointError, match=rf"^{other} and {address_of_most} have different chat templates"):
            ServerSampler(addresses, model="lab/tiny")
    with pytest.raises(
        EndpointError, match=rf"^{other} serves 'lab/tiny' \(from .*/other'\) and .*/tiny' was asked for"
    ):
        ServerSampler([first, second, other], model=str(folder))
    with pytest.raises(EndpointError, match=rf"^{first} has a context of {CONTEXT} tokens and 600 were asked for"):
        ServerSampler([first], model="lab/tiny", context=600)


def test_evaluations_and_profiles_from_servers_are_those_of_the_engine_in_process(servers, folder, command, tmp_path):
    endpoints = [part for _, address in servers[:2] for part in ("--endpoint", address)]
    for where, options in {"here": (), "served": endpoints}.items():
        for arguments in (
            ("polaris-eval", "run", "synthetic:held-out", "--limit", 8, "--samples", 4, "--out", where),
            ("polaris-data", "profile", "synthetic", "--limit", 8, "--samples", 4, "--out", f"{where}/profile.jsonl"),
        ):
            done = command(*arguments, "--model", folder, "--context", CONTEXT, *options, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
    for name in ("synthetic-held-out/completions.jsonl", "profile.jsonl"):
        assert (tmp_path / "served" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


PATIENCE = Patience(health_every_s=0.5, health_timeout_s=15, first_wait_s=0.2, longest_wait_s=1)


def read(folder):
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def logprobs_of(folder, other_folder):
    """Transformers' log-probabilities of completions, by version of the weights."""
    references = {
        "old": transformers_logprobs(str(folder), context=CONTEXT),
        "new": transformers_logprobs(str(other_folder), context=CONTEXT),
    }
    return lambda version, groups: references[version](groups, PARAMS.temperature)


def largest_gaps(groups, logprobs_of):
    """How far, at most, tokens are from transformers with the weights that drew them, and with the others."""
    own, other = 0.0, 0.0
    for group, old, new in zip(groups, logprobs_of("old", groups), logprobs_of("new", groups), strict=True):
        for completion, by_old, by_new in zip(group.completions, old, new, strict=True):
            spans = completion.weights or ((0, group.weights_version),)
            for (start, version), end in zip(spans, [*[start for start, _ in spans[1:]], None], strict=True):
                mine, theirs = (by_new, by_old) if version == "new" else (by_old, by_new)
                gaps = [[abs(a - b) for a, b in zip(completion.logprobs, row, strict=True)] for row in (mine, theirs)]
                own, other = max(own, *gaps[0][start:end]), max(other, *gaps[1][start:end])
    return own, other


def test_weights_change_within_completions_and_every_token_is_of_the_version_that_it_names(
    servers, folder, other_folder, prompts, logprobs_of, tmp_path
):
    addresses = [address for _, address in servers[:2]]
    with ServerSampler(addresses, model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler:
        sampler.update_weights(read(folder).items(), version="old")
        groups = []
        thread = threading.Thread(target=lambda: groups.extend(sampler.sample(prompts, PARAMS, n=8)))
        thread.start()
        while not groups:
            time.sleep(0.01)
        sampler.update_weights(read(other_folder).items(), version="new")
        thread.join(300)
        assert len(groups) == len(prompts)
        spanning = [each for group in groups for each in group.completions if len(each.weights) == 2]
        assert spanning and all([version for _, version in each.weights] == ["old", "new"] for each in spanning)
        assert {group.weights_version for group in groups} >= {"old"}
        own, other = largest_gaps(groups, logprobs_of)
        assert own < 1e-4 and other > 0.1
        assert check_parity(sampler, transformers_logprobs(str(other_folder), context=CONTEXT)) < 1e-5


def test_weights_without_a_parameter_are_refused_and_the_servers_keep_theirs(
    servers, folder, other_folder, prompts, logprobs_of, tmp_path
):
    addresses = [address for _, address in servers[:2]]
    with ServerSampler(addresses, model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler:
        sampler.update_weights(read(folder).items(), version="old")
        new = read(other_folder)
        del new["model.layers.0.self_attn.q_proj.weight"]
        with pytest.raises(
            SettingError, match=r"weights 'new' lack 1 of .*: model\.layers\.0\.self_attn\.q_proj\.weight;"
        ):
            sampler.update_weights(new.items(), version="new")
        groups = list(sampler.sample(prompts[:8], PARAMS, n=2))
        assert {group.weights_version for group in groups} == {"old"}
        assert largest_gaps(groups, logprobs_of)[0] < 1e-4


def test_a_transfer_that_stops_half_way_leaves_the_weights_as_they_were_and_can_be_repeated(
    servers, folder, other_folder, tmp_path, monkeypatch
):
    whole = StoredWeights.update_info

    def cut(stored):
        last = stored.folder / stored.shards[-1][0]
        last.write_bytes(last.read_bytes()[:-100])
        return whole(stored)

    old, new = [transformers_logprobs(str(each), context=CONTEXT) for each in (folder, other_folder)]
    _, address = servers[0]
    with ServerSampler([address], model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler:
        sampler.update_weights(read(folder).items(), version="old")
    with (
        monkeypatch.context() as patch,
        ServerSampler([address], model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler,
    ):
        patch.setattr(StoredWeights, "update_info", cut)
        with pytest.raises(EndpointError, match=r"no endpoint took the weights 'new': .* has SHA-256 .* was written"):
            sampler.update_weights(read(other_folder).items(), version="new")
    post(f"{address}/resume")
    with ServerSampler([address], model=str(folder)) as sampler:
        assert check_parity(sampler, old) < 1e-5
    with ServerSampler([address], model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler:
        sampler.update_weights(read(other_folder).items(), version="new")
        assert check_parity(sampler, new) < 1e-5


def test_a_server_left_paused_within_an_update_is_taken_over_by_the_next_trainer(servers, folder, tmp_path):
    _, address = servers[0]
    for route in ("/pause?mode=keep", "/start_weight_update"):
        post(address + route)
    with ServerSampler([address], model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler:
        sampler.update_weights(read(folder).items(), version="old")
        assert check_parity(sampler, transformers_logprobs(str(folder), context=CONTEXT)) < 1e-5


def test_a_late_server_gets_the_current_weights_and_a_stopped_one_is_done_without(
    servers, folder, other_folder, prompts, logprobs_of, tmp_path
):
    (_, first), (process, second), _ = servers
    inventory = tmp_path / "servers.txt"
    inventory.write_text(f"{first}\n")
    with ServerSampler([str(inventory)], model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler:
        sampler.update_weights(read(other_folder).items(), version="new")
        inventory.write_text(f"{first}\n{second}\n")
        wait_until(lambda: [each.state for each in sampler.status()] == ["idle", "idle"])
        groups = list(sampler.sample(prompts[:16], PARAMS, n=8))
        assert {group.weights_version for group in groups} == {"new"}
        assert largest_gaps(groups, logprobs_of)[0] < 1e-4
        assert all(each.sampled_tokens for each in sampler.status())
        groups = []
        try:
            for group in sampler.sample(prompts, PARAMS, n=8):
                groups.append(group)
                if len(groups) == 4:
                    os.killpg(process.pid, signal.SIGSTOP)
        finally:
            os.killpg(process.pid, signal.SIGCONT)
        assert len(groups) == len(prompts) and {group.weights_version for group in groups} == {"new"}
        wait_until(lambda: [each.state for each in sampler.status()] == ["idle", "idle"])
        sampler.update_weights(read(folder).items(), version="old")


def test_an_address_that_answers_but_is_no_vllm_is_refused(folder, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        with pytest.raises(EndpointError, match=rf"^{address} answered /health with status 404: .*; start a server of"):
            ServerSampler([address], model=str(folder), weights_folder=tmp_path)
    finally:
        server.shutdown()


def test_a_server_killed_mid_run_loses_and_repeats_nothing(servers, folder, prompts, in_process):
    """Last in the file: it leaves one server dead."""
    (_, survivor), (process, address), _ = servers
    with ServerSampler([survivor, address], model=str(folder), max_in_flight=32) as sampler:
        groups = []
        for group in sampler.sample(prompts, PARAMS, n=8):
            groups.append(group)
            if len(groups) == 12:
                assert all(status.running for status in sampler.status())
                kill(process)
        assert_same(groups, in_process[PARAMS])
        assert [status.state.split()[0] for status in sampler.status()] == ["idle", "down"]


def test_a_server_that_is_started_again_with_the_old_weights_gets_the_current_ones(
    servers, folder, other_folder, prompts, logprobs_of, tmp_path
):
    """After the test above, which killed it."""
    _, (_, address), _ = servers
    log = tmp_path / "log"
    with serving(folder, log, port=int(address.rpartition(":")[2])) as (process, address):
        wait_for(process, address, log)
        with ServerSampler([address], model=str(folder), weights_folder=tmp_path, patience=PATIENCE) as sampler:
            sampler.update_weights(read(other_folder).items(), version="new")
            kill(process)
            wait_until(lambda: sampler.status()[0].state.startswith("down"))
            with serving(folder, log, port=int(address.rpartition(":")[2])) as (process, address):
                wait_for(process, address, log)
                groups = list(sampler.sample(prompts[:8], PARAMS, n=2))
        assert {group.weights_version for group in groups} == {"new"}
        assert largest_gaps(groups, logprobs_of)[0] < 1e-4


def test_a_server_says_how_likely_it_finds_tokens_that_it_did_not_sample(servers, folder, other_folder):
    """As a teacher is asked; against the trainer's own pass over the same weights."""
    draw = random.Random(0)
    asked = [
        ([draw.randrange(5, 400) for _ in range(9)], [draw.randrange(5, 400) for _ in range(n)]) for n in (1, 30, 7)
    ]
    scorer = TokenScorer(servers[2][1])
    try:
        found = scorer.logprobs(asked)
        text = r"So \frac{3}{14} is it.<|im_end|>"
        assert scorer.tokens(text) == AutoTokenizer.from_pretrained(folder).encode(text, add_special_tokens=False)
        assert scorer.context() == CONTEXT
        (longest,) = scorer.logprobs([([5], [6] * (CONTEXT - 2))])
        assert len(longest) == CONTEXT - 2
        with pytest.raises(EndpointError, match="status 400: max_tokens must be at least 1"):
            scorer.logprobs([([5], [6] * (CONTEXT - 1))])
    finally:
        scorer.close()
    model = AutoModelForCausalLM.from_pretrained(other_folder, dtype=torch.float32)
    for (prompt, completion), row in zip(asked, found, strict=True):
        logits = model(torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(completion)[:, None])[:, 0]
        assert row == pytest.approx(expected.tolist(), abs=1e-3)


def test_a_stage_learns_from_a_served_teacher_what_it_learns_from_one_that_it_loads(
    servers, other_folder, command, tmp_path
):
    """Rank 0 of two asks the server, and tells the other."""
    settings = [
        *(f"stages.{number}.temperature=1" for number in range(3)), "stages.0.context=256", "stages.0.steps=2",
        "max_prompt_tokens=160", "prompts_per_step=4", "evaluate_every=0",
    ]  # fmt: skip
    for out, more in {
        "loaded": [f"distillation.teacher={other_folder}"],
        "served": [f"distillation.teacher={servers[2][1]}", "num_processes=2"],
    }.items():
        given = [word for each in (*settings, *more) for word in ("--set", each)]
        done = command("polaris-train", "stage", "tiny-cpu", "stage-1", "--out", out, *given, cwd=tmp_path, timeout=900)
        assert done.returncode == 0, done.stderr
    loaded, served = (
        [json.loads(line) for line in (tmp_path / out / "stage-1" / "metrics.jsonl").read_text().splitlines()]
        for out in ("loaded", "served")
    )
    assert [each["step"] for each in served] == [1, 2]
    for ours, theirs in zip(served, loaded, strict=True):
        assert ours["sampled_tokens"] == theirs["sampled_tokens"] == ours["num_tokens"]
        assert ours["reverse_kl"] == pytest.approx(theirs["reverse_kl"], abs=1e-5) and ours["reverse_kl"] > 1e-3
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)


def test_what_is_no_server_is_said_of_a_teacher():
    scorer = TokenScorer("http://127.0.0.1:9")
    with pytest.raises(EndpointError, match=r"http://127.0.0.1:9 cannot be reached .*start the server again"):
        scorer.tokens("a")
    scorer.close()
