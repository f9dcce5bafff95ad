"""What people bring: each row of the documentation's tables, and the files beside the repository where they are."""

import json
import re
import zipfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polaris_data import Problem, ProblemFileError, read_problems
from polaris_data.problems.check import findings_path
from polaris_data.problems.importing import import_problems, set_aside_path
from polaris_data.problems.prompts import bare_question
from polaris_data.problems.rows import json_lines, read_rows
from polaris_data.profile.counting import profile_completions
from polaris_reward import grade

PAGE = Path(__file__).resolve().parents[1] / "docs" / "bring-your-own-data.md"
SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "cases" / "formats" / "data"


def rows_of(heading):
    """The rows of the table under a heading of the page: file, content and result as text."""
    section = PAGE.read_text("utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    rows = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [pytest.param(*row, id=f"{heading}-{number}") for number, row in enumerate(rows, 1)]


def code(cell):
    return re.findall(r"`([^`]*)`", cell)


def write(folder, file, content):
    """Write what a cell shows under the name that another gives."""
    name = code(file)[0]
    (text,) = code(content)
    text = text.replace("⏎", "\n").replace("⇥", "\t")
    path = folder / name
    if "save_to_disk" in file:
        datasets = pytest.importorskip("datasets")
        datasets.Dataset.from_list([json.loads(text)]).save_to_disk(path)
    elif path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([json.loads(text)]), path)
    else:
        compression = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(path.suffix)
        with pyarrow.output_stream(str(path), compression=compression) as stream:
            stream.write(text.encode("utf-16" if "UTF-16" in file else "utf-8"))
    return path


def read_as(path, out, **options):
    """What an import made of a file, as the last column of the tables says it."""
    try:
        import_problems([str(path)], out, **options)
    except ProblemFileError as error:
        return re.findall(r"set aside \(([^)]*)\)", str(error)) or [str(error)]
    aside = set_aside_path(out)
    reasons = [row.columns["reason"] for row in json_lines(aside)] if aside.exists() else []
    return [*reasons, *((problem.question, *problem.references) for problem in read_problems(out))]


@pytest.mark.parametrize(
    ("file", "content", "result"), [row for heading in ("Files", "Columns", "Answers") for row in rows_of(heading)]
)
def test_a_row_of_the_page_is_read_as_it_says(tmp_path, file, content, result):
    options = {"join_parts": "--join-parts" in file}
    if "--answer-from solution" in file:
        options["answer_from"] = "solution"
    expected = [
        tuple(text.replace("⏎", "\n") for text in code(part)) if "→" in part else part for part in result.split("; ")
    ]
    assert read_as(write(tmp_path, file, content), tmp_path / "out.jsonl", **options) == expected


@pytest.mark.parametrize(("file", "content", "solved"), rows_of("Completions"))
def test_completions_of_the_page_are_counted_as_it_says(tmp_path, file, content, solved):
    problem = Problem(problem_id="p", question="1 + 1?", references=("2",))
    (difficulty,) = profile_completions(
        [problem], write(tmp_path, file, content), lambda items: [grade(*item) for item in items]
    )
    assert f"{difficulty.num_correct} of {difficulty.num_samples}" == solved


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": "1 + 1?", "pass_rate": 0.5}, "nor a pass rate with its number of tries"),
        ({"problem": "1 + 1?", "response": "2", "reward": -0.3}, "without that column the answers are graded"),
        ({"problem": "3 + 3?", "response": "2"}, "not among the problems"),
    ],
)
def test_completions_that_say_too_little_are_refused(tmp_path, row, message):
    (tmp_path / "c.jsonl").write_text(json.dumps(row))
    with pytest.raises(ProblemFileError, match=message):
        profile_completions(
            [Problem(problem_id="p", question="1 + 1?", references=("2",))], tmp_path / "c.jsonl", lambda items: []
        )


