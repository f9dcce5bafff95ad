"""The command line: what it refuses before any engine, and what it prints without one."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from polaris_data.files.journal import Journal
from polaris_eval.benchmarks.registry import BENCHMARKS
from polaris_eval.cli.main import app, main
from polaris_eval.running.budgets import default_budgets
from polaris_eval.running.job import Job, plan_jobs
from polaris_eval.running.protocol import join_settings, protocol_hash, run_settings
from polaris_eval.running.queue import finish
from polaris_eval.running.run import CONVENTION, sample_jobs, score_jobs
from polaris_reward.records import Grade, Outcome
from polaris_rollout import Completion, EngineSpec, Group, Prompt, SamplingParams

README = Path(__file__).resolve().parents[1] / "README.md"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model until an engine opens it."""
    folder = tmp_path / "toy-model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 64}', encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(bytes(range(256)))
    return folder


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_problems(tmp_path / "sums.jsonl")


def write_problems(path: Path, count: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": f"p{number}", "problem": f"{number} + 0?", "answer": str(number)} for number in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class OneForAll:
    """Answers 1 to everything, in four tokens."""

    def __init__(self, *, killed_after: int | None = None) -> None:
        self.killed_after = killed_after

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        del params
        completion = Completion(token_ids=(1, 2, 3, 4), logprobs=(0.0,) * 4, text="1", finish_reason="stop")
        for count, prompt in enumerate(prompts):
            if count == self.killed_after:
                raise KeyboardInterrupt
            yield Group(problem_id=prompt.problem_id, prompt_token_ids=(1,), completions=(completion,) * n)


def grade_equal(items: Sequence[tuple[str, Sequence[str]]]) -> list[Grade]:
    return [
        Grade(
            outcome=Outcome.CORRECT if response in references else Outcome.INCORRECT,
            answer=response,
            reference=references[0],
            seconds=0.1,
        )
        for response, references in items
    ]


def plan(*names: Path | str, model: Path, out: Path, num_samples: int | None = None) -> list[Job]:
    settings = run_settings(
        EngineSpec(str(model)), params=SamplingParams(), convention=CONVENTION, budgets=default_budgets(64)
    )
    return plan_jobs(
        [str(name) for name in names],
        out=out,
        settings=settings,
        num_samples=num_samples,
        data_dir=None,
        limit=None,
    )


def sample(*jobs: Job, sampler: OneForAll | None = None) -> None:
    sample_jobs(jobs, sampler or OneForAll(), grade_equal, params=SamplingParams(), decode=lambda _: "1")


def finish_all(*jobs: Job) -> None:
    for job in jobs:
        finish(job.task(), grade_equal)


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["polaris-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_a_finished_evaluation_prints_its_table_again_without_an_engine(
    tmp_path: Path,
    model: Path,
    problems: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    jobs = plan(problems, model=model, out=out)
    sample(*jobs)
    finish_all(*jobs)
    assert run_cli(monkeypatch, "run", problems, "--model", model, "--out", out) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("sums"))
    assert re.split(r"\s{2,}", row.strip()) == ["sums", "4", "8", "25.0 [3.5, 66.5]", "0.0", "0.0", "4"]
    scores = json.loads((out / "scores.json").read_text())
    assert scores["evaluations"][0]["scores"][0] == {
        "benchmark": "sums",
        "metric": "mean@k",
        "k": 8,
        "value": 0.25,
        "interval": [0.035309, 0.665137],
        "num_problems": 4,
    }


def test_the_scores_of_a_run_interrupted_three_times_are_byte_identical(tmp_path: Path, model: Path, problems: Path):
    more = write_problems(tmp_path / "more.jsonl", 3)
    for name, kills in (("whole", ()), ("killed", (2, 0, 17))):
        out = tmp_path / name
        num_done = 0
        for killed_after in kills:
            jobs = plan(problems, more, model=model, out=out)
            with pytest.raises(KeyboardInterrupt):
                sample(*jobs, sampler=OneForAll(killed_after=killed_after))
            num_done += killed_after
            assert sum(len(Journal(job.completions_path).records) for job in jobs) == num_done
        jobs = plan(problems, more, model=model, out=out)
        sample(*jobs)
        finish_all(*jobs)
        score_jobs(jobs, model=str(model), out=out)
    for file in ("scores.json", "sums/completions.jsonl", "sums/settings.json", "more/completions.jsonl"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "killed" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "killed" / "sums").iterdir()) == [
        "completions.jsonl",
        "settings.json",
    ]


def test_scores_carry_the_protocol_that_they_were_made_by(tmp_path: Path, model: Path, problems: Path):
    jobs = plan(problems, model=model, out=tmp_path / "out", num_samples=2)
    sample(*jobs)
    finish_all(*jobs)
    score_jobs(jobs, model=str(model), out=tmp_path / "out")
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    settings = json.loads((tmp_path / "out" / "sums" / "settings.json").read_text())
    assert scores["protocol"] == join_settings([settings])
    assert scores["protocol_hash"] == protocol_hash(join_settings([settings]))
    assert scores["protocol"]["benchmarks"]["sums"]["num_samples"] == 2


def test_samples_default_to_eight_for_a_file_and_to_k_for_a_name(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
):
    copies = tmp_path / "copies"
    write_problems(copies / "aime24.jsonl", 30)
    monkeypatch.setenv("POLARIS_BENCHMARKS", str(copies))
    mine = write_problems(tmp_path / "mine.jsonl")
    jobs = plan("aime24", mine, model=model, out=tmp_path / "out")
    assert [(job.name, job.num_samples) for job in jobs] == [("aime24", 32), ("mine", 8)]


