"""Real problem sets, which lie beside the repository where they are available."""

import json
from pathlib import Path

import pytest
from polaris_data import ProblemFileError, read_problems
from polaris_data.problems.catalog import find_importer
from polaris_data.problems.importing import import_problems

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
NUM_ROWS = {
    "aime24": 30,
    "aime25": 30,
    "amc22_23": 83,
    "amc23": 40,
    "deepscaler_adarft": 30157,
    "gsm8k_test": 1319,
    "gsm8k_train": 7473,
    "math500": 500,
    "minerva": 272,
    "olympiadbench": 675,
    "olympiadbench_674": 674,
    "polaris_sample": 4321,
    "train_sample": 8540,
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real problem sets are not beside the repository")


@pytest.mark.parametrize("name", NUM_ROWS)
def test_a_sound_set_is_read_whole(name):
    problems = read_problems(DATA / f"{name}.jsonl")
    assert len(problems) == NUM_ROWS[name]
    assert all(problem.references and problem.source for problem in problems)


def test_rows_without_an_answer_are_named_and_can_be_set_aside():
    path = DATA / "math_train.jsonl"
    with pytest.raises(ProblemFileError, match=r"2 of 7500 rows.*math_train\.jsonl:5342: 'answer' is ''.*:5344"):
        read_problems(path)
    assert len(read_problems(path, on_invalid="skip")) == 7498
    assert len(read_problems(path, limit=200)) == 200
    assert len(read_problems(DATA / "dsr_sub_acc.jsonl", on_invalid="skip")) == 1208


@pytest.mark.parametrize("name", ["near_duplicates_truth", "contamination_truth"])
def test_a_file_that_holds_no_problems_is_refused(name):
    with pytest.raises(ProblemFileError, match=r":1: no (question|reference)"):
        read_problems(DATA / f"{name}.jsonl")


@pytest.mark.parametrize("name", [*NUM_ROWS, "math_train", "dsr_sub_acc"])
def test_every_problem_file_is_imported_and_every_row_accounted_for(tmp_path, name):
    path = DATA / f"{name}.jsonl"
    counts = import_problems([str(path)], tmp_path / "p.jsonl")
    num_rows = path.read_bytes().count(b"\n")
    assert counts.num_rows == num_rows == counts.num_kept + counts.num_merged + sum(counts.set_aside.values())
    assert counts.num_kept == len(read_problems(tmp_path / "p.jsonl")) >= 0.9 * num_rows


def test_rows_set_aside_have_the_reasons_that_are_known_of_them(tmp_path):
    reasons = {
        name: import_problems([str(DATA / f"{name}.jsonl")], tmp_path / f"{name}.jsonl").set_aside
        for name in ("math_train", "dsr_sub_acc", "polaris_sample", "gsm8k_train", "math500")
    }
    assert reasons["math_train"] == {"no answer": 2} and reasons["dsr_sub_acc"]["no answer"] == 1
    assert reasons["polaris_sample"]["a proof"] > 150 and reasons["gsm8k_train"] == reasons["math500"] == {}


@pytest.mark.parametrize(("name", "file"), [("gsm8k", "gsm8k_train"), ("math", "math_train"), ("polaris-53k", None)])
def test_copies_of_published_sets_are_imported_by_their_name(tmp_path, name, file):
    counts = import_problems(
        [str(DATA / f"{file or 'polaris_sample'}.jsonl")], tmp_path / "p.jsonl", layout=find_importer(name)
    )
    assert counts.num_kept + counts.num_merged >= 0.9 * counts.num_rows


def test_the_worked_solutions_of_gsm8k_give_the_same_answers(tmp_path):
    path = DATA / "gsm8k_train.jsonl"
    rows = read_problems(path)
    copy = tmp_path / "gsm8k.jsonl"
    copy.write_text(
        "".join(json.dumps({"question": row.question, "answer": row.extra["solution"]}) + "\n" for row in rows)
    )
    import_problems([str(copy)], tmp_path / "p.jsonl", layout=find_importer("gsm8k"))
    assert [row.references for row in read_problems(tmp_path / "p.jsonl")] == [row.references for row in rows]


def test_sets_that_share_problems_become_one_with_the_lineage_of_both(tmp_path):
    sources = [str(DATA / f"{name}.jsonl") for name in ("amc22_23", "amc23")]
    counts = import_problems(sources, tmp_path / "p.jsonl", ids="content")
    assert counts.num_merged > 30 and counts.num_kept + counts.num_merged == 123
    assert sum("also_from" in row.extra for row in read_problems(tmp_path / "p.jsonl")) == counts.num_merged
