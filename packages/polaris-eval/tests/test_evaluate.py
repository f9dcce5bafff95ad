"""Evaluation with a sampler and a grader that are plain functions of their arguments."""

import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from polaris_data.files.journal import Journal
from polaris_data.records import Problem
from polaris_eval.errors import UnscorableError
from polaris_eval.records import Lengths
from polaris_eval.running.queue import Task, evaluate, finish, sample_missing
from polaris_eval.scores.means import mean_at_k
from polaris_eval.scores.summary import correct_by_problem, summarize
from polaris_reward.records import Grade, Outcome
from polaris_rollout.records import Completion, Group, Prompt, SamplingParams, completion_seed

PARAMS = SamplingParams(max_tokens=6, seed=3)
PROBLEMS = [
    Problem(problem_id=f"p{number}", question=f"What is {number} + 1?", references=(str(number + 1),))
    for number in range(5)
]


class Guesser:
    """Guesses a number near the right one from the seed of the completion; yields the last prompt first."""

    def __init__(self, *, killed_after: int | None = None) -> None:
        self.asked: list[str] = []
        self.num_calls = 0
        self.killed_after = killed_after

    def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
        prompts = list(prompts)
        self.num_calls += 1
        self.asked += [prompt.problem_id for prompt in prompts]
        for count, prompt in enumerate(reversed(prompts)):
            if count == self.killed_after:
                raise KeyboardInterrupt
            yield Group(
                problem_id=prompt.problem_id,
                prompt_token_ids=(1,),
                completions=tuple(_guess(prompt, params, sample) for sample in range(n)),
            )


def _guess(prompt: Prompt, params: SamplingParams, sample: int) -> Completion:
    digits = re.search(r"\d+", prompt.text)
    assert digits is not None
    seed = completion_seed(params.seed, prompt.problem_id, sample)
    text = f"é {int(digits[0]) + seed % 3}" if seed % 4 else ""
    num_tokens = 1 + seed % 6
    return Completion(
        token_ids=(7,) * num_tokens,
        logprobs=(-0.5,) * num_tokens,
        text=text,
        finish_reason="length" if num_tokens == params.max_tokens else "stop",
    )


def grade_last_word(items: Sequence[tuple[str, Sequence[str]]]) -> list[Grade]:
    return [_grade(response, references) for response, references in items]


def _grade(response: str, references: Sequence[str]) -> Grade:
    answer = response.split()[-1] if response else None
    outcome = (
        Outcome.NO_ANSWER
        if answer is None
        else Outcome.REFERENCE_REJECTED
        if "?" in references
        else Outcome.CORRECT
        if answer in references
        else Outcome.INCORRECT
    )
    return Grade(outcome=outcome, answer=answer, reference=references[0], seconds=0.25)


def spell(token_ids: Sequence[int]) -> str:
    """Answer 1 to everything once three tokens are out."""
    return "1" if len(token_ids) >= 3 else ""


def run(path: Path, sampler: Guesser | None = None, problems: Sequence[Problem] = PROBLEMS, *, n: int = 4):
    task = Task(name="sums", problems=problems, num_samples=n, journal=Journal(path))
    sample_missing([task], sampler or Guesser(), grade_last_word, params=PARAMS, budgets=(2, 4), decode=spell)
    finish(task, grade_last_word)
    return summarize("sums", task.journal.records)


def prompt_ids(problems: Sequence[Problem], *, n: int, name: str = "sums") -> list[str]:
    return [f"{name}/{problem.problem_id}/{sample}" for problem in problems for sample in range(n)]


def completion(outcome: Outcome, *, num_tokens: int = 10, finish_reason: str = "stop") -> dict[str, object]:
    return {
        "text": "",
        "num_tokens": num_tokens,
        "finish_reason": finish_reason,
        "outcome": outcome.value,
        "answer": None,
    }


def record(problem_id: str, *completions: dict[str, object]) -> dict[str, object]:
    return {"problem_id": problem_id, "references": ["1"], "completions": list(completions)}


def test_answers_are_graded_after_the_thought_that_the_prompt_opened_at_every_budget(tmp_path: Path):
    class Thinker(Guesser):
        def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
            for group in super().sample(prompts, params, n=n):
                yield replace(group, prefilled="<think>")

    seen: list[str] = []

    def remember(items: Sequence[tuple[str, Sequence[str]]]) -> list[Grade]:
        seen.extend(text for text, _ in items)
        return grade_last_word(items)

    task = Task(name="sums", problems=PROBLEMS, num_samples=4, journal=Journal(tmp_path / "c.jsonl"))
    sample_missing([task], Thinker(), remember, params=PARAMS, budgets=(2, 4), decode=spell)
    assert len(seen) > 20
    assert all(text.startswith("<think>") for text in seen)
    finish(task, grade_last_word)
    assert {each["prefilled"] for record in task.journal.records for each in record["completions"]} == {"<think>"}


