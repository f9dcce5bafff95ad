"""Selection: which problems a model still learns from, and why each one is in or out.

The published rule drops what was solved in 8 of 8 attempts and keeps what was never solved.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from polaris_data.errors import ProblemFileError
from polaris_data.journal import write_json
from polaris_data.problems import content_hash, write_problems
from polaris_data.records import Difficulty, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether one problem is kept, and why."""

    problem_id: str
    """Of the problem set."""

    kept: bool
    """Whether it stays."""

    reason: str
    """The rule that decided; the same words for every problem that it decided."""


def select(problems: Sequence[Problem], profile: Iterable[Difficulty], *, max_accuracy: float = 1.0) -> list[Decision]:
    """Decide about every problem by its measured accuracy.

    Args:
        problems: Problems with distinct ids.
        profile: Difficulty of every one of them, and of no other.
        max_accuracy: Problems solved this often or more are dropped; 1 drops those that were solved every
            time.

    Returns:
        One decision for each problem, in their order.

    Raises:
        ProblemFileError: If the profile lacks a problem, or is of another problem set.
    """
    difficulties = {difficulty.problem_id: difficulty for difficulty in profile}
    _refuse_mismatch({problem.problem_id for problem in problems}, difficulties.keys())
    return [_decide(difficulties[problem.problem_id], max_accuracy=max_accuracy) for problem in problems]


def count_reasons(decisions: Iterable[Decision]) -> dict[str, int]:
    """Count the decisions by reason, the kept ones first; the counts add up to the number of problems."""
    counts = Counter((not decision.kept, decision.reason) for decision in decisions)
    return {reason: counts[dropped, reason] for dropped, reason in sorted(counts)}


def selection_settings(
    problems: Sequence[Problem], profile: Sequence[Difficulty], *, max_accuracy: float
) -> dict[str, Any]:
    """Return everything that a selection depends on: what `polaris_data.outputs.claim_output` records."""
    return {
        "command": "polaris-data select",
        "problems": content_hash(problems),
        "profile": hashlib.sha256(repr(profile).encode()).hexdigest()[:16],
        "max_accuracy": max_accuracy,
    }


def write_selection(
    folder: Path, problems: Sequence[Problem], decisions: Sequence[Decision], *, max_accuracy: float
) -> None:
    """Write ``selected.jsonl``, the kept problems, and ``decisions.json``, why each one is in or out.

    Args:
        folder: Created when missing.
        problems: What was decided about.
        decisions: As `select` returned them for these problems.
        max_accuracy: The rule, recorded in ``decisions.json``.
    """
    kept = {decision.problem_id for decision in decisions if decision.kept}
    write_json(
        folder / "decisions.json",
        {
            "rule": {"max_accuracy": max_accuracy},
            "num_problems": len(decisions),
            "num_kept": len(kept),
            "reasons": count_reasons(decisions),
            "decisions": [asdict(decision) for decision in decisions],
        },
    )
    write_problems(folder / "selected.jsonl", (problem for problem in problems if problem.problem_id in kept))


def _decide(difficulty: Difficulty, *, max_accuracy: float) -> Decision:
    kept = difficulty.accuracy < max_accuracy
    return Decision(
        problem_id=difficulty.problem_id,
        kept=kept,
        reason=f"accuracy below {max_accuracy:g}" if kept else f"accuracy at least {max_accuracy:g}",
    )


def _refuse_mismatch(wanted: set[str], profiled: Iterable[str]) -> None:
    if other := sorted(set(profiled) - wanted):
        raise ProblemFileError(
            f"the profile is of another problem set: {len(other)} of its problems are not here, {other[0]!r} for "
            "one; give the problems (and the --limit) that were profiled"
        )
    if missing := sorted(wanted - set(profiled)):
        raise ProblemFileError(
            f"{len(missing)} of {len(wanted)} problems have no profile, {missing[0]!r} for one; profile them all, "
            "or give the --limit that the profile was made with"
        )
