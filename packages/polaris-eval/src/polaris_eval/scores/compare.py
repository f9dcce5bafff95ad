"""Compare two evaluations problem by problem: how much changed, and how sure its sign is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from polaris_eval.errors import MixedProblemsError
from polaris_eval.records import Estimate, ProblemResult, read_content, read_evaluations
from polaris_eval.scores.means import clustered_mean, sign_probability

_NOT_PROTOCOL = ("model", "model_digest", "hash")
"""What differs between the two models that are compared, and would be named every time."""

_MISSING = "(not recorded)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What ``scores.json`` says."""

    path: Path
    """The file or folder, as given."""

    model: str
    """As its user named it."""

    protocol: Mapping[str, Any]
    """Everything that can change a score; empty where it was not recorded."""

    problems: Mapping[str, Mapping[str, ProblemResult]]
    """By benchmark and problem id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a benchmark changed between two evaluations."""

    benchmark: str
    """Its name."""

    num_problems: int
    """Problems that both scored."""

    before: float
    """``mean@k`` of the first over these."""

    after: float
    """``mean@k`` of the second over these."""

    difference: Estimate
    """After - before, with the clustered interval of the paired differences."""

    probability: float
    """That the true difference has the sign of this one; 0.5 says that nothing is known."""


def read_scores(path: Path) -> Scores:
    """Read ``scores.json``, given itself or its folder.

    Raises:
        ScoresFileError: If there is none, or it cannot be read.
    """
    content, evaluations = read_content(path), read_evaluations(path)
    return Scores(
        path=path,
        model=str(content.get("model")),
        protocol=content.get("protocol") or {},
        problems={each.benchmark: {problem.problem_id: problem for problem in each.problems} for each in evaluations},
    )


def compare_scores(before: Scores, after: Scores, *, common: bool = False) -> list[Comparison]:
    """Compare two evaluations on the benchmarks that both have.

    A problem that either could not score, because its references cannot be read, is left out of both.

    Args:
        before: The first.
        after: The second; its number of completions per problem may differ.
        common: Compare the problems that both have where one has more; else that is refused.

    Raises:
        MixedProblemsError: If no benchmark is in both, a problem is in one only, its references differ, or none is
            scored in both.
    """
    shared = [name for name in before.problems if name in after.problems]
    if not shared:
        raise MixedProblemsError(
            f"no benchmark is in both: {before.path} has {_listed(before.problems)}, "
            f"{after.path} has {_listed(after.problems)}"
        )
    return [_compare(name, before, after, common=common) for name in shared]


def only_in_one(before: Scores, after: Scores) -> list[str]:
    """Return a sentence for each benchmark that only one of the two has."""
    pairs = ((before, after), (after, before))
    return [
        f"{name} is in {has.path} only, and is left out"
        for has, other in pairs
        for name in has.problems
        if name not in other.problems
    ]


def protocol_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what was done differently, one key a line; what belongs to the models themselves is left out."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        f"{key}: {old.get(key, _MISSING)!r} and {new.get(key, _MISSING)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key, _MISSING) != new.get(key, _MISSING) and not set(key.split(".")) & set(_NOT_PROTOCOL)
    ]


def _compare(name: str, before: Scores, after: Scores, *, common: bool) -> Comparison:
    old, new = before.problems[name], after.problems[name]
    lonely = [(key, before.path) for key in old if key not in new] + [
        (key, after.path) for key in new if key not in old
    ]
    if lonely and not common:
        raise MixedProblemsError(
            f"{name}: {len(lonely)} problems are in one evaluation only, such as {lonely[0][0]!r} in {lonely[0][1]}; "
            "evaluate the same problems, or give --common to compare those that both have"
        )
    both = [key for key in old if key in new]
    for key in both:
        if old[key].references != new[key].references:
            raise MixedProblemsError(
                f"{name}: problem {key!r} has the references {list(old[key].references)!r} in {before.path} and "
                f"{list(new[key].references)!r} in {after.path}; evaluate the same problems"
            )
    pairs = [(_share(old[key]), _share(new[key])) for key in both]
    scored = [(first, second) for first, second in pairs if first is not None and second is not None]
    if not scored:
        raise MixedProblemsError(f"{name}: no problem is scored in both {before.path} and {after.path}")
    differences = [second - first for first, second in scored]
    return Comparison(
        benchmark=name,
        num_problems=len(scored),
        before=sum(first for first, _ in scored) / len(scored),
        after=sum(second for _, second in scored) / len(scored),
        difference=clustered_mean(differences, low=-1.0, high=1.0),
        probability=sign_probability(differences),
    )


def _share(problem: ProblemResult) -> float | None:
    return None if problem.num_correct is None else problem.num_correct / problem.num_samples


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(cast(Mapping[str, Any], item), f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"