def test_samples_of_a_log_of_inspect_are_rows_in_their_order_and_the_later_of_two_counts(tmp_path):
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        for name, sample in (
            ("samples/b/1_epoch_1.json", {"id": "stopped"}),
            ("samples/a_epoch_1.json", {"id": "a"}),
            ("samples/b/1_epoch_1.json", {"id": "b/1"}),
            ("samples/c_epoch_2/sample.json", {"id": "c"}),
            ("samples/c_epoch_2/messages/0.json", {"id": "no sample"}),
            ("header.json", {"id": "no sample"}),
        ):
            archive.writestr(name, json.dumps(sample))
        archive.writestr("samples/d_epoch_1.json", "{")
    rows = list(read_rows(tmp_path / "log.eval", split="train", revision=None, keep_broken=True))
    assert [row.columns.get("id") for row in rows] == ["b/1", "a", "c", None]
    assert rows[0].place.endswith("log.eval: samples/b/1_epoch_1.json")
    assert [row.defect is None for row in rows] == [True, True, True, False]
    (tmp_path / "log.eval").write_bytes(b"PK\3\4 half")
    with pytest.raises(ProblemFileError, match="not a readable log of inspect"):
        list(read_rows(tmp_path / "log.eval", split="train", revision=None))


@pytest.mark.parametrize(
    ("document", "num_rows"),
    [
        ({"problem": "1 + 1?", "messages": [[{"role": "user", "content": "?"}]], "costs": [{"tokens": 1}]}, 1),
        ({"id": "x", "choices": [{"index": 0, "message": {"content": "2"}}, {"index": 1, "text": "3"}]}, 1),
        ({"plan": [{"solver": "a"}], "samples": [{"id": 1}, {"id": 2}, {"id": 3}]}, 3),
        ({"0": {"prediction": "2"}}, 1),
        ({"0": {"prediction": "2"}, "1": {"prediction": "3", "gold": "3"}}, 2),
        ({"question": "of the form", "data": [{"problem": "1 + 1?"}, {"problem": "1 + 2?"}]}, 2),
    ],
)
def test_an_object_with_lists_is_one_row_or_a_list_of_them_by_what_it_holds(tmp_path, document, num_rows):
    (tmp_path / "x.json").write_text(json.dumps(document, indent=1))
    rows = list(read_rows(tmp_path / "x.json", split="train", revision=None))
    assert len(rows) == num_rows


def test_a_choice_is_right_by_its_letter_or_its_value(tmp_path):
    (tmp_path / "c.jsonl").write_text(json.dumps({"question": "2 + 2?", "choices": ["3", "4"], "answer": "B"}))
    (problem,) = read_problems(tmp_path / "c.jsonl")
    outcomes = [str(grade(rf"\boxed{{{answer}}}", problem.references).outcome) for answer in ("B", "4", "A", "3")]
    assert outcomes == ["correct", "correct", "incorrect", "incorrect"]


@pytest.mark.parametrize(
    ("row", "reference"),
    [
        ({"options": ["A)3", "B)4"], "correct": "B"}, "(B) 4"),
        ({"choices": {"text": ["3", "4"], "label": ["A", "B"]}, "answerKey": "B"}, "(B) 4"),
        ({"choices": {"text": ["3", "4"], "label": ["1", "2"]}, "answerKey": "2"}, "(B) 4"),
        ({"choices": ["3", "4"], "solution": "So it is \\boxed{B}."}, "(B) 4"),
        ({"options": ["3", "4", "5"], "answer": "b", "answer_index": 1}, "(B) 4"),
        ({"options": '["3", "4"]', "answer": "(B) 4"}, "(B) 4"),
        ({"option_a": "3", "option_b": "4", "answer": "4"}, "(B) 4"),
        ({"choices": ["the set of all numbers that we know of", "4"], "answer": 0}, "A"),
        ({"options": ["3", "4"], "answer": ["A", "B"]}, None),
        ({"choices": ["3", "4"], "answer": "5"}, None),
    ],
)
def test_the_chosen_answer_is_found_by_letter_number_or_text(tmp_path, row, reference):
    (tmp_path / "c.jsonl").write_text(json.dumps({"question": "2 + 2?"} | row))
    read = read_as(tmp_path / "c.jsonl", tmp_path / "out.jsonl")
    if reference is None:
        assert read == ["the answer is none of the choices, or several"]
    else:
        ((question, found),) = read
        assert found == reference and question.startswith("2 + 2?\n(A) ") and "\n(B) 4" in question


