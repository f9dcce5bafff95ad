"""A profile keeps its completions: killed, damaged, graded again, they and the counts agree."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data import (
    Journal,
    OtherRunError,
    ProblemFileError,
    read_problems,
    read_profile,
    synthetic_problems,
    to_prompt,
)
from polaris_data.cli.main import main
from polaris_data.files.journal import claim_output
from polaris_data.profile.adaptive import Settling
from polaris_data.profile.counting import count_completions, profile_completions
from polaris_data.profile.files import profile_path, rollouts_path, write_profile
from polaris_data.profile.grades import GradedAnswers, read_grades
from polaris_data.profile.lengths import count_lengths
from polaris_data.profile.rollouts import ProfileRollouts, answer_diversity
from polaris_data.profile.sampling import profile, profile_settings
from polaris_reward.records import Grade, Outcome
from polaris_rollout import Completion, EngineSpec, Group, SamplingParams, StoreError, completion_seed
from polaris_rollout.store import RolloutStore, read_columns, read_store
from polaris_rollout.temperature import expected_distinct_n

PROBLEMS = synthetic_problems(40, seed=8, split="train")
PARAMS = SamplingParams(temperature=0.9, seed=3)
SETTINGS = {"command": "polaris-data profile", "model": "guess", "temperature": 0.9}
SETTLING = Settling(bounds=(0.5,))


class Guesser:
    """Answers as its seed says; groups finish in an order of their own. It counts what it draws."""

    def __init__(self, *, stop_after=None, pause=0.0, weights_version="w"):
        self.stop_after, self.pause, self.weights_version = stop_after, pause, weights_version
        self.drawn = []

    def sample(self, prompts, params, *, n):
        by_prompt = {to_prompt(problem): problem for problem in PROBLEMS}
        order, waiting, prompts = random.Random(1), [], iter(prompts)
        while True:
            waiting += itertools.islice(prompts, 4 - len(waiting))
            if not waiting:
                return
            if len(self.drawn) == self.stop_after:
                raise KeyboardInterrupt
            prompt = waiting.pop(order.randrange(len(waiting)))
            samples = range(prompt.first_sample, prompt.first_sample + n)
            self.drawn += [(prompt.problem_id, sample) for sample in samples]
            problem = by_prompt[prompt.text]
            yield Group(
                problem_id=prompt.problem_id,
                prompt_token_ids=(1, 2),
                completions=tuple(self._completion(problem, sample, params) for sample in samples),
                weights_version=self.weights_version,
            )
            time.sleep(self.pause)

    def _completion(self, problem, sample, params):
        chance = random.Random(completion_seed(params.seed, problem.problem_id, sample))
        skill = PROBLEMS.index(problem) / len(PROBLEMS)
        length = chance.randrange(1, 9)
        return Completion(
            token_ids=tuple(range(length)),
            logprobs=(-0.5,) * length,
            text=problem.references[0] if chance.random() < skill else "none",
            finish_reason="length" if length == 8 else "stop",
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


def run(out, sampler, *, settling=None, grade=grade_equal):
    with ProfileRollouts(rollouts_path(out), SETTINGS, PARAMS) as rollouts:
        return list(
            profile(
                PROBLEMS,
                sampler,
                grade,
                params=PARAMS,
                num_samples=8,
                journal=Journal(out),
                settling=settling,
                rollouts=rollouts,
            )
        )


def in_store(folder):
    """Return each completion of a store under its problem and number."""
    found, numbers = {}, Counter()
    for group in read_store(folder):
        for completion in group.completions:
            found[group.problem_id, numbers[group.problem_id]] = completion
            numbers[group.problem_id] += 1
    return found


def check(out):
    """Assert that profile, grades and completions say the same."""
    stored = in_store(rollouts_path(out))
    graded = {
        (each.problem_id, each.first_sample + number): values
        for each in read_grades(rollouts_path(out))
        for number, values in enumerate(zip(each.outcomes, each.num_tokens, each.truncated, strict=True))
    }
    references = {problem.problem_id: problem.references for problem in PROBLEMS}
    assert graded == {
        (problem_id, number): (
            "correct" if each.text in references[problem_id] else "incorrect",
            len(each.token_ids),
            each.finish_reason == "length",
        )
        for (problem_id, number), each in stored.items()
    }
    again = out.with_name("again.jsonl")
    write_profile(again, profile_completions(PROBLEMS, rollouts_path(out), grade_equal))
    assert again.read_bytes() == out.read_bytes()


@pytest.fixture(params=[None, SETTLING], ids=["fixed", "adaptive"])
def settling(request):
    return request.param


@pytest.fixture
def whole(tmp_path, settling):
    """The bytes of a profile without a store."""
    path = tmp_path / "whole.jsonl"
    list(
        profile(
            PROBLEMS, Guesser(), grade_equal, params=PARAMS, num_samples=8, journal=Journal(path), settling=settling
        )
    )
    return path.read_bytes()


def test_the_folder_is_named_after_the_profile():
    assert rollouts_path(Path("data/profile.jsonl")) == Path("data/profile.rollouts")
    assert rollouts_path(Path("profile.v1")) == Path("profile.v1.rollouts")
    assert profile_path(Path("data/profile.rollouts")) == Path("data/profile.jsonl")


def test_a_profile_is_the_same_with_its_completions_kept(tmp_path, settling, whole):
    sampler = Guesser()
    run(tmp_path / "p.jsonl", sampler, settling=settling)
    assert (tmp_path / "p.jsonl").read_bytes() == whole
    assert set(in_store(tmp_path / "p.rollouts")) == set(sampler.drawn)
    check(tmp_path / "p.jsonl")
    if settling:
        assert len({json.loads(line)["num_samples"] for line in whole.splitlines()}) > 3


def test_the_store_numbers_and_seeds_every_completion_as_the_sampler_does(tmp_path, settling):
    run(tmp_path / "p.jsonl", Guesser(), settling=settling)
    (part,) = (tmp_path / "p.rollouts").glob("*.parquet")
    columns = read_columns(part, ["problem_id", "sample", "seed", "temperature"])
    for problem_id, sample, seed in zip(columns["problem_id"], columns["sample"], columns["seed"], strict=True):
        assert seed == completion_seed(PARAMS.seed, problem_id, sample)
    assert columns["temperature"] == pytest.approx([0.9] * len(columns["seed"]))


def test_stops_at_any_group_draw_nothing_twice_and_end_with_the_same_bytes(tmp_path, settling, whole):
    drawn, out = [], tmp_path / "p.jsonl"
    for stop_after in (1, 3, 20, 1, 30):
        sampler = Guesser(stop_after=8 * stop_after if settling is None else stop_after)
        if settling is None and len(drawn) + 8 * stop_after >= 8 * len(PROBLEMS):
            break
        with pytest.raises(KeyboardInterrupt):
            run(out, sampler, settling=settling)
        drawn += sampler.drawn
    last = Guesser()
    run(out, last, settling=settling)
    assert len(drawn + last.drawn) == len(set(drawn + last.drawn))
    assert out.read_bytes() == whole
    check(out)
    assert sorted(path.name for path in (tmp_path / "p.rollouts").iterdir()) == [
        ".lock",
        "grades.jsonl",
        "part-000001.parquet",
        "settings.json",
    ]


@pytest.mark.parametrize("lost", ["counts", "grades", "both", "a line of each", "torn"])
def test_a_group_whose_count_or_grade_is_missing_is_graded_and_not_sampled(tmp_path, settling, whole, lost):
    out = tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(out, Guesser(stop_after=160 if settling is None else 50), settling=settling)
    counts, grades = tmp_path / "p.jsonl.partial", tmp_path / "p.rollouts" / "grades.jsonl.partial"
    before = set(in_store(tmp_path / "p.rollouts"))
    if lost in ("counts", "both"):
        counts.unlink()
    if lost in ("grades", "both"):
        grades.unlink()
    if lost in ("a line of each", "torn"):
        for path, keep in ((counts, -2), (grades, -5)):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(lines[:keep]) + ('{"problem_id": "syn' if lost == "torn" else ""))
    last = Guesser()
    run(out, last, settling=settling)
    assert not before & set(last.drawn)
    assert out.read_bytes() == whole
    check(out)


def test_what_the_store_lost_is_drawn_again_whatever_was_counted(tmp_path, settling, whole):
    out = tmp_path / "p.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(out, Guesser(stop_after=160 if settling is None else 50), settling=settling)
    tail = tmp_path / "p.rollouts" / "part-000001.tail"
    os.truncate(tail, tail.stat().st_size // 2)
    run(out, Guesser(), settling=settling)
    assert out.read_bytes() == whole
    check(out)


def test_a_profile_that_was_removed_is_counted_from_the_store(tmp_path, settling, whole):
    out, nobody = tmp_path / "p.jsonl", Guesser()
    run(out, Guesser(), settling=settling)
    out.unlink()
    run(out, nobody, settling=settling)
    assert nobody.drawn == [] and out.read_bytes() == whole


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import {module} as test
test.run(Path(sys.argv[1]), test.Guesser(pause=0.002), settling=test.SETTLING if sys.argv[2] == "adaptive" else None)
"""


