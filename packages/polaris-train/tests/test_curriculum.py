"""What a stage takes of its problems, which it sees again, which get a hint, and when a step is refilled."""

import json
from dataclasses import replace
from itertools import chain

import pytest
from polaris_data import Difficulty, Problem, SettingError, Visit
from polaris_data.problems import synthetic_problems
from polaris_data.profile import write_profile
from polaris_reward import Outcome
from polaris_rollout import Completion, Group
from polaris_train.errors import RecipeError, RunFolderError
from polaris_train.grpo.batches import BatchSettings, training_batches
from polaris_train.recipe import load_recipe
from polaris_train.records import GradedGroup
from polaris_train.run_folder import RunFolder
from polaris_train.stage.curriculum import stage_problems
from polaris_train.stage.hints import HINT, hinted_ids, hints_for, with_hints
from polaris_train.stage.passes import draw_problems, pass_of, seen_in
from polaris_train.stage.refill import refill_order, refilled

SOLUTION = "Let x be the width. Then x + 3 = 10 holds.\nSo x = 7 cm wide. The area is therefore $x^2$, which is 49."


def problem(name, *, references=("49",), **extra):
    return Problem(problem_id=name, question=f"What is {name}?", references=references, extra=extra)


def graded(name, num_correct, num_samples=4):
    completion = Completion(token_ids=(1, 2), logprobs=(-1.0, -1.0), text="", finish_reason="stop")
    return GradedGroup(
        group=Group(problem_id=name, prompt_token_ids=(1,), completions=(completion,) * num_samples),
        outcomes=tuple(Outcome.CORRECT if place < num_correct else Outcome.INCORRECT for place in range(num_samples)),
        answers=(None,) * num_samples,
    )


# Hints


@pytest.mark.parametrize(
    ("solution", "references", "share", "text", "cut"),
    [
        (SOLUTION, ("49",), 0.5, "Let x be the width. Then x + 3 = 10 holds.\nSo x = 7", False),
        (SOLUTION, ("49",), 0.25, "Let x be the width. Then", False),
        (SOLUTION, ("7",), 0.6, "Let x be the width. Then x + 3 = 10 holds.", True),
        # another form of the answer, at the end of a sentence, as the grader reads it
        (r"First, y = 0.5. " + "More words follow here. " * 3, (r"\frac{1}{2}",), 0.5, "", True),
        # in the middle of a sentence, literally
        ("There are 12 cats and 3 dogs in it. " * 4, ("12",), 0.5, "", True),
        # digits of another number are not the answer
        ("There are 112 cats and 3 dogs. " * 4, ("12",), 0.5, ("There are 112 cats and 3 dogs. " * 2).strip(), False),
        (r"We begin. Hence \boxed{ 49 } is it. Now for the rest of it all.", ("49",), 0.9, "We begin.", True),
        ("One two three four", ("9",), 0.5, "One two", False),
    ],
)
def test_a_hint_is_the_beginning_of_the_solution_up_to_the_answer(solution, references, share, text, cut):
    hint = hints_for([problem("p", references=references, solution=solution)], share)["p"]
    assert (hint.text, hint.cut) == (text, cut)
    assert len(hint.text) <= share * len(solution)


def test_no_hint_of_a_generated_problem_has_its_answer_in_it():
    problems = synthetic_problems(64, seed=3, split="train")
    hints = hints_for(problems, 0.9)
    assert set(hints) == {each.problem_id for each in problems}
    assert sum(bool(hint.text) for hint in hints.values()) > 16
    for each in problems:
        numbers = hints[each.problem_id].text.replace("=", " ").replace("+", " ").replace("*", " ").replace("-", " ")
        assert each.references[0] not in numbers.split()


