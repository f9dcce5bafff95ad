"""What a stage is evaluated on: never what it is trained on, and no benchmark that is not called one."""

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polaris_data.errors import OtherRunError, ProblemFileError
from polaris_data.problems.reading import read_problems, write_problems
from polaris_data.problems.synthetic import synthetic_problems
from polaris_data.records import Problem
from polaris_eval.benchmarks import BENCHMARKS, content_checksum
from polaris_train.errors import RecipeError, RunFolderError
from polaris_train.recipe import load_recipe
from polaris_train.stage.evaluation import is_due
from polaris_train.stage.evaluation_problems import choose_held_out, evaluation_problems, without
from polaris_train.stage.launch import prepare_stage

DATA = Path(__file__).resolve().parents[3] / ".." / "shared" / "data"
PROBLEMS = synthetic_problems(60, seed=1, split="train")


def ids(problems):
    return [problem.problem_id for problem in problems]


def recipe(*settings):
    return load_recipe("tiny-cpu", ["stages.0.temperature=1", "evaluate_every=2", "held_out=20", *settings])


@pytest.fixture
def prepare(tmp_path):
    """Prepare a stage of a recipe of two stages on the given problems; return its folder."""

    def prepare(problems, *settings, stage=0, held_out=None):
        write_problems(tmp_path / "problems.jsonl", problems)
        first = recipe(*settings)
        second = first.stages[0].model_copy(update={"name": "stage-2"})
        both = first.model_copy(
            update={"stages": (first.stages[0], second), "problems": str(tmp_path / "problems.jsonl")}
        )
        return prepare_stage(both, both.stages[stage], tmp_path / "run", model="tiny", held_out=held_out)

    return prepare


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=60, max_size=60), st.integers(), st.integers(1, 30))
def test_the_same_problems_are_held_out_whatever_others_there_are_and_in_any_order(dropped, seed, num_problems):
    held_out = choose_held_out(PROBLEMS, num_problems=num_problems, seed=seed)
    assert len(set(ids(held_out))) == num_problems
    fewer = [each for each, drop in zip(PROBLEMS, dropped, strict=True) if each in held_out or not drop]
    random.Random(seed).shuffle(fewer)
    assert choose_held_out(fewer, num_problems=num_problems, seed=seed) == held_out


def test_another_seed_holds_out_others():
    chosen = {tuple(ids(choose_held_out(PROBLEMS, num_problems=20, seed=seed))) for seed in range(10)}
    assert len(chosen) == 10


def test_a_stage_trains_on_everything_that_is_not_held_out(prepare):
    folder = prepare(PROBLEMS)
    trained, held_out = read_problems(folder / "problems.jsonl"), read_problems(folder / "eval" / "held-out.jsonl")
    assert len(held_out) == 20
    assert trained == [problem for problem in PROBLEMS if problem not in held_out]


def test_a_second_copy_of_a_held_out_problem_is_not_trained_on():
    held_out = choose_held_out(PROBLEMS, num_problems=20, seed=0)
    copies = [
        Problem(problem_id=f"copy-{index}", question=each.question.replace(" ", "  "), references=each.references)
        for index, each in enumerate(held_out)
    ]
    assert without([*PROBLEMS, *copies], held_out) == [each for each in PROBLEMS if each not in held_out]


@pytest.mark.parametrize("settings", [["evaluate_every=0"], ["evaluate_on=['synthetic:held-out']"]])
def test_nothing_is_held_out_where_nothing_is_evaluated_on_it(prepare, settings):
    folder = prepare(PROBLEMS, *settings)
    assert read_problems(folder / "problems.jsonl") == PROBLEMS
    assert not (folder / "eval" / "held-out.jsonl").exists()


def test_a_later_stage_holds_out_the_same_even_if_its_problems_are_what_the_first_was_trained_on(prepare):
    first = prepare(PROBLEMS)
    trained = read_problems(first / "problems.jsonl")
    second = prepare(trained[10:], stage=1)
    assert read_problems(second / "problems.jsonl") == trained[10:]
    assert (second / "eval" / "held-out.jsonl").read_bytes() == (first / "eval" / "held-out.jsonl").read_bytes()


def test_problems_that_an_earlier_stage_was_trained_on_are_not_held_out_afterwards(prepare):
    prepare(PROBLEMS, "evaluate_every=0")
    with pytest.raises(RecipeError, match=r"20 of the 20 problems of 'held-out', .* were trained on in an earlier"):
        prepare(PROBLEMS, stage=1)