def test_kill_9_at_random_moments_changes_nothing(tmp_path, settling, whole):
    folder, module = os.path.split(__file__)
    script = KILLED.format(folder=folder, module=module.removesuffix(".py"))
    out, store = tmp_path / "p.jsonl", tmp_path / "p.rollouts"
    command = [sys.executable, "-c", script, str(out), "adaptive" if settling else "fixed"]
    chance, sizes = random.Random(), []
    for _ in range(4):
        before = in_store(store) if store.exists() else {}
        with subprocess.Popen(command) as process:
            while process.poll() is None and (not store.exists() or len(in_store(store)) <= len(before)):
                time.sleep(0.002)
            time.sleep(chance.random() * 0.05)
            process.send_signal(signal.SIGKILL)
        after = in_store(store)
        assert before.items() <= after.items()
        sizes.append(len(after))
    print("completions in the store after each kill:", sizes)
    last = Guesser()
    run(out, last, settling=settling)
    assert not set(after) & set(last.drawn)
    assert out.read_bytes() == whole
    check(out)


def test_a_store_of_other_settings_or_problems_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "p.jsonl", Guesser(stop_after=16))
    with pytest.raises(StoreError, match="belongs to another job"):
        ProfileRollouts(tmp_path / "p.rollouts", SETTINGS | {"model": "other"}, PARAMS)
    with (
        ProfileRollouts(tmp_path / "p.rollouts", SETTINGS, PARAMS) as rollouts,
        pytest.raises(OtherRunError, match=r"p\.rollouts has a profile of .* not among the problems"),
    ):
        journal = Journal(tmp_path / "p.jsonl")
        options = {"params": PARAMS, "num_samples": 8, "journal": journal, "rollouts": rollouts}
        list(profile(PROBLEMS[:1], Guesser(), grade_equal, **options))


