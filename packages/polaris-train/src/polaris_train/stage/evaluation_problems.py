"""What a stage is evaluated on while it is trained, and what it is therefore not trained on.

Decided and checked before any model is loaded.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from polaris_data import Problem, read_problems
from polaris_eval import BENCHMARKS, BenchmarkError, load_benchmark
from polaris_eval.benchmarks import content_checksum, find_benchmark
from polaris_rollout import derive_seed

from polaris_train.errors import RecipeError
from polaris_train.recipe import Recipe
from polaris_train.run_folder import StageFolder

HELD_OUT = "held-out"
"""Entry of ``evaluate_on`` that stands for training problems that are set aside, or for those of ``--held-out``."""

_BENCHMARK = "benchmark:"
"""What a recipe says before the name of a benchmark, so that none is looked at during training by accident."""


def evaluation_problems(
    recipe: Recipe, problems: Sequence[Problem], *, earlier: Sequence[StageFolder] = (), held_out: str | None = None
) -> dict[str, list[Problem]]:
    """Return the problems of each evaluation by name; none where the recipe asks for no evaluation.

    Args:
        recipe: Says what to evaluate on.
        problems: All that the stage may train on.
        earlier: Folders of the run's stages before.
        held_out: A file of problems that nothing is trained on, in place of training problems that are set aside.

    Raises:
        RecipeError: If something is unknown, named twice, a benchmark that is not called one, or trained on.
        DataError: If a file of problems is malformed.
    """
    known = [problem for stage in earlier for problem in _stored(stage.problems)]
    apart: list[Problem] = []
    if held_out is not None:
        apart = _read_held_out(held_out, {_wording(problem) for problem in [*problems, *known]})
    elif recipe.evaluate_every and HELD_OUT in recipe.evaluate_on:
        before = [problem for stage in earlier for problem in _stored(stage.evaluation_problems(HELD_OUT))]
        apart = choose_held_out([*problems, *before], num_problems=recipe.held_out, seed=recipe.seed)
    if not recipe.evaluate_every:
        return {}
    trained_on = {_wording(problem) for problem in [*without(problems, apart), *known]}
    chosen: dict[str, list[Problem]] = {}
    for entry in recipe.evaluate_on:
        name, measured = (HELD_OUT, apart) if entry == HELD_OUT else _read(entry)
        if name in chosen:
            raise RecipeError(f"evaluate_on: two entries are named {name!r}; give one, or rename a file")
        _refuse_trained_on(entry, measured, trained_on)
        chosen[name] = measured
    return chosen


def choose_held_out(problems: Iterable[Problem], *, num_problems: int, seed: int) -> list[Problem]:
    """Return the problems with the smallest hashes of seed and id, in that order.

    Whatever other problems are dropped or added, and in whatever order they come, a problem keeps its hash: the same
    ones are held out in every stage.

    Args:
        problems: Of an id that comes twice only one is taken.
        num_problems: Fewer are returned where there are fewer.
        seed: Of the recipe.
    """
    by_id = {problem.problem_id: problem for problem in problems}
    return sorted(by_id.values(), key=lambda problem: derive_seed(seed, HELD_OUT, problem.problem_id))[:num_problems]


def without(problems: Sequence[Problem], held_out: Iterable[Problem]) -> list[Problem]:
    """Return the problems that ask something else than those held out, whatever their ids."""
    asked = {_wording(problem) for problem in held_out}
    return [problem for problem in problems if _wording(problem) not in asked]


def _read(entry: str) -> tuple[str, list[Problem]]:
    """Read a file, or a benchmark that is called one."""
    if entry in BENCHMARKS and not Path(entry).is_file():
        raise RecipeError(
            f"evaluate_on: {entry!r} is a benchmark, and benchmarks are for after training; give {HELD_OUT!r} or a "
            f"file of problems, or write '{_BENCHMARK}{entry}' if it is really meant"
        )
    try:
        if entry.startswith(_BENCHMARK):
            return load_benchmark(find_benchmark(entry.removeprefix(_BENCHMARK)).name)
        name, problems = load_benchmark(entry)
    except BenchmarkError as error:
        raise RecipeError(f"evaluate_on: {error} (a benchmark as '{_BENCHMARK}NAME'), or {HELD_OUT!r}") from None
    if benchmark := _benchmark_with(problems):
        raise RecipeError(
            f"evaluate_on: {entry!r} holds the benchmark {benchmark!r}, and benchmarks are for after "
            f"training; write '{_BENCHMARK}{benchmark}' if it is really meant"
        )
    return name, problems


def _read_held_out(path: str, trained_on: set[str]) -> list[Problem]:
    """Read the problems of ``--held-out``, which decide when a stage ends: never a benchmark."""
    problems = read_problems(path)
    if benchmark := _benchmark_with(problems):
        raise RecipeError(
            f"--held-out: {path!r} holds the benchmark {benchmark!r}, and what decides on training is no benchmark; "
            "give problems of your own, e.g. from polaris-data split"
        )
    _refuse_trained_on(path, problems, trained_on, given_as="--held-out")
    return problems


def _benchmark_with(problems: Sequence[Problem]) -> str | None:
    """Return the name of the benchmark that has just these problems."""
    checksum = content_checksum(problems)
    return next((each.name for each in BENCHMARKS.values() if each.checksum == checksum), None)


def _refuse_trained_on(
    entry: str, problems: Sequence[Problem], trained_on: set[str], *, given_as: str = "evaluate_on"
) -> None:
    """Refuse problems whose question is trained on; ids do not tell, since sets number theirs alike."""
    found = [problem.problem_id for problem in problems if _wording(problem) in trained_on]
    if not found:
        return
    which = f"{given_as}: {len(found)} of the {len(problems)} problems of {entry!r}, such as {found[0]!r},"
    if entry == HELD_OUT:
        raise RecipeError(
            f"{which} were trained on in an earlier stage, which did not hold them out; start the recipe in a new run "
            "folder, or evaluate on a file of other problems"
        )
    raise RecipeError(
        f"{which} are trained on in this stage or an earlier one; take them out of the training problems, e.g. with "
        "polaris-data decontaminate, or evaluate on others"
    )


def _stored(path: Path) -> list[Problem]:
    return read_problems(path) if path.is_file() else []


def _wording(problem: Problem) -> str:
    return " ".join(problem.question.split())
