import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from polaris_data import Difficulty, Journal, read_problems
from polaris_data.cli.main import main
from polaris_data.files.journal import claim_output, settings_path
from polaris_data.profile.sampling import profile_settings
from polaris_rollout import EngineSpec, SamplingParams

ENGINE_IMPORTED = "vllm" in sys.modules
"""By tests of other packages in the same process; nothing here may import it."""


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Run the command in an empty folder; return the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["polaris-data", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def model(tmp_path):
    """A folder that looks like a model as far as anything but the engine reads it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 128}')
    (folder / "tokenizer.json").write_text("{}")
    return folder


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def visit_row(problem_id, num_correct, step=1):
    counts = {"num_samples": 8, "num_correct": num_correct, "num_truncated": 0}
    return {"run": "r", "stage": "s", "step": step, "problem_id": problem_id, **counts}


def write_profile(path, problems, **settings):
    """Write what a finished ``profile`` command leaves: problem i was solved i of 8 times."""
    if settings:
        params = SamplingParams(seed=0)
        engine = EngineSpec(settings.pop("model"))
        claim_output(path, profile_settings(problems, engine, params=params, num_samples=8, **settings))
    journal = Journal(path)
    for number, problem in enumerate(problems):
        correct = min(number, 8)
        journal.append(
            {
                "problem_id": problem.problem_id,
                "num_samples": 8,
                "num_correct": correct,
                "num_truncated": 8 - correct,
                "mean_tokens": 20.0,
            }
        )
    journal.finish(lambda record: 0)


HELP = """
import sys
import polaris_data
from polaris_data.cli.main import main
sys.argv[0] = "polaris-data"
try:
    main()
finally:
    heavy = "torch vllm transformers datasets pyarrow sympy numpy scipy matplotlib polaris_reward"
    print([name for name in heavy.split() if name in sys.modules])
"""
COMMANDS = "import export check dedup decontaminate split profile traces select show why synthetic".split()


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)])
def test_help_teaches_and_loads_nothing_heavy(arguments):
    process = [sys.executable, "-c", HELP, *arguments, "--help"]
    done = subprocess.run(process, capture_output=True, text=True, env=os.environ | {"COLUMNS": "120"})
    assert done.returncode == 0 and "Usage: polaris-data" in done.stdout, done.stderr
    assert done.stdout.endswith("\n[]\n")
    if arguments:
        # Every example is a line of its own.
        examples = done.stdout.partition("Example")[2].partition("╭")[0].splitlines()[1:]
        lines = [line.strip() for line in examples if line.strip()]
        assert lines and all(line.startswith(f"polaris-data {arguments[0]}") for line in lines)


def test_neither_help_nor_the_package_loads_anything_heavy():
    heavy = ("torch", "vllm", "transformers", "datasets", "pyarrow", "sympy", "numpy")
    code = "import {0}, sys; print([name for name in {1!r} if name in sys.modules])"
    for module, none_of in (("polaris_data", (*heavy, "polaris_rollout")), ("polaris_data.cli.main", heavy)):
        done = subprocess.run([sys.executable, "-c", code.format(module, none_of)], capture_output=True, text=True)
        assert done.stdout == "[]\n", module


def test_without_the_sampler_all_but_profile_works_and_that_says_what_to_install(tmp_path):
    start = "import sys; sys.modules['polaris_rollout'] = None; sys.argv[0] = 'polaris-data'; "

    def run(*arguments):
        code = f"{start}from polaris_data.cli.main import main; main()"
        return subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)

    assert run("synthetic", "--num", "9", "--out", "p.jsonl").returncode == 0
    done = run("profile", "p.jsonl", "--model", "m", "--endpoint", "http://host:8000")
    assert done.returncode == 2
    assert "pip install 'polaris-data[profile]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_module_is_a_command():
    result = subprocess.run([sys.executable, "-m", "polaris_data", "show", "absent.jsonl"], capture_output=True)
    assert result.returncode == 2
    assert result.stderr == b"error: no file 'absent.jsonl'; check the path\n"


def test_a_finished_profile_is_shown_again_without_an_engine(command, model):
    problems = read_problems("synthetic", limit=9)
    write_profile(Path("synthetic.profile.jsonl"), problems, model=str(model))
    code, out, err = command("profile", "synthetic", "--limit", 9, "--model", model)
    assert code == 0 and "is complete: nothing is sampled" in err
    assert "9 problems, shape: other" in out
    assert "mean accuracy 50.0% over 72 answers, 50.0% of them truncated" in out
    assert "wrote synthetic.profile.jsonl and synthetic.profile.jsonl.settings.json" in out
    assert ("vllm" in sys.modules) == ENGINE_IMPORTED


def test_a_profile_with_other_settings_is_refused_and_kept(command, model, tmp_path):
    out = tmp_path / "p.jsonl"
    write_profile(out, read_problems("synthetic", limit=9), model=str(model))
    before = out.read_bytes(), settings_path(out).read_bytes()
    code, _, err = command(
        "profile", "synthetic", "--limit", 9, "--model", model, "--out", out, "--temperature", 0.6, "--seed", 1
    )
    assert code == 2
    assert err == (
        f"error: {out} belongs to another run: seed was 0, now 1; temperature was 1.0, now 0.6; choose another "
        "--out or remove it\n"
    )
    assert (out.read_bytes(), settings_path(out).read_bytes()) == before


def test_a_file_that_no_profile_command_wrote_is_not_overwritten(command, model, tmp_path):
    problems = write_rows(tmp_path / "p.jsonl", {"problem": "Q", "answer": "1"})
    before = problems.read_bytes()
    code, _, err = command("profile", problems, "--model", model, "--out", problems)
    assert code == 2 and "not known which run wrote it" in err
    assert problems.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "p.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.jsonl"], "error: no file 'absent.jsonl'"),
        (["synthetic", "--model", "absent"], "error: no model 'absent'"),
        (
            ["synthetic", "--model", "model", "--context", 200],
            "error: context is 200 tokens but the model has 128 positions",
        ),
        (["synthetic", "--samples", 0], "error: --samples is 0"),
        (["synthetic", "--model", "model", "--temperature", 3], "error: temperature is 3.0; give 0 to 2"),
        (["synthetic", "--model", "model", "--adaptive", "--bound", 0], "error: bounds are [0.0]"),
        (["synthetic", "--model", "model", "--adaptive", "--at-a-time", 3], "error: 8 samples cannot be drawn 3 at"),
        (["synthetic", "--endpoint", "http://h:1", "--tensor-parallel", 2], "start the servers with it"),
        (["synthetic", "--completions", "absent"], "error: no completions at 'absent'"),
        (["synthetic", "--completions", "absent", "--adaptive"], "error: --completions samples nothing"),
        (["synthetic", "--limit", 0], "Invalid value for '--limit'"),
        (["synthetic", "--max-tokens", 0], "Invalid value for '--max-tokens'"),
        (["synthetic", "--temperature", -1], "Invalid value for '--temperature'"),
    ],
)
def test_a_wrong_argument_of_profile_is_refused_before_anything_is_written(
    command, model, tmp_path, arguments, message
):
    code, out, err = command("profile", *arguments)
    assert code == 2 and message in err and out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert ("vllm" in sys.modules) == ENGINE_IMPORTED


def test_without_a_model_the_demonstration_model_is_named(command):
    code, _, err = command("profile", "absent.jsonl")
    assert code == 2
    assert err.startswith("no --model given: using 'tiny', the demonstration model of polaris-train\nerror: ")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="needs an environment without vllm")
def test_without_an_engine_one_sentence_says_what_to_install(command, model, tmp_path):
    code, _, err = command("profile", "synthetic", "--limit", 1, "--model", model)
    assert code == 2 and err.count("\n") == 1 and "pip install 'polaris-rollout[" in err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_the_extra_one_sentence_says_what_to_install(tmp_path):
    """The siblings are hidden from the interpreter, as if they were not installed."""
    code = (
        "import sys; sys.modules['polaris_rollout'] = None; sys.modules['polaris_reward'] = None\n"
        "sys.modules['datasets'] = None; sys.argv[0] = 'polaris-data'\n"
        "from polaris_data.cli.main import main; main()"
    )
    for arguments, extra in [(["profile", "synthetic"], "profile"), (["show", "owner/name"], "hub")]:
        result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 2 and result.stdout == ""
        assert re.fullmatch(rf"error: .*pip install 'polaris-data\[{extra}\]>=2026.11'.*\n", result.stderr)


def test_select_writes_what_is_kept_and_why(command, tmp_path):
    write_profile(tmp_path / "p.jsonl", read_problems("synthetic", limit=9))
    arguments = ["select", "synthetic", "p.jsonl", "--limit", 9, "--out", "data"]
    code, out, _ = command(*arguments)
    assert code == 0
    assert [line.strip() for line in out.splitlines()[:3]] == [
        "8 of 9 problems are kept",
        "8  no rule drops it",
        "1  always solved",
    ]
    assert "before: 9 problems, shape other; never solved 11.1%, sometimes 77.8%, always 11.1%" in out
    assert "after: 8 problems, shape other; never solved 12.5%, sometimes 87.5%, always 0.0%" in out
    assert read_problems("data/selected.jsonl") == read_problems("synthetic", limit=8)
    written = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert sorted(written) == [
        "decisions.json",
        "selected.jsonl",
        "selected.jsonl.settings.json",
        "selection.html",
        "selection.png",
    ]
    assert command(*arguments)[0] == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == written
    code, _, err = command(*arguments, "--rule", "accuracy above=0.5")
    assert code == 2 and "data/selected.jsonl belongs to another run: rules was [{'rule': 'drop'" in err
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["synthetic", "p.jsonl", "--limit", 10], "1 of 10 problems have no profile"),
        (["synthetic", "p.jsonl", "--limit", 8], "the profile is of another problem set"),
        (["synthetic", "absent.jsonl"], "no profile 'absent.jsonl'"),
        (
            ["synthetic", "p.jsonl", "--limit", 9, "--rule", "drop solved=never", "--rule", "accuracy above=0"],
            "is left",
        ),
        (["synthetic", "p.jsonl", "--limit", 9, "--rule", "accuracy"], "rule 'accuracy': no 'above'"),
        (["synthetic", "p.jsonl", "--rules", "absent.toml"], "cannot read the rules 'absent.toml'"),
        (["synthetic", "p.jsonl", "--rules", "r.toml", "--rule", "drop"], "give --rule or --rules, not both"),
        (["synthetic"], "give either a PROFILE or --visits"),
        (["synthetic", "p.jsonl", "--visits", "v.jsonl"], "give either a PROFILE or --visits"),
        (["synthetic", "--visits", "absent.jsonl"], "no visit log 'absent.jsonl'"),
        (["synthetic", "--visits", "other.jsonl"], "the visit log is of another problem set: none of its 1 problems"),
        (["synthetic", "--visits", "torn.jsonl", "--strict"], "1 lines cannot be used: torn.jsonl:2: not JSON"),
        (["changed.jsonl", "p.jsonl"], "is a profile of other problems: the ids agree"),
    ],
)
def test_a_selection_that_cannot_be_made_is_refused_before_anything_is_written(command, tmp_path, arguments, message):
    problems = read_problems("synthetic", limit=9)
    write_profile(tmp_path / "p.jsonl", problems, model="org/m")
    rows = [{"id": p.problem_id, "problem": p.question, "answer": "0"} for p in problems]
    write_rows(tmp_path / "changed.jsonl", *rows)
    write_rows(tmp_path / "other.jsonl", visit_row("elsewhere", 8))
    write_rows(tmp_path / "torn.jsonl", visit_row(problems[0].problem_id, 8))
    with (tmp_path / "torn.jsonl").open("a") as file:
        file.write('{"run": "r"')
    code, _, err = command("select", *arguments, "--out", "data")
    assert code == 2 and err.startswith("error: ") and err.count("\n") == 1 and message in err
    assert not (tmp_path / "data").exists()


def test_select_by_visits_keeps_what_was_never_visited_and_reports_lines_that_cannot_be_used(command, tmp_path):
    ids = [p.problem_id for p in read_problems("synthetic", limit=4)]
    write_rows(tmp_path / "one.jsonl", visit_row(ids[0], 8), visit_row(ids[1], 7), visit_row("elsewhere", 8))
    write_rows(
        tmp_path / "two.jsonl", visit_row(ids[0], 8), {"step": 1, "num_correct": 8}, visit_row(ids[2], 8, step=2)
    )
    arguments = ["select", "synthetic", "--limit", 4, "--visits", "one.jsonl", "--visits", "two.jsonl"]
    code, out, err = command(*arguments, "--out", "data")
    assert code == 0
    assert [line.strip() for line in out.splitlines()[:4]] == [
        "2 of 4 problems are kept",
        "1  never visited",
        "1  no rule drops it",
        "2  mean accuracy above 0.9",
    ]
    assert "note: line set aside: two.jsonl:2: 'run' is None; expected text\n" in err
    assert "note: 1 visits were written twice and count once\n" in err
    assert "note: 1 visited problems are not in the problem set\n" in err
    assert [p.problem_id for p in read_problems("data/selected.jsonl")] == [ids[1], ids[3]]
    assert len(json.loads((tmp_path / "data" / "decisions.json").read_text())["notes"]) == 3
    (tmp_path / "rules.toml").write_text('[[rules]]\nrule = "accuracy"\nabove = 0.9\nmin_visits = 2\n')
    code, out, _ = command(*arguments, "--rules", "rules.toml", "--out", "patient")
    assert code == 0 and out.startswith("4 of 4 problems are kept")


def test_show_tells_a_profile_from_a_problem_set(command, tmp_path):
    write_profile(tmp_path / "p.jsonl", read_problems("synthetic", limit=9))
    code, out, _ = command("show", "p.jsonl")
    assert code == 0 and "9 problems, shape: other" in out and "8/8" in out
    code, out, _ = command("show", "synthetic", "--limit", 9)
    assert code == 0 and out.startswith("9 problems; questions of") and "polaris_data.synthetic" in out


def test_synthetic_problems_go_to_stdout_or_to_a_file(command, tmp_path):
    code, out, _ = command("synthetic", "--num", 3, "--split", "held-out", "--seed", 5)
    assert code == 0 and len(out.splitlines()) == 3
    arguments = ["synthetic", "--num", 3, "--split", "held-out", "--seed", 5, "--out", "new/p.jsonl"]
    assert command(*arguments)[0] == command(*arguments)[0] == 0
    assert (tmp_path / "new" / "p.jsonl").read_text() == out
    code, _, err = command("synthetic", "--num", 4, "--out", "new/p.jsonl")
    assert code == 2 and "new/p.jsonl holds something else" in err
    assert (tmp_path / "new" / "p.jsonl").read_text() == out


def test_a_profile_line_has_the_fields_of_the_record(tmp_path):
    write_profile(tmp_path / "p.jsonl", read_problems("synthetic", limit=1))
    assert list(json.loads((tmp_path / "p.jsonl").read_text())) == [*Difficulty.__dataclass_fields__]
