import json
import os
import random
import signal
import subprocess
import sys
import time

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from polaris_data import (
    PROMPT_SUFFIX,
    OtherRunError,
    ProblemFileError,
    SettingError,
    content_hash,
    read_problems,
    read_profile,
)
from polaris_data.problems.catalog import IMPORTERS, find_importer, parse_columns
from polaris_data.problems.check import findings_path
from polaris_data.problems.importing import import_problems, set_aside_path
from polaris_data.problems.published import write_published_profile
from polaris_data.profile.files import check_recorded_problems


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "problems.jsonl"


def test_rows_are_kept_merged_or_set_aside_with_place_and_reason(tmp_path, out):
    source = write_rows(
        tmp_path / "raw.jsonl",
        {"problem": "1 + 1?", "answer": "$2$", "level": 1},
        {"problem": "1 + 1?", "answer": 2.0, "level": 2},
        {"problem": "Prove it.", "answer": "x"},
        {"problem": "What?", "answer": None},
        {"problem": "", "answer": "1"},
        {"problem": "What is it?", "answer": {"a": 1}},
        {"problem": "(a) Find x. (b) Find y.", "answer": "1"},
    )
    counts = import_problems([source], out)
    assert (counts.num_rows, counts.num_kept, counts.num_merged, sum(counts.set_aside.values())) == (7, 1, 1, 5)
    (problem,) = read_problems(out)
    assert (problem.references, problem.source, problem.extra) == (("2",), "raw.jsonl", {"level": 1})
    assert [(row["place"], row["reason"]) for row in read_lines(set_aside_path(out))] == [
        (f"{source}:3", "a proof"),
        (f"{source}:4", "no answer"),
        (f"{source}:5", "no question"),
        (f"{source}:6", "the answer is neither text nor a number"),
        (f"{source}:7", "several parts"),
    ]
    assert read_lines(set_aside_path(out))[0] == {
        "place": f"{source}:3",
        "reason": "a proof",
        "question": "Prove it.",
        "answer": "x",
    }


def test_a_solution_that_gave_the_answer_is_kept_beside_the_problem(tmp_path, out):
    solution = "We count: 1+1=<<1+1=2>>2.\n#### 2"
    chat = [{"role": "user", "content": "3 + 3?"}, {"role": "assistant", "content": "So \\boxed{6}."}]
    source = write_rows(
        tmp_path / "raw.jsonl",
        {"question": "1 + 1?", "answer": solution},
        {"question": "2 + 2?", "solution": "So \\boxed{4}.", "score": 17},
        {"messages": chat},
    )
    import_problems([source], out)
    assert [(problem.references, problem.extra) for problem in read_problems(out)] == [
        (("2",), {"answer": solution}),
        (("4",), {"solution": "So \\boxed{4}.", "score": 17}),
        (("6",), {"solution": "So \\boxed{6}."}),
    ]


def test_what_is_kept_but_looks_wrong_is_counted_and_listed(tmp_path, out):
    source = write_rows(
        tmp_path / "raw.jsonl",
        {"id": "a", "problem": "1 + 1?", "answer": "all the even primes"},
        {"id": "b", "problem": "Find $x$ and put the answer in \\boxed{}.", "answer": "\\frac{}{2}"},
        {"id": "c", "problem": "2 + 2?", "answer": "4"},
        {"id": "d", "problem": "3 + 3?", "answer": "a。0"},
        {"id": "e", "problem": "4 + 4?", "answer": "。8"},
    )
    counts = import_problems([source], out)
    listed = [(row["problem_id"], row["finding"], row["reference"]) for row in read_lines(findings_path(out))]
    assert listed == [
        ("a", "several words", "all the even primes"),
        ("b", "truncated LaTeX", "\\frac{}{2}"),
        ("b", "spelling only", "\\frac{}{2}"),
        ("b", "a request in the question", "\\frac{}{2}"),
        ("d", "reference_rejected", "a。0"),  # two sentences, and neither is called the answer
    ]
    assert counts.num_kept == 5 and sum(counts.findings.values()) == 5


