import json
import subprocess
import sys

import pytest
from polaris_data import Problem, read_problems, write_problems
from polaris_data.files.journal import whole_text
from polaris_data.problems.check import PromptLimit, check_problems, check_references, suspicions, write_checked
from polaris_data.problems.source import Source
from polaris_reward import BOXED, Grader


@pytest.fixture(scope="module")
def grade_many():
    with Grader(1, convention=BOXED, max_failed_share=None) as grader:
        yield grader.grade_many


def problem(problem_id, *references):
    return Problem(problem_id=problem_id, question="What?", references=references)


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("\\text{ }", ["empty"]),
        ("$\\,$", ["empty"]),
        ("\\frac{1}{2", ["truncated LaTeX"]),
        ("\\frac{}{2}", ["truncated LaTeX"]),
        ("\\left(1, 2", ["truncated LaTeX"]),
        ("\\begin{pmatrix} 1", ["truncated LaTeX"]),
        ("$x", ["truncated LaTeX"]),
        ("x =", ["truncated LaTeX"]),
        ("l_{}+1", ["truncated LaTeX"]),
        ("\\frac{^2-b^2}{2}", ["truncated LaTeX"]),
        ("(,1)", ["truncated LaTeX"]),
        ("1 or 2", ["several answers"]),
        ("3 \\text{ and } 5", ["several answers"]),
        ("$69$,$84$", ["several answers"]),
        ("a=1; b=2", ["several answers"]),
        ("\\text{(C)}", ["a choice letter only"]),
        ("\\text{ cm}^2", ["a unit only"]),
        ("^\\circ", ["a unit only"]),
        ("1 + " * 60 + "1", ["very long"]),
    ],
)
def test_a_suspicious_reference_is_listed_with_what_looks_wrong(reference, found):
    assert suspicions(reference) == found


@pytest.mark.parametrize(
    "reference",
    [
        *(
            "0",
            "-3",
            "x^2+1",
            "\\frac{1}{2}",
            "(1, 2)",
            "1, 2, 3",
            "[0, 1)",
            "5 \\text{ cm}",
            "\\{1, 2\\}",
            "\\$5",
            "F",
        ),
        *("x", "\\left(\\frac{1}{2}, 3\\right]", "50\\%", "90^\\circ", "\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}"),
        *("\\text{north}", "$87.50", "17\\,", "h", "R^*", "a_{1}^{2}"),
    ],
)
def test_a_sound_reference_is_not(reference):
    assert suspicions(reference) == []


def test_a_reference_that_is_not_its_own_answer_is_refused(grade_many):
    checked = {
        one.problem_id: [(found.finding, found.is_refused) for found in findings]
        for one, findings in check_references([problem("good", "1/2"), problem("bad", "\\boxed{")], grade_many)
    }
    assert checked["good"] == []
    assert any(is_refused for _, is_refused in checked["bad"])


def test_references_that_contradict_each_other_are_suspicious(grade_many):
    ((_, agreeing), (_, others)) = check_references([problem("a", "0.5", "1/2"), problem("b", "1", "2")], grade_many)
    assert agreeing == []
    assert [(found.finding, found.reference) for found in others] == [("contradicts the first reference", "2")]


def test_every_problem_is_either_written_or_has_a_finding_that_says_why(tmp_path, grade_many):
    problems = [problem("good", "1"), problem("bad", "\\boxed{"), problem("doubtful", "1 or 2"), problem("fine", "x")]
    for drop_suspicious, passing in ((False, ["good", "doubtful", "fine"]), (True, ["good", "fine"])):
        out, findings = tmp_path / "out.jsonl", tmp_path / "findings.jsonl"
        checked = check_references(problems, grade_many)
        with whole_text(out) as out_file, whole_text(findings) as findings_file:
            write_checked(checked, out_file, findings_file, drop_suspicious=drop_suspicious)
        assert [one.problem_id for one in read_problems(out)] == passing
        found = {json.loads(line)["problem_id"] for line in findings.read_text().splitlines()}
        assert found >= {one.problem_id for one in problems} - set(passing)


def test_the_command_lists_findings_or_writes_what_passes(tmp_path):
    write_problems(tmp_path / "p.jsonl", [problem("a", "1"), problem("b", "1 or 2"), problem("c", "\\boxed{")])

    def run(*arguments):
        command = [sys.executable, "-m", "polaris_data", "check", "p.jsonl", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    listed = run()
    assert listed.returncode == 0 and 'b\tseveral answers\t"1 or 2"\n' in listed.stdout
    assert "2 of 3 references are accepted as their own answer" in listed.stdout
    written = run("--out", "ok.jsonl")
    assert "wrote ok.jsonl (2 problems that pass) and ok.jsonl.findings.jsonl" in written.stdout
    assert [one.problem_id for one in read_problems(tmp_path / "ok.jsonl")] == ["a", "b"]
    before = (tmp_path / "ok.jsonl").read_bytes()
    assert run("--out", "ok.jsonl").returncode == 0 and (tmp_path / "ok.jsonl").read_bytes() == before
    assert run("--out", "ok.jsonl", "--drop-suspicious").returncode == 2


def test_a_problem_whose_prompt_is_too_long_does_not_pass_and_is_listed_with_its_length(tmp_path):
    source = tmp_path / "problems.jsonl"
    problems = [
        Problem(problem_id=name, question="x" * length, references=("1",)) for name, length in [("a", 5), ("b", 9)]
    ]
    write_problems(source, problems)
    limit = PromptLimit(max_tokens=8, count_tokens=lambda each: len(each.question), model="m", suffix="")
    counts = check_problems(Source(str(source)), tmp_path / "out.jsonl", prompts=limit)
    assert [each.problem_id for each in read_problems(str(tmp_path / "out.jsonl"))] == ["a"]
    assert (counts.num_passed, counts.num_refused, counts.findings) == (1, 0, {"prompt too long": 1})
    (found,) = (json.loads(line) for line in (tmp_path / "out.jsonl.findings.jsonl").read_text().splitlines())
    assert found == {"problem_id": "b", "finding": "prompt too long", "is_refused": True, "reference": "9 tokens"}
