"""Files that other tools write: each shape gives the same problems, and what cannot be graded is counted and named."""

import gzip
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import Problem, ProblemFileError
from polaris_data.completions import READERS
from polaris_eval.errors import CompletionsFileError
from polaris_eval.running.formats import Completions, read_completions
from polaris_eval.running.parts import same_text, stem_of

README = Path(__file__).resolve().parents[1] / "README.md"
SHARED = Path(__file__).resolve().parents[4] / "shared" / "cases" / "formats" / "completions"

RIGHT, WRONG, SILENT = r"Adding gives \boxed{7}.", r"So \boxed{8}.", "I cannot say."
HALF = r"It is \boxed{\frac{1}{2}}."
SUM, SHARE = "What is three plus four, as a number?", "Which share of six is three, as a fraction?"
PROBLEMS = [(SUM, "7", [RIGHT, WRONG]), (SHARE, r"\frac{1}{2}", [HALF, SILENT])]

Rows = list[dict[str, Any]]


def each_problem(make: Callable[[int, str, str, list[str]], Any]) -> Rows:
    return [make(number, *problem) for number, problem in enumerate(PROBLEMS)]


def each_sample(make: Callable[[int, int, str, str, str], Any]) -> Rows:
    return [
        make(number, sample, question, answer, text)
        for number, (question, answer, texts) in enumerate(PROBLEMS)
        for sample, text in enumerate(texts)
    ]


def chat(text: str | None, reason: str = "stop", **more: Any) -> dict[str, Any]:
    return {"index": 0, "message": {"role": "assistant", "content": text, **more}, "finish_reason": reason}


def body(*texts: str) -> dict[str, Any]:
    return {"object": "chat.completion", "model": "m", "choices": [chat(text) for text in texts]}


def batch(number: int, question: str, answer: str, texts: list[str]) -> dict[str, Any]:
    response = {"status_code": 200, "request_id": "r", "body": body(*texts)}
    return {"id": f"batch_{number}", "custom_id": f"p{number}", "response": response, "error": None}


def request(number: int, question: str, answer: str, texts: list[str]) -> dict[str, Any]:
    asked = {"model": "m", "messages": [{"role": "system", "content": "Add."}, {"role": "user", "content": question}]}
    return {"custom_id": f"p{number}", "method": "POST", "url": "/v1/chat/completions", "body": asked}


def blocks(text: str) -> list[dict[str, Any]]:
    """What MathArena keeps of a conversation."""
    return [
        {"role": "user", "content": "?"},
        {"role": "assistant", "type": "cot", "content": r"maybe \boxed{99}"},
        {"role": "assistant", "type": "response", "content": text},
    ]


def sample_of_inspect(number: int, epoch: int, question: str, answer: str, text: str) -> dict[str, Any]:
    content = [{"type": "reasoning", "reasoning": r"\boxed{99}"}, {"type": "text", "text": text}]
    choice = {"message": {"role": "assistant", "content": content}, "stop_reason": "stop"}
    usage = {"input_tokens": 9, "output_tokens": 5}
    return {
        "id": number + 1,
        "epoch": epoch + 1,
        "input": [
            {"role": "system", "content": "Add."},
            {"role": "user", "content": f"{question}\n\nPut your final answer in \\boxed{{}}."},
        ],
        "target": answer,
        "messages": [],
        "output": {"model": "org/m", "choices": [choice], "usage": usage},
        "scores": {"match": {"value": "I"}},
    }


