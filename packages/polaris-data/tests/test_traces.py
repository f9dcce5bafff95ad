"""Correct completions of a store become traces; every other one is counted with its reason."""

import json
import math
import sys
from dataclasses import asdict, replace

import pyarrow.parquet as pq
import pytest
from polaris_data import HINT, OtherRunError, ProblemFileError, read_problems, to_prompt, write_problems
from polaris_data.cli.main import main
from polaris_data.problems import Source
from polaris_data.profile import counts_path, recorded_counts, trace_writer
from polaris_data.profile.traces import TraceChoice, trace_problems, write_traces
from polaris_reward import boxed_grader
from polaris_reward.records import Grade, Outcome
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store import RolloutStore, write_groups

PROBLEMS = read_problems("synthetic", limit=4)
A, B, C, D = PROBLEMS


def completion(text, num_tokens, finish_reason="stop"):
    return Completion(token_ids=(7,) * num_tokens, logprobs=(0.0,) * num_tokens, text=text, finish_reason=finish_reason)


def right(problem, num_tokens, **how):
    return completion("so " * num_tokens + f"\\boxed{{{problem.references[0]}}}", num_tokens, **how)


WRONG = completion("\\boxed{no}", 3)
SILENT = completion("I do not know.", 4)


@pytest.fixture
def store(tmp_path):
    """Of A all kinds, in two parts with B between; of C none is correct; of D nothing; Z is of another set."""
    parts = [
        (0, A, (right(A, 9), WRONG, right(A, 5), right(A, 2, finish_reason="length"))),
        (0, B, (right(B, 6), right(B, 6))),
        (4, A, (SILENT, right(A, 5))),
        (0, C, (WRONG, SILENT)),
        (0, replace(A, problem_id="Z"), (right(A, 1),)),
    ]
    with RolloutStore(tmp_path / "store") as store:
        for first, problem, completions in parts:
            group = Group(problem_id=problem.problem_id, prompt_token_ids=(1,), completions=completions)
            store.append(group, SamplingParams(), first_sample=first)
    return tmp_path / "store"


def grade_many(items):
    found = {"\\boxed{no}": Outcome.INCORRECT, "I do not know.": Outcome.NO_ANSWER}
    return [
        Grade(outcome=found.get(text, Outcome.CORRECT), answer=None, reference=None, seconds=0.0) for text, _ in items
    ]


LEFT_OUT = {
    "incorrect": 2,
    "no_answer": 2,
    "said before, word for word": 2,
    "truncated": 1,
    "not among the problems": 1,
}


def write(store, out, **how):
    counts = write_traces(PROBLEMS, store, out, grade_many, TraceChoice(**how))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert counts.num_traces == len(rows)
    assert counts.num_traces + sum(counts.left_out.values()) == counts.num_completions == 11
    return rows, counts


def test_an_answer_within_the_thought_that_the_prompt_opened_is_no_trace(tmp_path):
    with RolloutStore(tmp_path / "store") as store:
        for problem, completions in ((A, (right(A, 3),)), (B, (completion("</think>" + right(B, 2).text, 4),))):
            group = Group(
                problem_id=problem.problem_id, prompt_token_ids=(1,), completions=completions, prefilled="<think>"
            )
            store.append(group, SamplingParams())
    with boxed_grader(1) as grader:
        counts = write_traces(PROBLEMS, tmp_path / "store", tmp_path / "t.jsonl", grader.grade_many)
    assert (counts.num_traces, counts.left_out) == (1, {"no_answer": 1})
    assert json.loads((tmp_path / "t.jsonl").read_text())["response"].startswith("</think>")


def test_all_correct_completions_are_written_in_the_order_of_the_store(store, tmp_path):
    rows, counts = write(store, tmp_path / "t.jsonl")
    expected = [(A, 9), (A, 5), (B, 6)]
    assert rows == [
        {
            "messages": [
                {"role": "user", "content": to_prompt(problem)},
                {"role": "assistant", "content": right(problem, num_tokens).text},
            ],
            "problem_id": problem.problem_id,
            "question": problem.question,
            "response": right(problem, num_tokens).text,
            "num_tokens": num_tokens,
            "references": list(problem.references),
            "surprise": 0.0,
            "model": None,
            "weights_version": None,
            "sampling": "{}",
        }
        for problem, num_tokens in expected
    ]
    assert counts.num_problems == 2 and counts.left_out == LEFT_OUT


