import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from polaris_data import Journal, OtherRunError, ProblemFileError, read_problems, read_profile, to_prompt
from polaris_data.profile.adaptive import Settling
from polaris_data.profile.sampling import profile, profile_settings
from polaris_reward.records import Grade, Outcome
from polaris_rollout import Completion, EngineSpec, Group, SamplingParams, completion_seed

PROBLEMS = read_problems("synthetic", limit=6)
PARAMS = SamplingParams(temperature=1.0, seed=3)


class ArithmeticSampler:
    """Answers problem i right in the first i samples; the last problem's answers are cut short.

    It hands groups out last problem first, and stops with `KeyboardInterrupt` after ``stop_after`` of them.
    """

    def __init__(self, problems=PROBLEMS, *, stop_after=None):
        self.problems = problems
        self.stop_after = stop_after
        self.asked = []

    def sample(self, prompts, params, *, n):
        numbers = {to_prompt(problem): number for number, problem in enumerate(self.problems)}
        for count, prompt in enumerate(reversed(list(prompts))):
            if count == self.stop_after:
                raise KeyboardInterrupt
            self.asked.append(prompt.problem_id)
            number = numbers[prompt.text]
            yield Group(
                problem_id=prompt.problem_id,
                prompt_token_ids=(1, 2),
                completions=tuple(
                    self._completion(number, prompt.first_sample + sample, params) for sample in range(n)
                ),
            )

    def _completion(self, number, sample, params):
        (reference,) = self.problems[number].references
        answer = reference if sample < number else "none"
        length = 2 + completion_seed(params.seed, self.problems[number].problem_id, sample) % 5
        cut = number == len(self.problems) - 1
        return Completion(
            token_ids=(7,) * length,
            logprobs=(0.0,) * length,
            text=answer,
            finish_reason="length" if cut else "stop",
        )


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


def run(path, sampler, *, problems=PROBLEMS, num_samples=4):
    return list(profile(problems, sampler, grade_equal, params=PARAMS, num_samples=num_samples, journal=Journal(path)))


def test_answers_are_graded_after_the_thought_that_the_prompt_opened(tmp_path):
    class Thinker(ArithmeticSampler):
        def sample(self, prompts, params, *, n):
            for group in super().sample(prompts, params, n=n):
                yield replace(group, prefilled="<think>\n")

    run(tmp_path / "p.jsonl", Thinker())
    assert [each.num_correct for each in read_profile(tmp_path / "p.jsonl")] == [0] * 6


def test_a_profile_counts_correct_and_truncated_answers_and_their_length(tmp_path):
    run(tmp_path / "p.jsonl", ArithmeticSampler())
    result = read_profile(tmp_path / "p.jsonl")
    assert [d.problem_id for d in result] == [problem.problem_id for problem in PROBLEMS]
    assert [d.num_correct for d in result] == [0, 1, 2, 3, 4, 4]
    assert [d.num_truncated for d in result] == [0, 0, 0, 0, 0, 4]
    assert {d.num_samples for d in result} == {4}
    lengths = [2 + completion_seed(3, PROBLEMS[0].problem_id, sample) % 5 for sample in range(4)]
    assert result[0].mean_tokens == sum(lengths) / 4


def test_every_group_is_on_disk_before_it_is_yielded(tmp_path):
    journal = Journal(tmp_path / "p.jsonl")
    groups = profile(PROBLEMS, ArithmeticSampler(), grade_equal, params=PARAMS, num_samples=4, journal=journal)
    for count, difficulty in enumerate(groups, start=1):
        lines = (tmp_path / "p.jsonl.partial").read_text().splitlines()  # of later ones as well: they are kept ahead
        assert json.loads(lines[count - 1]) == asdict(difficulty)


@pytest.mark.parametrize("torn", ["", '{"problem_id": "synth'])
@pytest.mark.parametrize("stop_after", range(len(PROBLEMS)))
def test_after_a_stop_anywhere_nothing_is_sampled_twice_and_the_file_is_the_same(tmp_path, stop_after, torn):
    run(tmp_path / "whole.jsonl", ArithmeticSampler())
    stopped = ArithmeticSampler(stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "p.jsonl", stopped)
    if stop_after:
        with (tmp_path / "p.jsonl.partial").open("a") as file:
            file.write(torn)
    continued = ArithmeticSampler()
    run(tmp_path / "p.jsonl", continued)
    assert sorted(stopped.asked + continued.asked) == sorted(problem.problem_id for problem in PROBLEMS)
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {"p.jsonl", "whole.jsonl"}


def test_what_was_done_is_yielded_first_and_all_of_it(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "p.jsonl", ArithmeticSampler(stop_after=2))
    expected = [PROBLEMS[i].problem_id for i in (5, 4, 3, 2, 1, 0)]
    assert [d.problem_id for d in run(tmp_path / "p.jsonl", ArithmeticSampler())] == expected


def test_a_finished_profile_is_not_sampled_again(tmp_path):
    first = run(tmp_path / "p.jsonl", ArithmeticSampler())
    again = ArithmeticSampler()
    assert sorted(run(tmp_path / "p.jsonl", again), key=str) == sorted(first, key=str)
    assert again.asked == []


KILLED = """
import sys, time
from pathlib import Path
from polaris_data import Journal
from polaris_data.profile.sampling import profile
sys.path.insert(0, {folder!r})
import {module} as test

class Slow(test.ArithmeticSampler):
    def sample(self, prompts, params, *, n):
        for group in super().sample(prompts, params, n=n):
            print(group.problem_id, flush=True)
            yield group
            time.sleep(0.2)

test.run(Path({out!r}), Slow())
"""