SHAPES: dict[str, list[Rows]] = {
    "polaris-eval run": [
        each_problem(
            lambda n, question, answer, texts: {
                "problem_id": f"p{n}",
                "question": question,
                "references": [answer],
                "completions": [{"text": text, "num_tokens": 3, "finish_reason": "stop"} for text in texts],
            }
        )
    ],
    "OpenAI batch, the requests": [each_problem(request) + each_problem(batch)],
    "OpenAI batch, vllm run-batch": [
        each_problem(lambda *problem: batch(*problem) | {"answer": problem[2]}),
        each_sample(
            lambda n, sample, question, answer, text: {
                "custom_id": f"p{n}-{sample}",
                "question": question,
                "answer": answer,
                "response": {"status_code": 200, "body": {"choices": [{"text": text, "finish_reason": "stop"}]}},
                "error": None,
            }
        ),
        each_sample(  # the interface "responses"
            lambda n, sample, question, answer, text: {
                "custom_id": f"p{n}",
                "answer": answer,
                "response": {
                    "status_code": 200,
                    "body": {
                        "status": "completed",
                        "output": [
                            {"type": "reasoning", "summary": []},
                            {
                                "type": "message",
                                "role": "assistant",
                                "content": [{"type": "output_text", "text": text}],
                            },
                        ],
                        "usage": {"output_tokens": 4},
                    },
                },
                "error": None,
            }
        ),
    ],
    "a chat response in each row": [
        each_problem(lambda n, question, answer, texts: {"id": f"p{n}", "answer": answer} | body(*texts)),
        each_sample(
            lambda n, sample, question, answer, text: {"prompt": question, "answer": answer, "response": body(text)}
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "question": question,
                "answer": answer,
                "response": {"role": "assistant", "content": text},
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "question": question,
                "answer": answer,
                "content": text,
                "reasoning_content": r"hm \boxed{99}",
            }
        ),
        each_problem(  # what vLLM returns in Python
            lambda n, question, answer, texts: {
                "prompt": question,
                "answer": answer,
                "outputs": [{"text": text, "token_ids": [1, 2], "finish_reason": "stop"} for text in texts],
            }
        ),
        each_sample(  # SGLang
            lambda n, sample, question, answer, text: {
                "question": question,
                "answer": answer,
                "output": {"text": text, "meta_info": {"finish_reason": {"type": "stop"}, "completion_tokens": 2}},
            }
        ),
    ],
    "a conversation in each row": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "id": f"row-{n}-{sample}",
                "answer": answer,
                "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": text}],
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "answer": answer,
                "conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": text}],
            }
        ),
    ],
    "verl, TRL": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "input": f"system\nAdd.\nuser\n{question}\nassistant\n",
                "output": text,
                "gts": answer,
                "score": float(text in (RIGHT, HALF)),
                "step": 10,
                "acc": True,
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "step": 1,
                "prompt": [{"role": "user", "content": question}],
                "completion": [{"role": "assistant", "content": text}],
                "accuracy_reward": 0.0,
                "advantage": 0.5,
                "solution": answer,
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "step": 1,
                "prompt": question,
                "completion": text,
                "answer": answer,
                "advantage": 0.0,
            }
        ),
    ],
    "MathArena, its own files": [
        each_problem(
            lambda n, question, answer, texts: {
                "idx": n + 1,
                "problem": question,
                "gold_answer": answer,
                "N": 2,
                "answers": ["7", "None"],
                "correct": [True, False],
                "messages": [blocks(text) for text in texts],
                "detailed_costs": [{"cost": 0.1, "output_tokens": 5}] * 2,
                "history": [None, None],
            }
        )
    ],
    "MathArena, published outputs": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "problem_idx": n,
                "problem": question,
                "model_name": "org/m",
                "idx_answer": sample,
                "answer": text,
                "parsed_answer": "1",
                "gold_answer": answer,
                "output_tokens": 5,
                "correct": True,
                "all_messages": [{"role": "user", "content": "?"}],
            }
        )
    ],
    "inspect": [each_sample(sample_of_inspect)],
    "evalscope, reviews": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "index": 2 * n + sample,
                "input": f"**User**: \n{question}",
                "target": answer,
                "sample_score": {
                    "score": {"value": {"acc": 1.0}, "extracted_prediction": "1", "prediction": text},
                    "sample_id": 2 * n + sample,
                    "group_id": n,
                },
            }
        )
    ],
    "evalscope, predictions": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "index": 2 * n + sample,
                "model": "org/m",
                "model_output": {"choices": [{"message": {"content": text}, "stop_reason": "stop"}]},
                "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": text}],
                "target": answer,
            }
        )
    ],
    "evalscope before 1.0": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "choices": [chat(text) | {"review": {"gold": answer, "pred": "1", "result": 1.0}}],
                "raw_input": {"problem": question, "answer": f"so {answer}"},
                "answer_id": "a",
            }
        )
    ],
    "OpenCompass": [
        each_problem(
            lambda n, question, answer, texts: {
                "id": str(n),
                "origin_prompt": question,
                "prediction": texts,
                "gold": answer,
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "idx": 2 * n + sample,
                "origin_prompt": [{"role": "SYSTEM", "prompt": "Add."}, {"role": "HUMAN", "prompt": question}],
                "prediction": text,
                "gold": answer,
                "res_length": 4,
            }
        ),
    ],
    "OpenCompass, results": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "type": "GEN",
                "prompt": [{"role": "HUMAN", "prompt": question}],
                "origin_prediction": text,
                "predictions": "1",
                "references": answer,
                "correct": [False],
            }
        ),
        each_problem(
            lambda n, question, answer, texts: {
                "prompt": question,
                "origin_prediction": texts,
                "pred": ["1", "2"],
                "answer": answer,
            }
        ),
    ],
    "NeMo-Skills": [
        each_sample(
            lambda n, sample, question, answer, text: {
                "problem": question,
                "expected_answer": answer,
                "generation": text,
                "num_generated_tokens": 4,
                "predicted_answer": "1",
                "symbolic_correct": False,
            }
        )
    ],
    "Qwen2.5-Math": [
        each_problem(
            lambda n, question, answer, texts: {
                "idx": n,
                "question": question,
                "gt_cot": "",
                "gt": answer,
                "answer": "not this",
                "code": texts,
                "pred": ["1", "2"],
                "score": [True, False],
            }
        )
    ],
    "ZeroEval": [
        each_problem(
            lambda n, question, answer, texts: {
                "session_id": f"gsm#{n}",
                "chat_history": [f"## Question\n{question}\nAnswer in JSON."],
                "model_input": "n/a",
                "output": texts,
                "generator": "org/m",
                "question": question,
                "answer": answer,
            }
        )
    ],
    "lm-eval": [
        [
            {
                "doc_id": n,
                "doc": {"problem": question, "answer": "not this"},
                "target": answer,
                "arguments": {"gen_args_0": {"arg_0": f"Q: {question}\nA:", "arg_1": {"until": []}}},
                "resps": [texts],
                "filtered_resps": texts,
                "filter": name,
            }
            for n, (question, answer, texts) in enumerate(PROBLEMS)
            for name in ("strict", "flexible")
        ]
    ],
    "lighteval": [
        each_problem(
            lambda n, question, answer, texts: {
                "__doc__": {"query": question, "choices": ["wrong", answer], "gold_index": [1], "id": str(n)},
                "__model_response__": {"text": texts, "output_tokens": [[1, 2], [3]], "input": question},
                "__metric__": {"pass@k": 1.0},
            }
        ),
        each_problem(
            lambda n, question, answer, texts: {
                "doc": str({"query": question, "choices": [answer], "gold_index": 0, "id": str(n)}),
                "model_response": str({"text": texts, "output_tokens": []}),
            }
        ),
    ],
    "lighteval before 0.10": [
        each_problem(
            lambda n, question, answer, texts: {
                "example": question,
                "full_prompt": f"Q: {question}",
                "predictions": str(texts),
                "gold": str([answer]),
            }
        )
    ],
    "any other": [
        each_problem(  # open-r1
            lambda n, question, answer, texts: {
                "problem": question,
                "answer": answer,
                "generations": texts,
                "finish_reasons": ["stop", "length"],
                "correctness_math_verify": [True, False],
                "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "another"}],
            }
        ),
        each_problem(  # the published recipe
            lambda n, question, answer, texts: {
                "prompt": [{"role": "user", "content": question}],
                "responses": texts,
                "reward_model": {"ground_truth": answer, "style": "rule"},
                "extra_info": {"index": n},
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "id": 2 * n + sample,
                "question": question,
                "prediction": text,
                "gold_answer": answer,
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {"Question": question, "Answer": answer, "Response": text}
        ),
        each_sample(  # the row of the data set, and the whole response of the server
            lambda n, sample, question, answer, text: {
                "doc": {"problem": question, "answer": answer},
                "responses": [body(text)],
            }
        ),
        each_sample(
            lambda n, sample, question, answer, text: {
                "prompt": {"messages": [{"role": "user", "content": question}]},
                "completion": text,
                "label": answer,
            }
        ),
        each_sample(  # no column for the response, and an accepted answer beside what must be it
            lambda n, sample, question, answer, text: {"question": question, "answer": text, "ground_truth": answer}
        ),
        each_problem(
            lambda n, question, answer, texts: {"question": question, "answers": texts, "ground_truth": answer}
        ),
        each_problem(  # numbered columns, in whatever order
            lambda n, question, answer, texts: {
                "question": question,
                "answer": answer,
                **{f"output_{number}": text for number, text in reversed([*zip((2, 10), texts, strict=True)])},
                "score_2": 1,
                "score_10": 0,
            }
        ),
        each_problem(
            lambda n, question, answer, texts: {
                "problem": question,
                "gold": answer,
                **{f"Answer {number}": text for number, text in enumerate(texts)},
                "image_1": "x.png",
            }
        ),
    ],
}
"""Rows of every shape, all of the same problems and completions."""