def test_the_file_has_one_line_a_problem_in_the_order_of_the_problems(tmp_path: Path):
    run(tmp_path / "completions.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text("utf-8").splitlines()]
    assert [line["problem_id"] for line in lines] == [problem.problem_id for problem in PROBLEMS]
    assert list(lines[0]) == ["problem_id", "question", "references", "completions"]
    assert all(len(line["completions"]) == 4 for line in lines)
    fields = ["text", "num_tokens", "finish_reason", "outcome", "answer", "budgets", "vote"]
    assert all(list(completion) == fields for line in lines for completion in line["completions"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["completions.jsonl"]


def test_the_prompt_is_the_question_and_the_published_suffix(tmp_path: Path):
    texts: list[str] = []

    class Listener(Guesser):
        def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
            prompts = list(prompts)
            texts.extend(prompt.text for prompt in prompts)
            return super().sample(prompts, params, n=n)

    run(tmp_path / "completions.jsonl", Listener())
    suffix = r" Let's think step by step and output the final answer within \boxed{}."
    assert texts[0] == "What is 0 + 1?" + suffix


def test_a_completion_has_its_outcome_at_every_budget_that_is_shorter_than_it(tmp_path: Path):
    run(tmp_path / "completions.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "completions.jsonl").read_text("utf-8").splitlines()]
    for line in lines:
        for completion in line["completions"]:
            expected = {
                str(budget): "no_answer" if budget < 3 else "correct" if "1" in line["references"] else "incorrect"
                for budget in (2, 4)
                if budget < completion["num_tokens"]
            }
            assert completion["budgets"] == expected
    assert {len(each["budgets"]) for line in lines for each in line["completions"]} == {0, 1, 2}


def test_a_run_killed_after_any_completion_continues_to_the_same_file_and_samples_nothing_twice(tmp_path: Path):
    whole = run(tmp_path / "whole.jsonl", n=2)
    num_completions = 2 * len(PROBLEMS)
    for killed_after in range(num_completions):
        path = tmp_path / f"killed-{killed_after}.jsonl"
        first, second = Guesser(killed_after=killed_after), Guesser()
        with pytest.raises(KeyboardInterrupt):
            run(path, first, n=2)
        assert not path.exists()
        assert run(path, second, n=2) == whole
        assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        assert len(second.asked) == num_completions - killed_after
        assert not path.with_name(f"{path.name}.partial").exists()


def test_a_kill_at_any_byte_of_the_journal_leads_to_the_same_file(tmp_path: Path):
    problems = PROBLEMS[:2]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "whole.jsonl", Guesser(killed_after=2), [*problems, PROBLEMS[2]], n=1)
    journaled = (tmp_path / "whole.jsonl.partial").read_bytes().splitlines(keepends=True)
    path = tmp_path / "killed.jsonl"
    run(path, problems=[PROBLEMS[1], PROBLEMS[2]], n=1)
    whole, content = path.read_bytes(), b"".join(journaled)
    for length in range(len(content) + 1):
        path.unlink(missing_ok=True)
        path.with_name("killed.jsonl.partial").write_bytes(content[:length])
        sampler = Guesser()
        run(path, sampler, [PROBLEMS[1], PROBLEMS[2]], n=1)
        assert path.read_bytes() == whole
        kept = {json.loads(line)["problem_id"] for line in content[:length].splitlines(keepends=True)
                if line.endswith(b"\n")}  # fmt: skip
        assert set(sampler.asked) == {f"sums/{key}/0" for key in {"p1", "p2"} - kept}


def test_a_finished_evaluation_asks_the_sampler_for_nothing(tmp_path: Path):
    first = run(tmp_path / "completions.jsonl")
    sampler = Guesser(killed_after=0)
    assert run(tmp_path / "completions.jsonl", sampler) == first
    assert sampler.asked == []


def test_the_scores_of_two_problems_match_the_hand_calculation():
    evaluation = summarize(
        "pair",
        [
            record("a", completion(Outcome.CORRECT), completion(Outcome.NO_ANSWER, num_tokens=40,
                   finish_reason="length")),
            record("b", completion(Outcome.INCORRECT), completion(Outcome.INCORRECT, num_tokens=20)),
        ],
    )  # fmt: skip
    assert {(score.metric, score.k): score.value for score in evaluation.scores} == {
        ("mean@k", 2): 0.25,
        ("pass@k", 1): 0.25,
        ("pass@k", 2): 0.5,
        ("maj@k", 1): 0.25,
        ("maj@k", 2): 0.5,  # the completion without an answer does not vote
        ("truncated", 2): 0.25,
        ("no_answer", 2): 0.25,
    }
    assert all(score.num_problems == 2 for score in evaluation.scores)
    assert evaluation.score("mean@k").interval == mean_at_k([[True, False], [False, False]]).interval
    once, twice = evaluation.score("pass@k", 1).interval, evaluation.score("pass@k", 2).interval
    assert once[0] <= twice[0] and once[1] <= twice[1]
    assert evaluation.lengths == Lengths(mean=20, median=15, p95=40)
    assert evaluation.outcomes == {"correct": 1, "incorrect": 2, "no_answer": 1}
    assert (evaluation.num_problems, evaluation.num_samples, evaluation.unscored) == (2, 2, ())


def test_every_completion_is_counted_under_exactly_one_outcome(tmp_path: Path):
    evaluation = run(tmp_path / "completions.jsonl")
    assert sum(evaluation.outcomes.values()) == len(PROBLEMS) * 4
    assert evaluation.outcomes["correct"] == round(evaluation.score("mean@k").value * 20)
    assert evaluation.outcomes["no_answer"] == round(evaluation.score("no_answer").value * 20)


def test_a_problem_whose_reference_cannot_be_read_is_left_out_and_named(caplog: pytest.LogCaptureFixture):
    good = record("good", completion(Outcome.CORRECT), completion(Outcome.CORRECT))
    bad = record("bad", completion(Outcome.REFERENCE_REJECTED), completion(Outcome.NO_ANSWER))
    evaluation = summarize("mixed", [good, bad])
    assert evaluation.score("mean@k").value == 1
    assert evaluation.score("mean@k").num_problems == 1
    assert evaluation.score("no_answer").num_problems == 2
    assert evaluation.unscored == ("bad",)
    assert evaluation.outcomes["reference_rejected"] == 1
    assert "1 of 2 problems ('bad'); they are left out of the score" in caplog.text
    assert correct_by_problem([good, bad]) == {"good": [True, True]}


def test_a_benchmark_of_unreadable_references_has_no_score():
    with pytest.raises(UnscorableError, match="1 of 1 problems"):
        summarize("broken", [record("bad", completion(Outcome.REFERENCE_REJECTED))])


def test_the_completions_of_all_benchmarks_are_asked_for_at_once_and_progress_sees_each(tmp_path: Path):
    seen: list[str] = []

    def watch(groups: Iterable[Group]) -> Iterator[Group]:
        for group in groups:
            seen.append(group.problem_id)
            yield group

    sampler = Guesser()
    tasks = [
        Task(name=name, problems=PROBLEMS, num_samples=n, journal=Journal(tmp_path / f"{name}.jsonl"))
        for name, n in (("first", 3), ("second", 1))
    ]
    sample_missing(tasks, sampler, grade_last_word, params=PARAMS, track=watch)
    assert sampler.num_calls == 1
    assert sampler.asked == prompt_ids(PROBLEMS, n=3, name="first") + prompt_ids(PROBLEMS, n=1, name="second")
    assert sorted(seen) == sorted(sampler.asked)
    assert [len(task.journal.records) for task in tasks] == [15, 5]


def test_one_call_measures_one_benchmark(tmp_path: Path):
    journal = Journal(tmp_path / "called.jsonl")
    evaluation = evaluate("sums", PROBLEMS, Guesser(), grade_last_word, params=PARAMS, num_samples=4, journal=journal)
    assert evaluation.scores == run(tmp_path / "budgets.jsonl").scores
    assert evaluation.budgets == ()


def test_a_benchmark_gives_the_same_file_alone_and_beside_others(tmp_path: Path):
    run(tmp_path / "alone.jsonl")
    tasks = [
        Task(name=name, problems=PROBLEMS, num_samples=n, journal=Journal(tmp_path / f"{name}.jsonl"))
        for name, n in (("other", 3), ("sums", 4))
    ]
    sample_missing(tasks, Guesser(), grade_last_word, params=PARAMS, budgets=(2, 4), decode=spell)
    for task in tasks:
        finish(task, grade_last_word)
    assert (tmp_path / "sums.jsonl").read_bytes() == (tmp_path / "alone.jsonl").read_bytes()


def test_grading_goes_on_while_the_sampler_works(tmp_path: Path):
    first_graded = threading.Event()

    class Waiter(Guesser):
        """Gives its second completion only when the first one is graded."""

        def sample(self, prompts: Iterable[Prompt], params: SamplingParams, *, n: int) -> Iterator[Group]:
            for number, group in enumerate(super().sample(prompts, params, n=n)):
                if number == 1:
                    assert first_graded.wait(timeout=60)
                yield group

    def grade(items: Sequence[tuple[str, Sequence[str]]]) -> list[Grade]:
        first_graded.set()
        return grade_last_word(items)

    task = Task(name="sums", problems=PROBLEMS, num_samples=1, journal=Journal(tmp_path / "completions.jsonl"))
    sample_missing([task], Waiter(), grade, params=PARAMS)
    assert len(task.journal.records) == len(PROBLEMS)


def test_an_error_of_the_grader_ends_the_run(tmp_path: Path):
    def grade(items: Sequence[tuple[str, Sequence[str]]]) -> list[Grade]:
        raise RuntimeError("the grader is broken")

    task = Task(name="sums", problems=PROBLEMS, num_samples=1, journal=Journal(tmp_path / "completions.jsonl"))
    with pytest.raises(RuntimeError, match="the grader is broken"):
        sample_missing([task], Guesser(), grade, params=PARAMS)