def test_the_shortest_of_each_problem_is_written_and_the_first_of_equals(store, tmp_path):
    rows, counts = write(store, tmp_path / "t.jsonl", choose="shortest")
    assert [(row["problem_id"], row["num_tokens"]) for row in rows] == [(A.problem_id, 5), (B.problem_id, 6)]
    assert counts.left_out == LEFT_OUT | {"another of the problem was chosen": 1}


def test_one_of_each_problem_is_chosen_by_a_hash_of_the_seed(store, tmp_path):
    found = set()
    for seed in range(20):
        rows, _ = write(store, tmp_path / f"{seed}.jsonl", choose="one", seed=seed)
        assert write(store, tmp_path / "again.jsonl", choose="one", seed=seed)[0] == rows
        assert sorted(row["problem_id"] for row in rows) == sorted([A.problem_id, B.problem_id])
        found |= {row["num_tokens"] for row in rows}
    assert found == {9, 5, 6}


def test_a_store_without_a_correct_completion_is_refused_and_nothing_written(store, tmp_path):
    with pytest.raises(ProblemFileError, match="no completion to learn from: 9 not among the problems, 1 incorrect"):
        write_traces([C], store, tmp_path / "t.jsonl", grade_many)
    assert not (tmp_path / "t.jsonl").exists()


def test_traces_of_other_settings_are_not_overwritten(store, tmp_path):
    out = tmp_path / "t.jsonl"
    first = trace_problems(Source("synthetic", limit=4), store, out)
    before = out.read_bytes()
    assert trace_problems(Source("synthetic", limit=4), store, out) == first and out.read_bytes() == before
    with pytest.raises(OtherRunError, match="choose was 'all', now 'one'"):
        trace_problems(Source("synthetic", limit=4), store, out, TraceChoice(choose="one"))
    assert out.read_bytes() == before


def test_what_became_of_the_answers_is_recorded_beside_the_traces(store, tmp_path):
    out = tmp_path / "t.jsonl"
    assert recorded_counts(out) == {}
    counts = trace_problems(Source("synthetic", limit=4), store, out)
    found = recorded_counts(out)
    assert found == asdict(counts) and found["left_out"] == LEFT_OUT
    assert found["num_traces"] == len(out.read_text().splitlines())
    assert found["num_traces"] + sum(found["left_out"].values()) == found["num_completions"]
    counts_path(out).write_text("{")
    with pytest.raises(ProblemFileError, match=r"t\.jsonl\.counts\.json is damaged .* remove it"):
        recorded_counts(out)


@pytest.mark.parametrize(
    ("columns", "writer"),
    [
        ({"model": "tiny", "weights_version": "whole:dd4b05315b59eafb"}, "tiny"),
        ({"model": "whole:ce2c4613b150791c", "weights_version": "r1/stage-1+12"}, "r1/stage-1"),
        ({"model": None, "weights_version": None}, None),
        ({"messages": []}, None),
        ({"model": 7}, None),
    ],
)
def test_a_trace_was_written_by_a_model_or_by_the_weights_of_a_stage(columns, writer):
    assert trace_writer(columns) == writer