BENCHMARK = (
    "sums",
    [
        Problem(problem_id=f"p{number}", question=question, references=(answer,), source="", extra={})
        for number, (question, answer, _) in enumerate(PROBLEMS)
    ],
)


def write(path: Path, rows: Iterable[Any]) -> Path:
    """Write rows as the ending says."""
    rows = list(rows)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        packed = {".gz": gzip.compress, ".zst": lambda data: pa.compress(data, "zstd", asbytes=True)}
        path.write_bytes(packed.get(path.suffix, bytes)(text))
    return path


def texts_by_question(read: Completions) -> dict[Any, tuple[list[str], list[str]]]:
    return {
        group.get("question"): (group["references"], [each["text"] for each in group["completions"]])
        for group in read.groups
    }


EXPECTED = {question: ([answer], texts) for question, answer, texts in PROBLEMS}
CASES = [pytest.param(rows, id=f"{writer} {n}") for writer, shapes in SHAPES.items() for n, rows in enumerate(shapes)]


def test_every_reader_has_a_shape_and_a_line_in_the_readme():
    assert {reader.writer for reader in READERS} == set(SHAPES)
    table = README.read_text(encoding="utf-8")
    for writer in SHAPES:
        assert re.search(rf"^\| {re.escape(writer)} +\|", table, re.MULTILINE), writer


