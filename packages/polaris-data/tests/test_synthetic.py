import json
import random
import re
import subprocess
import sys
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import synthetic_problems
from polaris_data.problems.synthetic import (
    MAX_LEVEL,
    MAX_VALUE,
    Chain,
    Operation,
    generate_chains,
    split_of,
    write_solution,
)

seeds = st.integers(0, 2**32)


@given(seeds, st.sampled_from(["train", "held-out"]))
@settings(max_examples=20, deadline=None)
def test_a_seed_gives_the_same_problems_and_a_longer_list_begins_with_the_shorter(seed, split):
    problems = synthetic_problems(40, seed=seed, split=split)
    assert synthetic_problems(40, seed=seed, split=split) == problems
    assert synthetic_problems(15, seed=seed, split=split) == problems[:15]


def test_another_seed_gives_other_problems():
    questions = [{p.question for p in synthetic_problems(200, seed=seed, split="train")} for seed in (0, 1)]
    assert len(questions[0] & questions[1]) < 20


def test_no_problem_is_in_both_splits_whatever_the_seeds():
    train, held_out = (
        {p.question for seed in range(25) for p in synthetic_problems(120, seed=seed, split=split)}
        for split in ("train", "held-out")
    )
    assert len(train) > 1000 and len(held_out) > 1000
    assert not train & held_out
    assert {split_of(question) for question in train} == {"train"}


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_problems_are_distinct_and_the_levels_take_turns(seed):
    problems = synthetic_problems(80, seed=seed, split="train")
    assert len({p.problem_id for p in problems}) == len({p.question for p in problems}) == 80
    assert [p.extra["level"] for p in problems] == [*range(1, MAX_LEVEL + 1)] * 10


def test_chosen_levels_are_kept_and_unknown_ones_refused():
    assert {p.extra["level"] for p in synthetic_problems(9, seed=0, split="train", levels=(2, 5))} == {2, 5}
    with pytest.raises(ValueError, match=r"\[9\]"):
        synthetic_problems(1, seed=0, split="train", levels=(1, 9))


def test_a_level_that_is_named_twice_has_twice_the_turns_on_the_command_line_too(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "polaris_data", "synthetic", "--num", "8", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert [json.loads(line)["extra"]["level"] for line in run("--levels", "1,1,2,3").stdout.splitlines()] == [
        *(1, 1, 2, 3),
        *(1, 1, 2, 3),
    ]
    for levels, message in (("1,9", "levels [9] are outside 1..8"), ("a,2", "give whole numbers"), ("", "give whole")):
        refused = run("--levels", levels)
        assert refused.returncode == 2 and f"error: --levels is {levels!r}, --num 8: {message}" in refused.stderr


def test_more_problems_than_there_are_is_refused():
    with pytest.raises(ValueError, match="level 1 has no more problems"):
        synthetic_problems(20_000, seed=0, split="train", levels=(1,))


def test_a_computed_expression_equals_its_reference():
    problems = [p for p in synthetic_problems(400, seed=3, split="train") if p.question.startswith("Compute ")]
    assert len(problems) > 50
    for problem in problems:
        expression = problem.question.removeprefix("Compute ").removesuffix(".")
        assert re.fullmatch(r"[\d+*()-]+", expression)
        assert (str(eval(expression)),) == problem.references  # digits and operators only, see above


@given(seeds, st.sampled_from(["direct", "partial", "worked", "checked"]))
@settings(max_examples=25, deadline=None)
def test_every_written_solution_ends_in_the_answer_and_every_value_is_small(seed, style):
    for _, chain in islice(generate_chains(random.Random(seed), split="train"), 16):
        solution = write_solution(chain, style)
        assert solution.splitlines()[-1] == rf"\boxed{{{chain.answer}}}"
        assert all(0 <= value <= MAX_VALUE for value in chain.values)
        assert all(eval(left) == int(right) for left, right in re.findall(r"^([^=\n]+)=(\d+)$", solution, re.M))


@given(seeds)
@settings(max_examples=25, deadline=None)
def test_a_slip_is_put_right_by_the_check(seed):
    rng = random.Random(seed)
    for _, chain in islice(generate_chains(rng, split="train"), 8):
        slip_at = rng.randrange(len(chain.operations))
        first, second = write_solution(chain, "checked", slip_at=slip_at).split("Check:\n")
        wrong = [eval(left) != int(right) for left, right in re.findall(r"^([^=\n]+)=(\d+)$", first, re.M)]
        assert wrong == [index == slip_at for index in range(len(chain.operations))]
        assert second == write_solution(chain, "worked")


def test_every_step_can_be_underlined():
    chain = Chain(3, (Operation("+", 4), Operation("-", 5)))
    assert write_solution(chain, underline=True) == "\\underline{3+4=7}\n\\underline{7-5=2}\n\\boxed{2}"
    assert write_solution(chain, "direct", underline=True) == write_solution(chain, "direct")
    checked = write_solution(chain, "checked", slip_at=0, underline=True)
    assert checked.startswith("\\underline{3+4=8}\n\\underline{8-5=3}\nCheck:\n\\underline{3+4=7}")
