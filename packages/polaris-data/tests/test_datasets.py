import json

import datasets
import pytest
from polaris_data import Problem, ProblemFileError, read_problems

CARD = """---
configs:
- config_name: default
  data_files:
  - {split: train, path: easy.jsonl}
  - {split: test, path: hard.jsonl}
- config_name: long
  data_files:
  - {split: train, path: long.jsonl}
---
"""


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data set as the Hub holds them: a card that names two configurations, with their files."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sums"
    folder.mkdir()
    write_rows(folder / "easy.jsonl", {"id": 7, "problem": "1 + 1?", "answer": 2.0})
    write_rows(
        folder / "hard.jsonl", {"id": 1, "problem": "2 + 2?", "answer": 4.0}, {"id": 2, "problem": "?", "answer": None}
    )
    write_rows(folder / "long.jsonl", {"id": 9, "problem": "1 + 1 + 1?", "answer": "3"})
    (folder / "README.md").write_text(CARD)
    return folder


def test_a_folder_that_datasets_can_load_is_read(folder):
    assert read_problems(folder) == [
        Problem(problem_id="7", question="1 + 1?", references=("2",), source="sums", extra={})
    ]


def test_a_configuration_is_named_after_a_colon(folder):
    assert [problem.problem_id for problem in read_problems(f"{folder}:long")] == ["9"]
    with pytest.raises(ProblemFileError, match="'tall' not found"):
        read_problems(f"{folder}:tall")


def test_files_that_do_not_fit_together_are_refused_with_the_cause(folder):
    write_rows(folder / "hard.jsonl", {"id": 1, "question": "2 + 2?", "solution": "4"})
    with pytest.raises(ProblemFileError, match=r"cannot load the data set .*column"):
        read_problems(folder, split="test")


def test_a_row_of_a_data_set_is_refused_with_its_split_and_number(folder):
    with pytest.raises(ProblemFileError, match=r"sums\[test\] row 2: no reference"):
        read_problems(folder, split="test")
    assert [problem.problem_id for problem in read_problems(folder, split="test", limit=1)] == ["1"]


def test_an_unknown_split_is_refused_with_the_ones_there_are(folder):
    with pytest.raises(ProblemFileError, match=r"split 'dev'.*test"):
        read_problems(folder, split="dev")


def test_a_folder_without_data_is_refused(tmp_path):
    with pytest.raises(ProblemFileError, match="cannot load the data set"):
        read_problems(tmp_path)


def test_without_a_connection_a_local_copy_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ProblemFileError, match=r"'nobody/nothing', split 'train'.*give the path of a local copy"):
        read_problems("nobody/nothing")
