"""A run whose stages choose their problems, help with the hardest, and refill their steps: with the real engine."""

import json
from statistics import fmean

import pytest
import torch
from polaris_data import read_problems, read_profile, read_visits
from polaris_rollout.engines.parity import group_logprobs
from polaris_rollout.store import read_columns, read_groups
from polaris_train.run_folder import RunFolder
from transformers import AutoModelForCausalLM, AutoTokenizer

SIZE, STEPS, SHARE = 4, 3, 0.5

RECIPE = f"""
model = "tiny"
problems = "synthetic"
limit = 72
held_out = 8
prompts_per_step = {SIZE}
samples_per_prompt = 4
max_prompt_tokens = 256
evaluate_every = 0

[data]
decontaminate = []
profile_samples = 4
profile_temperature = 1.0

[[stages]]
name = "plain"
context = 384
temperature = 1.0
steps = 2
select = ["accuracy between 0.2 0.8"]

[[stages]]
name = "helped"
context = 384
temperature = 1.0
steps = {STEPS}
select = ["keep level=3,4,5,6,7,8"]
hint_share = {SHARE}
refill_below = 1.0

[evaluation]
benchmarks = []
"""

MARK = "\n\nHint, the beginning of a reference solution:\n"


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    place = tmp_path_factory.mktemp("curricula")
    (place / "two.toml").write_text(RECIPE)
    done = command("polaris", "run", "two.toml", "--out", "run", cwd=place, timeout=3000)
    assert done.returncode == 0, done.stderr
    return RunFolder(place / "run")


def by_id(path):
    return {each.problem_id: each for each in read_problems(str(path))}


def decided(stage):
    return {each["problem_id"]: each for each in json.loads(stage.curriculum.read_text())["decisions"]}


def visits_of(stage):
    return read_visits([stage.visits]).visits


def steps_of(stage):
    """Return the groups of each step, with what was graded right."""
    steps = []
    for number in stage.rollout_steps():
        outcomes = iter(read_columns(stage.rollout(number), ["outcome"])["outcome"])
        groups = list(read_groups(stage.rollout(number)))
        steps.append([(group, [next(outcomes) == "correct" for _ in group.completions]) for group in groups])
    return steps


def informative(right):
    return len(set(right)) == 2


@pytest.mark.slow
def test_the_first_stage_has_the_band_of_the_profile_and_nothing_else(run):
    stage = run.stage("plain")
    share = {each.problem_id: each.num_correct / each.num_samples for each in read_profile(run.profile)}
    given = by_id(run.selected)
    wanted = {name for name in given if 0.2 <= share[name] <= 0.8}
    assert SIZE <= len(wanted) < len(given)
    assert by_id(stage.problems).keys() == wanted >= {each.problem_id for each in visits_of(stage)}
    outside = "mean accuracy not between 0.2 and 0.8"
    for name, each in decided(stage).items():
        assert (each["kept"], each["reason"]) == ((name in wanted), "no rule drops it" if name in wanted else outside)


@pytest.mark.slow
def test_hints_begin_the_solutions_of_what_was_never_solved_and_stand_in_no_other_prompt(run):
    stage, tokenizer = run.stage("helped"), AutoTokenizer.from_pretrained(run.stage("plain").model)
    given = by_id(stage.selected)
    solved = {each.problem_id for each in read_profile(run.profile) if each.num_correct}
    solved |= {each.problem_id for each in visits_of(run.stage("plain")) if each.num_correct}
    wanted = {name for name, each in given.items() if each.extra["level"] >= 3}
    assert by_id(stage.problems).keys() == wanted < given.keys()
    asked = {}
    for groups in steps_of(stage):
        for group, _ in groups:
            asked[group.problem_id] = tokenizer.decode(group.prompt_token_ids)
    assert asked.keys() <= wanted
    helped = {name for name, prompt in asked.items() if MARK in prompt}
    for name in helped:
        solution, (answer,) = given[name].extra["solution"], given[name].references
        hint = asked[name].partition(MARK)[2].partition("\n(Here the hint ends.)")[0]
        assert hint and solution.startswith(hint) and len(hint) <= SHARE * len(solution)
        assert answer not in hint.replace("=", " ").replace("+", " ").replace("*", " ").replace("-", " ").split()
    assert helped and not helped & solved and asked.keys() - helped
    assert {each.problem_id for each in visits_of(stage) if each.hinted} == helped
    for name, each in decided(stage).items():
        told = "level is not 3 or 4 or 5 or 6 or 7 or 8"
        if name in wanted:
            told = "no rule drops it" if name in solved else "never solved"
        assert each["kept"] == (name in wanted) and each["reason"].startswith(told), name
        assert name not in helped or "hint of the first 50% of its solution" in each["reason"]


@pytest.mark.slow
def test_the_answers_to_hinted_prompts_are_as_probable_as_the_engine_says_and_they_alone_are_trained(run):
    stage = run.stage("helped")
    model = AutoModelForCausalLM.from_pretrained(run.stage("plain").model, dtype=torch.float32).eval()
    first, *_ = steps = steps_of(stage)
    hinted = {each.problem_id for each in visits_of(stage) if each.hinted}
    groups = [group for group, _ in first if group.problem_id in hinted]
    assert groups, "no problem of the first step has a hint"
    with torch.no_grad():
        expected = [group_logprobs(model, group, 1.0) for group in groups]
    gaps = [
        abs(drawn - right)
        for group, rows in zip(groups, expected, strict=True)
        for completion, row in zip(group.completions, rows, strict=True)
        for drawn, right in zip(completion.logprobs, row, strict=True)
    ]
    assert max(gaps) < 1e-3
    for groups, line in zip(steps, map(json.loads, stage.metrics.read_text().splitlines()), strict=True):
        answers = [len(each.token_ids) for group, right in groups if informative(right) for each in group.completions]
        assert line["num_tokens"] == sum(answers)
        assert line["prob_gap_mean"] is None or line["prob_gap_mean"] < 1e-4


@pytest.mark.slow
def test_steps_with_too_few_informative_groups_are_refilled_and_no_others(run):
    stage = run.stage("helped")
    lines = [json.loads(line) for line in stage.metrics.read_text().splitlines()]
    added = []
    for groups, line in zip(steps_of(stage), lines, strict=True):
        told = [informative(right) for _, right in groups]
        names = [group.problem_id for group, _ in groups]
        assert len(set(names)) == len(names) <= 2 * SIZE and set(names) <= by_id(stage.problems).keys()
        assert (len(names) > SIZE) == (sum(told[:SIZE]) < SIZE)
        assert sum(told) >= SIZE or len(names) == 2 * SIZE
        assert line["refilled_groups"] == len(names) - SIZE and line["informative_share"] == fmean(told)
        added.append(len(names) - SIZE)
    assert any(added) and len(visits_of(stage)) == STEPS * SIZE + sum(added)


@pytest.mark.slow
def test_why_and_the_report_tell_of_the_curricula(run, command):
    why = command("polaris", "why", "run", "helped", cwd=run.path.parent).stdout
    for text in (why, (run.path / "report.md").read_text()):
        assert "never solved; hint of the first 50% of its solution" in text
        assert "level is not 3 or 4 or 5 or 6 or 7 or 8" in text
    report = (run.path / "report.md").read_text()
    added = sum(json.loads(line)["refilled_groups"] for line in run.stage("helped").metrics.read_text().splitlines())
    assert "**plain: curriculum** (done)" in report
    assert f"{added:,} groups were sampled beside the planned ones" in report
