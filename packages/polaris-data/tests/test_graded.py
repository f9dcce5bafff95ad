import json
import sys
from dataclasses import replace

import pytest
from polaris_data import OtherRunError, ProblemFileError, read_problems, read_profile, to_prompt
from polaris_data.cli.main import main
from polaris_data.profile.counting import (
    completions_settings,
    profile_completions,
    recorded_settings,
    refuse_other_source,
)
from polaris_reward.records import Grade, Outcome
from polaris_rollout.records import Completion, Group, SamplingParams
from polaris_rollout.store.folder import RolloutStore
from polaris_rollout.store.table import write_groups

PROBLEMS = read_problems("synthetic", limit=3)
PARAMS = SamplingParams(temperature=0.7)


def grade_equal(items):
    return [
        Grade(
            outcome=Outcome.CORRECT if response in references else Outcome.INCORRECT,
            answer=response,
            reference=references[0],
            seconds=0.0,
        )
        for response, references in items
    ]


def refuse_to_grade(items):
    assert not items, "graded again"
    return []


def group(number, *, weights_version="w"):
    """Problem i, solved in the first i of four samples; the last one is cut short."""
    problem = PROBLEMS[number]
    return Group(
        problem_id=problem.problem_id,
        prompt_token_ids=(1,),
        completions=tuple(
            Completion(
                token_ids=(7,) * (sample + 1),
                logprobs=(0.0,) * (sample + 1),
                text=problem.references[0] if sample < number else "none",
                finish_reason="length" if sample == 3 else "stop",
            )
            for sample in range(4)
        ),
        weights_version=weights_version,
    )


GROUPS = [group(2), group(0), group(1)]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_store_is_graded_and_counted_in_the_order_of_the_problems(tmp_path):
    with RolloutStore(tmp_path / "store", {"model": "m"}) as store:
        for each in GROUPS:
            store.append(each, PARAMS)
    profile = profile_completions(PROBLEMS, tmp_path / "store", grade_equal)
    assert [each.problem_id for each in profile] == [problem.problem_id for problem in PROBLEMS]
    assert [each.num_correct for each in profile] == [0, 1, 2]
    assert {(each.num_samples, each.num_truncated, each.mean_tokens) for each in profile} == {(4, 1, 2.5)}


def test_a_store_is_graded_after_the_thought_that_its_prompts_opened(tmp_path):
    with RolloutStore(tmp_path / "store") as store:
        for each in GROUPS:
            store.append(replace(each, prefilled="<think>" if each is GROUPS[0] else ""), PARAMS)
    profile = profile_completions(PROBLEMS, tmp_path / "store", grade_equal)
    assert [each.num_correct for each in profile] == [0, 1, 0]


def test_rows_are_graded_after_the_thought_that_their_prompt_opened(tmp_path):
    rows = [
        {"problem_id": each.problem_id, "full_prompt": f"What? {tag}", "response": each.references[0]}
        for each, tag in zip(PROBLEMS, ["<think>\n", "<think></think>", ""], strict=True)
    ]
    profile = profile_completions(PROBLEMS, write_rows(tmp_path / "r.jsonl", rows), grade_equal)
    assert [each.num_correct for each in profile] == [0, 1, 1]


def test_answers_that_close_a_thought_show_that_all_prompts_opened_one(tmp_path, caplog):
    texts = ["</think>", "", "<think></think>"]
    rows = [
        {"problem_id": each.problem_id, "response": text + each.references[0]}
        for each, text in zip(PROBLEMS, texts, strict=True)
    ]
    seen = []

    def remember(items):
        seen.extend(text.removesuffix(references[0]) for text, references in items)
        return grade_equal(items)

    profile_completions(PROBLEMS, write_rows(tmp_path / "r.jsonl", rows), remember)
    assert seen == ["<think></think>", "<think>", "<think><think></think>"]
    assert "1 of 3 completions never close the <think>" in caplog.text
    seen.clear()
    del rows[0]["response"]
    write_rows(tmp_path / "r.jsonl", [rows[0] | {"correct": True}, *rows[1:]])
    profile_completions(PROBLEMS, tmp_path / "r.jsonl", remember)
    assert seen == ["", "<think></think>"]


def test_a_store_that_is_still_written_is_read_as_far_as_it_is(tmp_path):
    store = RolloutStore(tmp_path / "store")
    for each in GROUPS:
        store.append(each, PARAMS)
    assert [each.num_correct for each in profile_completions(PROBLEMS, tmp_path / "store", grade_equal)] == [0, 1, 2]
    store.close()


