import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from io import BufferedReader, BytesIO, TextIOWrapper
from pathlib import Path

import pytest
from polaris_reward.cli.main import main
from polaris_reward.convention import CONVENTIONS
from polaris_reward.files.lines import BATCH

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
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
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


SAID = [{"role": "user", "content": r"In \boxed{}: 7?"}, {"role": "assistant", "content": r"\boxed{7}"}]


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"response": r"\boxed{7}", "references": ["6", "7"]}, "correct"),
        ({"completion": r"\boxed{7}", "reference": "7"}, "correct"),
        ({"output": r"\boxed{0.5}", "answer": 0.5}, "correct"),
        ({"response": r"\boxed{7}", "ground_truth": [6, 7]}, "correct"),
        ({"response": r"\boxed{7}", "references": ["7"], "answer": "6"}, "correct"),
        ({"response": r"\boxed{7}", "data_source": "x", "reward_model": {"ground_truth": "7"}}, "correct"),
        ({"response": "", "answer": "7"}, "no_answer"),
        ({"response": [{"role": "assistant", "content": r"\boxed{7}"}], "answer": "7"}, "correct"),
        ({"response": {"role": "assistant", "content": None}, "answer": "7"}, "no_answer"),
        ({"messages": [*SAID, {"role": "tool", "content": r"\boxed{8}"}], "answer": "7"}, "correct"),
        ({"messages": [*SAID, {"role": "assistant", "content": r"\boxed{8}"}], "answer": "7"}, "incorrect"),
        ({"output": [{"content": [{"type": "output_text", "text": r"\boxed{7}"}]}], "answer": "7"}, "correct"),
        ({"response": [], "answer": "7"}, "no_answer"),
    ],
)
def test_fields_go_by_several_names(run: Run, tmp_path: Path, row: dict[str, object], outcome: str) -> None:
    status, stdout, _ = run("grade", write(tmp_path / "r.jsonl", row))
    assert (status, json.loads(stdout)["outcome"]) == (0, outcome)


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"prompt": "<|im_start|>assistant\n<think>\n"}, "no_answer"),
        ({"input": {"text": "7?<think>"}}, "no_answer"),
        ({"prefilled": "<think>"}, "no_answer"),
        ({"prompt": "7?<think>\n\n</think>\n\n"}, "correct"),
        ({"prompt": "7?"}, "correct"),
        ({"prompt": "7?<think>", "response": r"hm \boxed{8}</think>\boxed{7}"}, "correct"),
        ({"prompt": "7?<think>", "reasoning_content": "hm"}, "correct"),
        ({"prompt": "7?<think>", "response": [{"content": r"\boxed{7}", "reasoning_content": "hm"}]}, "correct"),
    ],
)
def test_an_answer_in_a_thought_that_the_prompt_opened_is_none(
    run: Run, tmp_path: Path, fields: dict[str, object], outcome: str
) -> None:
    path = write(tmp_path / "r.jsonl", {"response": r"\boxed{7}", "answer": "7"} | fields)
    assert json.loads(run("grade", path)[1])["outcome"] == outcome