@pytest.mark.parametrize("rows", [case for case in CASES if "the requests" not in str(case.id)])
def test_every_shape_gives_the_same_problems_and_completions(rows: Rows, tmp_path: Path):
    read = read_completions(write(tmp_path / "x.jsonl", rows))
    assert not read.set_aside
    assert not read.lost
    assert [(group["references"], [each["text"] for each in group["completions"]]) for group in read.groups] == [
        *EXPECTED.values()
    ]
    assert {group.get("question") for group in read.groups} in ({SUM, SHARE}, {None})
    assert not any("score" in each for group in read.groups for each in group["completions"])


@pytest.mark.parametrize("rows", CASES)
def test_every_shape_can_be_joined_with_a_benchmark(rows: Rows, tmp_path: Path):
    wrong = [Problem(problem_id="p2", question="Something else?", references=("1",), source="", extra={})]
    read = read_completions(write(tmp_path / "x.jsonl", rows), benchmark=("sums", [*BENCHMARK[1], *wrong]))
    assert [group["problem_id"] for group in read.groups] == ["p0", "p1"]
    assert texts_by_question(read) == EXPECTED
    assert read.lost == ["p2"]


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst", ".json", ".parquet"])
@pytest.mark.parametrize("writer", ["inspect", "verl, TRL", "OpenAI batch, vllm run-batch", "lighteval"])
def test_shapes_are_known_in_every_kind_of_file(writer: str, ending: str, tmp_path: Path):
    read = read_completions(write(tmp_path / f"x{ending}", SHAPES[writer][0]), benchmark=BENCHMARK)
    assert texts_by_question(read) == EXPECTED


def test_a_log_of_inspect_is_read_from_its_archive(tmp_path: Path):
    rows = SHAPES["inspect"][0]
    path = tmp_path / "log.eval"
    with (
        zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive,
        pytest.warns(UserWarning, match="Dup"),
    ):
        archive.writestr("header.json", json.dumps({"status": "success"}))
        for row in [rows[0] | {"output": {"choices": []}}, *rows]:  # the first was run again
            archive.writestr(f"samples/{row['id']}_epoch_{row['epoch']}.json", json.dumps(row))
        archive.writestr("summaries.json", json.dumps([{"id": 1, "input": "?"}]))
    read = read_completions(path)
    assert texts_by_question(read) == EXPECTED
    assert {each["num_tokens"] for group in read.groups for each in group["completions"]} == {5}
    assert {each["prefilled"] for group in read.groups for each in group["completions"]} == {""}  # thoughts are apart
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ProblemFileError, match="not a readable log of inspect"):
        read_completions(path)