def test_nothing_is_left_of_an_earlier_set_aside_file(tmp_path, out):
    source = write_rows(tmp_path / "raw.jsonl", {"id": "a", "problem": "1 + 1?", "answer": "2"})
    out.parent.mkdir()
    set_aside_path(out).write_text("old")
    import_problems([source], out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["problems.jsonl", "problems.jsonl.settings.json"]


def test_identical_problems_of_several_sources_are_one_that_names_them_all(tmp_path, out):
    row = {"problem": "1 + 1?", "answer": "2"}
    other = {"problem": "2 + 2?", "answer": "4"}
    sources = [write_rows(tmp_path / f"{name}.jsonl", row, other) for name in "ab"]
    sources.append(write_rows(tmp_path / "c.jsonl", row | {"answer": "\\boxed{2}"}, row))
    counts = import_problems(sources, out)
    assert (counts.num_kept, counts.num_merged) == (2, 4)
    assert [(problem.source, problem.extra) for problem in read_problems(out)] == [
        ("a.jsonl", {"also_from": ["b.jsonl", "c.jsonl"]}),
        ("a.jsonl", {"also_from": ["b.jsonl"]}),
    ]


def test_one_id_for_two_problems_is_refused_with_both_places_and_the_remedies_work(tmp_path, out):
    first = write_rows(tmp_path / "a.jsonl", {"id": 1, "problem": "1 + 1?", "answer": "2"})
    second = write_rows(tmp_path / "b.jsonl", {"id": 1, "problem": "2 + 2?", "answer": "4"})
    with pytest.raises(ProblemFileError) as caught:
        import_problems([first, second], out)
    assert str(caught.value) == (
        f"two different problems have the id '1', at {first}:1 and {second}:1; make ids from the content with "
        "--ids content, or put the name of the source before them with --ids prefixed"
    )
    assert list(out.parent.iterdir()) == []
    import_problems([first, second], out, ids="content")
    assert all(problem.problem_id.startswith("p-") for problem in read_problems(out))
    prefixed = out.with_name("prefixed.jsonl")
    import_problems([first, second], prefixed, ids="prefixed")
    assert [problem.problem_id for problem in read_problems(prefixed)] == ["a/1", "b/1"]


def test_content_ids_do_not_depend_on_how_the_answer_is_written_or_where_it_lies(tmp_path, out):
    import_problems(
        [write_rows(tmp_path / "a.jsonl", {"id": 3, "problem": "1 + 1?", "answer": 2.0})], out, ids="content"
    )
    other = out.with_name("other.jsonl")
    (tmp_path / "b.csv").write_text("question,answer\n1 + 1?,$2$\n")
    import_problems([str(tmp_path / "b.csv")], other)
    assert read_problems(out)[0].problem_id == read_problems(other)[0].problem_id


@pytest.mark.parametrize("num_rows", [3, 150])
def test_wrong_column_names_are_refused_with_what_was_found_and_the_flag(tmp_path, out, num_rows):
    source = write_rows(tmp_path / "raw.jsonl", *[{"text": f"{n}?", "solved": "1"} for n in range(num_rows)])
    with pytest.raises(ProblemFileError, match=r"raw\.jsonl:1: no question: .*found 'text', 'solved'; .*--columns"):
        import_problems([source], out)
    counts = import_problems([source], out, layout=parse_columns("question=text, references=solved"))
    assert counts.num_kept == num_rows
    with pytest.raises(ProblemFileError, match="no reference: expected a value in one of the columns 'lable'; found"):
        import_problems([source], out.with_name("x.jsonl"), layout=parse_columns("question=text,references=lable"))


def test_a_column_that_some_rows_lack_is_no_wrong_name(tmp_path, out):
    rows = [{"problem": f"{n}?"} for n in range(20)] + [{"problem": "1 + 1?", "answer": "2"}]
    counts = import_problems([write_rows(tmp_path / "raw.jsonl", *rows)], out)
    assert (counts.num_kept, counts.set_aside) == (1, {"no answer": 20})


@pytest.mark.parametrize("text", ["question", "text=question", "question=", "question=a,,id=b"])
def test_a_malformed_mapping_is_refused(text):
    with pytest.raises(SettingError, match="--columns has "):
        parse_columns(text)


def test_strict_refuses_the_first_row_that_would_be_set_aside(tmp_path, out):
    source = write_rows(tmp_path / "raw.jsonl", {"problem": "Q?", "answer": "1"}, {"problem": "R?", "answer": True})
    with pytest.raises(ProblemFileError, match=r"raw\.jsonl:2: the answer is neither .* is True; .*--strict"):
        import_problems([source], out, strict=True)
    assert list(out.parent.iterdir()) == []


def test_sources_without_a_usable_row_are_refused_with_the_reasons(tmp_path, out):
    source = write_rows(tmp_path / "raw.jsonl", {"problem": "Prove it.", "answer": "1"}, {"problem": "?", "answer": ""})
    with pytest.raises(ProblemFileError, match=r"no problems in .*: 1 set aside \(a proof\), 1 set.*\(no answer"):
        import_problems([source], out)


def test_an_output_of_other_sources_is_refused_and_kept(tmp_path, out):
    source = write_rows(tmp_path / "raw.jsonl", {"problem": "Q?", "answer": "1"})
    import_problems([source], out)
    before = out.read_bytes()
    import_problems([source], out)
    assert out.read_bytes() == before
    write_rows(tmp_path / "raw.jsonl", {"problem": "Q?", "answer": "2"})
    with pytest.raises(OtherRunError, match="sources was"):
        import_problems([source], out)
    with pytest.raises(OtherRunError, match="choose another --out"):
        import_problems([source], tmp_path / "raw.jsonl")
    assert out.read_bytes() == before


def test_the_format_of_verl_is_imported(tmp_path, out):
    row = {
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "user", "content": "1 + 1?" + PROMPT_SUFFIX}],
        "reward_model": {"style": "rule", "ground_truth": "$2$"},
        "extra_info": {"index": 5, "split": "train"},
    }
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "p.parquet")
    import_problems([str(tmp_path / "p.parquet")], out)
    (problem,) = read_problems(out)
    assert (problem.problem_id, problem.question, problem.references) == ("5", "1 + 1?", ("2",))
    assert problem.source == "openai/gsm8k" and problem.extra["extra_info"] == {"split": "train"}


DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n1 + 1?\n\nRemember to put your answer "
    'on its own line after "Answer:".'
)
BOBA = (
    "<｜User｜>\n1 + 1? Please reason step by step, and put your final answer within \\boxed{}.<｜Assistant｜><think>\n"
)

PUBLISHED_ROWS = {
    "deepscaler": {"problem": "1 + 1?", "answer": "2", "solution": "Count."},
    "areal-boba": {"prompt": BOBA, "task": "math", "query_id": "b7", "solutions": ["\\boxed{2}"]},
    "skywork-or1": {
        "data_source": "train-math-numinamath1.5",
        "prompt": [{"role": "user", "content": "1 + 1?"}],
        "reward_model": {"ground_truth": '["2"]', "style": "rule"},
        "extra_info": {"index": 0, "model_difficulty": {"DeepSeek-R1-Distill-Qwen-7B": 3}},
    },
    "polaris-53k": {"problem": "1 + 1?", "answer": "2", "difficulty": "3/8"},
    "math": {"problem": "1 + 1?", "level": "Level 1", "solution": "So $\\boxed{1}+1=\\boxed{2}$.", "type": "Algebra"},
    "gsm8k": {"question": "1 + 1?", "answer": "Count: 1+1=<<1+1=2>>2\n#### 2"},
    "dapo-17k": {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": DAPO}],
        "reward_model": {"ground_truth": "2", "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b6eb4"},
    },
}
"""One row of each published set, with the columns that its card or the code of its users names."""


@pytest.mark.parametrize("name", IMPORTERS)
def test_a_local_copy_of_a_published_set_is_imported_by_its_name(tmp_path, out, name):
    source = write_rows(tmp_path / "copy.jsonl", PUBLISHED_ROWS[name])
    import_problems([source], out, layout=find_importer(name))
    (problem,) = read_problems(out)
    assert (problem.question, problem.references) == ("1 + 1?", ("2",))
    assert problem.source == f"{IMPORTERS[name].hub_id} (copy.jsonl)"
    assert problem.problem_id == "b7" if name == "areal-boba" else problem.problem_id.startswith("p-")


def test_a_folder_is_imported_through_datasets_with_the_split_of_its_set(tmp_path, out, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "skywork"
    folder.mkdir()
    write_rows(folder / "math.jsonl", PUBLISHED_ROWS["skywork-or1"])
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: math, path: math.jsonl}\n---\n"
    (folder / "README.md").write_text(card)
    import_problems([str(folder)], out, layout=find_importer("skywork-or1"))
    assert read_problems(out)[0].references == ("2",)


