import io
import subprocess
import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from polaris_data import Difficulty, Histogram, Problem, ProblemFileError, histogram
from polaris_data.profile.files import write_profile
from polaris_data.profile.shift import shift
from polaris_data.view.plots import draw_histograms, draw_shift, to_svg, write_png
from polaris_data.view.terminal import (
    describe_problems,
    describe_profile,
    describe_shift,
    histogram_table,
    transition_table,
)
from rich.console import Console


def difficulty(name, num_correct, num_samples=8, num_truncated=0, mean_tokens=10.0):
    return Difficulty(
        problem_id=name,
        num_samples=num_samples,
        num_correct=num_correct,
        num_truncated=num_truncated,
        mean_tokens=mean_tokens,
    )


def rendered(table):
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return console.file.getvalue().splitlines()


def test_the_terminal_shows_every_bin_with_its_share_and_a_bar():
    lines = rendered(histogram_table(Histogram((60, 0, 40))))
    assert lines[0].strip() == "100 problems, shape: mirrored-J"
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["0/2", "60", "60.0%"],
        ["1/2", "0", "0.0%"],
        ["2/2", "40", "40.0%"],
    ]
    assert lines[2].count("█") == 40 and lines[3].count("█") == 0 and 26 <= lines[4].count("█") <= 27


def test_a_profile_is_described_with_its_truncated_share_and_what_speaks_against_it():
    profile = [difficulty("a", 0, 4, num_truncated=1, mean_tokens=30.0), difficulty("b", 2, 4)]
    text = describe_profile(histogram(profile), profile)
    assert "mean accuracy 25.0% over 8 answers, 12.5% of them truncated, 20 tokens on average" in text
    assert "never solved 50.0%, sometimes 50.0%, always 0.0%" in text and "warning" not in text
    easy = [difficulty("a", 8, mean_tokens=None), difficulty("b", 8, mean_tokens=None)]
    text = describe_profile(histogram(easy), easy)
    assert "of unknown length" in text
    assert "warning: too easy: mean accuracy 100.0% is above 70%" in text
    assert "warning: few groups are informative: 0.0% of the problems" in text


def test_a_problem_set_is_described_with_its_sources():
    problems = [
        Problem(problem_id=str(number), question="x" * number, references=("1", "2")[:number], source=source)
        for number, source in [(1, "book"), (2, "web"), (3, "book")]
    ]
    lines = describe_problems(problems).splitlines()
    assert lines[0] == "3 problems; questions of 2 characters (median), at most 3; 2 with several references"
    assert [line.split() for line in lines[1:]] == [["2", "book"], ["1", "web"]]


def test_a_shift_counts_every_common_problem_once():
    before = [difficulty("a", 0), difficulty("b", 8), difficulty("c", 4), difficulty("gone", 1)]
    after = [difficulty("c", 4), difficulty("b", 0), difficulty("a", 2), difficulty("new", 1), difficulty("newer", 1)]
    moved = shift(before, after)
    assert moved.num_problems == 3 and moved.num_only_first == 1 and moved.num_only_second == 2
    assert moved.transitions[0][2] == moved.transitions[8][0] == moved.transitions[4][4] == 1
    assert moved.mean_change == pytest.approx((0.25 - 1 + 0) / 3)
    text = describe_shift(moved)
    assert "mean change of the accuracy -25.0%" in text and "over 3 problems" in text
    assert "1 were never solved (0/8) and are now; 1 were solved and are never now" in text
    assert "left out: 1 only in the first, 2 only in the second" in text
    rows = [line.split() for line in rendered(transition_table(moved))]
    assert "0/8 · · 1 · · · · · ·".split() in rows and "8/8 1 · · · · · · · ·".split() in rows


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_a_shift_there_and_back_is_none(pairs):
    before = [difficulty(str(number), k, 4) for number, (k, _) in enumerate(pairs)]
    after = [difficulty(str(number), k, 4) for number, (_, k) in enumerate(pairs)]
    there, back = shift(before, after), shift(after, before)
    assert there.mean_change == pytest.approx(-back.mean_change)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.transitions == tuple(zip(*back.transitions, strict=True))
    assert [sum(row) for row in there.transitions] == list(histogram(before).counts)
    assert shift(before, before).interval == (0, 0)


def test_the_interval_of_a_shift_covers_the_true_change_about_95_times_of_100():
    rng, covered = Random(0), 0
    for _ in range(400):
        rates = [rng.random() * 0.8 for _ in range(60)]
        before = [difficulty(str(i), sum(rng.random() < rate for _ in range(8))) for i, rate in enumerate(rates)]
        after = [difficulty(str(i), sum(rng.random() < rate + 0.1 for _ in range(8))) for i, rate in enumerate(rates)]
        low, high = shift(before, after).interval
        covered += low <= 0.1 <= high
    assert 365 <= covered <= 395


def test_profiles_without_a_common_problem_are_refused():
    with pytest.raises(ProblemFileError, match="no problem in common: 'a' is in the first, 'b' in the second"):
        shift([difficulty("a", 1)], [difficulty("b", 1)])


def test_the_same_histograms_give_the_same_bytes(tmp_path):
    shapes = {"before": Histogram((5, 2, 8)), "after": Histogram((5, 2, 0))}
    for number in (1, 2):
        write_png(tmp_path / f"{number}.png", draw_histograms(shapes))
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert to_svg(draw_histograms(shapes)) == to_svg(draw_histograms(shapes))
    assert "mirrored-J" in to_svg(draw_histograms(shapes))
    assert to_svg(draw_shift(shapes, [[1, 2, 2], [0, 0, 2], [4, 2, 2]])).startswith("<svg")


def test_the_pages_need_no_other_file(tmp_path):
    write_profile(tmp_path / "a.jsonl", [difficulty(str(k), k) for k in range(9)])
    write_profile(tmp_path / "b.jsonl", [difficulty(str(k), min(k + 1, 8)) for k in range(9)])
    for arguments in (["a.jsonl"], ["a.jsonl", "b.jsonl"]):
        command = [sys.executable, "-m", "polaris_data", "show", *arguments, "--html", "x.html", "--png", "x.png"]
        out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert "wrote x.html and x.png" in out and "9 problems, shape: other" in out
        page = (tmp_path / "x.html").read_text()
        assert "<svg" in page and "<script" not in page and 'src="http' not in page and "<link" not in page
        assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert "mean change of the accuracy +11.1%" in out


def test_a_problem_set_has_no_histogram_to_draw(tmp_path):
    command = [sys.executable, "-m", "polaris_data", "show", "synthetic", "--limit", "2", "--png", "x.png"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and "error: synthetic is no profile" in result.stderr
    assert not list(tmp_path.iterdir())