def test_a_log_of_inspect_that_is_compressed_with_zstandard_is_read(tmp_path: Path):
    rows = SHAPES["inspect"][0]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for row in rows:
            packed = pa.compress(json.dumps(row).encode(), "zstd", asbytes=True)
            archive.writestr(f"samples/{row['id']}_epoch_{row['epoch']}.json", packed)
        places = [info.header_offset for info in archive.infolist()]
    data = bytearray(content.getvalue())
    central = [match.start() for match in re.finditer(b"PK\x01\x02", bytes(data))]
    for place in [*(place + 8 for place in places), *(place + 10 for place in central)]:
        struct.pack_into("<H", data, place, 93)  # the method; this library cannot write it itself
    (tmp_path / "log.eval").write_bytes(bytes(data))
    assert texts_by_question(read_completions(tmp_path / "log.eval")) == EXPECTED


def test_a_log_of_inspect_as_one_document_is_read(tmp_path: Path):
    document = {
        "version": 2,
        "eval": {"task": "t"},
        "plan": {"steps": [{"solver": "generate"}]},
        "reductions": [{"scorer": "match", "samples": []}],
        "samples": SHAPES["inspect"][0],
    }
    (tmp_path / "log.json").write_text(json.dumps(document, indent=2))
    assert texts_by_question(read_completions(tmp_path / "log.json")) == EXPECTED


@pytest.mark.parametrize(
    "document",
    [
        {str(n): row for n, row in enumerate(SHAPES["OpenCompass"][0])},
        {"0": SHAPES["OpenCompass"][0][0]},
        {"accuracy": 50.0, "details": {str(n): row for n, row in enumerate(SHAPES["OpenCompass, results"][1])}},
        {"accuracy": 50.0, "details": {"type": "GEN", "0": SHAPES["OpenCompass, results"][1][0]}},
        SHAPES["MathArena, its own files"][0][0],
        {"id": "p0", "prompt": SUM, "answer": "7"} | body(RIGHT, WRONG),
    ],
)
def test_documents_that_are_rows_themselves_are_read(document: dict[str, Any], tmp_path: Path):
    (tmp_path / "x.json").write_text(json.dumps(document, indent=1))
    found = texts_by_question(read_completions(tmp_path / "x.json"))
    assert found[SUM] == EXPECTED[SUM]
    assert len(found) == (2 if "1" in document.get("details", document) else 1)


def test_line_separators_inside_json_are_no_ends_of_lines(tmp_path: Path):
    text = "first\u2028second\u2029third\x85 \\boxed{7}"
    rows = [{"id": 1, "response": text, "answer": "7"}, {"id": 2, "response": text, "answer": "7"}]
    read = read_completions(write(tmp_path / "x.jsonl", rows))
    assert [each["text"] for group in read.groups for each in group["completions"]] == [text, text]


GOOD = {"id": 0, "question": SUM, "response": RIGHT, "answer": "7"}