def test_choices_that_the_question_holds_are_not_repeated(tmp_path):
    row = {"question": "2 + 2? (A) 3 (B) 4", "choices": ["3", "4"], "answer": "B"}
    (tmp_path / "c.jsonl").write_text(json.dumps(row))
    assert read_as(tmp_path / "c.jsonl", tmp_path / "out.jsonl") == [("2 + 2? (A) 3 (B) 4", "(B) 4")]


@pytest.mark.parametrize(
    "prompt",
    [
        "1 + 1? Return your final response within \\boxed{}.",
        "1 + 1?\n\nPresent the answer in LaTeX format: \\boxed{Your answer}",
        "1 + 1? The answer should be in \\boxed{}.",
        '1 + 1? Think step by step and then give the answer as a number after "####".',
        "1 + 1?\n请一步一步推理，并将最终答案放在\\boxed{}中。",
        "Question: 1 + 1?\nAnswer:",
        "Complete the request.\n\n### Instruction:\n1 + 1?\n\n### Response: Let's think step by step.",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n",
        "<|start_header_id|>user<|end_header_id|>\n\n1 + 1?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        "system\nBe brief.\nuser\n1 + 1? Let's think step by step and put the answer within \\boxed{}.\nassistant\n",
        "[INST] 1 + 1? [/INST]",
        "<start_of_turn>user\n1 + 1?<end_of_turn>\n<start_of_turn>model\n",
        "A conversation. User: You must put your answer inside <answer> </answer> tags. 1 + 1?\nAssistant: <think>",
    ],
)
def test_a_question_is_taken_out_of_a_prompt(prompt):
    assert bare_question(prompt) == "1 + 1?" == bare_question(bare_question(prompt))


@pytest.mark.parametrize(
    "question",
    [
        "A robot moves step by step. Where is it after 3 steps?",
        "Express your answer as a common fraction in \\boxed{}. What is 1/2?",
        "Place the digits in \\boxed{}\\boxed{}. What is the largest sum?",
        "Solve the equation step by step. What is $x$?",
        "Put 3 balls in a box. How many are there?",
        "Please reason step by step.",
    ],
)
def test_what_belongs_to_the_problem_stays(question):
    assert bare_question(question) == question


def test_an_imported_file_is_imported_as_it_is(tmp_path):
    rows = [
        {"question": "2 + 2?", "choices": ["3", "4"], "answer": "B"},
        {"problem": "1 + 1?", "solution": "So \\boxed{2}."},
        {"body": "Ann has 2 pens.", "question": "How many?", "answer": "2 (pens)"},
    ]
    (tmp_path / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_problems([str(tmp_path / "raw.jsonl")], tmp_path / "once.jsonl")
    import_problems([str(tmp_path / "once.jsonl")], tmp_path / "twice.jsonl")
    assert (tmp_path / "once.jsonl").read_bytes() == (tmp_path / "twice.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl.gz", b"\x1f\x8b\x08\x00broken", "cannot be read to its end"),
        ("p.csv", b'problem,answer\n"1 + 1?,2\n3 + 3?,6\n', "a quotation mark is never closed"),
        ("p.csv", "problème,answer\nwhat,2\n".encode("latin-1"), "save it as UTF-8"),
        ("p.xlsx", b"PK\x03\x04", "save it as CSV"),
        ("p.csv", b"problem,answer,answer\n1 + 1?,2,3\n", "two columns are called 'answer'"),
        ("p.jsonl", b"garbage\nmore\n", r"2 set aside \(cannot be read\); .*p\.jsonl:1: not JSON"),
    ],
)
def test_a_file_that_would_lose_rows_is_refused_with_the_remedy(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProblemFileError, match=message):
        import_problems([str(tmp_path / name)], tmp_path / "out.jsonl")


