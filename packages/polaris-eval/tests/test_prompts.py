"""What is asked, with which settings, of which problems and servers; and that all of it is in the protocol."""

import json
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from polaris_data import Journal, Problem
from polaris_eval.benchmarks import PRESETS, load_benchmark, published_beside
from polaris_eval.cli.main import main
from polaris_eval.errors import BenchmarkError, SettingError
from polaris_eval.running import Task, Wording, finish, plan_jobs, read_few_shot, run_settings, sample_missing
from polaris_eval.scores import read_scores, summarize
from polaris_reward import BOXED, Grade, Outcome
from polaris_rollout import ChatFormat, Completion, EngineSpec, Group, Prompt, SamplingParams

REAL = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
PROBLEMS = [Problem(problem_id=f"p{number}", question=f"{number} + 1?", references=("1",)) for number in range(3)]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model until an engine opens it."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 64}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }} {{ enable_thinking }}")
    (folder / "model.safetensors").write_bytes(bytes(9))
    return folder


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    path = tmp_path / "sums.jsonl"
    rows = [
        {"id": f"p{n}", "problem": f"{n} + 0?", "answer": str(n), "kind": "odd" if n % 2 else "even", "level": n}
        for n in range(6)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["polaris-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def settings(model: Path, spec: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"params": SamplingParams(), "convention": BOXED, "budgets": (), **changes}
    return run_settings(EngineSpec(str(model), **(spec or {})), **arguments)


def test_the_question_stands_between_examples_and_suffix(tmp_path: Path):
    text = tmp_path / "shots.txt"
    text.write_text("Q: 1 + 1?\nA: 2\n\nQ: ")
    prefix = read_few_shot(text, suffix="\nA:")
    assert Wording(prefix=prefix, suffix="\nA:").ask(PROBLEMS[0]) == "Q: 1 + 1?\nA: 2\n\nQ: 0 + 1?\nA:"


def test_a_worked_example_is_asked_as_the_question_will_be(tmp_path: Path):
    path = tmp_path / "shots.jsonl"
    rows = [{"question": "1 + 1?", "solution": r"\boxed{2}"}, {"problem": "2 + 2?", "response": r"\boxed{4}"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = "1 + 1? Go.\n\\boxed{2}\n\n2 + 2? Go.\n\\boxed{4}\n\n"
    assert read_few_shot(path, suffix=" Go.") == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "which is no file"),
        ("empty.txt", " \n", "which is empty"),
        ("bytes.txt", b"\xff\xfe\xfa", "no text in UTF-8"),
        ("half.jsonl", '{"question": "1 + 1?"}\n', "half.jsonl:1 has no text in question or problem"),
    ],
)
def test_examples_that_cannot_be_used_are_refused(tmp_path: Path, name: str, content: Any, message: str):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingError, match=message):
        read_few_shot(tmp_path / name, suffix="")


@pytest.mark.parametrize(
    "changes",
    [
        {"wording": Wording(suffix="")},
        {"wording": Wording(prefix="Q: ")},
        {"wording": Wording(prefix="Q:")},
        {"spec": {"chat": ChatFormat(system_prompt="Be brief.")}},
        {"spec": {"chat": ChatFormat(arguments={"enable_thinking": False})}},
        {"spec": {"chat": ChatFormat(is_plain=True)}},
        {"spec": {"endpoints": ("http://a:1",), "text_only": True}},
        {"spec": {"endpoints": ("http://a:1",)}},
        {"params": SamplingParams(min_p=0.1)},
        {"params": SamplingParams(stop=("Q:",))},
        {"seeds": (0, 1)},
    ],
)
def test_whatever_changes_what_is_asked_or_drawn_is_in_the_settings(model: Path, changes: dict[str, Any]):
    variants = [settings(model), settings(model, **changes)]
    assert variants[0] != variants[1]
    assert json.loads(json.dumps(variants)) == variants


def test_without_any_of_it_the_settings_are_those_of_earlier_versions(model: Path):
    names = "model model_digest chat_template suffix temperature top_p top_k max_tokens seed context yarn budgets"
    assert set(settings(model, seeds=(0,))) == {*names.split(), "grader", "engine"}
    assert settings(model, spec={"data_parallel": 4}) == settings(model)  # Which changes nothing but the time.