def test_planning_writes_nothing(tmp_path: Path, model: Path, problems: Path):
    plan(problems, model=model, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused_and_named_and_nothing_is_overwritten(
    tmp_path: Path,
    model: Path,
    problems: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    (job,) = plan(problems, model=model, out=out)
    sample(job)
    before = {path: path.read_bytes() for path in job.folder.iterdir()}
    assert run_cli(monkeypatch, "run", problems, "--model", model, "--out", out, "--seed", 1) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "seed was 0, now 1" in error
    assert {path: path.read_bytes() for path in job.folder.iterdir()} == before


def test_a_model_folder_with_new_weights_is_another_run(
    tmp_path: Path,
    model: Path,
    problems: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    out = tmp_path / "out"
    (job,) = plan(problems, model=model, out=out)
    sample(job)
    (model / "model.safetensors").write_bytes(bytes(range(1, 256)) + b"\0")
    assert run_cli(monkeypatch, "run", problems, "--model", model, "--out", out) == 2
    assert "model_digest has other content now" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_refused(
    tmp_path: Path,
    model: Path,
    problems: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "out" / "sums").mkdir(parents=True)
    (tmp_path / "out" / "sums" / "completions.jsonl").write_text("{}\n")
    assert run_cli(monkeypatch, "run", problems, "--model", model, "--out", tmp_path / "out") == 2
    assert "it has no settings.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples is 0; give 1 or more"),
        (["--limit", "0"], "--limit is 0; give 1 or more"),
        (["--temperature", "-1"], "temperature is -1.0; give 0 to 2"),
        (["--top-p", "0"], "top_p is 0.0; give a number in (0, 1]"),
        (["--max-tokens", "0"], "max_tokens is 0; give 1 or more"),
        (["--context", "65"], "give a context of at most 64"),
        (["--budgets", "32K"], "--budgets is '32K'; give token counts like 32768,49152, or none"),
        (["--endpoint", "http://host:1", "--tensor-parallel", "2"], "start the servers with it instead"),
        (["--out", "sums.jsonl"], "--out is 'sums.jsonl', which is a file; give a folder"),
        (["aime2024"], "unknown benchmark 'aime2024'; did you mean 'aime24'?"),
        (["no-such.jsonl"], "no file 'no-such.jsonl'"),
        (["copy/sums.jsonl"], "are both named 'sums'; give one, or rename a file"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_exit_code_2_before_any_engine(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    model: Path,
    problems: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    write_problems(tmp_path / "copy" / "sums.jsonl")
    before = sorted(tmp_path.rglob("*"))
    engine_imported = "vllm" in sys.modules  # by tests of other packages in the same process
    assert run_cli(monkeypatch, "run", problems.name, "--model", model, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    assert message in output.err
    assert ("vllm" in sys.modules) == engine_imported
    assert sorted(tmp_path.rglob("*")) == before


def test_without_hub_and_copy_the_way_to_use_a_copy_is_said(tmp_path: Path, model: Path):
    # In its own process, because the Hub's client reads these variables when it is imported.
    offline = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")}
    command = [sys.executable, "-m", "polaris_eval", "run", "aime25", "--model", model, "--data-dir", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, env=offline, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: aime25: there is no {tmp_path}/aime25.jsonl, and ")
    assert "put it at DIR/aime25.jsonl and give --data-dir DIR or set POLARIS_BENCHMARKS" in done.stderr
    assert not (tmp_path / "eval").exists()


def test_list_shows_every_benchmark_with_its_data_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run_cli(monkeypatch, "list") == 0
    rows = [re.split(r"\s{2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert ["aime24", "30", "32", "HuggingFaceH4/aime_2024", "2fe88a2", "train", "1ef1d8ee27a8d3c4"] in rows
    assert [row[0] for row in rows if len(row) == 7][1:] == list(BENCHMARKS)


def test_list_tells_everything_about_one(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    assert run_cli(monkeypatch, "list", "aime25") == 0
    printed = capsys.readouterr().out
    assert "revision 563bb8404243c5f09de6ec262f2db674fe5bce9b" in printed
    assert re.search(r"POLARIS-4B-Preview +79\.4", printed)
    assert run_cli(monkeypatch, "list", "amc") == 2
    assert "unknown benchmark 'amc'; did you mean 'amc23'?" in capsys.readouterr().err


def test_help_names_files_and_gives_an_example_without_loading_anything_heavy():
    code = (
        "import sys; sys.argv = ['polaris-eval', 'run', '--help']\n"
        "from polaris_eval.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'vllm', 'transformers', 'datasets', 'sympy', 'pyarrow', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "OUT/BENCHMARK/completions.jsonl" in done.stdout
    assert "polaris-eval run aime24 my-problems.jsonl" in done.stdout


@pytest.mark.parametrize("command", ["run", "grade", "compare", "report", "list"])
def test_every_command_is_in_the_readme_and_its_help_shows_each_example_on_a_line(command: str):
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    arguments = [sys.executable, "-m", "polaris_eval", command, "--help"]
    shown = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout
    (described,) = [each for each in app.registered_commands if each.name == command]
    help_text = described.callback.__doc__ or "" if described.callback else ""
    examples = re.findall(r"^ {8}(polaris-eval .*)$", help_text, re.MULTILINE)
    assert examples
    assert [line.strip() for line in shown.splitlines() if line.startswith("  polaris-eval ")] == examples
    assert f"`polaris-eval {command}" in README.read_text(encoding="utf-8")


def test_the_python_example_of_the_readme_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]):
    code, printed = re.findall(r"```(?:python|text)\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[:2]
    exec(compile(code, str(README), "exec"), {})
    assert capsys.readouterr().out == printed