words = st.sampled_from("we so the answer is add find seven beads because of 3 $x$ 12 = \\frac{1}{2} not and".split())
prose = st.lists(words, min_size=1, max_size=60).map(" ".join)
answers = st.one_of(
    prose,
    prose.map(lambda text: f"{text}."),
    prose.map(lambda text: f"{text}\n#### 7"),
    prose.map(lambda text: f"{text} \\boxed{{7}}"),
    prose.map(lambda text: f"{text} The answer is {text}"),
    st.text(max_size=260),
    st.text("0123456789+-x^{} ", min_size=190, max_size=260),
    st.builds(lambda text: json.dumps({"ground_truth": text}), prose),
)


def is_long_or_a_sentence(reference):
    """Independent of the package: too long, or three words and a verb or a full stop."""
    found = re.findall(r"(?<![\\\w])[a-z]{2,}", re.sub(r"\$[^$]*\$|\\[a-z]+", " ", reference.casefold()))
    is_said = bool({"is", "we", "find", "add"} & set(found)) or reference.endswith(".")
    return len(reference) > 200 or (len(found) > 2 and is_said)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(answers, min_size=1, max_size=8), st.sampled_from(["answer", "solution", "references"]))
def test_no_long_reference_and_no_sentence_is_imported_without_being_listed(tmp_path_factory, values, column):
    folder = tmp_path_factory.mktemp("any")
    rows = [{"problem": f"What is {number}?", column: value} for number, value in enumerate(values)]
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        counts = import_problems([str(folder / "raw.jsonl")], folder / "out.jsonl")
    except ProblemFileError as error:
        assert "set aside" in str(error)
        return
    listed = findings_path(folder / "out.jsonl")
    findings = [row.columns for row in json_lines(listed)] if listed.exists() else []
    assert sum(counts.findings.values()) == len(findings)
    assert counts.num_rows == len(rows) == counts.num_kept + counts.num_merged + sum(counts.set_aside.values())
    for problem in read_problems(folder / "out.jsonl"):
        for reference in filter(is_long_or_a_sentence, problem.references):
            assert any(found["reference"] == reference for found in findings), reference


BOXES = [(3, 5, "8"), (4, 6, "10"), (5, 7, "12"), (6, 8, "14")]
BEADS = [
    (f"A box holds {red} red and {blue} blue beads. How many beads are in it?", total) for red, blue, total in BOXES
]
EXPECTED = {
    "07_numina15.jsonl": (BEADS[:1], {"no answer": 2, "a proof": 1}),
    "47_broken_line.jsonl": (BEADS, {"cannot be read": 1}),
    "49_answer_forms.jsonl": ([(q, a) for (q, _), a in zip(BEADS, ["1,234", "5", "7", "x=3"], strict=True)], {}),
    "completions_minus1.jsonl": None,
    "dedup_figures.jsonl": 6,
    "dedup_mcq_missed.jsonl": 2,
    "dedup_templates.jsonl": 5,
}
"""Of each file what is read and set aside; of one that is not named here all four problems, of some only the number."""


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collected files are not beside the repository")
def test_every_collected_file_reads_right_or_is_refused(tmp_path):
    for path in sorted(SHARED.iterdir()):
        out = tmp_path / f"{path.name}.jsonl"
        expected = EXPECTED.get(path.name, (BEADS, {}))
        if expected is None:
            with pytest.raises(ProblemFileError, match="no problems"):
                import_problems([str(path)], out)
            continue
        counts = import_problems([str(path)], out)
        problems = [(problem.question, *problem.references) for problem in read_problems(out)]
        if isinstance(expected, int):
            assert (len(problems), counts.set_aside) == (expected, {}), path.name
        else:
            assert (problems, counts.set_aside) == expected, path.name


@pytest.mark.skipif(not SHARED.is_dir(), reason="the collected files are not beside the repository")
@pytest.mark.parametrize(("name", "solved"), [("verl_dump", 4), ("nemo", 8), ("minus1", 4)])
def test_collected_completions_are_counted(tmp_path, name, solved):
    problems = [
        Problem(problem_id=str(number), question=question, references=(answer,))
        for number, (question, answer) in enumerate(BEADS)
    ]
    profile = profile_completions(problems, SHARED / f"completions_{name}.jsonl", lambda items: [])
    assert [(each.num_samples, each.num_correct) for each in profile] == [(8, solved)] * 4
