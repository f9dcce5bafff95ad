"""Benchmarks by name, from local copies, from files, and what is said when there are none."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from polaris_data.records import Problem
from polaris_eval.benchmarks.loading import content_checksum, load_benchmark
from polaris_eval.benchmarks.published import PUBLISHED
from polaris_eval.benchmarks.registry import BENCHMARKS
from polaris_eval.errors import BenchmarkError
from polaris_reward import BOXED, Grader, Outcome

REAL = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"


@pytest.fixture(autouse=True)
def _no_local_copies(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("POLARIS_BENCHMARKS", raising=False)


def write_problems(path: Path, count: int, *, answer: str = "{}") -> Path:
    rows = [
        {"id": f"p{number}", "problem": f"{number} + 0?", "answer": answer.format(number)} for number in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_is_a_benchmark_named_by_its_stem(tmp_path: Path):
    name, problems = load_benchmark(str(write_problems(tmp_path / "mine.jsonl", 3)))
    assert name == "mine"
    assert [problem.references for problem in problems] == [("0",), ("1",), ("2",)]


def test_the_synthetic_problems_are_a_benchmark_too():
    name, problems = load_benchmark("synthetic:held-out", limit=3)
    assert (name, len(problems)) == ("synthetic-held-out", 3)


def test_a_limit_keeps_the_first_problems(tmp_path: Path):
    path = write_problems(tmp_path / "aime24.jsonl", 30)
    assert [problem.problem_id for problem in load_benchmark(str(path), limit=2)[1]] == ["p0", "p1"]
    assert len(load_benchmark("aime24", data_dir=tmp_path, limit=2)[1]) == 2


def test_a_name_is_looked_up_in_the_folder_of_local_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    write_problems(tmp_path / "aime24.jsonl", 30)
    name, problems = load_benchmark("aime24", data_dir=tmp_path)
    assert (name, len(problems)) == ("aime24", 30)
    monkeypatch.setenv("POLARIS_BENCHMARKS", str(tmp_path))
    assert load_benchmark("aime24")[1] == problems
    assert "differ from those of the checked copy" in caplog.text


def test_a_local_copy_may_carry_the_name_of_the_split(tmp_path: Path):
    write_problems(tmp_path / "gsm8k_test.jsonl", 1319, answer="Step by step.\n#### {}")
    problems = load_benchmark("gsm8k", data_dir=tmp_path, limit=2)[1]
    assert [problem.references for problem in problems] == [("0",), ("1",)]


def test_a_copy_with_another_number_of_problems_is_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_problems(tmp_path / "aime24.jsonl", 29)
    load_benchmark("aime24", data_dir=tmp_path, limit=5)
    assert "aime24.jsonl has 29 problems, 30 are expected" in caplog.text


def test_an_unknown_name_is_answered_with_the_closest_and_the_list():
    with pytest.raises(BenchmarkError, match=r"'aime2024'; did you mean 'aime24'.*minerva_polaris, olympiadbench"):
        load_benchmark("aime2024")


@pytest.mark.parametrize("name", ["no-such.jsonl", "folder/aime24"])
def test_a_missing_file_is_not_taken_for_a_name(name: str):
    with pytest.raises(BenchmarkError, match=f"no file '{name}'"):
        load_benchmark(name)


def test_a_folder_of_local_copies_that_does_not_exist_is_refused(tmp_path: Path):
    with pytest.raises(BenchmarkError, match=r"--data-dir is .*not a folder"):
        load_benchmark("aime24", data_dir=tmp_path / "nowhere")


def test_the_checksum_sees_words_and_answers_but_neither_ids_nor_white_space():
    problem = Problem(problem_id="a", question="What is  1 +\n1?", references=("2",))
    checksum = content_checksum([problem])
    assert checksum == content_checksum(
        [replace(problem, problem_id="b", question=" What is 1 + 1?", references=("2 ",))]
    )
    assert checksum != content_checksum([replace(problem, question="What is 1 + 2?")])
    assert checksum != content_checksum([replace(problem, references=("3",))])


def test_the_list_of_answers_that_polaris_uses_must_be_in_the_copy(tmp_path: Path):
    write_problems(tmp_path / "minerva.jsonl", 3)
    with pytest.raises(BenchmarkError, match=r"'p0' of .*minerva\.jsonl has no list of answers in the column"):
        load_benchmark("minerva_polaris", data_dir=tmp_path)


def test_every_published_figure_is_of_a_benchmark_that_exists():
    assert set(PUBLISHED) <= set(BENCHMARKS)


WITH_COPY = [name for name, benchmark in BENCHMARKS.items() if benchmark.checksum]


@pytest.mark.skipif(not REAL.is_dir(), reason="the real benchmark files are not beside the repository")
@pytest.mark.parametrize("name", WITH_COPY)
def test_the_real_files_have_the_count_and_the_checksum(name: str, caplog: pytest.LogCaptureFixture):
    problems = load_benchmark(name, data_dir=REAL)[1]
    assert len(problems) == BENCHMARKS[name].num_problems
    assert all(reference for problem in problems for reference in problem.references)
    assert len({problem.problem_id for problem in problems}) == len(problems)
    # One reference of olympiadbench is a sentence, which reading says; what must not be said is that the copy differs.
    said = [record.getMessage() for record in caplog.records]
    assert [text for text in said if "sentences rather than answers" not in text] == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the real benchmark files are not beside the repository")
@pytest.mark.parametrize("name", WITH_COPY)
def test_every_reference_of_the_real_files_is_graded_as_correct(name: str):
    problems = load_benchmark(name, data_dir=REAL)[1]
    pairs = [(problem, reference) for problem in problems for reference in problem.references]
    with Grader(convention=BOXED, max_failed_share=None) as grader:
        grades = grader.grade_many([(rf"\boxed{{{reference}}}", problem.references) for problem, reference in pairs])
    wrong = [
        (problem.problem_id, reference, grade.outcome.value)
        for (problem, reference), grade in zip(pairs, grades, strict=True)
        if grade.outcome is not Outcome.CORRECT
    ]
    assert wrong == []


@pytest.mark.skipif(not REAL.is_dir(), reason="the real benchmark files are not beside the repository")
def test_relay_problems_are_asked_with_their_input():
    problems = load_benchmark("olympiadbench", data_dir=REAL)[1]
    assert sum("problem_674" in problem.extra for problem in problems) == 15
    assert sum("T N Y W R" in problem.question for problem in problems) <= 1
