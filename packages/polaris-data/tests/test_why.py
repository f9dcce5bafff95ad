import json
import subprocess
import sys
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data import Difficulty, Extreme, Problem, ProblemFileError, Visit, select, write_problems, write_selection
from polaris_data.profile.files import write_profile
from polaris_data.selection.decisions import attempts_of
from polaris_data.selection.history import sparkline, tell_history


def problem(name):
    return Problem(
        problem_id=name,
        question=f"What is {name}?",
        references=("1",),
        source="book.jsonl",
        extra={"also_from": ["web"]},
    )


def visit(name, step, num_correct):
    return Visit(
        run="r", stage="s", step=step, problem_id=name, num_samples=8, num_correct=num_correct, num_truncated=0
    )


def write_lines(path, *records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder: 'hard' is trained in both stages, 'easy' dropped by the profile, 'learned' after stage 1."""
    names = ["hard", "easy", "learned", "été"]
    problems = [problem(name) for name in names]
    counts = {"hard": 0, "easy": 8, "learned": 4, "été": 1}
    profile = [
        Difficulty(problem_id=name, num_samples=8, num_correct=k, num_truncated=1, mean_tokens=50.0)
        for name, k in counts.items()
    ]
    tmp_path = tmp_path_factory.mktemp("run")
    data = tmp_path / "data"
    write_problems(data / "problems.jsonl", problems)
    write_profile(data / "profile.jsonl", profile)
    (data / "profile.jsonl.settings.json").write_text('{"model": "org/m", "temperature": 1.4, "problems": "abc"}')
    decisions = select(problems, profile)
    write_selection(data, problems, decisions, evidence=attempts_of(profile), rules=(Extreme(),))
    write_lines(
        data / "clusters.jsonl",
        {
            "kept": "hard",
            "why": "first",
            "members": [{"problem_id": "hard"}, {"problem_id": "copy", "similarity": 0.9}],
        },
    )
    write_lines(data / "decontaminated.jsonl", {"problem_id": "bad", "benchmark": "aime24", "kind": "exact"})
    write_problems(tmp_path / "stage-1" / "problems.jsonl", [problem("hard"), problem("learned"), problem("été")])
    write_lines(
        tmp_path / "stage-1" / "visits.jsonl",
        *(asdict(visit(name, step, k)) for step, k in enumerate((0, 4, 8), start=1) for name in ("hard", "learned")),
        asdict(visit("hard", 3, 8)),
    )
    write_problems(tmp_path / "stage-10" / "problems.jsonl", [problem("hard")])
    write_problems(tmp_path / "stage-2" / "problems.jsonl", [problem("hard")])
    return tmp_path


def told(chapters, run):
    return {str(chapter.path.relative_to(run)): "\n".join(chapter.lines) for chapter in chapters}


def test_the_history_runs_from_the_source_to_the_latest_stage(run):
    chapters = tell_history("hard", [run])
    assert list(told(chapters, run)) == [
        "data/problems.jsonl",
        "data/clusters.jsonl",
        "data/profile.jsonl",
        "data/decisions.json",
        "data/selected.jsonl",
        "stage-1/problems.jsonl",
        "stage-1/visits.jsonl",
        "stage-2/problems.jsonl",
        "stage-10/problems.jsonl",
    ]
    texts = told(chapters, run)
    assert "source book.jsonl" in texts["data/problems.jsonl"] and 'also_from: ["web"]' in texts["data/problems.jsonl"]
    assert "kept, it stands for 2" in texts["data/clusters.jsonl"]
    assert texts["data/profile.jsonl"].startswith("solved 0 of 8, num_truncated 1")
    assert "with model org/m, temperature 1.4" in texts["data/profile.jsonl"]
    assert texts["data/decisions.json"] == "kept: no rule drops it"
    assert texts["stage-1/problems.jsonl"] == texts["stage-10/problems.jsonl"] == "in this set"
    assert texts["stage-1/visits.jsonl"] == "3 visits, 12 of 24 correct (50.0%), latest 8 of 8\n▁▅█  steps 1, 2, 3"


def test_it_tells_when_a_problem_was_dropped_and_why(run):
    texts = told(tell_history("easy", [run]), run)
    assert texts["data/decisions.json"] == "DROPPED: always solved"
    assert texts["data/selected.jsonl"] == texts["stage-1/problems.jsonl"] == ""
    texts = told(tell_history("learned", [run]), run)
    assert texts["data/selected.jsonl"] == "in this set" and texts["stage-1/problems.jsonl"]
    assert texts["stage-2/problems.jsonl"] == ""


def test_reports_of_other_commands_are_found_by_what_they_hold(run):
    assert "a duplicate of 'hard', one of 2" in told(tell_history("copy", [run]), run)["data/clusters.jsonl"]
    assert told(tell_history("bad", [run]), run)["data/decontaminated.jsonl"] == "benchmark: aime24\nkind: exact"


def test_ids_beyond_ascii_and_single_files_work(run):
    texts = told(tell_history("été", [run / "data" / "problems.jsonl", run / "data" / "decisions.json"]), run)
    assert list(texts) == ["data/problems.jsonl", "data/decisions.json"]


def test_the_published_log_format_is_understood(tmp_path):
    write_lines(tmp_path / "exp.jsonl", {"index": [3, 4], "score": [0.0, 0.5]}, {"index": [3, 5], "score": [1.0, 0.5]})
    (chapter,) = tell_history("3", [tmp_path])
    assert chapter.lines == ("2 visits, 2 of 4 correct (50.0%), latest 2 of 2", "▁█  steps 1, 2")


@pytest.mark.parametrize(
    ("problem_id", "closest"),
    [("lerned", "the closest: 'learned'"), ("hardest", "the closest: 'hard'"), ("zzzz", "no id is close")],
)
def test_an_unknown_id_is_refused_with_the_closest_ones(run, problem_id, closest):
    with pytest.raises(ProblemFileError) as error:
        tell_history(problem_id, [run])
    assert f"no problem {problem_id!r} in" in str(error.value) and closest in str(error.value)


def test_folders_without_files_and_missing_paths_are_refused(tmp_path):
    with pytest.raises(ProblemFileError, match=r"no \.jsonl file"):
        tell_history("a", [tmp_path])
    with pytest.raises(ProblemFileError, match="no file or folder"):
        tell_history("a", [tmp_path / "absent"])


@given(st.lists(st.floats(0, 1), max_size=30))
def test_a_sparkline_has_a_character_for_each_value_and_rises_with_it(values):
    line = sparkline(sorted(values))
    assert len(line) == len(values) and list(line) == sorted(line)


def test_the_command_prints_the_history(run):
    command = [sys.executable, "-m", "polaris_data", "why", "learned"]
    out = subprocess.run(command, cwd=run, capture_output=True, text=True, check=True).stdout
    assert out.startswith("learned\n\ndata/problems.jsonl  (problem)\n  source book.jsonl\n")
    assert "\nstage-2/problems.jsonl: not in this set\n" in out
    result = subprocess.run([*command[:-1], "lerned"], cwd=run, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and result.stdout == ""
