import json
import logging
from datetime import date

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import (
    PROMPT_SUFFIX,
    Problem,
    ProblemFileError,
    content_hash,
    read_problems,
    synthetic_problems,
    write_problems,
)


def write_rows(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("id_column", ["problem_id", "id", "unique_id"])
@pytest.mark.parametrize("question_column", ["question", "problem", "prompt"])
@pytest.mark.parametrize("answer_column", ["references", "answers", "answer", "final_answer"])
def test_the_usual_column_names_are_understood(tmp_path, id_column, question_column, answer_column):
    row = {id_column: "a", question_column: "1 + 1?", answer_column: "2", "source": "book", "level": 3}
    assert read_problems(write_rows(tmp_path / "p.jsonl", row)) == [
        Problem(problem_id="a", question="1 + 1?", references=("2",), source="book", extra={"level": 3})
    ]


def test_the_first_column_with_a_value_wins_and_the_others_are_kept(tmp_path):
    row = {"id": "a", "unique_id": "u", "question": None, "problem": "Q", "answers": ["1", "2"], "answer": "1"}
    (problem,) = read_problems(write_rows(tmp_path / "p.jsonl", row))
    assert (problem.problem_id, problem.question, problem.references) == ("a", "Q", ("1", "2"))
    assert problem.extra == {"unique_id": "u", "question": None, "answer": "1"}


def test_a_solution_is_not_an_answer_but_may_state_one(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", {"problem": "Q", "solution": "so 4"})
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:1: a sentence or solution that states no answer"):
        read_problems(path)
    (problem,) = read_problems(write_rows(tmp_path / "q.jsonl", {"problem": "Q", "solution": "so \\boxed{4}"}))
    assert (problem.references, problem.extra) == (("4",), {"solution": "so \\boxed{4}"})


def test_a_sentence_in_the_place_of_an_answer_is_read_with_a_warning(tmp_path, caplog):
    sentence = "We know that the least of them is even and larger than all others"
    path = write_rows(tmp_path / "p.jsonl", {"problem": "Q", "answer": "1"}, {"problem": "R", "answer": sentence})
    assert read_problems(path)[1].references == (sentence,)
    assert "1 of 2 references are sentences rather than answers" in caplog.text and "p.jsonl:2" in caplog.text
    write_problems(tmp_path / "ours.jsonl", read_problems(path))
    caplog.clear()
    assert read_problems(tmp_path / "ours.jsonl")[1].references == (sentence,) and not caplog.text


@pytest.mark.parametrize(
    ("answer", "references"),
    [
        (142.0, ("142",)),
        (-3, ("-3",)),
        (0.5, ("0.5",)),
        (" 7 ", ("7",)),
        (0, ("0",)),
        (10**400, ("1" + "0" * 400,)),
        (["1", 2.0, "x"], ("1", "2", "x")),
    ],
)
def test_answers_become_text(tmp_path, answer, references):
    (problem,) = read_problems(write_rows(tmp_path / "p.jsonl", {"problem": "Q", "answer": answer}))
    assert problem.references == references


@pytest.mark.parametrize("answer", ["", "  ", [], ["1", ""], ["1", None], True, {"a": 1}, [["1"]], float("nan")])
def test_an_answer_that_is_none_is_refused_with_its_place_and_value(tmp_path, answer):
    sound = {"problem": "Q", "answer": "1"}
    path = write_rows(tmp_path / "p.jsonl", sound, {"problem": "R", "answer": answer})
    with pytest.raises(ProblemFileError, match=r"1 of 2 rows .*p\.jsonl:2: 'answer' is .*--skip-invalid"):
        read_problems(path)


@pytest.mark.parametrize("question", ["", " \n", 3, ["1 + 1?"], [{"role": "system", "content": "1 + 1?"}]])
def test_a_question_that_is_not_text_is_refused_with_its_place_and_value(tmp_path, question):
    path = write_rows(tmp_path / "p.jsonl", {"prompt": question, "answer": "1"})
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:1: 'prompt' is .*no question"):
        read_problems(path)


def test_wrong_column_names_are_refused_once_with_what_was_found(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", *[{"text": "Q", "label": "1"}] * 9)
    with pytest.raises(ProblemFileError) as caught:
        read_problems(path)
    assert str(caught.value) == (
        f"9 of 9 rows cannot be used: {path}:1: no question: expected a value in one of the columns 'question', "
        f"'problem', 'prompt', 'instruction', 'query', ...; found 'text', 'label'; also {path}:2, {path}:3, {path}:4 "
        "and 5 more"
    )


def test_a_row_without_an_id_is_named_by_its_content(tmp_path):
    rows = [{"problem": "Q", "answer": "1"}, {"problem": "Q", "answer": "2"}]
    first, second = read_problems(write_rows(tmp_path / "p.jsonl", *rows))
    assert first.problem_id != second.problem_id
    assert len(first.problem_id) == 18 and first.problem_id.startswith("p-")
    again = read_problems(write_rows(tmp_path / "q.jsonl", rows[1], rows[0]))
    assert [problem.problem_id for problem in again] == [second.problem_id, first.problem_id]


def test_a_number_is_an_id_and_the_file_is_the_source(tmp_path):
    (problem,) = read_problems(write_rows(tmp_path / "p.jsonl", {"id": 17, "problem": "Q", "answer": "1"}))
    assert (problem.problem_id, problem.source) == ("17", "p.jsonl")


def test_a_repeated_id_is_refused_with_both_places(tmp_path):
    rows = [{"id": name, "problem": f"Q{name}", "answer": "1"} for name in "aba"]
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:3: the id 'a' was used at .*p\.jsonl:1"):
        read_problems(write_rows(tmp_path / "p.jsonl", *rows))


def test_unusable_rows_can_be_set_aside_with_a_warning(tmp_path, caplog):
    rows = [
        {"id": "a", "problem": "Q", "answer": ""},
        {"id": "b", "problem": "Q", "answer": "1"},
        {"id": "b", "problem": "R", "answer": "2"},
    ]
    path = write_rows(tmp_path / "p.jsonl", *rows)
    with caplog.at_level(logging.WARNING):
        problems = read_problems(path, on_invalid="skip")
    assert [(problem.problem_id, problem.question) for problem in problems] == [("b", "Q")]
    assert f"2 of 3 rows cannot be used: {path}:1: 'answer' is ''" in caplog.text and f"{path}:3" in caplog.text


def test_a_set_of_unusable_rows_only_is_refused_even_when_they_may_be_set_aside(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", {"problem": "Q", "answer": ""})
    with pytest.raises(ProblemFileError, match="1 of 1 rows"):
        read_problems(path, on_invalid="skip")


def test_rows_beyond_the_limit_are_not_looked_at(tmp_path):
    path = write_rows(tmp_path / "p.jsonl", {"problem": "Q", "answer": "1"}, {"problem": "R", "answer": ""})
    path.write_text(path.read_text() + "not JSON\n")
    assert [problem.question for problem in read_problems(path, limit=1)] == ["Q"]


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(ProblemFileError, match=f"limit is {limit}"):
        read_problems("synthetic", limit=limit)


@pytest.mark.parametrize("content", ["{", '{"a', "[{", "x", '[{"a": 1}'])
def test_a_line_that_is_cut_off_is_refused_with_its_number(tmp_path, content):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:1: not JSON"):
        read_problems(tmp_path / "p.jsonl")


def test_broken_json_is_refused_with_its_line_or_set_aside(tmp_path, caplog):
    path = write_rows(tmp_path / "p.jsonl", {"problem": "Q", "answer": "1"})
    path.write_text(path.read_text() + '\n{"problem": "R", "ans')
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:3: not JSON"):
        read_problems(path)
    assert len(read_problems(path, on_invalid="skip")) == 1 and "p.jsonl:3: not JSON" in caplog.text


@pytest.mark.parametrize(("content", "place"), [("3\n", ":1"), ("[1]\n", ": item 1"), ('"text"\n', ":1")])
def test_a_line_that_is_not_an_object_is_refused(tmp_path, content, place):
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(ProblemFileError, match=rf"p\.jsonl{place}: expected an object"):
        read_problems(tmp_path / "p.jsonl")


@pytest.mark.parametrize("content", [b'{"problem": "\xff"}\n', b'{"problem": "\\ud83d", "answer": "1"}\n'])
def test_text_that_is_not_unicode_is_refused_with_its_line(tmp_path, content):
    (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:1: not JSON"):
        read_problems(tmp_path / "p.jsonl")


@pytest.mark.parametrize(
    ("name", "content"), [("p.jsonl", ""), ("p.jsonl", "\n\n"), ("p.json", "[]"), ("p.json", '{"data": []}')]
)
def test_an_empty_set_is_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ProblemFileError, match="no problems"):
        read_problems(tmp_path / name)


@pytest.mark.parametrize("source", ["absent.jsonl", "absent.parquet", "absent", "absent.csv", "../absent/x/y"])
def test_a_missing_source_is_refused_with_its_name(source):
    with pytest.raises(ProblemFileError, match=f"'{source}'"):
        read_problems(source)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "p.xlsx").write_bytes(b"PK")
    with pytest.raises(ProblemFileError, match=r"'\.xlsx'.*\.jsonl.*save it as CSV"):
        read_problems(tmp_path / "p.xlsx")


def test_a_json_list_is_read_and_its_items_are_counted(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"problem": "Q", "answer": 1}, {"problem": "R"}]))
    with pytest.raises(ProblemFileError, match=r"p\.json: item 2: no reference"):
        read_problems(path)
    assert read_problems(path, limit=1)[0].references == ("1",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("5", "expected rows, found 5"),
        ('{"problem": ', "not JSON"),
        ("[" * 100_000, r"not JSON \(nested too deeply\)"),
        ('{"a": [{"problem": "Q"}], "b": [{"problem": "Q"}]}', "holds several lists of rows, 'a', 'b'; .*--split"),
        ('{"version": 1}', "item 1: no question: .*found 'version'"),
    ],
)
def test_json_that_holds_no_rows_is_refused(tmp_path, content, message):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(ProblemFileError, match=rf"p\.json: {message}"):
        read_problems(tmp_path / "p.json")


