"""Files of completions from elsewhere: every format gives the same scores, and what is wrong is one sentence."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polaris_eval.cli.grade import name_of
from polaris_eval.cli.main import main
from polaris_eval.errors import CompletionsFileError
from polaris_eval.running.formats import read_completions
from polaris_eval.running.graded import grade_file
from polaris_eval.scores.files import read_evaluations
from polaris_reward import BOXED

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared"

TEXTS = {"7": [r"so \boxed{7}", r"\boxed{8}"], r"\frac{1}{2}": [r"\boxed{0.5}", "no idea"]}


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["polaris-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def ours(folder: Path) -> Path:
    rows = [
        {"problem_id": str(n), "references": [answer], "completions": [{"text": text} for text in texts]}
        for n, (answer, texts) in enumerate(TEXTS.items())
    ]
    return write_lines(folder / "sums.jsonl", rows)


def published(folder: Path) -> Path:
    rows = [
        {"responses": texts, "reward_model": {"ground_truth": answer, "style": "rule"}, "extra_info": {"index": n}}
        for n, (answer, texts) in enumerate(TEXTS.items())
    ]
    return write_parquet(folder / "sums.parquet", rows)


def lm_eval(folder: Path) -> Path:
    rows = [
        {"doc_id": n, "doc": {"id": 9}, "target": answer, "resps": [texts], "filtered_resps": texts, "filter": name}
        for name in ("strict-match", "flexible-extract")
        for n, (answer, texts) in enumerate(TEXTS.items())
    ]
    return write_lines(folder / "sums.jsonl", rows)


def lighteval(folder: Path) -> Path:
    rows = [
        {
            "doc": {"id": str(n), "query": "?", "choices": ["wrong", answer], "gold_index": [1]},
            "model_response": {"text": texts, "output_tokens": [[1, 2], [1, 2, 3]]},
        }
        for n, (answer, texts) in enumerate(TEXTS.items())
    ]
    return write_parquet(folder / "sums.parquet", rows)


def old_lighteval(folder: Path) -> Path:
    rows = [
        {"example": f"question {n}", "prompt": f"question {n}", "predictions": repr(texts), "gold": repr([answer])}
        for n, (answer, texts) in enumerate(TEXTS.items())
    ]
    return write_parquet(folder / "sums.parquet", rows)


def one_a_row(folder: Path) -> Path:
    rows = [
        {"question": f"question {n}", "response": text, "answer": f"because of this #### {answer}"}
        for n, (answer, texts) in enumerate(TEXTS.items())
        for text in texts
    ]
    return write_lines(folder / "sums.jsonl", rows)


@pytest.mark.parametrize("write", [ours, published, lm_eval, lighteval, old_lighteval, one_a_row])
def test_every_format_gives_the_same_scores(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run_cli(monkeypatch, "grade", write(tmp_path), "--out", tmp_path / "out", "--model", "theirs") == 0
    (evaluation,) = read_evaluations(tmp_path / "out")
    assert (evaluation.benchmark, evaluation.num_problems, evaluation.num_samples) == ("sums", 2, 2)
    assert [problem.num_correct for problem in evaluation.problems] == [1, 1]
    assert [problem.references for problem in evaluation.problems] == [("7",), (r"\frac{1}{2}",)]
    assert evaluation.score("maj@k", 2).value == 0.75  # a tie, and one vote alone
    assert evaluation.outcomes == {"correct": 2, "incorrect": 1, "no_answer": 1}
    assert (evaluation.lengths is None) == (write is not lighteval)
    assert "sums" in capsys.readouterr().out
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.parametrize(
    ("columns", "question"),
    [
        ({"question": "1 + 1?"}, "1 + 1?"),
        ({"doc_id": 3, "doc": {"problem": "1 + 1?"}}, "1 + 1?"),
        ({"prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1?"}]}, "1 + 1?"),
        ({"prompt": [1, 2], "doc": {"id": "x"}}, None),
    ],
)
def test_what_was_asked_is_kept_where_the_file_says_it(columns: Any, question: str | None, tmp_path: Path):
    path = write_lines(tmp_path / "x.jsonl", [{"response": "2", "answer": "2"} | columns])
    assert read_completions(path).groups[0].get("question") == question


@pytest.mark.parametrize(
    ("truth", "reference"), [(33.0, "33"), ("33", "33"), (["33", "34"], ["33", "34"]), (0.5, "0.5"), (33, "33")]
)
def test_accepted_answers_may_be_numbers_texts_and_lists(truth: Any, reference: Any, tmp_path: Path):
    path = write_parquet(tmp_path / "x.parquet", [{"responses": ["1"], "reward_model": {"ground_truth": truth}}])
    assert read_completions(path).groups[0]["references"] == (reference if isinstance(reference, list) else [reference])


def test_what_was_graded_is_graded_again_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = ours(tmp_path)
    outs = [tmp_path / "one", tmp_path / "two"]
    assert run_cli(monkeypatch, "grade", path, "--out", outs[0]) == 0
    assert run_cli(monkeypatch, "grade", outs[0] / "sums" / "completions.jsonl", "--out", outs[1]) == 0
    for name in ("scores.json", "sums/completions.jsonl", "report.md", "report.html"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


def test_another_file_does_not_overwrite_what_was_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path, out = ours(tmp_path), tmp_path / "out"
    assert run_cli(monkeypatch, "grade", path, "--out", out) == 0
    before = {each: each.read_bytes() for each in out.rglob("*") if each.is_file()}
    write_lines(path, [{"response": "1", "answer": "1"}])
    assert run_cli(monkeypatch, "grade", path, "--out", out) == 2
    assert "belongs to another run: completions_sha256 has other content now" in capsys.readouterr().err
    assert {each: each.read_bytes() for each in out.rglob("*") if each.is_file()} == before


def test_a_file_without_rows_is_refused(tmp_path: Path):
    with pytest.raises(CompletionsFileError, match="holds no completions; give a file with at least one row"):
        read_completions(write_lines(tmp_path / "x.jsonl", []))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl"], "no file 'none.jsonl'"),
        (["sums.jsonl", "--policy", "kind"], "--policy is 'kind'; give one of: default, boxed, polaris-v1"),
        (["sums.jsonl", "--out", "sums.jsonl"], "which is a file; give a folder"),
        (["sums.jsonl", "--name", "a/b"], "--name is 'a/b'"),
        (["."], "no file '.'; give its files: ./*"),
        (["sums.jsonl", "sums.jsonl"], "sums.jsonl has the same content as sums.jsonl; give every file once"),
        (["sums.jsonl", "--where", "model"], "--where is 'model'; write it as COLUMN=VALUE,VALUE"),
        (["sums.jsonl", "--benchmark", "aime2024"], "unknown benchmark 'aime2024'; did you mean 'aime24'?"),
        (["broken.jsonl"], "broken.jsonl:1"),
    ],
)
def test_a_wrong_argument_is_one_sentence_and_nothing_is_written(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    ours(tmp_path)
    (tmp_path / "broken.jsonl").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    assert run_cli(monkeypatch, "grade", *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert sorted(tmp_path.rglob("*")) == before


BOX = r"so \boxed{7}"


def outcomes(path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *options: object) -> list[str]:
    assert run_cli(monkeypatch, "grade", path, "--out", out, "--name", "x", *options) == 0
    lines = (out / "x" / "completions.jsonl").read_text().splitlines()
    return [each["outcome"] for line in lines for each in json.loads(line)["completions"]]


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": "<|im_start|>assistant\n<think>\n"},
        {"input": "7?<think>"},
        {"arguments": [["7?<think>", {"until": []}]]},
        {"completions": [{"text": BOX, "prefilled": "<think>"}], "response": None},
        {"doc": {"choices": ["7"], "gold_index": 0}, "model_response": {"text": [BOX], "input": "7?<think>\n"}},
    ],
)
def test_an_answer_in_a_thought_that_the_prompt_opened_is_none(
    columns: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    row = {"id": 1, "response": BOX, "answer": "7"} | columns
    assert outcomes(write_lines(tmp_path / "x.jsonl", [row]), tmp_path / "out", monkeypatch) == ["no_answer"]
    again = tmp_path / "out" / "x" / "completions.jsonl"
    assert outcomes(again, tmp_path / "again", monkeypatch) == ["no_answer"]


def test_completions_that_close_a_thought_show_that_the_template_opened_it_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    responses = [BOX, rf"\boxed{{8}}</think>{BOX}", f"<think>{BOX}</think>{BOX}", rf"<think>{BOX}"]
    rows = [{"id": number, "response": text, "answer": "7"} for number, text in enumerate(responses)]
    found = outcomes(write_lines(tmp_path / "x.jsonl", rows), tmp_path / "out", monkeypatch)
    assert found == ["no_answer", "correct", "correct", "no_answer"]
    assert "1 of 4 completions never close the <think> that the chat template opened" in caplog.text
    again = tmp_path / "out" / "x" / "completions.jsonl"
    assert outcomes(again, tmp_path / "again", monkeypatch) == found
    assert (tmp_path / "again" / "x" / "completions.jsonl").read_bytes() == again.read_bytes()


@pytest.mark.parametrize("finish_reason", ["stop", None])
def test_one_stray_tag_among_answers_without_thoughts_changes_none_of_them(
    finish_reason: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    row = {"response": BOX, "answer": "7", "finish_reason": finish_reason}
    rows = [{"id": 0, "response": f"</think>{BOX}", "answer": "7"}, *({"id": n} | row for n in range(1, 30))]
    found = outcomes(write_lines(tmp_path / "x.jsonl", rows), tmp_path / "out", monkeypatch)
    assert found == ["correct"] * 30


def test_answers_whose_thoughts_stand_beside_them_are_graded_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [
        {"id": 0, "prompt": "7?<think>", "content": BOX, "reasoning_content": "hm", "answer": "7"},
        {"id": 1, "prompt": "7?<think>", "content": "", "reasoning_content": BOX, "answer": "7"},
    ]
    rows = [{"id": row["id"], "prompt": row["prompt"], "completions": [row], "answer": "7"} for row in rows]
    found = outcomes(write_lines(tmp_path / "x.jsonl", rows), tmp_path / "out", monkeypatch)
    assert found == ["correct", "no_answer"]


def test_several_files_are_samples_of_the_problems_of_a_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    problems = [{"id": f"p{n}", "problem": f"Question {n}, which is longer?", "answer": str(n)} for n in range(3)]
    write_lines(tmp_path / "set.jsonl", problems)
    for seed in range(2):
        rows = [
            {"problem": each["problem"], "generation": rf"\boxed{{{n if seed or n else 9}}}", "error": None}
            for n, each in enumerate(problems[:2])
        ]
        extra = [{"problem": problems[1]["problem"], "generation": "", "error": "cut"}] if seed else []
        other = [{"problem": "Something else?", "generation": "?"}] if seed else []
        write_lines(tmp_path / f"output-rs{seed}.jsonl", [*rows, *extra, *rows[:seed], *other])
    assert run_cli(monkeypatch, "grade", "output-rs0.jsonl", "output-rs1.jsonl", "--benchmark", "set.jsonl") == 0
    (evaluation,) = read_evaluations(tmp_path / "eval" / "set")
    results = [(each.problem_id, each.num_correct, each.num_samples) for each in evaluation.problems]
    assert results == [("p0", 2, 3), ("p1", 2, 2)]
    assert evaluation.score("mean@k").value == pytest.approx((2 / 3 + 1) / 2)  # of each problem's own share
    assert evaluation.set_aside == {"error": 1, "not in the benchmark": 1}
    assert evaluation.lost == ("p2",)
    aside = [
        json.loads(line) for line in (tmp_path / "eval" / "set" / "set" / "set-aside.jsonl").read_text().splitlines()
    ]
    assert [(each["place"], each["reason"]) for each in aside] == [
        ("output-rs1.jsonl:3", "error"),
        ("output-rs1.jsonl:5", "not in the benchmark"),
    ]
    assert aside[0]["row"]["error"] == aside[0]["detail"] == "cut"
    printed = capsys.readouterr()
    for note in (
        "2 rows or completions are set aside and in no score (1 error, 1 not in the benchmark); set/set-aside.jsonl",
        "1 of 3 problems have no completion that could be graded, and are in no score: p2",
        "the problems have 2 to 3 completions; mean@k is the mean of each problem's share of all of them",
    ):
        assert note in printed.err
        assert note in (tmp_path / "eval" / "set" / "report.md").read_text()


def test_grades_at_budgets_are_kept_only_by_the_rules_that_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    completion = {"text": "7 and so on", "num_tokens": 9, "finish_reason": "stop", "budgets": {"5": "correct"}}
    row = {"problem_id": "a", "question": "?", "references": ["7"], "completions": [completion]}
    path = write_lines(tmp_path / "first" / "x" / "completions.jsonl", [row])

    def budgets_of(path: Path, out: str, *options: str) -> list[int]:
        assert run_cli(monkeypatch, "grade", path, "--out", tmp_path / out, "--name", "x", *options) == 0
        (evaluation,) = read_evaluations(tmp_path / out)
        return [point.max_tokens for point in evaluation.budgets]

    assert budgets_of(path, "unknown") == []  # nobody knows which rules made them
    assert "grades of 1 completions at token budgets are left out" in caplog.text
    recorded = {"grader": asdict(BOXED) | {"version": f"polaris-reward {version('polaris-reward')}"}}
    (path.parent / "settings.json").write_text(json.dumps(recorded))
    assert budgets_of(path, "same") == [5]
    assert budgets_of(tmp_path / "same" / "x" / "completions.jsonl", "again") == [5]
    assert budgets_of(path, "other", "--policy", "default") == []
    assert budgets_of(tmp_path / "again" / "x" / "completions.jsonl", "last", "--policy", "polaris-v1") == []


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["aime24.jsonl.gz"], "aime24"),
        (["output-rs0.jsonl", "output-rs1.jsonl"], "output-rs"),
        (["part-00001.parquet", "part-00012.parquet"], "part"),
        (["runs/0.jsonl", "runs/1.jsonl"], "runs"),
        (["runs/completions.jsonl"], "runs"),
        (["2026-01-02.aime.eval"], "2026-01-02.aime"),
    ],
)
def test_the_name_is_what_the_files_have_in_common(files: list[str], name: str):
    assert name_of([Path(each) for each in files]) == name


VOTED = [
    # Of three completions one is right: a majority of two is wrong, and the best score is the right one's.
    {"id": "a", "answer": "7", "responses": [r"\boxed{7}", r"\boxed{8}", r"\boxed{8}"], "rm_scores": [0.9, 0.2, 0.1]},
    {"id": "b", "answer": "3", "responses": [r"\boxed{3}", r"\boxed{3}", r"\boxed{3}"], "rm_scores": [0.1, 0.1, 0.2]},
]


@pytest.mark.parametrize("beside", [True, False])
def test_scores_of_another_model_choose_whether_they_stand_beside_the_completions_or_in_a_file(
    beside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    scored = [{"problem_id": row["id"], "scores": row["rm_scores"]} for row in reversed(VOTED)]
    rows = VOTED if beside else [{name: row[name] for name in ("id", "answer", "responses")} for row in VOTED]
    files = [write_lines(tmp_path / "x.jsonl", rows)]
    options = [] if beside else ["--scores", write_lines(tmp_path / "scores.jsonl", scored)]
    assert run_cli(monkeypatch, "grade", *files, *options, "--out", tmp_path / "out") == 0
    (evaluation,) = read_evaluations(tmp_path / "out")
    values = {name: evaluation.score(name).value for name in ("mean@k", "weighted_vote", "best_of")}
    assert values == {"mean@k": pytest.approx(4 / 6), "weighted_vote": 1, "best_of": 1}
    assert "own scores" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([{"problem_id": "a", "scores": [1, 0.5]}], "2 scores for problem 'a', which has 3 completions"),
        ([{"problem_id": "a", "scores": [1, 0.5, 0]}], "0 scores for problem 'b', which has 3 completions"),
        ([{"problem_id": "a", "scores": [1, 0.5, None]}], r"scores.jsonl:1: no 'problem_id' with 'scores'"),
        ([{"problem_id": "a", "scores": [1, 0.5, float("nan")]}], r"scores.jsonl:1: no 'problem_id' with 'scores'"),
        (["text"], r"scores.jsonl:1: no 'problem_id' with 'scores'"),
    ],
)
def test_scores_that_do_not_fit_are_refused_and_nothing_is_written(
    lines: list[Any],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    rows = [{name: row[name] for name in ("id", "answer", "responses")} for row in VOTED]
    files = [write_lines(tmp_path / "x.jsonl", rows), "--scores", write_lines(tmp_path / "scores.jsonl", lines)]
    assert run_cli(monkeypatch, "grade", *files, "--out", tmp_path / "out") == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_real_scores_of_a_reward_model_close_part_of_the_gap(tmp_path: Path):
    path = SHARED / "data" / "math_cot_100.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    evaluation = grade_file(path, name="cot", model="x", out=tmp_path)
    plain, best = evaluation.score("maj@k", 8).value, evaluation.score("pass@k", 8).value
    chosen = [evaluation.score(name).value for name in ("weighted_vote", "best_of")]
    assert evaluation.score("mean@k").value < plain < min(chosen) <= max(chosen) < best