def test_a_problem_without_a_solution_has_no_hint_and_the_others_say_where_theirs_is_from():
    plain, other = problem("p"), problem("q", solution=3)
    assert hints_for([plain, other], 0.5) == {}
    asked = with_hints([plain, problem("r", **{HINT: "Begin with x."})])
    assert asked[0] == plain
    assert asked[1].question == (
        "What is r?\n\nHint, the beginning of a reference solution:\nBegin with x.\n(Here the hint ends.)"
    )
    assert hinted_ids(asked) == {"r"}


# Which problems


RECIPE = """
model = "tiny"
problems = "synthetic"
prompts_per_step = 2
evaluate_every = 0

[[stages]]
name = "first"
context = 1536
temperature = 1.0
steps = 4

[[stages]]
name = "second"
context = 2048
temperature = 1.0
steps = 4
"""


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "mine.toml").write_text(RECIPE)
    return lambda *overrides: load_recipe(str(tmp_path / "mine.toml"), list(overrides))


@pytest.fixture
def run(tmp_path):
    """Return a run with a profile of p0 to p3 and visits of p1 and p2, of which p2 had a hint."""
    folder = RunFolder(tmp_path / "run")
    folder.profile.parent.mkdir(parents=True)
    solved = {"p0": 0, "p1": 0, "p2": 0, "p3": 4}
    write_profile(
        folder.profile,
        [
            Difficulty(problem_id=name, num_samples=8, num_correct=right, num_truncated=0, mean_tokens=None)
            for name, right in solved.items()
        ],
    )
    stage = folder.stage("first")
    stage.path.mkdir()
    seen = [
        Visit(
            run="run", stage="first", step=1, problem_id=name, num_samples=8, num_correct=6, num_truncated=0,
            hinted=name == "p2",
        )
        for name in ("p1", "p2")
    ]  # fmt: skip
    stage.visits.write_text("".join(json.dumps(each.to_data()) + "\n" for each in seen))
    return folder


PROBLEMS = [
    problem("p0", level="Level 5", solution=SOLUTION),
    problem("p1", level="Level 3", solution=SOLUTION),
    problem("p2", level="Level 3", solution="It is 49. " * 4),
    problem("p3", level="Level 4"),
    problem("p4", level="Level 5"),
]


def decided(found):
    return {each.problem_id: (each.kept, each.reason) for each in found.decisions}


def test_a_stage_without_rules_of_its_own_takes_what_is_left_for_it(recipe, run):
    loaded = recipe("stages.1.select=['keep level=Level 5']")
    assert stage_problems(loaded, loaded.stages[0], PROBLEMS, run=run) is None


def test_each_stage_has_its_own_levels_of_all_that_is_left(recipe, run):
    loaded = recipe("stages.0.select=['keep level=Level 3,Level 4']", "stages.1.select=['keep level=Level 5']")
    parts = [stage_problems(loaded, stage, PROBLEMS, run=run) for stage in loaded.stages]
    assert [[each.problem_id for each in part.problems] for part in parts] == [["p1", "p2", "p3"], ["p0", "p4"]]
    assert decided(parts[1])["p1"] == (False, "level is not Level 5")


def test_a_band_asks_the_latest_that_was_seen_without_a_hint(recipe, run):
    loaded = recipe("stages.0.select=['accuracy between 0.1 0.8']", "stages.1.select=['accuracy between 0.1 0.8']")
    outside = (False, "mean accuracy not between 0.1 and 0.8")
    before, after = (decided(stage_problems(loaded, stage, PROBLEMS, run=run)) for stage in loaded.stages)
    assert before == {
        "p0": outside, "p1": outside, "p2": outside, "p3": (True, "no rule drops it"), "p4": (True, "never visited"),
    }  # fmt: skip
    assert after["p1"] == (True, "no rule drops it")
    assert after["p2"] == outside, "6 of 8 with a hint say nothing about it without one: its profile counts"


