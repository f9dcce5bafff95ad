import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data import (
    Difficulty,
    Problem,
    ProblemFileError,
    count_reasons,
    read_problems,
    select,
    write_selection,
)


def problem(name):
    return Problem(problem_id=name, question=f"What is {name}?", references=("1",), extra={"level": 2})


def difficulty(name, num_correct, num_samples=8):
    return Difficulty(
        problem_id=name, num_samples=num_samples, num_correct=num_correct, num_truncated=0, mean_tokens=10.0
    )


def test_only_what_was_always_solved_is_dropped():
    problems = [problem(str(k)) for k in range(9)]
    decisions = select(problems, [difficulty(str(k), k) for k in range(9)])
    assert [decision.kept for decision in decisions] == [True] * 8 + [False]
    assert {decision.reason for decision in decisions} == {"accuracy below 1", "accuracy at least 1"}


@pytest.mark.parametrize(("max_accuracy", "kept"), [(0.5, "0123"), (0.9, "01234567"), (0.0, ""), (0.125, "0")])
def test_the_greatest_accuracy_is_exclusive(max_accuracy, kept):
    problems = [problem(str(k)) for k in range(9)]
    decisions = select(problems, [difficulty(str(k), k) for k in range(9)], max_accuracy=max_accuracy)
    assert "".join(decision.problem_id for decision in decisions if decision.kept) == kept


@given(st.lists(st.integers(0, 8), min_size=1, max_size=40), st.floats(0, 1), st.randoms())
def test_every_problem_is_in_or_out_once_and_the_counts_add_up(corrects, max_accuracy, rng):
    problems = [problem(str(number)) for number in range(len(corrects))]
    profile = [difficulty(str(number), k) for number, k in enumerate(corrects)]
    rng.shuffle(profile)
    decisions = select(problems, profile, max_accuracy=max_accuracy)
    assert [decision.problem_id for decision in decisions] == [p.problem_id for p in problems]
    assert [decision.kept for decision in decisions] == [k / 8 < max_accuracy for k in corrects]
    assert sum(count_reasons(decisions).values()) == len(problems)
    assert count_reasons(decisions) == Counter(decision.reason for decision in decisions)


def test_a_problem_without_a_profile_is_refused():
    with pytest.raises(ProblemFileError, match=r"1 of 2 problems have no profile, 'b' for one.*--limit"):
        select([problem("a"), problem("b")], [difficulty("a", 3)])


def test_a_profile_of_other_problems_is_refused():
    with pytest.raises(ProblemFileError, match=r"another problem set: 2 of its problems are not here, 'x'"):
        select([problem("a")], [difficulty(name, 3) for name in "ayx"])


def test_the_kept_problems_and_every_decision_are_written(tmp_path):
    problems = [problem(name) for name in "abc"]
    decisions = select(problems, [difficulty("a", 8), difficulty("b", 0), difficulty("c", 7)])
    write_selection(tmp_path / "out", problems, decisions, max_accuracy=1.0)
    assert read_problems(tmp_path / "out" / "selected.jsonl") == problems[1:]
    written = json.loads((tmp_path / "out" / "decisions.json").read_text())
    assert written["num_problems"] == 3 and written["num_kept"] == 2
    assert written["reasons"] == {"accuracy below 1": 2, "accuracy at least 1": 1}
    assert written["decisions"][0] == {"problem_id": "a", "kept": False, "reason": "accuracy at least 1"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["decisions.json", "selected.jsonl"]