def test_after_kill_9_the_same_call_finishes_the_rest(tmp_path):
    run(tmp_path / "whole.jsonl", ArithmeticSampler())
    folder, module = os.path.split(__file__)
    script = KILLED.format(folder=folder, module=module.removesuffix(".py"), out=str(tmp_path / "p.jsonl"))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {json.loads(line)["problem_id"] for line in (tmp_path / "p.jsonl.partial").read_text().splitlines()}
    assert 2 <= len(done) < len(PROBLEMS)
    continued = ArithmeticSampler()
    run(tmp_path / "p.jsonl", continued)
    assert not done & set(continued.asked)
    assert (tmp_path / "p.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_journal_of_other_problems_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "p.jsonl", ArithmeticSampler(stop_after=3))
    before = (tmp_path / "p.jsonl.partial").read_bytes()
    with pytest.raises(OtherRunError, match="not among the problems"):
        run(tmp_path / "p.jsonl", ArithmeticSampler(), problems=PROBLEMS[:3])
    assert (tmp_path / "p.jsonl.partial").read_bytes() == before


def test_fewer_than_one_sample_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_samples is 0"):
        run(tmp_path / "p.jsonl", ArithmeticSampler(), num_samples=0)


def test_a_reference_that_the_grader_rejects_is_named(tmp_path, caplog):
    def reject(items):
        return [Grade(outcome=Outcome.REFERENCE_REJECTED, answer=None, reference="?", seconds=0.0) for _ in items]

    journal = Journal(tmp_path / "p.jsonl")
    list(profile(PROBLEMS[:1], ArithmeticSampler(), reject, params=PARAMS, num_samples=2, journal=journal))
    assert PROBLEMS[0].problem_id in caplog.text and "cannot read the reference" in caplog.text


def test_the_problem_and_the_suffix_are_what_the_sampler_is_asked(tmp_path):
    prompts = []

    class Recorder(ArithmeticSampler):
        def sample(self, asked, params, *, n):
            prompts.extend(asked)
            return iter(())

    journal = Journal(tmp_path / "p.jsonl")
    list(profile(PROBLEMS, Recorder(), grade_equal, params=PARAMS, num_samples=2, journal=journal, suffix=" Go."))
    assert [prompt.text for prompt in prompts] == [problem.question + " Go." for problem in PROBLEMS]


def test_settings_tell_apart_everything_that_changes_a_profile():
    base = {"spec": EngineSpec("org/m"), "params": PARAMS, "num_samples": 8}
    changes = [
        {"spec": EngineSpec("org/n")},
        {"spec": EngineSpec("org/m", context=100)},
        {"params": SamplingParams(temperature=0.5, seed=3)},
        {"params": SamplingParams(seed=4)},
        {"params": SamplingParams(seed=3, max_tokens=9)},
        {"num_samples": 4},
        {"suffix": ""},
        {"settling": Settling()},
        {"settling": Settling(bounds=(0.5, 1.0))},
        {"settling": Settling(at_a_time=2)},
    ]
    all_settings = [profile_settings(PROBLEMS, **{**base, **change}) for change in [{}, *changes]]
    all_settings.append(profile_settings(PROBLEMS[:5], **base))
    assert len({json.dumps(settings) for settings in all_settings}) == len(all_settings)


SOUND = {"problem_id": "a", "num_samples": 8, "num_correct": 3, "num_truncated": 0, "mean_tokens": 12.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_correct": 9}, "'num_correct' is 9"),
        ({"num_correct": 1.5}, "'num_correct' is 1.5"),
        ({"num_truncated": -1}, "'num_truncated' is -1"),
        ({"num_samples": 0, "num_correct": 0}, "'num_samples' is 0"),
        ({"num_samples": "8"}, "'num_samples' is '8'"),
        ({"mean_tokens": "9"}, "'mean_tokens' is '9'"),
        ({"problem_id": 3}, "'problem_id' is 3"),
    ],
)
def test_a_profile_with_an_impossible_value_is_refused_with_its_place(tmp_path, change, message):
    rows = [SOUND, {**SOUND, "problem_id": "b", **change}]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ProblemFileError, match=rf"p\.jsonl:2: {message}"):
        read_profile(tmp_path / "p.jsonl")


def test_a_file_that_is_not_a_profile_is_refused_with_its_columns(tmp_path):
    (tmp_path / "p.jsonl").write_text('{"problem": "Q", "answer": "1"}\n')
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:1: not a profile.*found 'problem', 'answer'"):
        read_profile(tmp_path / "p.jsonl")


def test_a_profile_that_names_a_problem_twice_is_refused_with_both_places(tmp_path):
    (tmp_path / "p.jsonl").write_text((json.dumps(SOUND) + "\n") * 2)
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:2: the id 'a' was used at .*p\.jsonl:1"):
        read_profile(tmp_path / "p.jsonl")


def test_a_missing_an_empty_and_an_unfinished_profile_are_told_apart(tmp_path):
    with pytest.raises(ProblemFileError, match="no profile"):
        read_profile(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl.partial").write_text(json.dumps(SOUND) + "\n")
    with pytest.raises(ProblemFileError, match="not complete"):
        read_profile(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_text("")
    with pytest.raises(ProblemFileError, match="empty profile"):
        read_profile(tmp_path / "p.jsonl")
