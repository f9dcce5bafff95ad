"""Correct completions of a store become traces; every other one is counted with its reason."""

import json
import sys
from dataclasses import replace

import pytest
from polaris_data import OtherRunError, ProblemFileError, read_problems
from polaris_data.cli.main import main
from polaris_data.problems import Source
from polaris_data.profile.traces import trace_problems, write_traces
from polaris_reward import boxed_grader
from polaris_reward.records import Grade, Outcome
from polaris_rollout import Completion, Group, SamplingParams
from polaris_rollout.store import RolloutStore

PROBLEMS = read_problems("synthetic", limit=4)
A, B, C, D = PROBLEMS


def completion(text, num_tokens, finish_reason="stop"):
    return Completion(token_ids=(7,) * num_tokens, logprobs=(0.0,) * num_tokens, text=text, finish_reason=finish_reason)


def right(problem, num_tokens, **how):
    return completion(f"\\boxed{{{problem.references[0]}}}" + " " * num_tokens, num_tokens, **how)


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


LEFT_OUT = {"incorrect": 2, "no_answer": 2, "truncated": 1, "not among the problems": 1}


def write(store, out, **how):
    counts = write_traces(PROBLEMS, store, out, grade_many, **how)
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
    expected = [(A, 9), (A, 5), (B, 6), (B, 6), (A, 5)]
    assert rows == [
        {
            "problem_id": problem.problem_id,
            "question": problem.question,
            "response": right(problem, num_tokens).text,
            "num_tokens": num_tokens,
        }
        for problem, num_tokens in expected
    ]
    assert counts.num_problems == 2 and counts.left_out == LEFT_OUT


def test_the_shortest_of_each_problem_is_written_and_the_first_of_equals(store, tmp_path):
    rows, counts = write(store, tmp_path / "t.jsonl", choose="shortest")
    assert [(row["problem_id"], row["num_tokens"]) for row in rows] == [(A.problem_id, 5), (B.problem_id, 6)]
    assert counts.left_out == LEFT_OUT | {"another of the problem was chosen": 3}


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
        trace_problems(Source("synthetic", limit=4), store, out, choose="one")
    assert out.read_bytes() == before


def test_the_command_says_what_was_left_out_and_why(store, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", "polaris-data traces synthetic store --limit 4 --out t.jsonl".split())
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["       11  answers in store", "        5  traces, of 2 problems"]
    assert "        2  left out: no answer" in lines and lines[-1] == "wrote t.jsonl"