@pytest.mark.parametrize(
    ("row", "reason", "detail"),
    [
        ({"id": 1, "response": None, "answer": "7"}, "no response", "the response is null"),
        ({"id": 1, "answer": "7", "error": {"message": "timed out"}}, "error", "timed out"),
        ({"id": 1, "response": None, "answer": "7", "error": "429"}, "error", "429"),
        ({"custom_id": "a", "response": None, "error": {"code": "batch_expired"}}, "error", "batch_expired"),
        (
            {
                "custom_id": "a",
                "response": {"status_code": 400, "body": {"error": {"message": "too long"}}},
                "error": None,
            },
            "error",
            "too long",
        ),
        ({"id": 1, "response": 3, "answer": "7"}, "cannot be read", "a completion is 3; expected its text"),
        ({"id": 1, "answer": "7", "messages": [{"role": "user", "content": "?"}]}, "cannot be read", "role 'user'"),
        ({"accuracy": 0.5, "total": 30}, "no completion", "found 'accuracy', 'total'"),
        ({"pred": ["7"], "answer": "7", "correct": [True]}, "no completion", "found 'pred', 'answer', 'correct'"),
        ({"question": SUM, "answer": "7", "pred": [RIGHT]}, "no completion", "found 'question', 'answer', 'pred'"),
        (
            {"id": 1, "answer": "7", "output": RIGHT, "output_1": WRONG},
            "cannot be read",
            "'output' stands beside 'output_1'; rename",
        ),
        ({"id": 1, "responses": [], "answer": "7"}, "no completion", "the row has no completion"),
        ({"id": 1, "response": RIGHT}, "no accepted answer", "found 'id', 'response'"),
        ({"id": 1, "response": RIGHT, "answer": ""}, "no accepted answer", "the accepted answer is ''"),
        ({"__doc__": {"query": "?"}, "__model_response__": {"text": ["1"]}}, "cannot be read", "no 'choices'"),
        (
            {"__doc__": {"choices": ["1"], "gold_index": 4}, "__model_response__": {"text": ["1"]}},
            "cannot be read",
            "lighteval",
        ),
        (sample_of_inspect(1, 0, "?", "7", RIGHT) | {"error": {"message": "cancelled"}}, "error", "cancelled"),
        (
            {"problem": "?", "expected_answer": "7", "generation": "", "error": "context"},
            "error",
            "context",
        ),
    ],
)
def test_a_row_that_cannot_be_graded_is_set_aside_with_its_reason_and_nothing_else_is_lost(
    row: dict[str, Any], reason: str, detail: str, tmp_path: Path
):
    read = read_completions(write(tmp_path / "x.jsonl", [GOOD, row, GOOD]))
    assert [len(group["completions"]) for group in read.groups] == [2]
    (aside,) = read.set_aside
    assert (aside.place, aside.reason, aside.row) == (f"{tmp_path}/x.jsonl:2", reason, row)
    assert detail in aside.detail
    with pytest.raises(CompletionsFileError, match=re.escape(detail)):
        read_completions(write(tmp_path / "x.jsonl", [row]))


def test_broken_lines_and_completions_inside_a_row_are_set_aside_one_by_one(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", [GOOD, {"id": 1, "answer": "7", "responses": [RIGHT, None]}])
    with path.open("a") as file:
        file.write('{"id": 2, "respon')
    read = read_completions(path)
    assert [(each.place.rpartition("/")[2], each.reason) for each in read.set_aside] == [
        ("x.jsonl:2, completion 2", "no response"),
        ("x.jsonl:3", "cannot be read"),
    ]
    assert [len(group["completions"]) for group in read.groups] == [1, 1]


def test_a_message_without_content_says_nothing_and_counts(tmp_path: Path):
    message = {"role": "assistant", "content": None, "reasoning_content": r"\boxed{7}"}
    rows = [{"id": 1, "answer": "7", "response": message}, {"id": 2, "answer": "7", "choices": [chat(None, "length")]}]
    read = read_completions(write(tmp_path / "x.jsonl", rows))
    assert not read.set_aside
    assert [group["completions"][0]["text"] for group in read.groups] == ["", ""]
    assert [group["completions"][0]["finish_reason"] for group in read.groups] == [None, "length"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("length", "length"),
        ("max_tokens", "length"),
        ("FinishReason.MAX_TOKENS", "length"),
        ("eos", "stop"),
        ("tool", "tool"),
    ],
)
def test_how_a_completion_ended_is_known_however_it_is_written(value: str, reason: str, tmp_path: Path):
    read = read_completions(write(tmp_path / "x.jsonl", [GOOD | {"stop_reason": value}]))
    assert read.groups[0]["completions"][0]["finish_reason"] == reason