def test_what_every_prompt_opened_can_be_told(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", GOOD, GOOD | {"response": r"</think>\boxed{7}"})
    outcomes = [json.loads(line)["outcome"] for line in run("grade", path, "--prefilled", "<think>")[1].splitlines()]
    assert outcomes == ["no_answer", "correct"]


def test_responses_that_look_cut_in_thought_are_pointed_out(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", GOOD, GOOD | {"response": r"</think>\boxed{7}"})
    status, _, stderr = run("grade", path)
    assert status == 0
    assert "the 1 responses without any tag were cut in thought; grade with --prefilled '<think>'" in stderr
    assert "cut in thought" not in run("grade", path, "--prefilled", "<think>")[2]


ROWS = [{"id": number, "response": rf"\boxed{{{number}}}", "answer": number // 2 * 2} for number in range(5)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@pytest.mark.parametrize("command", ["grade", "check"])
@pytest.mark.parametrize(
    "content",
    [
        LINES,
        b"\n" + LINES,
        gzip.compress(LINES, mtime=0),
        json.dumps(ROWS).encode(),
        b"\xef\xbb\xbf" + json.dumps(ROWS, indent=2).encode(),
        gzip.compress(json.dumps(ROWS).encode(), mtime=0),
    ],
    ids=["lines", "blank first", "gzip", "array", "indented", "array in gzip"],
)
def test_lines_and_arrays_are_read_from_files_and_pipes_compressed_or_not(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, command: str
) -> None:
    (tmp_path / "r").write_bytes(content)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BufferedReader(BytesIO(content))))
    (status, of_file, table), (_, of_pipe, same_table) = run(command, tmp_path / "r"), run(command, "-")
    assert (status, table) == (0, same_table)
    for printed in (of_file, of_pipe) if command == "grade" else ():
        grades = [json.loads(line) for line in printed.splitlines()]
        assert [grade["reward"] for grade in grades] == [1.0, 0.0, 1.0, 0.0, 1.0]
        assert [grade["id"] for grade in grades] == list(range(5))


def test_a_pipe_is_named_where_a_row_cannot_be_read() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "polaris_reward", "grade", "-"], input=b"\n{\n", capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert b"standard input:2: not JSON" in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "r: holds no rows; give JSON lines or an array of JSON objects"),
        (b"[7]", "r, item 1: 7 is not a JSON object"),
        (b'[{"answer": "7"}]', "r, item 1: needs a field 'response'"),
        (b'[{"response": "7",\n "answer": "7"},\n', "r:1: not JSON"),
        (gzip.compress(LINES, mtime=0)[:-9], "r: cannot be read (Compressed file ended before"),
        (gzip.compress(LINES, mtime=0)[:12] + b"x" * 40, "r: cannot be read ("),
    ],
)
def test_what_is_wrong_with_an_array_or_a_compressed_file_is_named(
    run: Run, tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "r").write_bytes(content)
    status, _, stderr = run("grade", tmp_path / "r", "--out", tmp_path / "out", "--strict")
    assert status == 2
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_policy_is_asked_for_by_its_name(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", {"response": r"\boxed{7}", "answer": "7"})
    outcomes = {name: json.loads(run("grade", path, "--policy", name)[1])["outcome"] for name in CONVENTIONS}
    assert outcomes == {"default": "correct", "boxed": "correct", "polaris-v1": "no_answer"}


def test_rows_of_an_outcome_are_kept_as_they_are(run: Run, tmp_path: Path) -> None:
    right = {
        "id": 1,
        "prompt": "1 + 1, é \ud800",
        "response": r"\boxed{2}",
        "answer": 2,
        "score": 1.5,
        "more": {"a": [None]},
    }
    wrong, none = right | {"id": 2, "answer": 3}, right | {"id": 3, "response": ""}
    path, out = write(tmp_path / "r.jsonl", right, wrong, none), tmp_path / "right.jsonl"
    status, stdout, stderr = run("grade", path, "--keep", "correct", "--out", out)
    assert (status, stdout) == (0, "") and "all                        3" in stderr
    assert [json.loads(line) for line in out.read_text().splitlines()] == [right]
    _, stdout, _ = run("grade", path, "--keep", "incorrect", "--keep", "no_answer")
    assert [json.loads(line) for line in stdout.splitlines()] == [wrong, none]
    status, stdout, stderr = run("grade", path, "--keep", "right")
    assert (status, stdout) == (2, "")
    assert stderr.startswith("error: unknown outcome 'right'; choose one of 'correct', 'incorrect', 'no_answer', ")


def test_an_unknown_policy_is_one_sentence_that_lists_the_names(run: Run, tmp_path: Path) -> None:
    status, _, stderr = run("grade", write(tmp_path / "r.jsonl", GOOD), "--policy", "strict")
    assert (status, stderr) == (
        2,
        "error: unknown policy 'strict'; choose one of 'default', 'boxed', 'polaris-v1'\n",
    )


GOOD = {"response": r"\boxed{7}", "answer": "7"}

BAD_ROWS = [
    (b"{", "not JSON"),
    (b"[1]", "[1] is not a JSON object; give one JSON object a line"),
    (b"[" * 100_000, "not JSON"),
    (b"1" * 5000, "not JSON"),
    (b'{"response": "\xff"}', "not UTF-8 at byte 15; convert the file"),
    ({"answer": "7"}, "needs a field 'response' or 'completion' or 'output' or 'messages'; it has 'answer'"),
    ({"response": 7, "answer": "7"}, "field 'response' is 7; expected a string or a list of messages"),
    ({"response": ["7"], "answer": "7"}, "field 'response' is ['7']; expected a string or a list of messages"),
    ({"response": {"text": "7"}, "answer": "7"}, "expected a string or a list of messages"),
    ({"response": None, "answer": "7"}, "field 'response' is None; expected a string or a list of messages"),
    ({"response": "7"}, "needs a field 'references' or"),
    ({"response": "7", "reward_model": {"style": "rule"}}, "needs a field 'references' or"),
    ({"response": "7", "reward_model": "7"}, "needs a field 'references' or"),
    ({"response": "7", "references": []}, "field 'references' is []; expected an answer or a list of answers"),
    ({"response": "7", "references": ["7", " "]}, "field 'references' is ['7', ' ']"),
    ({"response": "7", "references": ["7", ["8"]]}, "field 'references' is ['7', ['8']]"),
    ({"response": "7", "answer": ""}, "field 'answer' is ''"),
    ({"response": "7", "answer": None}, "field 'answer' is None"),
    ({"response": "7", "answer": True}, "field 'answer' is True"),
    ({"response": "7", "answer": float("nan")}, "field 'answer' is nan"),
    ({"response": "7", "answer": {"a": "b" * 100}}, "...; expected an answer or a list of answers"),
]


def test_bad_rows_are_named_and_counted_and_the_others_graded(run: Run, tmp_path: Path) -> None:
    rows = [row for bad, _ in BAD_ROWS for row in (GOOD, bad)]
    path, out = write(tmp_path / "r.jsonl", *rows), tmp_path / "out.jsonl"
    status, _, stderr = run("grade", path, "--out", out)
    assert status == 2
    *named, last = [line for line in stderr.splitlines() if line.startswith((str(tmp_path), "error: "))]
    assert len(named) == len(BAD_ROWS)
    for number, (line, (_, message)) in enumerate(zip(named, BAD_ROWS, strict=True)):
        assert line.startswith(f"{path}:{2 * number + 2}: ")
        assert message in line
    assert last == f"error: rows left out because they could not be read, as said above: {len(BAD_ROWS)}"
    grades = [json.loads(line) for line in out.read_text().splitlines()]
    assert [grade["line"] for grade in grades] == list(range(1, 2 * len(BAD_ROWS), 2))
    assert f"correct             {len(BAD_ROWS):>8}  100.0%" in stderr


@pytest.mark.parametrize(("bad", "message"), BAD_ROWS)
def test_strict_stops_at_the_first_bad_row_and_leaves_no_file(
    run: Run, tmp_path: Path, bad: object, message: str
) -> None:
    path, out = write(tmp_path / "r.jsonl", GOOD, b"", bad), write(tmp_path / "out.jsonl", b"earlier")
    status, _, stderr = run("grade", path, "--strict", "--out", out)
    assert status == 2
    assert stderr.startswith(f"error: {path}:3: ")
    assert message in stderr
    assert stderr.count("\n") == 1
    assert out.read_text() == "earlier\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_of_bad_rows_alone_has_an_empty_table(run: Run, tmp_path: Path) -> None:
    status, stdout, stderr = run("grade", write(tmp_path / "r.jsonl", b"{"))
    assert (status, stdout) == (2, "")
    assert "correct                    0    0.0%" in stderr


def test_check_goes_on_after_a_bad_row_unless_it_is_strict(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"answer": []}, {"id": "open", "answer": "{{"}, GOOD)
    status, stdout, stderr = run("check", path)
    assert (status, stdout.split("\t")[:2]) == (2, [f"{path}:2", "open"])
    assert f"{path}:1: field 'answer' is []; expected an answer or a list of answers\n" in stderr
    assert stderr.endswith("error: rows left out because they could not be read, as said above: 1\n")
    status, stdout, stderr = run("check", path, "--strict")
    assert (status, stdout) == (2, "")
    assert stderr == f"error: {path}:1: field 'answer' is []; expected an answer or a list of answers\n"


