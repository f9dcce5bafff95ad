"""Two evaluations side by side: the statistics, and what is refused or warned of."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from polaris_eval.cli.main import main
from polaris_eval.errors import MixedProblemsError, ScoresFileError
from polaris_eval.report.side_by_side import put_side_by_side
from polaris_eval.running.graded import score_graded
from polaris_eval.scores.compare import compare_scores, protocol_differences
from polaris_eval.scores.files import read_evaluations, read_scores
from polaris_eval.scores.means import paired_difference
from polaris_eval.scores.summary import summarize

SOLVED = {"p0": 1, "p1": 2, "p2": 4}
BETTER = {"p0": 3, "p1": 3, "p2": 4}


def write_scores(
    folder: Path,
    solved: dict[str, int | None],
    *,
    benchmark: str = "sums",
    num_samples: int = 4,
    protocol: dict[str, Any] | None = None,
    reference: str = "1",
) -> Path:
    records = [
        {
            "problem_id": key,
            "references": [reference],
            "completions": [
                completion("reference_rejected" if count is None else count > n) for n in range(num_samples)
            ],
        }
        for key, count in solved.items()
    ]
    folder.mkdir()
    content = {"model": folder.name, "evaluations": [asdict(summarize(benchmark, records))]}
    (folder / "scores.json").write_text(json.dumps(content | ({} if protocol is None else {"protocol": protocol})))
    return folder


def completion(outcome: bool | str) -> dict[str, Any]:
    named = outcome if isinstance(outcome, str) else "correct" if outcome else "incorrect"
    return {"text": "1", "num_tokens": 1, "finish_reason": "stop", "outcome": named, "answer": "1"}


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["polaris-eval", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_the_difference_is_that_of_the_paired_completions(tmp_path: Path):
    before, after = (
        write_scores(tmp_path / "a", {**SOLVED, "bad": None}),
        write_scores(tmp_path / "b", BETTER | {"bad": 0}),
    )
    (comparison,) = compare_scores(read_scores(before), read_scores(after / "scores.json"))
    expected = paired_difference(
        *([[n < count for n in range(4)] for count in each.values()] for each in (SOLVED, BETTER))
    )
    assert comparison.difference.value == pytest.approx(expected.value)
    assert comparison.difference.interval == pytest.approx(expected.interval)
    assert (comparison.num_problems, comparison.before) == (3, pytest.approx(7 / 12))
    # Differences 2/4, 1/4, 0 and those of chance, -+sqrt(1/8): mean .15, s = sqrt(.45 / 4), t = .15 / (s / sqrt(5)) = 1
    # with 4 degrees: P(|T| <= 1) = sin(a) (1 + cos(a)^2 / 2) with a = atan(1 / 2), that is 1.4 / sqrt(5).
    assert comparison.probability == pytest.approx((1 + 1.4 / 5**0.5) / 2)


def test_an_evaluation_does_not_differ_from_itself(tmp_path: Path):
    scores = read_scores(write_scores(tmp_path / "a", SOLVED))
    (comparison,) = compare_scores(scores, scores)
    assert (comparison.difference.value, comparison.probability) == (0, 0.5)


def test_exchanging_the_two_changes_the_sign_only(tmp_path: Path):
    before, after = read_scores(write_scores(tmp_path / "a", SOLVED)), read_scores(write_scores(tmp_path / "b", BETTER))
    (there,), (back,) = compare_scores(before, after), compare_scores(after, before)
    low, high = there.difference.interval
    assert back.difference.interval == pytest.approx((-high, -low))
    assert back.probability == there.probability


def test_mixed_problem_sets_are_refused_and_named_unless_asked_for(tmp_path: Path):
    before, after = (
        read_scores(write_scores(tmp_path / "a", SOLVED)),
        read_scores(write_scores(tmp_path / "b", {"p1": 3})),
    )
    with pytest.raises(MixedProblemsError, match=r"2 problems are in one evaluation only, such as 'p0' in .*--common"):
        compare_scores(before, after)
    (comparison,) = compare_scores(before, after, common=True)
    assert (comparison.num_problems, comparison.difference.value) == (1, 0.25)


def test_other_references_and_other_benchmarks_are_refused(tmp_path: Path):
    before = read_scores(write_scores(tmp_path / "a", SOLVED))
    with pytest.raises(MixedProblemsError, match=r"'p0' has the references \['1'\] in .* and \['2'\]"):
        compare_scores(before, read_scores(write_scores(tmp_path / "b", SOLVED, reference="2")))
    with pytest.raises(MixedProblemsError, match=r"no benchmark is in both: .* has sums, .* has products"):
        compare_scores(before, read_scores(write_scores(tmp_path / "c", SOLVED, benchmark="products")))


def test_differing_protocol_keys_are_named_and_the_models_are_not(tmp_path: Path):
    before = {"sampling": {"temperature": 1.0, "seed": 0}, "model_digest": "a", "hash": "1", "suffix": "s"}
    after = {"sampling": {"temperature": 1.4, "seed": 0}, "model_digest": "b", "hash": "2"}
    assert protocol_differences(before, after) == [
        "sampling.temperature: 1.0 and 1.4",
        "suffix: 's' and '(not recorded)'",
    ]
    assert protocol_differences(before, before) == []


def test_the_command_prints_and_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    before = write_scores(tmp_path / "a", SOLVED, protocol={"temperature": 1.0})
    after = write_scores(tmp_path / "b", BETTER, protocol={"temperature": 1.4})
    assert run_cli(monkeypatch, "compare", before, after, "--json", tmp_path / "c.json") == 0
    printed = capsys.readouterr()
    assert "temperature: 1.0 and 1.4" in printed.err
    row = next(line for line in printed.out.splitlines() if line.startswith("sums"))
    assert row.split()[:5] == ["sums", "3", "58.3", "83.3", "+25.0"]
    assert row.split()[-1] == "81.3%"
    assert json.loads((tmp_path / "c.json").read_text())["comparisons"][0]["num_problems"] == 3
    plain = write_scores(tmp_path / "plain", SOLVED)
    assert run_cli(monkeypatch, "compare", plain, after) == 0
    assert "does not say how it was made" in capsys.readouterr().err


def graded(folder: Path, lengths: dict[str, list[tuple[int, bool]]], *, keep_completions: bool = True) -> Path:
    records = [
        {
            "problem_id": key,
            "references": ["1"],
            "completions": [completion(is_correct) | {"num_tokens": length} for length, is_correct in group],
        }
        for key, group in lengths.items()
    ]
    score_graded("sums", records, settings={"command": "test", "grader": {}}, model=folder.name, out=folder)
    if not keep_completions:
        (folder / "sums" / "completions.jsonl").unlink()
    return folder


def test_lengths_are_compared_in_the_same_groups(tmp_path: Path):
    before = graded(tmp_path / "a", {"p": [(10, True), (17_000, True)], "q": [(11, False), (12, True)]})
    after = graded(tmp_path / "b", {"p": [(40_000, True), (9, True)], "q": [(33_000, False), (50_000, True)]})
    ((first, second),) = put_side_by_side(before, after / "scores.json").pairs
    assert (first.benchmark, second.benchmark) == ("sums A", "sums B")
    groups = [[(each.low, each.high, each.num_completions) for each in side.length_groups] for side in (first, second)]
    assert groups == [[(0, 16384, 3), (16384, 32768, 1)], [(0, 16384, 1), (32768, None, 3)]]
    assert [round(each.accuracy, 3) for each in second.length_groups] == [1.0, 0.667]


def test_lengths_are_those_of_each_where_completions_are_gone(tmp_path: Path):
    lengths = {"p": [(10, True), (20, True), (30, False)]}
    before = graded(tmp_path / "a", lengths, keep_completions=False)
    after = graded(tmp_path / "b", lengths)
    ((first, second),) = put_side_by_side(before, after).pairs
    assert first.length_groups == second.length_groups == read_evaluations(before)[0].length_groups


def test_the_page_shows_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = graded(tmp_path / "a", {"p": [(10, True), (20, False), (30, True)]})
    after = graded(tmp_path / "<b>", {"p": [(11, True), (21, True), (31, True)]})
    page = tmp_path / "both.html"
    assert run_cli(monkeypatch, "compare", before, after, "--page", page) == 0
    text = page.read_text()
    assert "sums A" in text and "sums B" in text
    assert "&lt;b&gt;" in text and "<b>" not in text
    assert text.count("<svg") == 1  # lengths; no completion was graded at a budget


@pytest.mark.parametrize("content", [None, "{", "[]", '{"evaluations": [{"benchmark": "x"}]}', '{"evaluations": 3}'])
def test_what_holds_no_scores_is_one_sentence(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    folder = write_scores(tmp_path / "a", SOLVED)
    broken = tmp_path / "broken.json"
    if content is not None:
        broken.write_text(content)
    with pytest.raises(ScoresFileError):
        read_scores(broken)
    assert run_cli(monkeypatch, "compare", folder, broken) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_evaluations_are_read_as_they_were_written(tmp_path: Path):
    records = [
        {"problem_id": "p", "references": ["1"], "completions": [completion(True) | {"budgets": {"0": "no_answer"}}]}
    ]
    evaluation = summarize("sums", records)
    (tmp_path / "scores.json").write_text(json.dumps({"evaluations": [asdict(evaluation)]}))
    assert read_evaluations(tmp_path) == [evaluation]