def test_a_stage_needs_a_step_of_problems_beside_those_held_out(prepare, tmp_path):
    with pytest.raises(RunFolderError, match=r"10 problems left when 50 are held out, .* held_out to fewer"):
        prepare(PROBLEMS, "held_out=50")
    assert not (tmp_path / "run" / "stage-1" / "resolved.json").exists()


def test_what_changes_the_training_problems_is_refused_when_a_stage_is_continued(prepare):
    folder = prepare(PROBLEMS)
    before = (folder / "problems.jsonl").read_bytes()
    for setting in ("evaluate_every=0", "held_out=21"):
        with pytest.raises(OtherRunError, match="problems_sha256 has other content now"):
            prepare(PROBLEMS, setting)
    assert (folder / "problems.jsonl").read_bytes() == before


def test_other_problems_under_the_same_name_are_refused_when_a_stage_is_continued(prepare, tmp_path):
    path = tmp_path / "mine.jsonl"
    others = synthetic_problems(6, seed=1, split="held-out")
    write_problems(path, others[:3])
    folder = prepare(PROBLEMS, f"evaluate_on=['{path}']")
    assert read_problems(folder / "eval" / "mine.jsonl") == others[:3]
    write_problems(path, others[3:])
    with pytest.raises(OtherRunError, match="evaluation_hashes was"):
        prepare(PROBLEMS, f"evaluate_on=['{path}']")
    assert read_problems(folder / "eval" / "mine.jsonl") == others[:3]


@pytest.fixture
def apart(tmp_path):
    """Write problems to a file for ``--held-out``."""

    def write(problems):
        write_problems(tmp_path / "apart.jsonl", problems)
        return str(tmp_path / "apart.jsonl")

    return write


def test_held_out_problems_that_are_given_take_the_place_of_those_set_aside(prepare, apart):
    others = synthetic_problems(6, seed=1, split="held-out")
    folder = prepare(PROBLEMS, held_out=apart(others))
    assert read_problems(folder / "problems.jsonl") == PROBLEMS
    assert read_problems(folder / "eval" / "held-out.jsonl") == others
    second = prepare(PROBLEMS, stage=1, held_out=apart(others))
    assert read_problems(second / "eval" / "held-out.jsonl") == others
    with pytest.raises(OtherRunError, match="evaluation_hashes was"):
        prepare(PROBLEMS, held_out=apart(others[:3]))


@pytest.mark.parametrize("settings", [[], ["evaluate_every=0"], ["evaluate_on=['synthetic:held-out']"]])
def test_given_held_out_problems_that_are_trained_on_are_refused(prepare, apart, settings):
    others = synthetic_problems(6, seed=1, split="held-out")
    with pytest.raises(RecipeError, match=r"--held-out: 2 of the 8 problems of '.*apart.jsonl', .* are trained on"):
        prepare(PROBLEMS, *settings, held_out=apart([*others, *PROBLEMS[:2]]))
    prepare(PROBLEMS, *settings, held_out=apart(others))
    with pytest.raises(RecipeError, match=r"--held-out: 1 of the 1 problems .* in this stage or an earlier one"):
        prepare(PROBLEMS[20:], *settings, stage=1, held_out=apart(PROBLEMS[:1]))


def test_a_benchmark_does_not_decide_on_training(prepare, benchmark, apart, monkeypatch):
    known = replace(BENCHMARKS["aime24"], checksum=content_checksum(benchmark))
    monkeypatch.setitem(BENCHMARKS, "aime24", known)
    with pytest.raises(RecipeError, match=r"--held-out: .* holds the benchmark 'aime24'.* problems of your own"):
        prepare(PROBLEMS, held_out=apart(benchmark))


def test_a_plateau_is_judged_on_held_out_problems_only():
    with pytest.raises(RecipeError, match=r"plateau_window is 20, .* evaluate_on is \['mine.jsonl'\]; add 'held-out'"):
        recipe("stages.0.plateau_window=20", "evaluate_on=['mine.jsonl']")
    with pytest.raises(RecipeError, match=r"plateau_window is 20, .* set evaluate_every"):
        recipe("stages.0.plateau_window=20", "evaluate_every=0")
    recipe("stages.0.plateau_window=20", "evaluate_on=['mine.jsonl', 'held-out']")


def test_a_file_with_training_problems_is_refused(tmp_path):
    path = tmp_path / "mine.jsonl"
    others = synthetic_problems(6, seed=1, split="held-out")
    write_problems(path, [*others, *PROBLEMS[:2]])
    both = recipe(f"evaluate_on=['{path}']")
    with pytest.raises(RecipeError, match=r"2 of the 8 problems of '.*mine.jsonl', .* decontaminate"):
        evaluation_problems(both, PROBLEMS)
    assert evaluation_problems(both, PROBLEMS[2:]) == {"mine": [*others, *PROBLEMS[:2]]}