def test_grades_that_rollouts_carry_are_counted_as_they_are(tmp_path):
    outcomes = ["incorrect"] * 4 + ["correct"] * 4 + ["correct", "no_answer", "answer_timeout", "correct"]
    write_groups(tmp_path / "r.parquet", GROUPS, PARAMS, columns={"outcome": outcomes})
    profile = profile_completions(PROBLEMS, tmp_path / "r.parquet", refuse_to_grade)
    assert [each.num_correct for each in profile] == [4, 2, 0]


def test_rollouts_without_grades_are_graded(tmp_path):
    write_groups(tmp_path / "r.parquet", GROUPS, PARAMS)
    assert [each.num_correct for each in profile_completions(PROBLEMS, tmp_path / "r.parquet", grade_equal)] == [
        0,
        1,
        2,
    ]


A, B, C = PROBLEMS


@pytest.mark.parametrize(
    ("rows", "num_samples", "num_correct"),
    [
        (  # what polaris-reward grade writes, in any order
            [
                {"line": line, "problem_id": problem.problem_id, "outcome": outcome, "reward": 0.0}
                for line, (problem, outcome) in enumerate(
                    [(C, "correct"), (A, "no_answer"), (B, "correct"), (C, "correct")]
                )
            ],
            [1, 1, 2],
            [0, 1, 2],
        ),
        (  # what polaris-eval keeps
            [
                {
                    "problem_id": each.problem_id,
                    "completions": [{"text": "?", "num_tokens": 5, "outcome": "correct"}] * 2,
                }
                for each in PROBLEMS
            ],
            [2, 2, 2],
            [2, 2, 2],
        ),
        (  # all answers of a problem and their scores; the problem is known by its question
            [
                {"prompt": [{"role": "user", "content": to_prompt(each)}], "responses": ["x", "y"], "scores": [1.0, 0]}
                for each in PROBLEMS
            ],
            [2, 2, 2],
            [1, 1, 1],
        ),
        (  # answers without grades
            [{"question": each.question, "responses": [each.references[0], "none"]} for each in PROBLEMS],
            [2, 2, 2],
            [1, 1, 1],
        ),
        (
            [{"id": each.problem_id, "response": each.references[0]} for each in PROBLEMS]
            + [{"id": each.problem_id, "response": "wrong", "correct": True} for each in PROBLEMS],
            [2, 2, 2],
            [2, 2, 2],
        ),
    ],
)
def test_files_of_answers_are_counted(tmp_path, rows, num_samples, num_correct):
    profile = profile_completions(PROBLEMS, write_rows(tmp_path / "a.jsonl", rows), grade_equal)
    assert [each.num_samples for each in profile] == num_samples
    assert [each.num_correct for each in profile] == num_correct


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"problem_id": "other", "correct": True}], "a.jsonl:1: completions of 'other', which is not among"),
        ([{"problem_id": A.problem_id, "correct": True}], "2 of 3 problems have no completion"),
        ([{"problem_id": A.problem_id, "length": 3}], "a.jsonl:1: neither an answer .* found 'problem_id', 'length'"),
        ([{"response": "x"}], "a.jsonl:1: no 'problem_id' or 'question'.*found 'response'"),
        ([{"problem_id": A.problem_id, "score": 0.5}], "a.jsonl:1: 'score' is 0.5; expected one of true, false, 1, 0"),
        ([{"problem_id": A.problem_id, "outcome": "right"}], "'outcome' is 'right'; expected one of correct, "),
        ([{"problem_id": A.problem_id, "question": "1+1?", "correct": True}], "is another problem there"),
    ],
)
def test_completions_that_cannot_be_used_are_refused_with_their_place(tmp_path, rows, message):
    with pytest.raises(ProblemFileError, match=message):
        profile_completions(PROBLEMS, write_rows(tmp_path / "a.jsonl", rows), grade_equal)


