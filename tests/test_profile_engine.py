"""``polaris-data profile`` on the embedded model: adaptive, one run at a time, killed, from rollouts that exist."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from polaris_data import read_profile
from polaris_data.files import locked_output
from polaris_data.files.journal import settings_path

pytestmark = pytest.mark.slow

NUM_PROBLEMS = 144
ARGUMENTS = ["profile", "synthetic", "--limit", NUM_PROBLEMS, "--seed", 5, "--no-canary"]
ADAPTIVE = ["--adaptive", "--bound", 0.01, "--bound", 1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("profiles")


@pytest.fixture(scope="module")
def start(place):
    def start(*arguments):
        executable = Path(sys.executable).with_name("polaris-data")
        arguments = [executable, *map(str, arguments)]
        return subprocess.Popen(arguments, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="module")
def whole(place, command):
    """A fixed and an adaptive profile with the same seed, neither interrupted."""
    for name, options in (("fixed", []), ("adaptive", ADAPTIVE)):
        done = command("polaris-data", *ARGUMENTS, *options, "--out", f"{name}.jsonl", cwd=place, timeout=900)
        assert done.returncode == 0, done.stderr
    return read_profile(place / "fixed.jsonl"), read_profile(place / "adaptive.jsonl")


def num_tokens(profile):
    return sum(round(each.mean_tokens * each.num_samples) for each in profile)


def side(each):
    return (each.num_correct > 0) + (each.num_correct == each.num_samples)


def test_an_adaptive_profile_decides_as_all_samples_do_with_fewer_tokens(whole):
    fixed, adaptive = whole
    assert {each.num_samples for each in fixed} == {8}
    assert len({each.num_samples for each in adaptive}) > 3
    for ours, theirs in zip(adaptive, fixed, strict=True):
        assert ours.problem_id == theirs.problem_id
        # The answers of an adaptive profile are the first of those of the fixed one.
        assert ours.num_correct <= theirs.num_correct
        assert ours.num_samples - ours.num_correct <= theirs.num_samples - theirs.num_correct
        if ours.num_samples == 8:
            assert ours == theirs
    same = sum(side(ours) == side(theirs) for ours, theirs in zip(adaptive, fixed, strict=True))
    assert same >= 0.9 * NUM_PROBLEMS
    assert num_tokens(adaptive) <= 0.8 * num_tokens(fixed)
    print(f"{same}/{NUM_PROBLEMS} decided alike with {num_tokens(adaptive) / num_tokens(fixed):.1%} of the tokens")


def test_how_it_was_sampled_is_recorded(place, whole):
    settings = json.loads(settings_path(place / "adaptive.jsonl").read_text())
    assert settings["adaptive"] == {"bounds": [0.01, 1.0], "at_a_time": 1}
    assert settings["temperature"] == 1.0 and settings["context"] is None and settings["model_digest"]


def test_an_adaptive_profile_is_shown_and_selected_from(place, whole, command):
    shown = command("polaris-data", "show", "adaptive.jsonl", cwd=place, timeout=900)
    assert shown.returncode == 0, shown.stderr
    assert f"{NUM_PROBLEMS} problems, shape" in shown.stdout and "8/8" in shown.stdout
    arguments = ["select", "synthetic", "adaptive.jsonl", "--limit", NUM_PROBLEMS, "--out", "selected"]
    selected = command("polaris-data", *arguments, cwd=place, timeout=900)
    assert selected.returncode == 0, selected.stderr
    kept = len((place / "selected" / "selected.jsonl").read_text().splitlines())
    assert kept == sum(each.accuracy < 1 for each in whole[1])


def test_a_second_run_on_the_same_output_is_refused_while_the_first_goes_on(place, command):
    with locked_output(place / "busy.jsonl"):
        refused = command("polaris-data", *ARGUMENTS, "--out", "busy.jsonl", cwd=place, timeout=900)
    assert refused.returncode == 2
    assert "another process is writing busy.jsonl; wait for it" in refused.stderr
    assert not list(place.glob("busy*"))


def test_kills_at_random_moments_change_nothing(place, whole, start, command):
    chance = random.Random()
    out = place / "broken" / "adaptive.jsonl"
    partial = out.with_name("adaptive.jsonl.partial")
    moments = []
    for _ in range(2):
        with start(*ARGUMENTS, *ADAPTIVE, "--out", "broken/adaptive.jsonl") as process:
            wanted = sum(moments) + chance.randrange(1, 150)
            while not partial.exists() or partial.read_bytes().count(b"\n") < wanted:
                assert process.poll() is None, process.communicate()
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
        moments.append(partial.read_bytes().count(b"\n") - sum(moments))
    print("answers drawn between kills:", moments)
    assert not out.exists()
    done = command("polaris-data", *ARGUMENTS, *ADAPTIVE, "--out", "broken/adaptive.jsonl", cwd=place, timeout=900)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == (place / "adaptive.jsonl").read_bytes()
    assert settings_path(out).read_bytes() == settings_path(place / "adaptive.jsonl").read_bytes()
    assert {path.name for path in out.parent.iterdir()} == {out.name, settings_path(out).name, "adaptive.rollouts"}
    again = ["--completions", "broken/adaptive.rollouts", "--out", "broken/again.jsonl"]
    counted = command("polaris-data", "profile", "synthetic", "--limit", NUM_PROBLEMS, *again, cwd=place, timeout=900)
    assert counted.returncode == 0, counted.stderr
    assert (place / "broken" / "again.jsonl").read_bytes() == out.read_bytes()


@pytest.mark.parametrize("name", ["fixed", "adaptive"])
def test_the_completions_that_were_kept_give_the_same_profile_and_traces(place, whole, command, name):
    given = ["synthetic", "--limit", NUM_PROBLEMS]
    again = ["--completions", f"{name}.rollouts", "--out", f"{name}.again.jsonl"]
    done = command("polaris-data", "profile", *given, *again, cwd=place, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (place / f"{name}.again.jsonl").read_bytes() == (place / f"{name}.jsonl").read_bytes()
    done = command(
        "polaris-data", "traces", *given, f"{name}.rollouts", "--out", f"{name}.traces.jsonl", cwd=place, timeout=900
    )
    assert done.returncode == 0, done.stderr
    traces = [json.loads(line) for line in (place / f"{name}.traces.jsonl").read_text().splitlines()]
    num_truncated = sum(each.num_truncated for each in read_profile(place / f"{name}.jsonl"))
    num_correct = sum(each.num_correct for each in read_profile(place / f"{name}.jsonl"))
    assert num_correct - num_truncated <= len(traces) <= num_correct
    shown = command("polaris-data", "show", f"{name}.jsonl", cwd=place, timeout=900)
    assert "answers by length" in shown.stdout and "distinct-4 diversity" in shown.stdout


def test_rollouts_give_the_profile_that_sampling_gives(place, whole, command):
    from polaris_data import read_problems, to_prompt

    rows = [
        {"problem_id": each.problem_id, "question": to_prompt(each)}
        for each in read_problems("synthetic", limit=NUM_PROBLEMS)
    ]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["sample", "prompts.jsonl", "--seed", 5, "--out", "rollouts", "--no-canary"]
    done = command("polaris-rollout", *arguments, cwd=place, timeout=900)
    assert done.returncode == 0, done.stderr
    arguments = ["profile", "synthetic", "--limit", NUM_PROBLEMS, "--completions", "rollouts", "--out", "counted.jsonl"]
    done = command("polaris-data", *arguments, cwd=place, timeout=900)
    assert done.returncode == 0, done.stderr
    assert (place / "counted.jsonl").read_bytes() == (place / "fixed.jsonl").read_bytes()
    other = command("polaris-data", *arguments, "--model", "org/other", "--out", "other.jsonl", cwd=place, timeout=900)
    assert other.returncode == 2 and "model is 'tiny', not 'org/other'" in other.stderr