def test_csv_is_read_as_text_with_line_numbers(tmp_path):
    path = tmp_path / "p.csv"
    path.write_bytes('\ufeffid,problem,answer,level\r\n7,"What, in\ntwo lines?",073,\r\n\r\n8,R,,3\r\n'.encode())
    (problem,) = read_problems(path, on_invalid="skip")
    assert problem == Problem(
        problem_id="7", question="What, in\ntwo lines?", references=("073",), source="p.csv", extra={"level": None}
    )
    with pytest.raises(ProblemFileError, match=r"p\.csv:5: no reference: 'answer' is empty"):
        read_problems(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"problem,answer\nIf x, y,1\n", r"p\.csv:2: 3 values for 2 columns; quote the commas"),
        (b'problem,answer\n"Q,1\n', r"p\.csv:2: not CSV"),
        (b"problem,answer\nQ,\xff\n", r"p\.csv: not text in UTF-8.*save it as UTF-8"),
        (b"", "no problems"),
    ],
)
def test_a_broken_csv_file_is_refused(tmp_path, content, message):
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(ProblemFileError, match=message):
        read_problems(tmp_path / "p.csv")


VERL_ROW = {
    "data_source": "openai/gsm8k",
    "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "1 + 1?" + PROMPT_SUFFIX}],
    "ability": "math",
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "extra_info": {"index": 5, "split": "train"},
}