def test_hints_go_to_what_was_never_solved_and_the_decisions_count_them(recipe, run, tmp_path):
    loaded = recipe("stages.0.hint_share=0.6", "stages.1.hint_share=0.25")
    first, second = (stage_problems(loaded, stage, PROBLEMS, run=run) for stage in loaded.stages)
    assert {each.problem_id: each.extra.get(HINT) for each in first.problems} == {
        "p0": "Let x be the width. Then x + 3 = 10 holds.\nSo x = 7 cm wide.",
        "p1": "Let x be the width. Then x + 3 = 10 holds.\nSo x = 7 cm wide.",
        "p2": None, "p3": None, "p4": None,
    }  # fmt: skip
    assert [each.question for each in first.problems] == [each.question for each in PROBLEMS]
    assert decided(first)["p2"] == (True, "never solved; no hint, since its solution soon says the answer")
    assert hinted_ids(second.problems) == {"p0"}, "p1 was solved since"
    first.write(tmp_path / "curriculum", seed=0)
    assert json.loads((tmp_path / "curriculum" / "decisions.json").read_text())["reasons"] == {
        "never solved; hint of the first 60% of its solution": 2,
        "never solved; no hint, since its solution soon says the answer": 1,
        "never visited": 1,
        "no rule drops it": 1,
    }