def test_sets_that_number_their_problems_alike_are_told_apart(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps({"id": "1", "problem": "What is 2+2?", "answer": "4"}) + "\n")
    training = [Problem(problem_id="1", question="What is 3+3?", references=("6",))]
    assert ids(evaluation_problems(recipe(f"evaluate_on=['{path}']"), training)["mine"]) == ["1"]


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """A local copy of a benchmark, as polaris-eval looks for them."""
    problems = synthetic_problems(30, seed=2, split="held-out")
    write_problems(tmp_path / "aime24.jsonl", problems)
    monkeypatch.setenv("POLARIS_BENCHMARKS", str(tmp_path))
    return problems


def test_a_benchmark_is_looked_at_only_where_it_is_called_one(benchmark):
    with pytest.raises(RecipeError, match=r"'aime24' is a benchmark, .* write 'benchmark:aime24' if it is"):
        evaluation_problems(recipe("evaluate_on=['aime24']"), PROBLEMS)
    measured = evaluation_problems(recipe("evaluate_on=['held-out', 'benchmark:aime24']"), PROBLEMS)
    assert list(measured) == ["held-out", "aime24"]
    assert ids(measured["aime24"]) == ids(benchmark)


def test_a_file_that_holds_a_benchmark_is_refused(benchmark, tmp_path, monkeypatch):
    known = replace(BENCHMARKS["aime24"], checksum=content_checksum(benchmark))
    monkeypatch.setitem(BENCHMARKS, "aime24", known)
    write_problems(tmp_path / "mine.jsonl", benchmark)
    with pytest.raises(RecipeError, match=r"holds the benchmark 'aime24'.* write 'benchmark:aime24'"):
        evaluation_problems(recipe(f"evaluate_on=['{tmp_path / 'mine.jsonl'}']"), PROBLEMS)
    assert "aime24" in evaluation_problems(recipe("evaluate_on=['benchmark:aime24']"), PROBLEMS)


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the repository")
@pytest.mark.parametrize("name", ["aime24", "aime25", "amc23", "amc22_23", "math500", "minerva"])
def test_files_with_the_real_benchmarks_are_refused(name):
    with pytest.raises(RecipeError, match=f"holds the benchmark '{name}'"):
        evaluation_problems(recipe(f"evaluate_on=['{DATA / f'{name}.jsonl'}']"), PROBLEMS)


@pytest.mark.parametrize(
    ("entries", "parts"),
    [
        (["benchmark:math50"], ["unknown benchmark 'math50'", "did you mean 'math500'?"]),
        (["amc32"], ["unknown benchmark 'amc32'", "did you mean 'amc23'?", "benchmark:NAME"]),
        (["heldout"], ["unknown benchmark 'heldout'", "'held-out'"]),
        (["missing.jsonl"], ["no file 'missing.jsonl'"]),
        (["held-out", "held-out"], ["two entries are named 'held-out'"]),
        (["synthetic"], ["60 of the 500 problems of 'synthetic'"]),
    ],
)
def test_what_cannot_be_evaluated_on_is_refused(entries, parts):
    with pytest.raises(RecipeError) as caught:
        evaluation_problems(recipe(f"evaluate_on={entries}"), synthetic_problems(60, seed=0, split="train"))
    assert all(part in str(caught.value) for part in parts), caught.value


def test_a_malformed_file_is_said_so(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"id": "a"\n')
    with pytest.raises(ProblemFileError, match=r"mine.jsonl:1"):
        evaluation_problems(recipe(f"evaluate_on=['{tmp_path / 'mine.jsonl'}']"), PROBLEMS)


@pytest.mark.parametrize("setting", ["evaluate_every=-1", "evaluate_on=[]", "held_out=0", "evaluate_samples=0"])
def test_numbers_that_mean_nothing_are_refused(setting):
    with pytest.raises(RecipeError, match=setting.partition("=")[0]):
        recipe(setting)


@pytest.mark.parametrize(("every", "steps", "due"), [(2, 5, [0, 2, 4, 5]), (5, 5, [0, 5]), (9, 4, [0, 4]), (0, 4, [])])
def test_a_stage_is_measured_before_its_first_step_at_its_intervals_and_after_its_last(every, steps, due):
    assert [step for step in range(steps + 1) if is_due(step, every=every, steps=steps)] == due