def test_a_byte_order_mark_is_no_part_of_the_first_row(run: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert run("grade", path)[0] == 0


def test_no_text_that_a_model_writes_is_an_error(run: Run, tmp_path: Path) -> None:
    texts = ["", "\x00", "\ud800", r"\boxed{\ud800}", r"\boxed{" * 1000, "}" * 1000, "9" * 100_000, "\\" * 999, "🙂"]
    rows = [{"response": form.replace("_", text), "answer": "7"} for text in texts for form in ("_", r"\boxed{_}")]
    status, stdout, _ = run("grade", write(tmp_path / "r.jsonl", *rows))
    assert (status, stdout.count("\n")) == (0, len(rows))


def test_the_first_grades_that_are_not_correct_are_explained(run: Run, tmp_path: Path) -> None:
    rows = [{"id": f"p{number}", "response": rf"\boxed{{{number}}}", "answer": "7"} for number in range(5, 10)]
    path = write(tmp_path / "r.jsonl", *rows)
    status, stdout, stderr = run("grade", path, "--explain", 3)
    table, *explained = stderr.split("\n\n")
    assert (status, stdout.count("\n")) == (0, 5)
    assert table.endswith("all                        5")
    assert [text.splitlines()[0] for text in explained] == [f"{path}:{line} p{line + 4}" for line in (1, 2, 4)]
    assert all("incorrect" in text and "'7'" in text for text in explained)


def test_a_bad_batch_is_counted_rather_than_refused(run: Run, tmp_path: Path) -> None:
    rows = [{"response": rf"\boxed{{{number}}}", "answer": "{{"} for number in range(40)]
    status, _, stderr = run("grade", write(tmp_path / "r.jsonl", *rows))
    assert status == 0
    assert "reference_rejected        40  100.0%" in stderr


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
        (["grade", path, "--out", tmp_path], f"{tmp_path}: is not a file; give --out the name of a file"),
        (["grade", path, "--out", "/dev/null"], "/dev/null: is not a file"),
        (["grade", write(tmp_path / "empty.jsonl", b"", b" ")], "empty.jsonl: holds no rows"),
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
        {"problem_id": "odd", "answer": r"\frac{}{2}"},
    ]
    path = write(tmp_path / "p.jsonl", *rows)
    status, stdout, stderr = run("check", path)
    assert status == 1
    assert [line.split("\t") for line in stdout.splitlines()] == [
        [f"{path}:2", "open", "no_answer", '"{{"'],
        [f"{path}:3", "blank", "no_answer", '""'],
        [f"{path}:4", "odd", "spelling_only", r'"\\frac{}{2}"'],
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


def test_the_help_of_grade_knows_every_policy(run: Run) -> None:
    assert all(f"'{name}'" in run("grade", "--help")[1] for name in CONVENTIONS)


def in_a_terminal(*arguments: object, cwd: Path) -> str:
    """Run the command with standard error on a terminal; returns what the terminal was given."""
    controller, terminal = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "polaris_reward", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        cwd=cwd,
        env=os.environ | {"COLUMNS": "100", "TERM": "xterm"},
    ) as process:
        os.close(terminal)
        shown = b""
        # Reading fails when the last writer has closed the terminal.
        with suppress(OSError):
            while chunk := os.read(controller, 4096):
                shown += chunk
        os.close(controller)
    assert process.returncode == 0
    return shown.decode()


def test_a_terminal_shows_how_much_is_read_and_a_file_does_not(tmp_path: Path) -> None:
    write(tmp_path / "r.jsonl", *[GOOD] * 3000)
    shown = in_a_terminal("grade", "r.jsonl", cwd=tmp_path)
    assert "r.jsonl" in shown
    assert "kB" in shown
    assert "all                     3000" in shown


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak_mib(num_rows: int) -> float:
        path = write(tmp_path / "r.jsonl", *[{"response": "x" * 20_000 + r"\boxed{7}", "answer": "7"}] * num_rows)
        code = (
            "import resource, sys; from polaris_reward.cli.main import app; "
            f"app(['grade', {str(path)!r}, '--out', {str(tmp_path / 'out')!r}], standalone_mode=False); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
        return float(done.stdout)

    assert peak_mib(3000) < peak_mib(800) + 20


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