def test_what_was_solved_once_has_no_hint_though_it_was_not_solved_lately(recipe, run):
    log = run.stage("first").visits
    late = Visit(run="run", stage="first", step=2, problem_id="p3", num_samples=8, num_correct=0, num_truncated=0)
    log.write_text(log.read_text() + json.dumps(late.to_data()) + "\n")
    problems = [*PROBLEMS[:3], replace(PROBLEMS[3], extra=PROBLEMS[0].extra)]
    loaded = recipe("stages.1.hint_share=0.6")
    found = stage_problems(loaded, loaded.stages[1], problems, run=run)
    assert hinted_ids(found.problems) == {"p0"}, "p3 was solved in 4 of 8 attempts of the profile"
    assert decided(found)["p3"] == (True, "no rule drops it")


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        (["stages.0.select=['kepp level=3']"], RecipeError, r"stages\.0\.select\.0: no rule 'kepp'"),
        (["stages.1.select=['accuracy between 0.8']"], RecipeError, r"stages\.1\.select\.0: .*LOW HIGH"),
        (["stages.0.hint_share=1.0"], RecipeError, r"stages\.0\.hint_share"),
        (
            ["stages.0.refill_below=0.5", "sampling_ahead=1", "endpoints=['http://h:1']"], RecipeError,
            r"stages\.0\.refill_below is 0\.5.* sampling_ahead is 1; set one of them to 0",
        ),
        (
            ["stages.1.select=['keep levl=Level 5']"], SettingError,
            "no problem has a column 'levl'; the columns are 'level', 'solution', 'source'",
        ),
        (
            ["stages.1.select=['keep level=Level 4']"], RunFolderError,
            r"stages\.1\.select leaves 1 of 5 problems \(1 'no rule drops it', 4 'level is not Level 4'\), but "
            "prompts_per_step is 2",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_any_stage_is_found_before_the_first_is_trained(recipe, run, overrides, error, said):
    with pytest.raises(error, match=said):
        loaded = recipe(*overrides)
        stage_problems(loaded, loaded.stages[0], PROBLEMS, run=run)


def test_a_band_without_any_evidence_is_refused_with_the_way_to_get_it(recipe, tmp_path):
    loaded = recipe("stages.0.select=['accuracy between 0.1 0.8']")
    with pytest.raises(RunFolderError, match=r"nothing is known of these: .* polaris-data profile PROBLEMS --out"):
        stage_problems(loaded, loaded.stages[0], PROBLEMS, run=RunFolder(tmp_path))


# Passes


def test_hard_problems_come_again_after_each_pass_and_every_pass_has_an_order_of_its_own():
    problems = [problem(f"p{number}") for number in range(8)]
    hard = {"p1", "p2", "p5"}
    seen, order = {}, []
    for step in range(1, 15):
        own = pass_of(problems, seen, step=step, num_problems=2, below=0.5, seed=3)
        drawn = [each.problem_id for each in draw_problems(own.problems, step=own.step, num_problems=2, seed=own.seed)]
        order.append(drawn)
        seen[step] = {name: (1 if name in hard else 2, 4) for name in drawn}
    # 4 steps of all 8, then 1 step of the 3 that were solved in 1 of 4 (half of them is not less than half)
    every = {each.problem_id for each in problems}
    assert [set(chain(*order[first : first + 4])) for first in (0, 5)] == [every] * 2
    assert all(set(order[step]) < hard for step in (4, 9))
    assert order[:4] != order[5:9]
    # without the rule the passes are as they ever were
    ever = [[each.problem_id for each in draw_problems(problems, step=step, num_problems=2, seed=3)] for step in (1, 5)]
    assert ever == [order[0], order[5]]


def test_what_was_seen_is_read_back_from_the_log_but_for_a_line_that_was_cut_short(run):
    log = run.stage("first").visits
    with log.open("a") as file:
        file.write('{"step": 2, "problem_id": "p3", "num_sam')
    assert seen_in(log) == {1: {"p1": (6, 8), "p2": (6, 8)}}
    assert seen_in(log.with_name("none.jsonl")) == {}


# Refill


def refill(own, pool, share):
    """Refill a step whose groups, and those of the pool, have so many right answers of 4; return what was drawn."""
    rounds = []

    def draw(problems):
        rounds.append([each.problem_id for each in problems])
        return [graded(each.problem_id, pool[each.problem_id]) for each in problems]

    groups = refilled([graded(*each) for each in own], [problem(name) for name in pool], draw, share=share)
    assert [each.group.problem_id for each in groups[len(own) :]] == list(chain(*rounds))
    return rounds


def test_a_step_is_refilled_until_enough_groups_are_informative():
    own = [("a", 0), ("b", 4), ("c", 2), ("d", 0)]  # 1 of 4; 3 are wanted, so 2 are missing, and 8 give 2
    pool = {"e": 1, "f": 0, "g": 2, "h": 3, "i": 1}
    assert refill(own, pool, 0.75) == [["e", "f", "g", "h"]], "no more than the step has problems"
    assert refill([("a", 1), ("b", 4), ("c", 2), ("d", 0)], pool, 0.75) == [["e", "f"]]
    assert refill([("a", 1), ("b", 4), ("c", 2), ("d", 0)], {"e": 0, "f": 4, "g": 3, "h": 0}, 0.75) == [
        ["e", "f"],
        ["g", "h"],
    ]
    assert refill([("a", 0), ("b", 4)], {"e": 0}, 0.5) == [["e"]], "the pool ends"
    assert refill(own, pool, 0.25) == refill(own, {}, 0.75) == []


def test_a_step_is_refilled_first_from_what_may_be_informative():
    problems = [problem(f"p{number}") for number in range(6)]
    seen = {2: {"p0": (2, 4), "p1": (4, 4)}, 1: {"p0": (0, 4), "p1": (2, 4), "p2": (0, 4)}}
    order = [each.problem_id for each in refill_order(problems, seen, seed=1)]
    assert set(order[4:]) == {"p1", "p2"} and set(order[:4]) == {"p0", "p3", "p4", "p5"}
    assert order == [each.problem_id for each in refill_order(problems, seen, seed=1)]
    assert order != [each.problem_id for each in refill_order(problems, seen, seed=2)]


def test_a_refilled_step_has_as_many_optimizer_steps_as_any():
    settings = BatchSettings(max_answer_tokens=8, num_optimizer_steps=2)
    batches = training_batches([graded(str(place), 1) for place in range(5)], settings, step=1)
    assert [{place for place, _ in batch.members} for batch in batches] == [{0, 1}, {2, 3, 4}]
    even = replace(settings, num_optimizer_steps=1)
    assert len(training_batches([graded("a", 1)] * 2, even, step=1)) == 1
