import json
import subprocess
import sys

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import PROMPT_SUFFIX, Problem, SettingError, iterate_problems, read_problems
from polaris_data.problems.answers import to_references
from polaris_data.problems.importing import import_problems
from polaris_data.problems.parts import refusal
from polaris_data.problems.writing import choose_format, write_as

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
references = st.lists(texts, min_size=1, max_size=3).map(to_references).filter(lambda found: isinstance(found, tuple))
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts | st.lists(texts, max_size=2)
problems = st.builds(
    Problem,
    problem_id=texts.map(str.strip),
    question=texts.filter(lambda question: refusal(question, ()) is None),
    references=references,
    source=st.just("") | texts,
    extra=st.dictionaries(st.sampled_from(["level", "id", "answer", "question", "extra", "note", "prompt"]), values),
).filter(lambda problem: refusal(problem.question, problem.references) is None)


@settings(deadline=None, max_examples=60)
@given(st.lists(problems, min_size=1, max_size=5, unique_by=lambda problem: problem.problem_id))
@pytest.mark.parametrize("format", ["jsonl", "parquet", "verl"])
def test_what_was_exported_is_read_and_imported_as_the_same_problems(tmp_path_factory, format, written):
    folder = tmp_path_factory.mktemp("round")
    exported = folder / f"x.{'jsonl' if format == 'jsonl' else 'parquet'}"
    write_as(written, exported, format=format, suffix=PROMPT_SUFFIX)
    assert read_problems(exported) == written
    import_problems([str(exported)], folder / "again.jsonl")
    assert read_problems(folder / "again.jsonl") == written


def test_verl_gets_what_it_reads(tmp_path):
    one = Problem(problem_id="a", question="1 + 1?", references=("2", "two"), source="book", extra={"level": 1})
    out = tmp_path / "train.parquet"
    assert write_as([one], out, format="verl", suffix=PROMPT_SUFFIX, split="test") == 1
    assert pyarrow.parquet.read_table(out).to_pylist() == [
        {
            "data_source": "book",
            "prompt": [{"role": "user", "content": "1 + 1?" + PROMPT_SUFFIX}],
            "ability": "math",
            "reward_model": {"ground_truth": "2", "style": "rule"},
            "extra_info": {
                "index": 0,
                "split": "test",
                "problem_id": "a",
                "question": "1 + 1?",
                "references": ["2", "two"],
                "source": "book",
                "extra": '{"level": 1}',
            },
        }
    ]
    write_as([one], out, format="verl", data_source="math_dapo")
    (row,) = pyarrow.parquet.read_table(out).to_pylist()
    assert row["data_source"] == "math_dapo" and row["prompt"][0]["content"] == "1 + 1?"


def test_problems_are_written_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("polaris_data.problems.writing.BATCH", 10)
    write_as(iterate_problems("synthetic", limit=25), tmp_path / "x.parquet", format="parquet")
    assert pyarrow.parquet.read_metadata(tmp_path / "x.parquet").num_row_groups == 3
    assert read_problems(tmp_path / "x.parquet") == read_problems("synthetic", limit=25)


@pytest.mark.parametrize(
    ("name", "given_format", "wanted"),
    [("x.csv", None, ".jsonl or .parquet"), ("x.jsonl", "verl", ".parquet"), ("x.parquet", "jsonl", ".jsonl")],
)
def test_a_name_that_does_not_fit_the_format_is_refused(tmp_path, name, given_format, wanted):
    with pytest.raises(SettingError, match=f"give a name that ends in {wanted}$"):
        choose_format(tmp_path / name, given_format)


def test_the_command_writes_a_file_and_refuses_one_of_another_run(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "polaris_data", "export", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run("synthetic", "--limit", "3", "--out", "x.parquet", "--format", "verl", "--suffix")
    assert (done.returncode, done.stdout, done.stderr) == (0, "wrote x.parquet\n", "")
    assert json.loads((tmp_path / "x.parquet.settings.json").read_text())["suffix"] == PROMPT_SUFFIX
    assert read_problems(tmp_path / "x.parquet") == read_problems("synthetic", limit=3)
    refused = run("synthetic", "--limit", "3", "--out", "x.parquet")
    assert refused.returncode == 2 and "format was 'verl', now 'parquet'" in refused.stderr