class Told:
    """Answers with its seed, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, str]] = []

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        for prompt in prompts:
            self.asked.append((params.seed, prompt.problem_id, prompt.text))
            text = f"{params.seed}/{prompt.problem_id}"
            each = Completion(token_ids=(1,), logprobs=(0.0,), text=text, finish_reason="stop")
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=(each,) * n)


def grade_first_seed(items: Any) -> list[Grade]:
    """Call right what the seed 7 drew."""
    return [
        Grade(
            outcome=Outcome.CORRECT if text.startswith("7/") else Outcome.INCORRECT,
            answer=text,
            reference="1",
            seconds=0.0,
        )
        for text, _ in items
    ]


def test_each_seed_draws_what_it_draws_alone(tmp_path: Path):
    alone = {}
    for seed in (7, 9):
        told = Told()
        task = Task(name="sums", problems=PROBLEMS, num_samples=2, journal=Journal(tmp_path / f"{seed}.jsonl"))
        sample_missing([task], told, grade_first_seed, params=SamplingParams(seed=seed))
        alone[seed] = told.asked
    both, journal = Told(), Journal(tmp_path / "both.jsonl")
    task = Task(name="sums", problems=PROBLEMS, num_samples=4, journal=journal, seeds=(7, 9))
    sample_missing([task], both, grade_first_seed, params=SamplingParams(seed=0))
    assert both.asked == alone[7] + alone[9]
    finish(task, grade_first_seed)
    for record in journal.records:
        drawn = [(each["seed"], each["text"]) for each in record["completions"]]
        assert drawn == [(s, f"{s}/sums/{record['problem_id']}/{i}") for s in (7, 9) for i in range(2)]
    evaluation = summarize("sums", journal.records)
    assert evaluation.by_seed == ((7, 1.0), (9, 0.0))
    assert evaluation.score("mean@k").value == 0.5


def test_columns_choose_problems_before_the_limit_counts(model: Path, problems: Path, tmp_path: Path):
    (job,) = plan_jobs(
        [str(problems)],
        out=tmp_path / "out",
        settings=settings(model),
        num_samples=1,
        data_dir=None,
        limit=2,
        where=["kind=odd", "sums:level=1,3,4"],
    )
    assert [problem.problem_id for problem in job.problems] == ["p1", "p3"]
    assert job.settings["where"] == {"kind": ["odd"], "level": ["1", "3", "4"]}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"colour": ["red"]}, "has no column 'colour' to choose problems by"),
        ({"kind": ["prime"]}, "no problem of .* has 'prime' in 'kind'; it has even, odd"),
    ],
)
def test_a_choice_that_leaves_nothing_says_what_there_is(problems: Path, where: dict[str, list[str]], message: str):
    with pytest.raises(BenchmarkError, match=message):
        load_benchmark(str(problems), where=where)


@pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data beside the repository")
def test_the_numeric_problems_of_olympiadbench_are_572():
    where = {"answer_type": ["Numerical"]}
    assert len(load_benchmark("olympiadbench", data_dir=REAL, where=where)[1]) == 572


def test_a_published_figure_stands_only_beside_its_model_and_settings():
    preset = PRESETS["polaris-4b"]
    run = {
        "benchmark": "aime24",
        "num_problems": 30,
        "num_samples": 32,
        "model": "POLARIS-Project/Polaris-4B-Preview",
        "suffix": preset.suffix,
        **{name: getattr(preset, name) for name in ("temperature", "top_p", "top_k", "max_tokens")},
    }
    (line,) = published_beside(run)
    assert line.startswith("aime24: 81.2 is published for POLARIS-4B-Preview in these settings (README of")
    others = [
        {"model": "tiny"},
        {"model": "Qwen/Qwen3-4B"},  # Published beside it, in settings that are not stated.
        {"temperature": 1.0},
        {"max_tokens": 400},
        {"num_samples": 8},
        {"num_problems": 10},
        {"suffix": ""},
        {"system_prompt": "Be brief."},
        {"benchmark": "sums"},
    ]
    assert [list(published_beside(run | each)) for each in others] == [[]] * len(others)


def planned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sums")).split()


def test_a_plan_tells_what_can_be_told_and_writes_nothing(
    model: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out"
    options = ["--samples", 2, "--seed", 1, "--seed", 2, "--plan", "--out", out]
    assert run_cli(monkeypatch, "run", problems, "--model", model, *options) == 0
    assert planned(capsys)[:4] == ["sums", "6", "4", "24"]
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_tokens": None}),
        (["--preset", "qwen3-thinking"], {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 32768}),
        (["--preset", "qwen3-thinking", "--temperature", 0], {"temperature": 0.0, "top_p": 0.95}),
        (["--preset", "qwen3-non-thinking"], {"chat_template_kwargs": {"enable_thinking": False}}),
        (["--preset", "qwen2.5-math"], {"system_prompt": PRESETS["qwen2.5-math"].system_prompt, "suffix": ""}),
        (["--preset", "qwen2.5-math", "--suffix", " Go."], {"suffix": " Go.", "max_tokens": 2048}),
        (["--generation-config"], {"temperature": 0.6, "top_p": 0.95, "top_k": 0, "min_p": 0.05}),
        (["--generation-config", "--top-p", 1], {"temperature": 0.6, "top_p": 1.0}),
    ],
)
def test_options_win_over_presets_and_presets_over_defaults(
    model: Path, problems: Path, monkeypatch: pytest.MonkeyPatch, options: list[Any], expected: dict[str, Any]
):
    config = {"temperature": 0.6, "top_p": 0.95, "min_p": 0.05, "do_sample": True, "eos_token_id": 3}
    (model / "generation_config.json").write_text(json.dumps(config))
    found: list[dict[str, Any]] = []

    def keep(*arguments: Any, settings: dict[str, Any], **more: Any) -> list[Any]:
        found.append(settings)
        return []

    monkeypatch.setattr("polaris_eval.running.job.plan_jobs", keep)
    assert run_cli(monkeypatch, "run", problems, "--model", model, "--plan", *options) == 0
    assert {name: found[0].get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "qwen3-thinkin"], "no preset 'qwen3-thinkin'; did you mean 'qwen3-thinking'?"),
        (["--preset", "deepseek-r1", "--generation-config"], "two answers to one question"),
        (["--generation-config"], "has no generation_config.json"),
        (["--seed", 1, "--seed", 1], "--seed is given twice"),
        (["--few-shot", "none.txt"], "--few-shot is 'none.txt', which is no file"),
        (["--where", "kind"], "--where is 'kind'; write it as COLUMN=VALUE,VALUE"),
        (["--where", "nosuch:kind=odd"], "has no column 'nosuch:kind'"),
        (["--stop", ""], "a stop string is empty"),
        (["--min-p", 2], "min_p is 2.0"),
        (["--text-only"], "give their addresses with --endpoint"),
        (["--chat-template-kwargs", '{"enable": 1}'], "never mentions 'enable'"),
        (["--chat-template-kwargs", "{"], "give a JSON object"),
        (["--no-chat-template", "--system-prompt", "x"], "no place for a system prompt"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    model: Path,
    problems: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[Any],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    assert run_cli(monkeypatch, "run", problems, "--model", model, "--out", "out", *options) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


class Handler(BaseHTTPRequestHandler):
    """Answers with the number that the question begins with, after a thought; knows nothing but chats."""

    asked: list[dict[str, Any]]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._reply({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            return self._reply({"detail": "Not Found"}, 404)
        self.asked.append(body)
        number = int((re.search(r"(\d+) \+ 0\?", body["messages"][-1]["content"]) or [0, 0])[1])
        message = {"content": f"\\boxed{{{number}}}", "reasoning_content": "It is \\boxed{99}."}
        if number == 4:  # Cut in thought: its box is none.
            message = {"content": None, "reasoning_content": "It is \\boxed{4}."}
        reason = "length" if number == 4 else "stop"
        choice = {"message": message, "finish_reason": reason}
        self._reply({"choices": [choice], "usage": {"completion_tokens": 10 + number}}, 200)

    def _reply(self, body: Any, status: int) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def chat_server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Handler,), {"asked": asked}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_server_that_knows_nothing_but_chats_is_evaluated_by_its_texts(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    out = tmp_path / "out"
    with chat_server() as (address, asked):
        options = ["--model", "lab/chat", "--samples", 2, "--system-prompt", "Be brief.", "--out", out]
        assert run_cli(monkeypatch, "run", problems, "--endpoint", f"{address}/v1", *options) == 0
    assert "texts only: no tokens, no log-probabilities" in caplog.text
    assert "completions are not graded at token budgets" in caplog.text
    (evaluation,) = read_scores(out).evaluations
    assert evaluation.outcomes == {"correct": 10, "no_answer": 2}
    assert evaluation.score("truncated").value == pytest.approx(1 / 6)
    assert evaluation.lengths is not None and evaluation.lengths.mean == pytest.approx(12.5)
    assert len(asked) == 12 and {body["messages"][0]["content"] for body in asked} == {"Be brief."}
    protocol = json.loads((out / "scores.json").read_text())["protocol"]
    assert protocol["engine"] == "texts of an OpenAI-compatible server"
    assert protocol["system_prompt"] == "Be brief."
    # The server is gone, and everything is sampled: the folder says what it was.
    for said in ([], ["--text-only"]):
        assert run_cli(monkeypatch, "run", problems, "--endpoint", f"{address}/v1", *said, *options) == 0
    assert read_scores(out).evaluations == [evaluation]
