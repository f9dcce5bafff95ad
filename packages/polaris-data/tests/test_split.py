import json
import random
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data import Problem, ProblemFileError, SettingError, read_problems, write_problems
from polaris_data.duplicates import find_duplicates
from polaris_data.duplicates.dedup import stream_families
from polaris_data.duplicates.same_problem import compare, read_statement
from polaris_data.problems import Source
from polaris_data.selection import choose_held_out, split_problems
from polaris_data.selection.split import parse_held_out

WORDINGS = (
    "A farmer counts {n} red hens and ${n}^2$ white geese on the way to a market. How many birds are there?",
    r"On the way to a market, a farmer counts \({n}\) red hens and \({n}^2\) white geese. How many birds are there?",
    "A farmer counts {n} red hens and ${n}^2$ white geese on her way to the market. How many birds are there in all?",
)


def problem(number, wording):
    name = f"{number}-{wording}"
    question = WORDINGS[wording].format(n=number)
    return Problem(problem_id=name, question=question, references=(str(number + number**2),))


sets = st.lists(
    st.tuples(st.integers(3, 60), st.integers(0, len(WORDINGS) - 1)), min_size=12, max_size=40, unique=True
).map(lambda chosen: [problem(*each) for each in chosen])
amounts = st.sampled_from([1, 2, 5, 0.3, 0.5, 0.7])


def held_out_of(problems, amount, seed=0):
    """Return what is held out; ``None`` where one side would be empty."""
    try:
        return choose_held_out(problems, held_out=amount, seed=seed)
    except ProblemFileError:
        return None


@settings(deadline=None, max_examples=15)
@given(sets, amounts, st.integers(0, 3))
def test_near_duplicates_stay_on_one_side_and_both_sides_have_problems(problems, amount, seed):
    chosen = held_out_of(problems, amount, seed)
    if chosen is None:
        return
    assert 0 < len(chosen) < len(problems) and chosen < {each.problem_id for each in problems}
    if isinstance(amount, int):
        assert amount <= len(chosen) < amount + len(WORDINGS)
    for cluster in find_duplicates(problems):
        assert len({member.problem_id in chosen for member in cluster.members}) == 1
    statements = [(each.problem_id, read_statement(each.question, each.references)) for each in problems]
    for number, (a, one) in enumerate(statements):  # every pair, not only those that share a bucket of MinHash
        for b, other in statements[:number]:
            is_same = compare(one, other).kind and not one.answers.isdisjoint(other.answers)
            assert not is_same or (a in chosen) == (b in chosen)


@settings(deadline=None, max_examples=15)
@given(sets, amounts, st.randoms(use_true_random=False))
def test_the_order_of_the_problems_does_not_matter(problems, amount, order):
    shuffled = order.sample(problems, len(problems))
    assert held_out_of(shuffled, amount) == held_out_of(problems, amount)


@settings(deadline=None, max_examples=15)
@given(sets, amounts, st.integers(1, 8))
def test_added_problems_move_no_others_but_those_that_they_join(problems, amount, num_added):
    fewer = problems[:-num_added]
    before, after = held_out_of(fewer, amount), held_out_of(problems, amount)
    if before is None or after is None:
        return
    added = {each.problem_id for each in problems[-num_added:]}
    ids = stream_families(lambda: problems)
    joined = {each for members in ids if added & set(members) for each in members}
    untouched = {each.problem_id for each in fewer} - joined
    if isinstance(amount, float):
        assert after & untouched == before & untouched
    elif joined & before <= after:  # none has left with a family that it joined, and freed its place
        assert after & untouched <= before & untouched


def test_another_seed_holds_out_others():
    problems = read_problems("synthetic", limit=200)
    parts = [choose_held_out(problems, held_out=0.2, seed=seed) for seed in range(3)]
    assert len(set(map(frozenset, parts))) == 3
    assert all(20 <= len(part) <= 70 for part in parts)