def test_a_mended_grader_needs_no_new_samples(tmp_path, settling):
    def lenient(items):
        return [replace(grade, outcome=Outcome.CORRECT) for grade in grade_equal(items)]

    run(tmp_path / "p.jsonl", Guesser(), settling=settling)
    again = profile_completions(PROBLEMS, tmp_path / "p.rollouts", lenient)
    assert all(each.num_correct == each.num_samples for each in again)


def test_completions_of_a_profile_that_is_under_way_are_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "p.jsonl", Guesser(stop_after=16))
    with pytest.raises(ProblemFileError, match=r"p\.rollouts is of the profile '.*p\.jsonl', which is not complete"):
        count_completions(PROBLEMS, tmp_path / "p.rollouts", tmp_path / "again.jsonl", wanted={})
    assert not (tmp_path / "again.jsonl").exists()


def test_a_profile_that_was_continued_with_servers_is_of_one_model(tmp_path):
    """Their weights have another name than those of the engine in the process."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "p.jsonl", Guesser(stop_after=16))
    run(tmp_path / "p.jsonl", Guesser(weights_version="http"))
    assert len({group.weights_version for group in read_store(tmp_path / "p.rollouts")}) == 2
    check(tmp_path / "p.jsonl")


def test_groups_of_some_problems_are_read_from_tails_and_parts(tmp_path):
    run(tmp_path / "p.jsonl", Guesser(), settling=SETTLING)
    folder, wanted = tmp_path / "p.rollouts", {PROBLEMS[3].problem_id, PROBLEMS[30].problem_id}
    some = {key: each for key, each in in_store(folder).items() if key[0] in wanted}
    with RolloutStore(tmp_path / "tail") as store:
        for group in read_store(folder):
            store.append(group, PARAMS, first_sample=store.num_samples[group.problem_id])
        for place in (folder, tmp_path / "tail"):
            numbers, found = Counter(), {}
            for group in read_store(place, problem_ids=wanted):
                for completion in group.completions:
                    found[group.problem_id, numbers[group.problem_id]] = completion
                    numbers[group.problem_id] += 1
            assert found == some
    assert list(read_store(folder, problem_ids=set())) == []


def test_completions_that_do_not_follow_those_in_a_store_are_refused(tmp_path):
    run(tmp_path / "p.jsonl", Guesser())
    group = next(read_store(tmp_path / "p.rollouts"))
    with RolloutStore(tmp_path / "store") as store:
        with pytest.raises(ValueError, match="do not follow the 0"):
            store.append(group, PARAMS, first_sample=8)
        store.append(group, PARAMS)
        with pytest.raises(ValueError, match="already"):
            store.append(group, PARAMS, first_sample=4)
        store.append(group, PARAMS, first_sample=8)
        assert store.num_samples[group.problem_id] == 16
    assert [len(each.completions) for each in read_store(tmp_path / "store")] == [16]


def test_answers_are_counted_by_their_length(tmp_path, settling):
    run(tmp_path / "p.jsonl", Guesser(), settling=settling)
    stored = in_store(tmp_path / "p.rollouts")
    lengths = count_lengths(read_grades(tmp_path / "p.rollouts"))
    references = {problem.problem_id: problem.references for problem in PROBLEMS}
    expected = {"every": Counter(), "correct": Counter(), "truncated": Counter()}
    for (problem_id, _), each in stored.items():
        length = len(each.token_ids)
        expected["every"][length] += 1
        expected["correct"][length] += each.text in references[problem_id]
        expected["truncated"][length] += each.finish_reason == "length"
    assert lengths.width == 1 and lengths.longest == 8
    for name, counts in expected.items():
        assert getattr(lengths, name) == tuple(counts[length] for length in range(9))
    ordered = sorted(len(each.token_ids) for each in stored.values())
    assert lengths.median == ordered[(len(ordered) - 1) // 2]


@given(st.lists(st.integers(0, 60_000), min_size=1))
def test_every_answer_has_a_bin_and_there_are_few(num_tokens):
    size = len(num_tokens)
    graded = GradedAnswers(
        problem_id="a",
        first_sample=0,
        outcomes=("correct",) * size,
        num_tokens=tuple(num_tokens),
        truncated=(False,) * size,
    )
    lengths = count_lengths([graded])
    assert sum(lengths.every) == sum(lengths.correct) == size and sum(lengths.truncated) == 0
    assert len(lengths.every) <= 20 and lengths.every[-1] > 0
    assert lengths.median == lengths.median_correct == sorted(num_tokens)[(size - 1) // 2]


def test_the_diversity_of_a_profile_is_that_of_all_its_answers(tmp_path, settling):
    run(tmp_path / "p.jsonl", Guesser(), settling=settling)
    found = answer_diversity(tmp_path / "p.rollouts", read_profile(tmp_path / "p.jsonl"))
    samples = {problem.problem_id: [] for problem in sorted(PROBLEMS, key=lambda each: each.problem_id)}
    for (problem_id, _), each in sorted(in_store(tmp_path / "p.rollouts").items()):
        samples[problem_id].append(np.array(each.token_ids))  # Also where it was cut: its first tokens are known.
    assert found.num_samples == 4 and found.num_tokens == 4
    values = expected_distinct_n(list(samples.values()), num_samples=4, num_tokens=4)
    assert found.value == pytest.approx(np.nanmean(values)) and found.low <= found.value <= found.high
    assert found.num_problems == np.count_nonzero(~np.isnan(values)) > 3
    assert (found.published is None) == (settling is not None)


def test_too_few_problems_have_no_diversity(tmp_path):
    run(tmp_path / "p.jsonl", Guesser())
    assert answer_diversity(tmp_path / "p.rollouts", read_profile(tmp_path / "p.jsonl")[:3]) is None


def test_show_tells_of_the_answers_where_they_are(tmp_path, settling):
    run(tmp_path / "p.jsonl", Guesser(), settling=settling)
    arguments = [sys.executable, "-m", "polaris_data", "show", "p.jsonl", "--html", "p.html", "--png", "p.png"]
    shown = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "answers by length" in shown and "distinct-4 diversity" in shown
    page, picture = (tmp_path / "p.html").read_text(), (tmp_path / "p.png").read_bytes()
    assert "distinct-4 diversity" in page and "<th>truncated</th>" in page
    shutil.rmtree(tmp_path / "p.rollouts")
    bare = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert bare.splitlines()[:5] == shown.splitlines()[:5] and "answers by length" not in bare
    assert (tmp_path / "p.png").read_bytes() != picture


def test_an_old_profile_without_a_store_continues_without_one_and_says_so(tmp_path, monkeypatch, capsys):
    """As far as the engine, which this model folder has none for."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"max_position_embeddings": 128}')
    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    problems = read_problems("synthetic", limit=4)
    engine = EngineSpec("model", endpoints=("http://127.0.0.1:9",))
    settings = profile_settings(problems, engine, params=SamplingParams(), num_samples=8)
    claim_output(Path("p.jsonl"), settings)
    counts = {"num_samples": 8, "num_correct": 2, "num_truncated": 0, "mean_tokens": 20.0}
    Journal(Path("p.jsonl")).append({"problem_id": problems[0].problem_id, **counts})
    arguments = "profile synthetic --limit 4 --model model --endpoint http://127.0.0.1:9 --out p.jsonl"
    monkeypatch.setattr(sys, "argv", ["polaris-data", *arguments.split()])
    with pytest.raises(SystemExit):
        main()
    said = "p.jsonl was begun without p.rollouts: its completions are not kept; choose another --out to keep them"
    assert said in capsys.readouterr().err.splitlines()
    assert not Path("p.rollouts").exists()


def test_a_store_without_its_profile_is_not_written_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("p.rollouts").mkdir()
    arguments = "profile synthetic --limit 4 --model tiny --endpoint http://127.0.0.1:9 --out p.jsonl"
    monkeypatch.setattr(sys, "argv", ["polaris-data", *arguments.split()])
    with pytest.raises(SystemExit):
        main()
    assert "p.rollouts exists without p.jsonl.settings.json beside it" in capsys.readouterr().err
