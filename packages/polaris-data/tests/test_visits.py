import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data import (
    Accuracy,
    Attempt,
    Problem,
    ProblemFileError,
    Visit,
    count_reasons,
    read_visits,
    select_by_visits,
)
from polaris_data.selection.visits import attempts_by_problem

PUBLISHED_LOG = Path(__file__).resolve().parents[3] / ".." / "shared" / "facts" / "sink_log.jsonl"


def visit(name, step, num_correct, **changes):
    fields = {"run": "r", "stage": "s", "step": step, "problem_id": name, "num_samples": 8, "num_truncated": 0}
    return Visit(**fields | {"num_correct": num_correct} | changes)


def write_log(path, *lines):
    rows = [
        line if isinstance(line, str) else json.dumps(asdict(line) if isinstance(line, Visit) else line)
        for line in lines
    ]
    path.write_text("".join(row + "\n" for row in rows))
    return path


@pytest.mark.skipif(not PUBLISHED_LOG.is_file(), reason="the published log is not beside the repository")
def test_the_published_log_is_read_as_published():
    """Figures of the published script, its bug corrected, on the only log that was published."""
    log = read_visits([PUBLISHED_LOG])
    assert log.malformed == [f"{PUBLISHED_LOG}:1: 32 values of 'index' but 8 values of 'score'"]
    attempts = attempts_by_problem(log.visits)
    assert len(attempts) == 4032 and len(log.visits) == 4128 and log.num_duplicates == 0
    assert {visit.num_samples for visit in log.visits} == {4}
    problems = [Problem(problem_id=name, question="?", references=("1",)) for name in attempts]
    for by, num_dropped in (("mean", 958), ("latest", 966)):
        decisions = select_by_visits(problems, log.visits, rules=(Accuracy(above=0.9, by=by),))
        assert count_reasons(decisions)[f"{by} accuracy above 0.9"] == num_dropped


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), unique=True), st.randoms(use_true_random=False))
def test_visits_survive_being_written_and_a_second_time_they_are_ignored(tmp_path_factory, keys, rng):
    visits = [visit(name, step, rng.randrange(9)) for name, step in keys]
    if not visits:
        return
    path = write_log(tmp_path_factory.mktemp("log") / "visits.jsonl", *visits)
    assert read_visits([path]).visits == visits
    twice = read_visits([path, path])
    assert twice.visits == visits and twice.num_duplicates == len(visits) and not twice.conflicts
    assert twice.notes == [f"{len(visits)} visits were written twice and count once"]


def test_of_a_step_that_was_written_twice_with_another_result_the_first_counts_and_the_other_is_reported(tmp_path):
    path = write_log(tmp_path / "v.jsonl", visit("a", 1, 3), visit("a", 2, 4), visit("a", 1, 8))
    log = read_visits([path])
    assert log.visits == [visit("a", 1, 3), visit("a", 2, 4)]
    assert log.num_duplicates == 1 and log.conflicts == [f"{path}:3: step 1 of 'a' differs from {path}:1"]


def test_the_same_step_of_another_run_or_stage_is_another_visit(tmp_path):
    visits = [visit("a", 1, 3), visit("a", 1, 3, stage="s2"), visit("a", 1, 3, run="r2")]
    assert read_visits([write_log(tmp_path / "v.jsonl", *visits)]).visits == visits


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"run": "r", "st', "not JSON, or a line cut short"),
        ("[1]", "no visit: expected 'problem_id', 'step'"),
        ('{"question": "?"}', "no visit: expected 'problem_id', 'step'"),
        (asdict(visit("a", 1, 9)), "'num_correct' is 9; expected 0..num_samples"),
        (asdict(visit("a", 1, 0, num_samples=0)), "'num_samples' is 0; expected 1 or more"),
        (asdict(visit("a", 1, 1, num_truncated=None)), "'num_truncated' is None; expected 0..num_samples"),
        (asdict(visit("a", "1", 1)), "'step' is '1'; expected 0 or more"),
        (asdict(visit(3, 1, 1)), "'problem_id' is 3; expected text"),
        ({"index": [1, 2], "score": [0.5]}, "2 values of 'index' but 1 values of 'score'"),
        ({"index": 1, "score": [0.5]}, "no list (1) of 'index' but 1 values of 'score'"),
        ({"index": [1], "score": [1.5]}, "the score 1.5 is no share from 0 to 1"),
        ({"index": [1], "score": [None]}, "the score None is no share from 0 to 1"),
    ],
)
def test_a_line_that_cannot_be_used_is_reported_with_its_number_and_the_others_count(tmp_path, line, reason):
    path = write_log(tmp_path / "v.jsonl", visit("a", 1, 3), "", line, visit("b", 1, 4))
    log = read_visits([path])
    assert [each.problem_id for each in log.visits] == ["a", "b"]
    assert len(log.malformed) == 1 and log.malformed[0].startswith(f"{path}:3: {reason}")
    assert log.notes == [f"line set aside: {log.malformed[0]}"]


def test_the_group_size_of_the_published_format_is_the_smallest_that_fits_all_scores(tmp_path):
    path = write_log(tmp_path / "exp.jsonl", {"index": [7, 8], "score": [0.5, 1.0]}, {"index": [7], "score": [0.125]})
    log = read_visits([path])
    assert attempts_by_problem(log.visits) == {"7": [Attempt(8, 4), Attempt(8, 1)], "8": [Attempt(8, 8)]}
    assert [(each.run, each.stage, each.step) for each in log.visits] == [
        ("exp", "", 1),
        ("exp", "", 1),
        ("exp", "", 2),
    ]


def test_scores_that_are_no_shares_of_one_number_are_refused(tmp_path):
    path = write_log(tmp_path / "v.jsonl", {"index": [1, 2], "score": [0.33333, 0.71234]})
    with pytest.raises(ProblemFileError, match="no shares of one number of completions"):
        read_visits([path])


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no visit log"), ("", "the file is empty"), ('{"question": "?"}\n', r"not a visit log: .*:1: no visit")],
)
def test_a_file_that_is_no_visit_log_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "v.jsonl").write_text(content)
    with pytest.raises(ProblemFileError, match=message):
        read_visits([tmp_path / "v.jsonl"])


def test_a_visit_with_a_hint_is_no_attempt_at_the_problem_alone(tmp_path):
    log = tmp_path / "visits.jsonl"
    seen = [
        Visit(
            run="r", stage="s", step=step, problem_id="p", num_samples=8, num_correct=correct, num_truncated=0,
            hinted=step == 2,
        )
        for step, correct in ((1, 0), (2, 8))
    ]  # fmt: skip
    assert "hinted" not in seen[0].to_data() and seen[1].to_data()["hinted"] is True
    log.write_text("".join(json.dumps(each.to_data()) + "\n" for each in seen))
    read = read_visits([log])
    assert read.visits == seen
    assert attempts_by_problem(read.visits) == {"p": [(8, 0, 0, None)]}
    assert read.notes == ["1 visits with a hint in the prompt do not count"]