def test_rows_without_a_response_are_set_aside_counted_and_written(tmp_path, caplog):
    rows = [{"id": each.problem_id, "response": each.references[0]} for each in PROBLEMS]
    broken = [
        {"id": A.problem_id, "response": None},
        {"id": B.problem_id, "response": None, "error": "rate limit"},
        {"id": B.problem_id, "responses": ["x", "y"], "scores": [1]},
    ]
    path = write_rows(tmp_path / "a.jsonl", rows + broken)
    path.write_text(path.read_text() + '{"id": "half')
    aside = tmp_path / "aside.jsonl"
    profile = profile_completions(PROBLEMS, path, grade_equal, set_aside=aside)
    assert [each.num_samples for each in profile] == [1, 1, 1]
    written = [json.loads(line) for line in aside.read_text().splitlines()]
    assert [(each["reason"], each["place"]) for each in written] == [
        ("no response", f"{path}:4"),
        ("error", f"{path}:5"),
        ("cannot be read", f"{path}:6"),
        ("cannot be read", f"{path}:7"),
    ]
    assert written[1]["detail"] == "rate limit" and "2 completions but 1 grades" in written[2]["detail"]
    assert "4 rows or completions are set aside and not counted (2 cannot be read, 1 no response, 1 err" in caplog.text
    path = write_rows(tmp_path / "b.jsonl", rows[1:] + broken)
    with pytest.raises(ProblemFileError, match=r"1 of 3 .*\(3 rows or completions are set aside: 1 no response, 1 err"):
        profile_completions(PROBLEMS, path, grade_equal)


def test_completions_of_several_weights_are_refused(tmp_path):
    write_groups(tmp_path / "r.parquet", [group(0), group(1, weights_version="w+1")], PARAMS)
    with pytest.raises(ProblemFileError, match=r"several weights, 'w' and 'w\+1'"):
        profile_completions(PROBLEMS, tmp_path / "r.parquet", grade_equal)


def test_groups_of_other_problems_are_refused(tmp_path):
    write_groups(tmp_path / "r.parquet", GROUPS, PARAMS)
    with pytest.raises(ProblemFileError, match="which is not among the problems"):
        profile_completions(PROBLEMS[:2], tmp_path / "r.parquet", grade_equal)


def test_another_model_or_temperature_is_refused_as_far_as_it_is_recorded(tmp_path):
    recorded = {"model": "org/a", "temperature": 0.7}
    refuse_other_source(tmp_path, recorded, {"model": "org/a", "temperature": None, "context": 100})
    with pytest.raises(OtherRunError, match=r"model is 'org/a', not 'org/b'; temperature is 0.7, not 1.0"):
        refuse_other_source(tmp_path, recorded, {"model": "org/b", "temperature": 1.0})


def test_what_is_recorded_beside_completions_is_kept_with_the_profile(tmp_path):
    settings = {"model": "org/a", "model_digest": "d", "temperature": 0.7, "samples": 4, "context": None}
    with RolloutStore(tmp_path / "store", settings) as store:
        for each in GROUPS:
            store.append(each, PARAMS)
    assert recorded_settings(tmp_path / "store") == settings
    kept = completions_settings(PROBLEMS, tmp_path / "store", settings)
    assert (kept["model"], kept["model_digest"], kept["temperature"]) == ("org/a", "d", 0.7)
    with RolloutStore(tmp_path / "other", settings) as store:
        for each in GROUPS[::-1]:
            store.append(each, PARAMS)
    assert completions_settings(PROBLEMS, tmp_path / "other", settings)["completions"] != kept["completions"]


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["polaris-data", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def test_the_command_writes_a_profile_of_a_store_and_refuses_another_model(command, tmp_path):
    with RolloutStore(tmp_path / "rollouts", {"model": "org/a", "temperature": 0.7}) as store:
        for each in GROUPS:
            store.append(each, PARAMS)
    arguments = ["profile", "synthetic", "--limit", 3, "--completions", "rollouts"]
    code, out, err = command(*arguments)
    assert code == 0, err
    assert "3 problems" in out and "over 12 answers" in out
    profile = read_profile("synthetic.profile.jsonl")
    assert [each.num_samples for each in profile] == [4, 4, 4]
    settings = json.loads((tmp_path / "synthetic.profile.jsonl.settings.json").read_text())
    assert settings["model"] == "org/a" and settings["temperature"] == 0.7
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")}
    code, _, err = command(*arguments)
    assert code == 0 and "is complete: nothing is counted" in err
    code, _, err = command(*arguments, "--model", "org/b")
    assert code == 2 and "model is 'org/a', not 'org/b'" in err and err.count("\n") == 1
    code, _, err = command("profile", "synthetic", "--limit", 2, "--completions", "rollouts", "--out", "p.jsonl")
    assert code == 2 and "not among the problems" in err
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.json*")} == before
