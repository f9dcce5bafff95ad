"""Compare two evaluations problem by problem: how much changed, and how sure its sign is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from polaris_eval.errors import MixedProblemsError
from polaris_eval.records import Estimate, ProblemResult
from polaris_eval.scores.files import Scores, flat
from polaris_eval.scores.means import mean_difference, sign_probability

_NOT_PROTOCOL = ("model", "model_digest", "hash")
"""What differs between the two models that are compared, and would be named every time."""

_MISSING = "(not recorded)"


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
    """After - before, with the interval of `polaris_eval.scores.mean_difference`."""

    probability: float
    """That the true difference has the sign of this one; 0.5 says that nothing is known."""


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
    old, new = _results(before), _results(after)
    shared = [name for name in old if name in new]
    if not shared:
        raise MixedProblemsError(
            f"no benchmark is in both: {before.path} has {', '.join(old) or 'none'}, "
            f"{after.path} has {', '.join(new) or 'none'}"
        )
    return [_compare(name, before, after, common=common) for name in shared]


def differences_to_know(before: Scores, after: Scores) -> list[str]:
    """Return a sentence for whatever else differs between two evaluations: benchmarks of one only, the protocol."""
    warnings = [
        f"{each.benchmark} is in {has.path} only, and is left out"
        for has, other in ((before, after), (after, before))
        for each in has.evaluations
        if each.benchmark not in _results(other)
    ]
    differing = protocol_differences(before.protocol, after.protocol)
    if not (before.protocol and after.protocol):
        warnings.append("one of them does not say how it was made, so that cannot be compared")
    elif differing:
        warnings.append("\n  ".join(["the protocols differ, which may be what changed the scores:", *differing]))
    return warnings


def protocol_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what was done differently, one key a line; what belongs to the models themselves is left out."""
    return [f"{key}: {old!r} and {new!r}" for key, old, new in differing_settings(before, after)]


def differing_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the keys of `protocol_differences` with their two values."""
    old, new = dict(flat(before)), dict(flat(after))
    pairs = [(key, old.get(key, _MISSING), new.get(key, _MISSING)) for key in sorted(old.keys() | new.keys())]
    return [
        (key, first, second)
        for key, first, second in pairs
        if first != second and not set(key.split(".")) & set(_NOT_PROTOCOL)
    ]


def _results(scores: Scores) -> dict[str, dict[str, ProblemResult]]:
    """Return what became of each problem, by benchmark and id."""
    return {each.benchmark: {problem.problem_id: problem for problem in each.problems} for each in scores.evaluations}


def _compare(name: str, before: Scores, after: Scores, *, common: bool) -> Comparison:
    old, new = _results(before)[name], _results(after)[name]
    lonely = [(key, before.path) for key in old if key not in new] + [
        (key, after.path) for key in new if key not in old
    ]
    if lonely and not common:
        raise MixedProblemsError(
            f"{name}: {len(lonely)} problems are in one evaluation only, such as {lonely[0][0]!r} in {lonely[0][1]}; "
            "evaluate the same problems, or give --common to compare those that both have"
        )
    both = [(old[key], new[key]) for key in old if key in new]
    for first, second in both:
        if first.references != second.references:
            raise MixedProblemsError(
                f"{name}: problem {first.problem_id!r} has the references {list(first.references)!r} in "
                f"{before.path} and {list(second.references)!r} in {after.path}; evaluate the same problems"
            )
    shares = [(_share(first), _share(second), (first.num_samples, second.num_samples)) for first, second in both]
    scored = [(old, new, samples) for old, new, samples in shares if old is not None and new is not None]
    if not scored:
        raise MixedProblemsError(f"{name}: no problem is scored in both {before.path} and {after.path}")
    differences, num_samples = [new - old for old, new, _ in scored], [samples for _, _, samples in scored]
    return Comparison(
        benchmark=name,
        num_problems=len(scored),
        before=sum(old for old, _, _ in scored) / len(scored),
        after=sum(new for _, new, _ in scored) / len(scored),
        difference=mean_difference(differences, num_samples),
        probability=sign_probability(differences, num_samples),
    )


def _share(problem: ProblemResult) -> float | None:
    return None if problem.num_correct is None else problem.num_correct / problem.num_samples
