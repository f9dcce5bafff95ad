import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from polaris_reward.cli import BATCH, main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process; returns status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["polaris-reward", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_status:
            main()
        captured = capsys.readouterr()
        return int(exit_status.value.code or 0), captured.out, captured.err

    return run


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_every_row_of_a_long_file_is_graded_in_order(run: Run, tmp_path: Path) -> None:
    rows = [
        {"id": number, "response": rf"\boxed{{{number}}}", "references": [str(number - number % 2)]}
        for number in range(BATCH + 10)
    ]
    out = tmp_path / "grades.jsonl"
    status, stdout, stderr = run("grade", write(tmp_path / "responses.jsonl", *rows), "--out", out)
    grades = [json.loads(line) for line in out.read_text().splitlines()]
    assert (status, stdout) == (0, "")
    assert [grade["id"] for grade in grades] == list(range(BATCH + 10))
    assert [grade["reward"] for grade in grades] == [1.0, 0.0] * (BATCH // 2 + 5)
    assert grades[1] == {
        "line": 2,
        "id": 1,
        "outcome": "incorrect",
        "reward": 0.0,
        "answer": "1",
        "reference": "0",
        "seconds": grades[1]["seconds"],
    }
    assert f"correct                  {BATCH // 2 + 5}   50.0%" in stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["grades.jsonl", "responses.jsonl"]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"response": r"\boxed{7}", "references": ["6", "7"]}, "correct"),
        ({"completion": r"\boxed{7}", "reference": "7"}, "correct"),
        ({"output": r"\boxed{0.5}", "answer": 0.5}, "correct"),
        ({"response": r"\boxed{7}", "ground_truth": [6, 7]}, "correct"),
        ({"response": r"\boxed{7}", "references": ["7"], "answer": "6"}, "correct"),
        ({"response": "", "answer": "7"}, "no_answer"),
    ],
)
def test_fields_go_by_several_names(run: Run, tmp_path: Path, row: dict[str, object], outcome: str) -> None:
    status, stdout, _ = run("grade", write(tmp_path / "r.jsonl", row))
    assert (status, json.loads(stdout)["outcome"]) == (0, outcome)


def test_the_published_rule_can_be_asked_for(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", {"response": r"\boxed{7}", "answer": "7"})
    assert json.loads(run("grade", path, "--require-think")[1])["outcome"] == "no_answer"


GOOD = {"response": r"\boxed{7}", "answer": "7"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, "{"], "r.jsonl:2: not JSON"),
        ([GOOD, "", "[1]"], "r.jsonl:3: [1] is not a JSON object"),
        ([GOOD, "[" * 100_000], "r.jsonl:2: not JSON"),
        ([{"answer": "7"}], "r.jsonl:1: needs a field 'response' or 'completion' or 'output'; it has 'answer'"),
        ([{"response": 7, "answer": "7"}], "r.jsonl:1: field 'response' is 7; expected a string"),
        ([{"response": "7"}], "r.jsonl:1: needs a field 'references' or"),
        ([{"response": "7", "references": []}], "r.jsonl:1: field 'references' is []; expected an answer"),
        ([{"response": "7", "references": ["7", " "]}], "r.jsonl:1: field 'references' is ['7', ' ']"),
        ([{"response": "7", "answer": ""}], "r.jsonl:1: field 'answer' is ''"),
        ([{"response": "7", "answer": None}], "r.jsonl:1: field 'answer' is None"),
        ([{"response": "7", "answer": {"a": "b" * 100}}], "...; expected an answer or a list of answers"),
        ([], "r.jsonl: holds no rows"),
    ],
)
def test_a_bad_row_is_one_sentence_and_nothing_is_overwritten(
    run: Run, tmp_path: Path, rows: list[object], message: str
) -> None:
    path, out = write(tmp_path / "r.jsonl", *rows), write(tmp_path / "out.jsonl", "earlier")
    status, _, stderr = run("grade", path, "--out", out)
    assert status == 2
    assert stderr.startswith("error: ")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert out.read_text() == "earlier\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_is_not_utf8_is_named_with_its_line(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(b'{"response": "7", "answer": "7"}\n{"response": "\xff"}\n')
    status, _, stderr = run("grade", path)
    assert (status, stderr) == (2, f"error: {path}:2: not UTF-8 at byte 15; convert the file\n")


@pytest.mark.parametrize("command", ["grade", "check"])
@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--deadline-s", "0"], "deadline_s is 0.0; give a number of seconds above 0"),
        (["--num-workers", "0"], "num_workers is 0; give 1 or more"),
        (["--memory-gib", "0"], "memory_gib is 0.0; give 0.25 or more"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(
    run: Run, tmp_path: Path, command: str, option: list[str], message: str
) -> None:
    status, _, stderr = run(command, write(tmp_path / "r.jsonl", GOOD), *option)
    assert (status, stderr) == (2, f"error: {message}\n")


def test_paths_that_cannot_be_read_or_written_are_named(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", GOOD)
    missing = tmp_path / "missing.jsonl"
    for arguments, message in (
        (["grade", missing], f"{missing}: cannot be read (No such file or directory)"),
        (["check", missing], f"{missing}: cannot be read (No such file or directory)"),
        (["grade", tmp_path], f"{tmp_path}: cannot be read (Is a directory)"),
        (["grade", path, "--out", tmp_path], f"{tmp_path}: is a folder"),
        (["grade", path, "--out", tmp_path / "no" / "out"], "out: cannot be written (No such file or directory)"),
        (["grade", path, "--out", path], f"{path}: is the file to read"),
    ):
        status, _, stderr = run(*arguments)
        assert status == 2
        assert message in stderr


def test_check_lists_references_that_are_not_accepted_and_exits_with_one(run: Run, tmp_path: Path) -> None:
    rows = [
        {"problem_id": "good", "references": ["7", r"\sqrt{2}"]},
        {"problem_id": "open", "answer": "{{"},
        {"problem_id": "blank", "answer": ""},
        {"problem_id": "odd", "answer": "np.arcsin(10/13)"},
    ]
    path = write(tmp_path / "p.jsonl", *rows)
    status, stdout, stderr = run("check", path)
    assert status == 1
    assert [line.split("\t") for line in stdout.splitlines()] == [
        [f"{path}:2", "open", "no_answer", '"{{"'],
        [f"{path}:3", "blank", "no_answer", '""'],
        [f"{path}:4", "odd", "spelling_only", '"np.arcsin(10/13)"'],
    ]
    assert stderr == "3 of 5 references are accepted as their own answer, 1 of them by their spelling only\n"


def test_check_is_content_when_every_reference_is_accepted(run: Run, tmp_path: Path) -> None:
    status, stdout, _ = run("check", write(tmp_path / "p.jsonl", GOOD))
    assert (status, stdout) == (0, "")


@pytest.mark.parametrize("command", [[], ["grade"], ["check"]])
def test_help_teaches_by_example(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "polaris_reward", *command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert " ".join(["Example: polaris-reward", *command]) in done.stdout


def test_a_reader_that_stops_early_gets_no_traceback(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", *[GOOD] * 5000)
    done = subprocess.run(
        f"{sys.executable} -m polaris_reward grade {path} | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout)["outcome"] == "correct"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