def test_the_format_of_verl_is_understood(tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([VERL_ROW]), tmp_path / "p.parquet")
    assert read_problems(tmp_path / "p.parquet") == [
        Problem(
            problem_id="5",
            question="1 + 1?",
            references=("2",),
            source="openai/gsm8k",
            extra={"ability": "math", "reward_model": {"style": "rule"}, "extra_info": {"split": "train"}},
        )
    ]


def test_parquet_is_read_and_its_rows_are_counted(tmp_path):
    rows = [
        {"id": 1, "prompt": "Q", "answer": 142.0, "seen": date(2025, 6, 1)},
        {"id": 2, "prompt": "R", "answer": None, "seen": None},
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "p.parquet")
    with pytest.raises(ProblemFileError, match=r"p\.parquet: row 2: no reference"):
        read_problems(tmp_path / "p.parquet")
    (problem,) = read_problems(tmp_path / "p.parquet", limit=1)
    assert (problem.problem_id, problem.references, problem.extra) == ("1", ("142",), {"seen": date(2025, 6, 1)})
    write_problems(tmp_path / "p.jsonl", [problem])
    assert read_problems(tmp_path / "p.jsonl")[0].extra == {"seen": "2025-06-01"}


def test_a_broken_parquet_file_is_refused(tmp_path):
    (tmp_path / "p.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(ProblemFileError, match="not a readable parquet file"):
        read_problems(tmp_path / "p.parquet")


def test_synthetic_stands_for_problems_with_seed_0():
    assert read_problems("synthetic", limit=20) == synthetic_problems(20, seed=0, split="train")
    assert read_problems("synthetic:held-out") == synthetic_problems(500, seed=0, split="held-out")
    with pytest.raises(ProblemFileError, match="'synthetic:held-out'"):
        read_problems("synthetic:validation")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
values = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=2)


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            Problem,
            problem_id=texts.map(str.strip),
            question=texts,
            references=st.lists(texts.map(str.strip), min_size=1, max_size=3).map(tuple),
            source=st.just("") | texts,
            extra=st.dictionaries(st.sampled_from(["level", "id", "answer", "question", "extra", "note"]), values),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda problem: problem.problem_id,
    )
)
def test_what_was_written_is_read_back(tmp_path_factory, problems):
    path = tmp_path_factory.mktemp("round") / "p.jsonl"
    write_problems(path, problems)
    assert read_problems(path) == problems


def test_the_content_hash_sees_ids_questions_references_and_order_and_nothing_else():
    first, second = (Problem(problem_id=name, question="Q", references=("1",)) for name in "ab")
    with_extra = Problem(problem_id="a", question="Q", references=("1",), source="s", extra={"level": 1})
    changed = Problem(problem_id="a", question="Q", references=("2",))
    assert content_hash([first, second]) == content_hash([with_extra, second])
    assert len({content_hash(problems) for problems in ([first, second], [second, first], [changed, second])}) == 3