def test_scores_that_are_grades_do_not_choose(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    def scores_of(*scores: Any) -> list[Any]:
        responses = [{"text": RIGHT, "score": score} for score in scores]
        read = read_completions(write(tmp_path / "x.jsonl", [{"id": 1, "responses": responses, "answer": "7"}]))
        return [each.get("score") for each in read.groups[0]["completions"]]

    assert scores_of(1, 0) == scores_of(1.0, -1) == scores_of(True, False) == scores_of("good", "bad") == [None, None]
    assert "scores of the completions are grades (0, 1)" in caplog.text
    assert scores_of(1, 0.25) == [1, 0.25]


def test_completions_of_several_models_are_refused_until_one_is_chosen(tmp_path: Path):
    path = write(tmp_path / "x.jsonl", [GOOD | {"model_name": name} for name in ("org/a", "org/b", "org/a")])
    with pytest.raises(CompletionsFileError, match=r"of 'org/b', above of 'org/a'.*--where 'model_name=org/a'"):
        read_completions(path)
    read = read_completions(path, where={"model_name": ["org/a"]})
    assert [len(group["completions"]) for group in read.groups] == [2]


def test_rows_of_several_training_steps_are_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    rows = SHAPES["verl, TRL"][0]
    read_completions(write(tmp_path / "x.jsonl", [row | {"step": n % 2} for n, row in enumerate(rows)]))
    assert "2 steps of a training" in caplog.text


def test_the_same_question_with_another_answer_is_another_problem_only_under_another_id(tmp_path: Path):
    rows = [GOOD, GOOD | {"id": 1, "answer": "8"}]
    assert len(read_completions(write(tmp_path / "x.jsonl", rows)).groups) == 2
    with pytest.raises(
        CompletionsFileError, match=r"has the references \['8'\] here and \['7'\] at .*x.jsonl:1; give each"
    ):
        read_completions(write(tmp_path / "x.jsonl", [GOOD, GOOD | {"answer": "8"}]))


def test_ids_that_begin_again_in_another_file_are_other_problems(tmp_path: Path):
    one = write(tmp_path / "a.jsonl", [GOOD])
    two = write(tmp_path / "b.jsonl", [GOOD | {"question": SHARE, "answer": "1/2"}, GOOD])
    read = read_completions(one, two)
    assert {group["question"]: len(group["completions"]) for group in read.groups} == {SUM: 2, SHARE: 1}
    assert len({group["problem_id"] for group in read.groups}) == 2


def test_several_files_without_questions_and_ids_are_refused(tmp_path: Path):
    files = [write(tmp_path / name, [{"response": RIGHT, "answer": "7"}]) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(
        CompletionsFileError, match="no question or id says which rows of the 2 files are of one problem"
    ):
        read_completions(*files)


def test_numbers_that_are_no_ids_of_the_benchmark_are_not_taken_for_some(tmp_path: Path):
    problems = [Problem(problem_id=str(n), question=f"Q{n}?", references=("7",), source="", extra={}) for n in (1, 2)]
    rows = [{"idx": n, "output": RIGHT} for n in (0, 1)]  # counted from 0
    with pytest.raises(CompletionsFileError, match="its id '0' is none of aime's, and no question says"):
        read_completions(write(tmp_path / "x.jsonl", rows), benchmark=("aime", problems))


@pytest.mark.parametrize(
    ("problem_id", "stem"),
    [
        ("aime24-01-3", "aime24-01"),
        ("p7_sample_2", "p7"),
        ("p7#0", "p7"),
        ("p7", "p7"),
        ("aime-2", "aime"),
        ("12", "12"),
    ],
)
def test_the_number_of_a_sample_is_taken_off_an_id(problem_id: str, stem: str):
    assert stem_of(problem_id) == stem


questions = st.lists(
    st.text(alphabet=st.sampled_from("abc xyz019+=?"), min_size=3, max_size=20).filter(str.strip),
    min_size=1,
    max_size=5,
).map(lambda texts: [f"Problem {n}: {' '.join(text.split())} is what?" for n, text in enumerate(texts)])

KEYS: list[Callable[[str, int], dict[str, Any]]] = [
    lambda question, number: {"id": number, "question": question},
    lambda question, number: {"input": f"user\n{question}\nassistant\n", "step": 1},
    lambda question, number: {"uuid": str(number), "prompt": [{"role": "user", "content": question}]},
    lambda question, number: {"prompt": f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"},
]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), asked=questions, key=st.sampled_from(KEYS))
def test_completions_with_one_question_are_one_problem_and_no_row_is_lost(
    data: st.DataObject,
    asked: Sequence[str],
    key: Callable[[str, int], dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
):
    """Whatever the key, the ids, the order, the files, and however many responses are null."""
    drawn = data.draw(st.lists(st.tuples(st.sampled_from(asked), st.booleans()), min_size=1, max_size=20))
    rows = [
        key(question, number) | {"output": f"text {number}" if is_there else None, "answer": "7"}
        for number, (question, is_there) in enumerate(drawn)
    ]
    cut = data.draw(st.integers(0, len(rows)))
    folder = tmp_path_factory.mktemp("files")
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    files = [write(folder / f"{n}.jsonl", part) for n, part in enumerate(parts)]
    wanted = {
        same_text(question): [f"text {n}" for n, (each, is_there) in enumerate(drawn) if each == question and is_there]
        for question in asked
    }
    wanted = {question: texts for question, texts in wanted.items() if texts}
    if not wanted:
        with pytest.raises(CompletionsFileError):
            read_completions(*files)
        return
    read = read_completions(*files)
    assert {group["question"]: [each["text"] for each in group["completions"]] for group in read.groups} == wanted
    assert len(read.set_aside) == sum(not is_there for _, is_there in drawn)
    assert len(read.groups) + len(read.lost) == len({question for question, _ in drawn})


FOLDER = {
    "01_openai_batch.jsonl": "no accepted answer",
    "02_vllm_run_batch.jsonl": {"204": [RIGHT_204 := r"We compute. So the answer is \boxed{204}."]},
    "03_openai_chat_rows.jsonl": {"204": [RIGHT_204]},
    "04_reasoning_content.jsonl": {"204": [RIGHT_204], "70": [""]},
    "05_reasoning_in_response.jsonl": {"204": [RIGHT_204], "70": [""]},
    "07_verl_val_dump_new.jsonl": {"204": [RIGHT_204, r"So \boxed{7}."], "70": [r"\boxed{70}"]},
    "08_verl_val_dump_old.jsonl": "no accepted answer",
    "12_trl_conv_with_answer.parquet": {"204": [RIGHT_204, r"So \boxed{7}."]},
    "19_lighteval_dunder.parquet": {"204": [RIGHT_204, r"So \boxed{7}."]},
    "25_evalscope_reviews.jsonl": {"204": [RIGHT_204]},
    "26_opencompass.json": {"204": [RIGHT_204], "70": [r"\boxed{70}"]},
    "27_qwen_math_eval.jsonl": {"204": [RIGHT_204, r"So \boxed{7}."]},
    "28_think_only_close.jsonl": None,
    "29_generated_text_vllm.jsonl": {"204": [RIGHT_204]},
    "30_prediction_gold.jsonl": {"204": [RIGHT_204]},
    "31_generations_openr1.jsonl": {"204": [RIGHT_204, r"So \boxed{7}."]},
    "33_nemo_skills.jsonl": {"204": [RIGHT_204]},
    "38_score_from_grader.jsonl": {"204": [RIGHT_204, r"So \boxed{7}."]},
    "39_null_response.jsonl": {"204": [RIGHT_204]},
}
"""Completions by accepted answer, or why the file is refused; ``None`` where the texts are looked at elsewhere."""


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of collected shapes is not here")
@pytest.mark.parametrize("name", FOLDER)
def test_collected_files_read_right_or_are_refused_with_the_remedy(name: str):
    expected = FOLDER[name]
    if isinstance(expected, str):
        with pytest.raises(CompletionsFileError, match=f"{expected}.*--benchmark"):
            read_completions(SHARED / name)
        problem_id = json.loads((SHARED / name).read_text().splitlines()[0]).get("custom_id", "any")
        question = "Every morning Aya goes for a walk. How long?"
        problem = Problem(problem_id=problem_id, question=question, references=("204",), source="", extra={})
        read = read_completions(SHARED / name, benchmark=("aime24", [problem]))
        assert read.groups[0]["completions"][0]["text"] == RIGHT_204
        return
    read = read_completions(SHARED / name)
    if expected is not None:
        found = {group["references"][0]: [each["text"] for each in group["completions"]] for group in read.groups}
        assert found == expected
    assert len(read.set_aside) == (name == "39_null_response.jsonl")
    assert not any("score" in each for group in read.groups for each in group["completions"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of collected shapes is not here")
def test_no_collected_file_is_forgotten():
    assert {path.name for path in SHARED.iterdir()} == set(FOLDER)
