"""Several models in one table, and a second grader beside the first."""

import json
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from polaris_eval.cli.main import main
from polaris_eval.errors import MixedProblemsError, SettingError
from polaris_eval.report import put_in_table, to_latex, to_markdown, to_rows
from polaris_eval.scores import summarize

EASY, HARD = [4] * 10 + [0] * 2, [1, 0, 0] * 4


def write_run(folder: Path, solved: dict[str, list[int]], *, model: str = "", seed: int = 0) -> Path:
    """Write scores of four samples a problem, of which so many are correct."""
    evaluations = [
        summarize(
            name,
            [
                {
                    "problem_id": f"p{number}",
                    "references": ["1"],
                    "completions": [
                        {
                            "text": "1",
                            "num_tokens": 1,
                            "finish_reason": "stop",
                            "outcome": "correct" if at < count else "incorrect",
                            "answer": "1" if at < count else "2",
                        }
                        for at in range(4)
                    ],
                }
                for number, count in enumerate(counts)
            ],
        )
        for name, counts in solved.items()
    ]
    folder.mkdir()
    content = {"model": model or folder.name, "protocol": {"seed": seed}, "evaluations": [*map(asdict, evaluations)]}
    (folder / "scores.json").write_text(json.dumps(content))
    return folder


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["polaris-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_models_are_rows_and_benchmarks_columns_and_what_differs_is_marked(tmp_path: Path):
    base = write_run(tmp_path / "base", {"sums": HARD, "more": HARD})
    same = write_run(tmp_path / "same", {"sums": HARD, "more": HARD})
    better = write_run(tmp_path / "better", {"more": EASY})
    table = put_in_table([base, same, better])
    rows = to_rows(table, plus_minus=True)
    assert rows[0] == ["model", "sums", "more", "average"]
    assert [row[0] for row in rows[1:]] == ["base", "same", "better"]
    assert rows[1][1].startswith("8.3 ± ") and rows[1][3] == "8.3"
    assert not rows[2][2].endswith("*")
    assert rows[3][1] == "-" and rows[3][2].startswith("83.3 ± ") and rows[3][2].endswith(" *") and rows[3][3] == "-"
    assert [(model, each.benchmark) for model, each in table.comparisons] == [
        ("same", "sums"),
        ("same", "more"),
        ("better", "more"),
    ]
    assert to_rows(table, plus_minus=False)[1][1].startswith("8.3 [")
    assert ["better beside base: sums is in" in said for said in table.warnings] == [True]


def test_several_metrics_are_rows_of_each_model_with_an_average_of_their_own(tmp_path: Path):
    runs = [write_run(tmp_path / name, {"sums": counts, "more": HARD}) for name, counts in (("a", HARD), ("b", EASY))]
    rows = to_rows(put_in_table(runs, metrics=["mean@4", "pass@2"]), plus_minus=True)
    assert rows[0] == ["model", "metric", "sums", "more", "average"]
    assert [row[:2] for row in rows[1:]] == [["a", "mean@4"], ["b", "mean@4"], ["a", "pass@2"], ["b", "pass@2"]]
    assert rows[3][2].startswith("16.7 ±") and rows[4][2].startswith("83.3 ±")
    assert [row[4] for row in rows[1:]] == ["8.3", "45.8", "16.7", "50.0"]


def test_two_runs_of_one_model_are_told_apart_and_other_protocols_named(tmp_path: Path):
    runs = [write_run(tmp_path / name, {"sums": HARD}, model="m", seed=at) for at, name in enumerate("ab")]
    table = put_in_table(runs)
    assert table.models == [f"m ({run})" for run in runs]
    assert "seed: 0 and 1" in table.warnings[0]


def test_markdown_and_latex_escape_what_they_must():
    rows = [["model", "a|b_c"], ["50% & $x", "8.3 ± 1.0 *"]]
    assert to_markdown(rows).splitlines()[0] == r"| model | a\|b_c |"
    latex = to_latex(rows).splitlines()
    assert latex[0] == r"\begin{tabular}{lr}" and latex[-1] == r"\end{tabular}"
    assert latex[4] == r"50\% \& \$x & 8.3 $\pm$ 1.0$^{*}$ \\"


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("accuracy", "--metric is 'accuracy'; give one like mean@k"),
        ("maj@16", "no evaluation has 'maj@16'; give .*maj@4"),
    ],
)
def test_a_metric_that_is_none_or_was_not_measured_is_refused(tmp_path: Path, metric: str, message: str):
    run = write_run(tmp_path / "a", {"sums": HARD})
    with pytest.raises(SettingError, match=message):
        put_in_table([run], metrics=[metric])


def test_other_problems_are_refused_unless_the_common_ones_are_asked_for(tmp_path: Path):
    runs = [write_run(tmp_path / "a", {"sums": HARD}), write_run(tmp_path / "b", {"sums": HARD[:6]})]
    with pytest.raises(MixedProblemsError, match="--common"):
        put_in_table(runs)
    assert put_in_table(runs, common=True).comparisons[0][1].num_problems == 6


def test_the_command_prints_the_table_and_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    runs = [write_run(tmp_path / "base", {"sums": HARD}), write_run(tmp_path / "better", {"sums": EASY})]
    out = tmp_path / "table.tex"
    assert run_cli(monkeypatch, "table", *runs, "--format", "latex", "--out", out) == 0
    assert out.read_text() == capsys.readouterr().out
    assert run_cli(monkeypatch, "table", *runs) == 0
    printed = capsys.readouterr().out
    assert "A: base; mean@k in percent" in printed
    assert "+75.0 [" in printed


def completions(folder: Path, texts: dict[str, tuple[str, str]]) -> Path:
    path = folder / "sums.jsonl"
    rows: list[dict[str, Any]] = [
        {"id": name, "question": name, "response": text, "answer": answer} for name, (text, answer) in texts.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_a_second_grader_disagrees_on_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Here an answer needs its box; math-verify takes the last number as well."""
    path = completions(tmp_path, {"both": (r"\boxed{4}", "4"), "none": (r"\boxed{5}", "4"), "other": ("It is 4.", "4")})
    out = tmp_path / "out"
    assert run_cli(monkeypatch, "grade", path, "--second-grader", "math-verify", "--out", out) == 0
    assert "agrees on 2 of 3 (66.7%), and its mean@k is 66.7: 0 are correct here only, 1 there only" in (
        capsys.readouterr().out
    )
    (line,) = [json.loads(line) for line in (out / "sums" / "disagreements.jsonl").read_text().splitlines()]
    assert (line["problem_id"], line["outcome"], line["second"]) == (
        "other", "no_answer", {"grader": f"math-verify {version('math-verify')}", "outcome": "correct"}
    )  # fmt: skip
    kept = [json.loads(line) for line in (out / "sums" / "completions.jsonl").read_text().splitlines()]
    assert {each["problem_id"]: each["completions"][0]["second"]["outcome"] for each in kept} == {
        "both": "correct",
        "none": "incorrect",
        "other": "correct",
    }


def test_an_unknown_second_grader_is_refused_before_anything_is_graded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = completions(tmp_path, {"a": ("4", "4")})
    out = tmp_path / "out"
    assert run_cli(monkeypatch, "grade", path, "--second-grader", "sympy", "--out", out) == 2
    assert "--second-grader is 'sympy'; give one of: math-verify" in capsys.readouterr().err
    assert not out.exists()
