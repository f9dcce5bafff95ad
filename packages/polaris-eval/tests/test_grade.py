"""Files of completions from elsewhere: every format gives the same scores, and what is wrong is one sentence."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polaris_eval.cli.main import main
from polaris_eval.errors import CompletionsFileError
from polaris_eval.running.formats import read_completions
from polaris_eval.scores.files import read_evaluations

TEXTS = {"7": [r"so \boxed{7}", r"\boxed{8}"], r"\frac{1}{2}": [r"\boxed{0.5}", "no idea"]}


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["polaris-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
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
        ({"prompt": [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1?"}]}, "Add.\n\n1 + 1?"),
        ({"prompt": [1, 2], "doc": {"id": "x"}}, None),
    ],
)
def test_what_was_asked_is_kept_where_the_file_says_it(columns: Any, question: str | None, tmp_path: Path):
    path = write_lines(tmp_path / "x.jsonl", [{"response": "2", "answer": "2"} | columns])
    assert read_completions(path)[0].get("question") == question


@pytest.mark.parametrize(
    ("truth", "reference"), [(33.0, "33"), ("33", "33"), (["33", "34"], ["33", "34"]), (0.5, "0.5"), (33, "33")]
)
def test_accepted_answers_may_be_numbers_texts_and_lists(truth: Any, reference: Any, tmp_path: Path):
    path = write_parquet(tmp_path / "x.parquet", [{"responses": ["1"], "reward_model": {"ground_truth": truth}}])
    assert read_completions(path)[0]["references"] == (reference if isinstance(reference, list) else [reference])


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
    assert "belongs to another run: completions_sha256 was" in capsys.readouterr().err
    assert {each: each.read_bytes() for each in out.rglob("*") if each.is_file()} == before


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no completions"),
        ([{"response": "1"}], "no accepted answer under"),
        ([{"answer": "1"}], "no completions under 'completions', "),
        ([{"response": "1", "answer": ""}], "'answer' is ''; expected an answer"),
        ([{"responses": [], "answer": "1"}], "has no completion; leave the row out"),
        ([{"responses": [3], "answer": "1"}], "a completion is 3; expected its text"),
        ([{"id": 1, "response": "1", "answer": n} for n in "12"], "has the references ['2'] here and ['1'] above"),
        ([{"model_response": {"text": ["1"]}}], "'doc' has no 'choices'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(rows: list[dict[str, Any]], message: str, tmp_path: Path):
    with pytest.raises(CompletionsFileError) as refused:
        read_completions(write_lines(tmp_path / "x.jsonl", rows))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl"], "no file 'none.jsonl'"),
        (["sums.jsonl", "--policy", "kind"], "--policy is 'kind'; give one of: default, boxed, polaris-v1"),
        (["sums.jsonl", "--out", "sums.jsonl"], "which is a file; give a folder"),
        (["sums.jsonl", "--name", "a/b"], "--name is 'a/b'"),
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