def test_the_command_says_what_was_left_out_and_why(store, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", "polaris-data traces synthetic store --limit 4 --out t.jsonl".split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["       11  answers in store", "        3  traces, of 2 problems"]
    assert "        2  left out: no answer" in lines and lines[-1] == "wrote t.jsonl"


def test_lengths_and_the_number_of_a_problems_answers_are_bounded(store, tmp_path):
    rows, counts = write(store, tmp_path / "t.jsonl", min_tokens=6)
    assert [row["num_tokens"] for row in rows] == [9, 6] and counts.left_out["shorter than 6 tokens"] == 2
    rows, counts = write(store, tmp_path / "t.jsonl", max_tokens=6, choose="shortest", per_problem=2)
    assert [row["num_tokens"] for row in rows] == [5, 6] and counts.left_out["longer than 6 tokens"] == 1
    rows, _ = write(store, tmp_path / "t.jsonl", choose="shortest", per_problem=2)
    assert [row["num_tokens"] for row in rows] == [9, 5, 6]


def test_a_stage_of_training_is_not_graded_again_and_its_surprising_answers_are_kept_at_each_length(tmp_path):
    """Of 20 answers, two of each length, half are kept: of each length the one that was less likely a token."""
    for step in (1, 2):
        answers = [
            replace(right(A, length, finish_reason="stop"), logprobs=(-surprise,) * length, text=f"{step} {length}")
            for length in range(10, 20)
            for surprise in [step + length / 100 if length % 2 else 3 - step]
        ]
        group = Group(problem_id=A.problem_id, prompt_token_ids=(1,), completions=tuple(answers),
                      weights_version=f"r/s+{step - 1}")  # fmt: skip
        path = tmp_path / "s" / "rollouts" / f"step-{step:06d}.parquet"
        write_groups(path, [group], SamplingParams(), columns={"outcome": ["correct"] * 10},
                     settings={"model": "abc", "temperature": 1.4, "step": step})  # fmt: skip

    def refuse(items):
        raise AssertionError("graded again")

    out = tmp_path / "t.parquet"
    choice = TraceChoice(learning_value=0.5)
    counts = write_traces(PROBLEMS, tmp_path / "s", out, refuse, choice, form=".parquet")
    rows = pq.read_table(out).to_pylist()
    assert counts.num_completions == 20 and counts.left_out == {"of lower learning value": 10}
    assert {row["response"] for row in rows} == {f"{2 if n % 2 else 1} {n}" for n in range(10, 20)}
    assert {row["weights_version"] for row in rows} == {"r/s+0", "r/s+1"} and rows[0]["model"] == "abc"
    assert json.loads(rows[0]["sampling"]) == {"step": 1, "temperature": 1.4}
    assert all(math.isclose(row["surprise"], 2 + (n % 2) * n / 100, rel_tol=1e-6)
               for row in rows for n in [row["num_tokens"]])  # fmt: skip
    assert rows[0]["messages"][0]["content"] == to_prompt(A)


@pytest.mark.parametrize("share", [0, 0.5])
def test_answers_to_a_prompt_with_a_hint_are_no_traces_of_the_bare_question(tmp_path, share):
    stage = tmp_path / "stage"
    groups = [
        Group(problem_id=each.problem_id, prompt_token_ids=(1,), completions=(right(each, 3), WRONG)) for each in (A, B)
    ]
    settings = {"model": "abc", "step": 1} | ({"hint_share": share} if share else {})
    outcomes = {"outcome": ["correct", "incorrect"] * 2}
    path = stage / "rollouts" / "step-000001.parquet"
    write_groups(path, groups, SamplingParams(), columns=outcomes, settings=settings)
    # A set may carry hints that another stage gave; what was asked with them says so itself.
    write_problems(stage / "problems.jsonl", [replace(A, extra=A.extra | {HINT: "First, add."}), B])
    for store in (stage, stage / "rollouts"):
        rows, counts = write_any(store, tmp_path / "t.jsonl")
        assert [row["problem_id"] for row in rows] == [each.problem_id for each in ([B] if share else [A, B])]
        assert counts.left_out == ({"asked with a hint": 2, "incorrect": 1} if share else {"incorrect": 2})
    (stage / "problems.jsonl").unlink()
    if share:
        with pytest.raises(ProblemFileError, match=r"sampled with hints, and .*problems\.jsonl.* is not there; put it"):
            write_any(stage, tmp_path / "t.jsonl")


def test_the_style_of_the_traces_is_told(tmp_path):
    with RolloutStore(tmp_path / "store") as store:
        thought = completion("<think>x</think>" + right(A, 0).text, 8)
        group = Group(problem_id=A.problem_id, prompt_token_ids=(1,), completions=(thought, right(A, 2)))
        store.append(group, SamplingParams())
    rows, counts = write_any(tmp_path / "store", tmp_path / "t.jsonl")
    assert (counts.thinking_share, counts.median_tokens) == (0.5, 5.0)
    box = len("\\boxed{}") + len(A.references[0])
    assert [len(row["response"]) for row in rows] == [box + 16, box + 6]
    assert counts.median_characters == box + 11


def write_any(store, out):
    counts = write_traces(PROBLEMS, store, out, grade_many)
    return [json.loads(line) for line in out.read_text().splitlines()], counts
