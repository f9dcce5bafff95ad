"""Real problem sets, which lie beside the repository where they are available."""

from pathlib import Path

import pytest
from polaris_data import ProblemFileError, read_problems

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


@pytest.mark.parametrize("name", ["near_duplicates_truth", "contamination_truth", "minerva_answer_conflicts"])
def test_a_file_that_holds_no_problems_is_refused(name):
    with pytest.raises(ProblemFileError, match=r":1: no (question|reference)"):
        read_problems(DATA / f"{name}.jsonl")