@pytest.mark.parametrize("amount", [40, 0.2])
def test_every_problem_is_written_to_one_file_in_the_order_of_the_set(tmp_path, amount):
    source = Source("synthetic", limit=200)
    counts = split_problems(source, tmp_path / "data", held_out=amount, num_processes=1)
    train, held_out = (read_problems(tmp_path / "data" / f"{name}.jsonl") for name in ("train", "held-out"))
    assert (len(train), len(held_out)) == (counts.num_train, counts.num_held_out)
    chosen = {each.problem_id for each in held_out}
    assert chosen == choose_held_out(source.read(), held_out=amount)
    assert train == [each for each in source.iterate() if each.problem_id not in chosen]
    assert held_out == [each for each in source.iterate() if each.problem_id in chosen]


def run(folder, *arguments):
    process = [sys.executable, "-m", "polaris_data", "split", *map(str, arguments)]
    return subprocess.run(process, cwd=folder, capture_output=True, text=True)


def test_the_command_writes_both_sides_and_repeats_itself(tmp_path):
    rows = [problem(number, wording) for number in range(10, 40) for wording in range(2)]
    random.Random(0).shuffle(rows)
    write_problems(tmp_path / "p.jsonl", rows)
    arguments = ["p.jsonl", "--held-out", 10, "--out", "data", "--processes", 1]
    done = run(tmp_path, *arguments)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout == (
        "       50  train\n       10  held out\n30 clusters of near-duplicates, each on one side\n\n"
        "wrote data/train.jsonl and data/held-out.jsonl\n"
    )
    written = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
    assert sorted(written) == ["held-out.jsonl", "train.jsonl", "train.jsonl.settings.json"]
    assert json.loads(written["train.jsonl.settings.json"])["held_out"] == 10
    (tmp_path / "data" / "train.jsonl").unlink()  # as a kill between the two files leaves it
    (tmp_path / "data" / "held-out.jsonl.tmp").write_text("{")
    assert run(tmp_path, *arguments).returncode == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == written
    other = run(tmp_path, *arguments, "--seed", 1)
    assert other.returncode == 2 and "data/train.jsonl belongs to another run: seed was 0, now 1" in other.stderr
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == written


@pytest.mark.parametrize("name", ["train.jsonl", "held-out.jsonl"])
def test_a_file_that_split_did_not_write_is_not_overwritten(tmp_path, name):
    (tmp_path / name).write_text("precious\n")
    done = run(tmp_path, "synthetic", "--limit", 20, "--held-out", 5, "--out", ".")
    assert done.returncode == 2 and f"{name} exists without train.jsonl.settings.json beside it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "precious\n"


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ("0", "--held-out is 0; give 1 problem or more"),
        ("-3", "--held-out is -3; give 1 problem or more"),
        ("0.0", "--held-out is 0.0; give a share between 0 and 1"),
        ("1.0", "--held-out is 1.0; give a share between 0 and 1"),
        ("1.5", "--held-out is 1.5; give a share between 0 and 1"),
        ("nan", "--held-out is nan; give a share between 0 and 1"),
        ("a tenth", "--held-out is 'a tenth'; give a number of problems"),
        ("20", "--held-out is 20, of 20 problems: nothing would be left to train on"),
        ("500", "--held-out is 500, of 20 problems: nothing would be left to train on"),
        ("0.0001", "--held-out 0.0001 takes none of 20 problems; give a larger share"),
        ("0.9999", "--held-out 0.9999 takes all 20 problems"),
    ],
)
def test_what_cannot_be_held_out_is_refused_in_one_sentence_and_nothing_is_written(tmp_path, held_out, message):
    with pytest.raises((SettingError, ProblemFileError)) as caught:
        split_problems(Source("synthetic", limit=20), tmp_path / "data", held_out=parse_held_out(held_out))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.jsonl*"))


def test_the_command_says_it_in_one_line(tmp_path):
    done = run(tmp_path, "synthetic", "--limit", 20, "--held-out", 1.5, "--out", "data")
    assert done.returncode == 2 and done.stderr.startswith("error: --held-out is 1.5;") and done.stderr.count("\n") == 1
