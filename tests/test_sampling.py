"""``polaris-rollout sample`` on the embedded model: read while it writes, killed, continued, refused."""

import json
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from polaris_data import synthetic_problems, to_prompt
from polaris_rollout.store import read_columns, read_store

NUM_PROMPTS, NUM_SAMPLES = 160, 8
ARGUMENTS = ["sample", "prompts.jsonl", "--samples", NUM_SAMPLES, "--temperature", 1.2, "--seed", 9, "--no-canary"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampling")
    problems = synthetic_problems(NUM_PROMPTS, seed=3, split="held-out")
    rows = [{"problem_id": problem.problem_id, "question": to_prompt(problem)} for problem in problems]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def start(place):
    """Start a job and return its process, to be read, killed or waited for."""

    def start(out):
        executable = Path(sys.executable).with_name("polaris-rollout")
        arguments = [executable, *map(str, ARGUMENTS), "--out", out]
        return subprocess.Popen(arguments, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def wait_for_groups(folder, num_groups, process):
    """Read a growing store until it holds so many groups, and return what each look found."""
    looks = []
    while not looks or len(looks[-1]) < num_groups:
        assert process.poll() is None, f"the job ended too early: {process.communicate()}"
        looks.append(list(read_store(folder)) if folder.exists() else [])
        time.sleep(0.02)
    return looks


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def watched(place, start, command):
    """An uninterrupted job: what was seen of it from outside, and a second one like it that was refused."""
    with start("whole") as process:
        looks = wait_for_groups(place / "whole", 1, process)
        refused = command("polaris-rollout", *ARGUMENTS, "--out", "whole", cwd=place)
        looks += wait_for_groups(place / "whole", NUM_PROMPTS, process)
        printed, errors = process.communicate()
    assert process.returncode == 0, errors
    return looks, refused, printed


def test_a_store_is_read_by_others_while_it_is_written(place, watched):
    looks, _, printed = watched
    for before, after in pairwise(looks):
        assert after[: len(before)] == before
    assert len({len(look) for look in looks}) > 3
    groups = list(read_store(place / "whole"))
    assert groups == looks[-1]
    assert {len(group.completions) for group in groups} == {NUM_SAMPLES}
    assert len({group.problem_id for group in groups}) == len(groups) == NUM_PROMPTS
    assert all(group.weights_version for group in groups)
    total = NUM_PROMPTS * NUM_SAMPLES
    assert f"whole: {NUM_PROMPTS} groups, 0 of them from before, with {total:,} completions" in printed
    lengths = sorted(len(each.token_ids) for found in groups for each in found.completions)
    truncated = sum(each.finish_reason == "length" for found in groups for each in found.completions)
    assert f"{truncated / total:.1%} truncated; tokens: mean {sum(lengths) / total:,.0f}" in printed
    assert f"longest {lengths[-1]:,}; " in printed and "tokens/s" in printed
    assert names(place / "whole") == {".lock", "settings.json", "part-000001.parquet"}


def test_a_second_job_on_the_same_folder_is_refused_at_once(watched):
    refused = watched[1]
    assert refused.returncode == 2
    assert refused.stderr == "error: another process is writing to whole; wait for it or choose another folder\n"


def test_a_finished_job_starts_no_engine_and_other_settings_are_refused(place, watched, command):
    again = command("polaris-rollout", *ARGUMENTS, "--out", "whole", cwd=place, timeout=60)
    assert again.returncode == 0, again.stderr
    assert f"{NUM_PROMPTS} of them from before" in again.stdout
    other = command("polaris-rollout", *ARGUMENTS, "--out", "whole", "--top-k", 20, cwd=place)
    assert other.returncode == 2
    assert "another job (top_k was 0, now 20)" in other.stderr


def test_prompts_that_are_too_long_are_listed_and_nothing_is_sampled(place, command):
    rows = [{"id": name, "question": "word " * num_words} for name, num_words in (("short", 9), ("long", 400))]
    (place / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["sample", "long.jsonl", "--context", 200, "--no-canary", "--out", "none"]
    done = command("polaris-rollout", *arguments, cwd=place)
    assert done.returncode == 2, done.stderr
    assert "'long'" in done.stderr
    assert "'short'" not in done.stderr
    assert "Traceback" not in done.stderr
    assert names(place / "none") == {".lock"}


@pytest.mark.parametrize(
    ("option", "part"),
    [
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--top-p", "0"], "top_p is 0.0"),
        (["--top-k", "-1"], "top_k is -1"),
        (["--max-tokens", "0"], "max_tokens is 0"),
        (["--samples", "0"], "--samples is 0"),
        (["--endpoint", "http://127.0.0.1:1", "--tensor-parallel", "2"], "start the servers with it"),
    ],
)
def test_options_out_of_range_are_refused_before_an_engine_starts(place, command, option, part):
    done = command("polaris-rollout", "sample", "prompts.jsonl", "--out", "refused", *option, cwd=place, timeout=60)
    assert done.returncode == 2
    assert part in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (place / "refused").exists()


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing_and_draw_nothing_twice(place, watched, start):
    chance, folder = random.Random(), place / "broken"
    kept, moments = [], []
    for when in ("at the start", "sampling", "sampling", "sampling"):
        with start("broken") as process:
            if when == "sampling":
                wait_for_groups(folder, len(kept) + chance.randrange(1, 30), process)
                time.sleep(chance.random() / 10)
            else:
                time.sleep(10 * chance.random())
            process.send_signal(signal.SIGKILL)
        stored = list(read_store(folder)) if folder.exists() else []
        assert stored[: len(kept)] == kept
        moments.append(len(stored) - len(kept))
        kept = stored
    print("groups finished between kills:", moments)
    assert 0 < len(kept) < NUM_PROMPTS
    with start("broken") as process:
        printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert f"{len(kept)} of them from before" in printed

    groups = list(read_store(folder))
    assert groups[: len(kept)] == kept
    assert len({group.problem_id for group in groups}) == len(groups) == NUM_PROMPTS
    assert all(name.endswith(".parquet") for name in names(folder) - {".lock", "settings.json"})
    whole = {group.problem_id: group for group in read_store(place / "whole")}
    for group in groups:
        ours, theirs = group.completions, whole[group.problem_id].completions
        assert group.prompt_token_ids == whole[group.problem_id].prompt_token_ids
        assert group.weights_version == whole[group.problem_id].weights_version
        for one, other in zip(ours, theirs, strict=True):
            assert (one.token_ids, one.text, one.finish_reason) == (other.token_ids, other.text, other.finish_reason)
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
    assert seeds(folder) == seeds(place / "whole")


def seeds(folder):
    columns = [read_columns(path, ["problem_id", "sample", "seed"]) for path in sorted(folder.glob("part-*.parquet"))]
    return {row[:2]: row[2] for each in columns for row in zip(*each.values(), strict=True)}