def test_an_unreachable_hub_is_named_with_what_to_do(tmp_path, out, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(ProblemFileError, match=r"'openai/gsm8k'.* give the path of a local copy"):
        import_problems([], out, layout=find_importer("gsm8k"))


def test_an_unknown_importer_is_refused_with_those_there_are():
    with pytest.raises(SettingError, match=r"'gsm9k'; choose one of deepscaler, .*dapo-17k"):
        find_importer("gsm9k")


def test_a_hundred_copies_are_one_problem(tmp_path, out):
    source = write_rows(tmp_path / "dapo.jsonl", *[PUBLISHED_ROWS["dapo-17k"]] * 100)
    counts = import_problems([source], out, layout=find_importer("dapo-17k"))
    assert (counts.num_rows, counts.num_kept, counts.num_merged) == (100, 1, 99)
    assert "also_from" not in read_problems(out)[0].extra


def test_published_pass_rates_become_a_profile_of_the_imported_problems(tmp_path, out):
    rows = [{"problem": f"{n} + 1?", "answer": n + 1, "difficulty": f"{n}/8"} for n in range(9)]
    rows.append({"problem": "10 + 1?", "answer": 11, "difficulty": "9/8"})
    import_problems([write_rows(tmp_path / "polaris.jsonl", *rows)], out, layout=find_importer("polaris-53k"))
    profile = tmp_path / "profile.jsonl"
    assert write_published_profile(profile, out) == 9
    assert [difficulty.num_correct for difficulty in read_profile(profile)] == list(range(9))
    rates = [
        {"problem": "1 + 1?", "answer": 2, "llama8b_solve_rate": 0.328, "n": 64},
        {"problem": "2 + 2?", "answer": 4, "llama8b_solve_rate": "0.5", "n": "10"},
        {"problem": "3 + 3?", "answer": 6, "llama8b_solve_rate": 0.5},
        {"problem": "4 + 4?", "answer": 8, "a_solve_rate": 0.5, "b_solve_rate": 0.25, "n": 8},
        {"problem": "5 + 5?", "answer": 10, "llama8b_solve_rate": 37.5, "n": 8},
        {"problem": "6 + 6?", "answer": 12, "num_correct": 3, "num_samples": 5},
    ]
    import_problems([write_rows(tmp_path / "rates.jsonl", *rates)], tmp_path / "r.jsonl")
    assert write_published_profile(tmp_path / "rates.profile.jsonl", tmp_path / "r.jsonl") == 3
    counts = [(each.num_correct, each.num_samples) for each in read_profile(tmp_path / "rates.profile.jsonl")]
    assert counts == [(21, 64), (5, 10), (3, 5)]
    check_recorded_problems(profile, content_hash(read_problems(out)))
    import_problems([write_rows(tmp_path / "raw.jsonl", {"problem": "Q?", "answer": "1"})], tmp_path / "no.jsonl")
    with pytest.raises(ProblemFileError, match="no problem has a 'difficulty' such as '3/8'"):
        write_published_profile(tmp_path / "p2.jsonl", tmp_path / "no.jsonl")


def test_a_kill_leaves_no_file_and_the_same_command_writes_the_same_bytes(tmp_path, out):
    generator = random.Random(0)
    rows = [{"problem": f"{n}? {'word ' * 40}", "answer": generator.choice([n, float(n), ""])} for n in range(30_000)]
    source = write_rows(tmp_path / "raw.jsonl", *rows)
    command = [sys.executable, "-m", "polaris_data", "import", source, "--out", str(out)]
    temporary = out.with_name(f"{out.name}.tmp")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (temporary.exists() and temporary.stat().st_size > 100_000):
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not out.exists()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    whole = tmp_path / "whole" / out.name
    import_problems([source], whole)
    assert out.read_bytes() == whole.read_bytes()
    assert set_aside_path(out).read_bytes() == set_aside_path(whole).read_bytes()
    assert len(list(out.parent.iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["raw.jsonl", "--out", "out.csv"], "error: --out is 'out.csv'; give a name that ends in .jsonl\n"),
        (["--out", "p.jsonl"], "error: no source; give a file, a folder or Hub id, or a ready importer\n"),
        (["absent.jsonl", "--out", "p.jsonl"], "error: no file 'absent.jsonl'; check the path\n"),
        (
            ["raw.jsonl", "--out", "p.jsonl", "--from", "math", "--columns", "question=a"],
            "error: --from brings its own columns; leave out --columns, or --from\n",
        ),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence_and_2(tmp_path, arguments, message):
    result = subprocess.run(
        [sys.executable, "-m", "polaris_data", "import", *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert (result.returncode, result.stderr) == (2, message)
    assert list(tmp_path.iterdir()) == []


def test_rows_are_chosen_by_the_values_of_their_columns(tmp_path, out):
    rows = [{"problem": f"{n} + 1?", "answer": str(n + 1), "Level": n, "meta": {"kind": "ab"[n % 2]}} for n in range(6)]
    source = write_rows(tmp_path / "raw.jsonl", *rows)
    counts = import_problems([source], out, where={"level": ["2", "3", "4"], "meta.kind": ["a"]})
    assert [line["extra"]["Level"] for line in read_lines(out)] == [2, 4]
    assert (counts.num_rows, counts.num_kept, counts.num_left_out) == (2, 2, 4)
    with pytest.raises(ProblemFileError, match="no column 'grade' to choose rows by"):
        import_problems([source], tmp_path / "other.jsonl", where={"grade": ["1"]})
